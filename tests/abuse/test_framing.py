"""Bytes that are no plain HTTP/1.1: refused and hung up on, so that nothing of them is read as another request."""

from __future__ import annotations

import pytest

from sidegate.contract import Call, Handler, Plugin, Reply
from sidegate.testing import Exchange
from tests.abuse.scene import (
    ANTHROPIC,
    CLIENT_KEY,
    OPENAI,
    SHAPES,
    Shape,
    answers,
    check_problem,
    check_refusal,
    openai_says,
    scene,
)
from tests.abuse.sockets import DROPPED, Answer, ask, request, wire

BODY = OPENAI.body()
SIZE = str(len(BODY))
CHUNKED = f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n"
SMUGGLED = request("/v1/chat/completions", OPENAI.body(user="smuggled"))

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


def head(*lines: str | bytes, first: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    """A head with these lines beside the usual ones, a key among them."""
    usual = [b"Host: gateway", b"Content-Type: application/json", f"Authorization: Bearer {CLIENT_KEY}".encode()]
    given = [line.encode() if isinstance(line, str) else line for line in lines]
    return b"\r\n".join([first, *usual, *given]) + b"\r\n\r\n"


async def hung_up_on(data: bytes, *statuses: int) -> Answer:
    """One refusal, then the end; nothing reached the provider, and the gateway lives on."""
    async with scene() as there:
        async with wire(there.url) as connection:
            await connection.send(data)
            answer = await connection.answer()
            assert answer is not None
            assert answer.status in statuses, answer
            assert await connection.closed()
        assert there.asked == 0
        assert (await ask(there.url, OPENAI.asks())).status == 200
        assert CLIENT_KEY.encode() not in answer.body + there.running.log.data
    return answer


# --- row 12: framing --------------------------------------------------------------------------------------------------

LENGTH = f"Content-Length: {SIZE}"
CODING = "Transfer-Encoding: chunked"

AMBIGUOUS: dict[str, bytes] = {
    "length and coding": head(LENGTH, CODING) + CHUNKED,
    "coding and length": head(CODING, LENGTH) + CHUNKED,
    "two lengths": head(LENGTH, "Content-Length: 5") + BODY,
    "one length twice": head(LENGTH, LENGTH) + BODY,
    "a list of lengths": head(f"Content-Length: {SIZE}, {SIZE}") + BODY,
    "a plus": head(f"Content-Length: +{SIZE}") + BODY,
    "a minus": head("Content-Length: -1") + BODY,
    "a hexadecimal length": head("Content-Length: 0x40") + BODY,
    "an underscore": head("Content-Length: 1_0") + BODY,
    "other digits": head("Content-Length: ٥٧") + BODY,
    "no digits": head("Content-Length:") + BODY,
    "a length beyond numbers": head("Content-Length: " + "9" * 40) + BODY,
    "xchunked": head("Transfer-Encoding: xchunked") + CHUNKED,
    "chunked, identity": head("Transfer-Encoding: chunked, identity") + CHUNKED,
    "identity": head("Transfer-Encoding: identity", LENGTH) + BODY,
    "gzip, chunked": head("Transfer-Encoding: gzip, chunked") + CHUNKED,
    "chunked, chunked": head("Transfer-Encoding: chunked, chunked") + CHUNKED,
    "chunked twice": head(CODING, CODING) + CHUNKED,
    "a space before the colon": head("Transfer-Encoding : chunked") + CHUNKED,
    "a vertical tab": head("Transfer-Encoding: \x0bchunked") + CHUNKED,
    "no coding": head("Transfer-Encoding:") + CHUNKED,
    "chunked in HTTP/1.0": head(CODING, first=b"POST /v1/chat/completions HTTP/1.0") + CHUNKED,
    "bare line feeds": head(LENGTH).replace(b"\r\n", b"\n") + BODY,
    "one bare line feed": head("X: a\nY: b", LENGTH) + BODY,
    "a bare carriage return": head("X: a\rY: b", LENGTH) + BODY,
    "NUL in a value": head("X: a\0b", LENGTH) + BODY,
    "NUL in a name": head("X\0: a", LENGTH) + BODY,
    "a folded line": head("X: a\r\n b", LENGTH) + BODY,
    "a line without a colon": head("X", LENGTH) + BODY,
    "a name with a space": head("X Y: z", LENGTH) + BODY,
    "no name": head(": z", LENGTH) + BODY,
    "two hosts": head("Host: other", LENGTH) + BODY,
    "no host": request("/v1/chat/completions", BODY, headers={"Host": DROPPED}),
    "a chunk beyond numbers": head(CODING) + b"F" * 20 + b"\r\n" + BODY,
    "a negative chunk": head(CODING) + b"-5\r\n" + BODY,
    "a hexadecimal prefix": head(CODING) + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a line feed in a chunk's extension": head(CODING) + b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than it says": head(CODING) + b"2\r\nhello\r\n0\r\n\r\n",
    "line feeds after a chunk's size": head(CODING) + CHUNKED.replace(b"\r\n", b"\n"),
}


@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
async def test_a_request_with_two_readings_is_refused_and_hung_up_on(data: bytes) -> None:
    answer = await hung_up_on(data + SMUGGLED, 400)
    assert len(answer.header("x-request-id") or "") == 32
    if answer.header("content-type") == "application/problem+json":
        check_problem(answer, 400)
    else:
        check_refusal(answer, OPENAI, 400)


@each_shape
async def test_a_chunk_that_is_wrong_only_later_is_refused_in_the_clients_words(shape: Shape) -> None:
    framing = {"Transfer-Encoding": "chunked", "Content-Length": DROPPED}
    async with scene() as there, wire(there.url) as connection:
        await connection.send(shape.asks(b"", headers={**framing, "Expect": "100-continue"}))
        go_on = await connection.answer()
        assert go_on is not None
        assert go_on.status == 100
        await connection.send(b"5\r\nhelloXX" + SMUGGLED)
        answer = await connection.answer()
        assert answer is not None
        check_refusal(answer, shape, 400)
        assert await connection.closed()
        assert there.asked == 0


@each_shape
async def test_a_body_shorter_than_its_length_is_never_a_request(shape: Shape) -> None:
    async with scene(server={"body_timeout": 0.2}) as there, wire(there.url) as connection:
        await connection.send(shape.asks(headers={"Content-Length": str(len(shape.body()) + 1)}))
        answer = await connection.answer()
        assert answer is not None
        check_refusal(answer, shape, 408)
        assert answer.header("connection") == "close"
        assert there.asked == 0


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_request_is_the_same_in_whatever_pieces_it_comes(pieces: int, chunked: bool) -> None:
    data = head(CODING) + CHUNKED if chunked else head(LENGTH) + BODY
    size = max(1, len(data) // pieces)
    async with scene() as there, wire(there.url) as connection:
        for start in range(0, len(data), size):
            await connection.send(data[start : start + size])
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 200
        assert there.provider.exchanges[0].json["messages"] == OPENAI.fields["messages"]


async def test_extensions_and_trailers_of_chunks_mean_nothing() -> None:
    data = head(CODING) + CHUNKED.replace(b"\r\n", b';a="b"\r\n', 1)
    async with scene() as there:
        assert (await ask(there.url, data)).status == 200


# --- row 13: size -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        head("X: " + "a" * 100_000, LENGTH) + BODY,
        head("X" * 100_000 + ": a", LENGTH) + BODY,
        head(*(f"X-{number}: a" for number in range(5000)), LENGTH) + BODY,
        head(LENGTH, first=b"POST /" + b"a" * 100_000 + b" HTTP/1.1") + BODY,
        head(LENGTH, first=b"P" * 100_000 + b" / HTTP/1.1") + BODY,
        b"A" * 1_000_000,
    ],
    ids=["a giant value", "a giant name", "5,000 headers", "a giant path", "a giant method", "an endless line"],
)
async def test_a_head_without_bounds_is_refused_and_hung_up_on(data: bytes) -> None:
    check_problem(await hung_up_on(data, 400, 414, 431), 400, 414, 431)


# --- row 14: other protocols ------------------------------------------------------------------------------------------


@each_shape
async def test_two_credentials_are_ambiguous(shape: Shape) -> None:
    twice = [("Authorization", f"Bearer {CLIENT_KEY}"), ("Authorization", "Bearer other")]
    async with scene() as there:
        check_refusal(await ask(there.url, shape.asks(headers=twice)), shape, 400)
        assert there.asked == 0


@pytest.mark.parametrize("version", ["0.9", "2.0"])
@each_shape
async def test_another_version_of_http_is_not_spoken(shape: Shape, version: str) -> None:
    await hung_up_on(shape.asks(version=version) + SMUGGLED, 400, 505)
    async with scene() as there, wire(there.url) as connection:
        await connection.send(shape.asks(version=version))
        answer = await connection.answer()
        assert answer is not None
        check_refusal(answer, shape, 505)
        assert await connection.closed()
        assert there.asked == 0


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/models\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\nHost: g\r\n\r\n",
        bytes.fromhex("16030100a5010000a10303") + b"\x01" * 160,
        b"\x00\xff\xfe\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"EHLO mail\r\n",
    ],
    ids=["HTTP/2", "HTTP/0.9", "HTTP/9.9", "TLS", "junk", "Redis", "SMTP"],
)
async def test_another_protocol_is_hung_up_on(data: bytes) -> None:
    await hung_up_on(data, 400, 505)


async def test_http_1_0_is_answered_and_closed() -> None:
    async with scene() as there, wire(there.url) as connection:
        await connection.send(OPENAI.asks(version="1.0"))
        answer = await connection.answer()
        assert answer is not None
        assert (answer.status, answer.body) == (200, openai_says("hi"))
        assert await connection.closed()


@each_shape
async def test_a_request_line_may_name_the_host_and_no_other(shape: Shape) -> None:
    async with scene() as there:
        for authority in ("evil", "gateway.evil", "gateway@evil", "gateway:81", "u@gateway"):
            answer = await ask(there.url, request(f"http://{authority}{shape.path}", shape.body()))
            check_refusal(answer, shape, 400)
        assert there.asked == 0
        assert (await ask(there.url, request(f"http://gateway{shape.path}", shape.body()))).status == 200


async def test_nobody_is_connected_to_elsewhere() -> None:
    async with scene() as there:
        answer = await ask(there.url, b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n")
        check_problem(answer, 404)


# --- expectations -----------------------------------------------------------------------------------------------------


@each_shape
async def test_who_waits_for_leave_to_send_gets_it(shape: Shape) -> None:
    async with scene() as there, wire(there.url) as connection:
        await connection.send(
            shape.asks(b"", headers={"Expect": "100-continue", "Content-Length": str(len(shape.body()))})
        )
        go_on = await connection.answer()
        assert go_on is not None
        assert go_on.status == 100
        await connection.send(shape.body())
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 200


@each_shape
async def test_leave_to_send_too_much_is_not_given(shape: Shape) -> None:
    async with scene() as there, wire(there.url) as connection:
        await connection.send(shape.asks(b"", headers={"Expect": "100-continue", "Content-Length": str(2**26)}))
        answer = await connection.answer()
        assert answer is not None
        check_refusal(answer, shape, 413)


@each_shape
async def test_another_expectation_is_refused(shape: Shape) -> None:
    async with scene() as there:
        check_refusal(await ask(there.url, shape.asks(headers={"Expect": "200-ok"})), shape, 417)
        assert there.asked == 0


# --- rows 15 and 17: one request after another ------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, dict[str, str]]] = {
    "method": ("PUT /v1/chat/completions", {}),
    "path": ("POST /nowhere", {}),
    "type": ("POST /v1/chat/completions", {"Content-Type": "text/plain"}),
    "coding": ("POST /v1/chat/completions", {"Content-Encoding": "gzip"}),
    "get": ("GET /v1/models", {}),
}


@pytest.mark.parametrize(("first", "headers"), REFUSED.values(), ids=REFUSED.keys())
async def test_the_body_of_a_refused_request_is_no_request(first: str, headers: dict[str, str]) -> None:
    method, path = first.split(" ")
    async with scene() as there, wire(there.url) as connection:
        await connection.send(request(path, SMUGGLED, method=method, headers={**headers, "Connection": "close"}))
        found = await connection.answers()
        assert len(found) == 1
        assert there.asked == 0


@pytest.mark.parametrize(("first", "headers"), REFUSED.values(), ids=REFUSED.keys())
async def test_the_request_after_a_refused_one_is_itself(first: str, headers: dict[str, str]) -> None:
    method, path = first.split(" ")
    refused = request(path, SMUGGLED, method=method, headers=headers)
    async with scene() as there, wire(there.url) as connection:
        await connection.send(refused + OPENAI.asks(headers={"Connection": "close"}))
        found = await connection.answers()
        assert len(found) in (1, 2)
        assert [exchange.json.get("user") for exchange in there.provider.exchanges] == [None] * (len(found) - 1)


async def test_the_body_of_a_request_too_large_is_no_request() -> None:
    async with scene(server={"max_body_bytes": 1024}) as there, wire(there.url) as connection:
        await connection.send(OPENAI.asks(b" " * 2000 + SMUGGLED))
        found = await connection.answers()
        assert [answer.status for answer in found] == [413]
        assert there.asked == 0


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(openai_says(exchange.json["messages"][0]["content"]))

    async with scene(script=script) as there, wire(there.url) as connection:
        turns = [[{"role": "user", "content": str(number)}] for number in range(60)]
        await connection.send(b"".join(OPENAI.asks(OPENAI.body(messages=turn)) for turn in turns))
        for number in range(60):
            answer = await connection.answer()
            assert answer is not None
            assert answer.json["choices"][0]["message"]["content"] == str(number)


# --- row 16: paths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/v1/../../etc/passwd",
        "/v1/%2e%2e/%2e%2e/etc/passwd",
        "/v1/..%2f..%2fetc/passwd",
        "/v1/..%5c..%5cetc",
        "/v1/models/../../etc/passwd",
        "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v1/calls/../../etc/passwd",
        "/v1/models/%00",
        "/v1/models/gpt%00",
        "/v1/models/%ff%fe",
        "/v1/chat/completions%00",
        "/v1/chat%2fcompletions",
        "/v1//chat/completions",
        "//v1/chat/completions",
        "//evil/v1/models",
        "/v1/chat/completions//",
        "/v1/./chat/./completions/.",
        "/%",
        "/%zz",
        "/V1/CHAT/COMPLETIONS",
        "/.env",
        "/v1/calls/*",
        "",
        "v1/models",
        "?model=gpt",
    ],
)
async def test_a_crooked_path_leads_nowhere(method: str, path: str) -> None:
    async with scene() as there:
        answer = await ask(there.url, request(path, BODY if method == "POST" else b"", method=method))
        assert 400 <= answer.status < 500
        assert (answer.header("content-type") or "") in ("application/json", "application/problem+json")
        assert answer.header("x-request-id")
        assert b"root:" not in answer.body
        assert there.asked == 0


@pytest.mark.parametrize(
    "path",
    ["/v1/models/gpt%00", "/v1/usage?where=caller%3D%00", "/v1/jobs?after=%00", "/v1beta/models/a%00:generateContent"],
)
async def test_a_nul_in_a_url_is_a_400_in_the_words_of_its_path(path: str) -> None:
    async with scene() as there:
        answer = await ask(there.url, request(path, b"", method="GET"))
        assert answer.status == 400
        assert b"NUL" in answer.body


@pytest.mark.parametrize("path", ["/\xff", "/v1/models/\xe9", "/ x", "/v1/models/\t"])
async def test_a_path_of_other_bytes_is_hung_up_on(path: str) -> None:
    await hung_up_on(b"GET " + path.encode("latin-1") + b" HTTP/1.1\r\nHost: g\r\n\r\n", 400)


# --- row 18: header values --------------------------------------------------------------------------------------------


class Decorates(Plugin[None]):
    """Sets reply headers that no wire may see."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.reply_headers.update(
            {"x-split": "a\r\nSet-Cookie: stolen=1\r\n\r\nbody", "x-nul": "a\0b", "x-far": "é\u2028", "x-fine": "yes"}
        )
        return await handler(call)


@each_shape
@pytest.mark.parametrize("stream", [True, False])
async def test_a_plugins_header_splits_no_reply(shape: Shape, stream: bool) -> None:
    async def script(exchange: Exchange) -> None:
        if not stream:
            return await answers(exchange)
        return await exchange.reply(b"no stream", 500)

    async with scene({"use": "tests.abuse.test_framing:Decorates"}, script=script) as there:
        answer = await ask(there.url, shape.asks(shape.body(stream=stream)))
    assert answer.status == (502 if stream else 200)
    assert {name for name, _ in answer.headers}.isdisjoint({"set-cookie", "x-split", "x-nul", "x-far"})
    assert answer.header("x-fine") == "yes"


BROKEN_REPLIES: dict[str, bytes] = {
    "a bare line feed": b"X: a\nSet-Cookie: stolen=1\r\n",
    "a bare carriage return": b"X: a\rSet-Cookie: stolen=1\r\n",
    "NUL": b"X: a\0b\r\n",
    "a folded line": b"X: a\r\n Set-Cookie: stolen=1\r\n",
    "other bytes": b"X: \xff\xfe\r\nx-request-id: \xff\r\nRetry-After: \xff\r\n",
}


@each_shape
@pytest.mark.parametrize("line", BROKEN_REPLIES.values(), ids=BROKEN_REPLIES.keys())
@pytest.mark.parametrize("status", [200, 429])
async def test_a_providers_header_splits_no_reply(shape: Shape, line: bytes, status: int) -> None:
    async def script(exchange: Exchange) -> None:
        body = openai_says("hi")
        await exchange.send(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n".encode())
        await exchange.send(line + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async with scene(script=script) as there:
        answer = await ask(there.url, shape.asks())
    assert answer.status in (status, 502)
    assert answer.header("set-cookie") is None
    if answer.status != 200:
        check_refusal(answer, shape, answer.status)


@pytest.mark.parametrize("name", ["anthropic-version", "anthropic-beta"])
@pytest.mark.parametrize("value", [b"\xff\xfe", "é".encode(), b"a\tb", b"a" * 8000], ids=["bytes", "é", "tab", "long"])
async def test_a_clients_header_that_goes_on_breaks_nothing(name: str, value: bytes) -> None:
    data = ANTHROPIC.asks(headers={name: "@"}).replace(b"@", value)
    async with scene() as there:
        answer = await ask(there.url, data)
        assert answer.status in (200, 400), answer.body
        if answer.status == 400:
            check_refusal(answer, ANTHROPIC, 400)
            assert there.asked == 0


@each_shape
async def test_a_header_nobody_reads_may_hold_any_bytes(shape: Shape) -> None:
    data = shape.asks(headers={"X-Anything": "@", "User-Agent": "@"}).replace(b"@", b"\xff\xe9")
    async with scene() as there:
        assert (await ask(there.url, data)).status == 200
