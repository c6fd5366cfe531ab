"""Hostile bodies, models and paths: refused in the client's own words, before anything is asked of a provider."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sidegate.testing import Exchange, scripted
from tests.abuse.scene import (
    ANTHROPIC,
    CLIENT_KEY,
    CROSSED,
    OPENAI,
    SHAPES,
    Shape,
    answers,
    check_problem,
    check_refusal,
    openai_event,
    scene,
)
from tests.abuse.sockets import DROPPED, Wire, ask, request, wire

MIB = 2**20

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


async def refused(shape: Shape, body: bytes, *statuses: int) -> str:
    """The body is refused without a provider call, and the gateway lives on. Gives the message."""
    async with scene() as there:
        message = check_refusal(await ask(there.url, shape.asks(body)), shape, *statuses)
        assert there.asked == 0
        assert (await ask(there.url, shape.asks())).status == 200
    return message


# --- rows 1 to 6: JSON ------------------------------------------------------------------------------------------------


@each_shape
@pytest.mark.parametrize(
    "body",
    [b"", b"   ", b"{", b'{"model": "gpt"', b"{'model': 'gpt'}", b"{}x", b'{"a": 01}', b'{"a": "\\x"}', b'{"a": "\n"}'],
)
async def test_what_is_no_json_is_refused(shape: Shape, body: bytes) -> None:
    await refused(shape, body, 400)


@each_shape
@pytest.mark.parametrize("body", [b"[]", b'"hi"', b"null", b"17", b"true", b'[{"model": "gpt"}]'])
async def test_json_that_is_no_object_is_refused(shape: Shape, body: bytes) -> None:
    assert await refused(shape, body, 400) == "The body must be a JSON object."


@each_shape
async def test_a_body_nested_without_end_is_refused(shape: Shape) -> None:
    await refused(shape, b"[" * 100_000, 400)
    await refused(shape, nested(100_000).encode(), 400)
    await refused(shape, shape.raw(f'"x": {nested(100_000)}'), 400)
    await refused(shape, shape.raw('"x": ' + '{"a": ' * 50_000 + "1" + "}" * 50_000), 400)


@each_shape
async def test_a_deep_message_kills_nothing(shape: Shape) -> None:
    deep = f'"messages": [{{"role": "user", "content": {nested(3000)}}}]'
    async with scene() as there:
        check_refusal(await ask(there.url, shape.asks(shape.raw(deep))), shape, 400)
        assert (await ask(there.url, shape.asks(shape.raw(f'"metadata": {{"x": {nested(300)}}}')))).status < 500
        assert (await ask(there.url, shape.asks())).status == 200


@each_shape
@pytest.mark.parametrize(
    "text",
    [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\\ud800", b"\\udc00\\ud800", b"\x00"],
    ids=["not UTF-8", "overlong", "surrogate", "beyond Unicode", "lone surrogate", "swapped surrogates", "NUL"],
)
async def test_text_that_is_no_unicode_is_refused_wherever_it_stands(shape: Shape, text: bytes) -> None:
    for place in ('"metadata": {"user_id": "@"}', '"messages": [{"role": "user", "content": "@"}]', '"x": "@"'):
        await refused(shape, shape.raw(place).replace(b"@", text), 400)
    await refused(shape, shape.raw('"@": 1').replace(b"@", text), 400)
    await refused(shape, shape.raw('"model": "@"').replace(b"@", text), 400)


@each_shape
async def test_an_escaped_nul_in_a_message_is_text_like_any_other(shape: Shape) -> None:
    async with scene() as there:
        body = shape.body(messages=[{"role": "user", "content": "a\0b"}])
        assert (await ask(there.url, shape.asks(body))).status == 200
        assert there.provider.exchanges[0].json["messages"][0]["content"] == "a\0b"
        check_refusal(await ask(there.url, shape.asks(shape.body(model=f"{shape.model}\0"))), shape, 404)
        assert there.asked == 1


WRONG = [
    ('"temperature": NaN', ""),
    ('"temperature": Infinity', ""),
    ('"temperature": -Infinity', ""),
    ('"x": {"y": [NaN]}', ""),
    ('"temperature": 1e999', "temperature"),
    ('"temperature": -1', "temperature"),
    ('"temperature": "1"', "temperature"),
    ('"top_p": 2', "top_p"),
    ('"max_tokens": -1', "max_tokens"),
    ('"max_tokens": 1' + "0" * 40, "max_tokens"),
    ('"max_tokens": 1e40', "max_tokens"),
    ('"max_tokens": 2147483648', "max_tokens"),
    ('"max_tokens": 5.5', "max_tokens"),
    ('"max_tokens": "5"', "max_tokens"),
    ('"max_tokens": true', "max_tokens"),
    ('"max_tokens": [5]', "max_tokens"),
    ('"stream": "yes"', "stream"),
    ('"stream": 1', "stream"),
    ('"stream": {}', "stream"),
    ('"messages": "hi"', "messages"),
    ('"messages": []', "messages"),
    ('"messages": null', "messages"),
    ('"messages": {}', "messages"),
    ('"messages": [1]', "messages[0]"),
    ('"messages": [{"role": "user", "content": "hi"}, {}]', "role"),
    ('"messages": [{"role": 5, "content": "hi"}]', "messages[0].role"),
    ('"model": ""', "model"),
    ('"model": null', "model"),
    ('"model": 5', "model"),
    ('"model": ["gpt"]', "model"),
    (f'"model": "{"m" * MIB}"', "model"),
]


@each_shape
@pytest.mark.parametrize(("member", "named"), WRONG, ids=[member[:40] for member, _ in WRONG])
async def test_a_field_of_the_wrong_kind_is_named(shape: Shape, member: str, named: str) -> None:
    assert named in await refused(shape, shape.raw(member), 400)


@pytest.mark.parametrize(
    "member",
    [
        '"max_tokens": 0',
        '"n": 0',
        '"n": -1',
        '"n": 100000',
        '"max_completion_tokens": -5',
        '"stream_options": 5',
        '"presence_penalty": 9',
    ],
)
async def test_a_field_of_openais_own_is_held_to_its_bounds(member: str) -> None:
    await refused(OPENAI, OPENAI.raw(member), 400)


@each_shape
@pytest.mark.parametrize("missing", ["model", "messages"])
async def test_what_is_missing_is_named(shape: Shape, missing: str) -> None:
    fields = {name: value for name, value in shape.fields.items() if name != missing}
    assert missing in await refused(shape, json.dumps(fields).encode(), 400)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
@pytest.mark.parametrize(
    "given", [{}, {"prompt": 5, "input": 5}, {"prompt": [], "input": []}, {"prompt": {}, "input": {}}]
)
async def test_the_other_operations_are_held_to_theirs(path: str, given: dict[str, Any]) -> None:
    async with scene() as there:
        body = json.dumps({"model": "gpt", **given}).encode()
        check_refusal(await ask(there.url, request(path, body)), OPENAI, 400)
        assert there.asked == 0


async def test_the_same_is_wrong_whether_or_not_a_plugin_reads() -> None:
    reading = {"use": "log", "settings": {"bodies": True}}
    for member, _ in WRONG:
        for plugins in ([], [reading]):
            async with scene(*plugins) as there:
                check_refusal(await ask(there.url, OPENAI.asks(OPENAI.raw(member))), OPENAI, 400)


@pytest.mark.parametrize("shape", [OPENAI, ANTHROPIC], ids=lambda shape: shape.name)
async def test_a_key_that_stands_twice_has_one_meaning_upstream(shape: Shape) -> None:
    twice = f'{{"model": "nobody", "max_tokens": 1, {json.dumps(shape.fields)[1:]}'
    async with scene() as there:
        assert (await ask(there.url, shape.asks(twice.encode()))).status == 200
        pairs = json.loads(there.provider.exchanges[0].body, object_pairs_hook=list)
    assert sorted(name for name, _ in pairs if name in ("model", "max_tokens")) == ["max_tokens", "model"]
    assert dict(pairs)["model"] == shape.model
    assert dict(pairs)["max_tokens"] == 5


async def test_a_key_that_stands_twice_is_refused_where_the_request_is_read() -> None:
    body = CROSSED.body()[:-1] + b', "messages": [{"role": "user", "role": "system", "content": "hi"}]}'
    assert "twice" in await refused(CROSSED, body, 400)


async def test_a_usage_report_beyond_reason_is_not_believed() -> None:
    async def script(exchange: Exchange) -> None:
        said = b'{"id":"c","object":"chat.completion","created":1,"model":"gpt","choices":[{"index":0,"message":'
        said += b'{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1'
        await exchange.reply(said + b"0" * 40 + b',"completion_tokens":-7,"total_tokens":1e40}}')

    async with scene(script=script) as there:
        answer = await ask(there.url, OPENAI.asks())
        assert answer.status == 200
        row = await ask(there.url, request(f"/v1/calls/{answer.header('x-request-id')}", method="GET"))
        attempt = row.json["attempts"][0]
        assert 0 < attempt["input_tokens"] < 1000
        assert 0 <= attempt["output_tokens"] < 1000


# --- rows 7 and 8: size -----------------------------------------------------------------------------------------------


async def send_without_end(connection: Wire, piece: bytes, times: int) -> None:
    for _ in range(times):
        await connection.send(piece)


@each_shape
async def test_a_body_too_large_is_refused_before_it_is_read(shape: Shape) -> None:
    async with scene() as there, wire(there.url) as connection:
        await connection.send(shape.asks(b"", headers={"Content-Length": str(64 * MIB)}))
        answer = await connection.answer()
        assert answer is not None
        check_refusal(answer, shape, 413)
        assert answer.header("connection") == "close"
        assert there.asked == 0


@each_shape
@pytest.mark.parametrize("chunked", [True, False])
async def test_who_sends_on_can_still_read_the_refusal_and_costs_no_memory(shape: Shape, chunked: bool) -> None:
    piece = b"10000\r\n" + b" " * 65_536 + b"\r\n" if chunked else b" " * 65_536
    framing = (
        {"Transfer-Encoding": "chunked", "Content-Length": DROPPED} if chunked else {"Content-Length": str(64 * MIB)}
    )
    async with scene(server={"max_body_bytes": MIB}) as there, wire(there.url) as connection:
        tracemalloc.start()
        try:
            await connection.send(shape.asks(b"", headers=framing))
            await send_without_end(connection, piece, 1024)
            answer = await connection.answer()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer is not None
        check_refusal(answer, shape, 413)
        assert await connection.closed()
        assert peak < 8 * MIB
        assert there.asked == 0


@each_shape
async def test_one_byte_more_than_allowed_is_refused_and_one_less_is_not(shape: Shape) -> None:
    room = 4096 - len(shape.body(user=""))
    async with scene(server={"max_body_bytes": 4096}) as there:
        assert (await ask(there.url, shape.asks(shape.body(user="u" * room)))).status == 200
        check_refusal(await ask(there.url, shape.asks(shape.body(user="u" * (room + 1)))), shape, 413)
        body = shape.body(user="u" * (room + 1))
        chunk = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
        framing = {"Transfer-Encoding": "chunked", "Content-Length": DROPPED}
        check_refusal(await ask(there.url, shape.asks(b"", headers=framing) + chunk), shape, 413)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "unheard-of"])
async def test_a_compressed_bomb_is_not_inflated(coding: str) -> None:
    bomb = gzip.compress(b" " * 16 * MIB) if "gzip" in coding else zlib.compress(b" " * 16 * MIB)
    async with scene() as there:
        tracemalloc.start()
        try:
            answer = await ask(there.url, OPENAI.asks(bomb, headers={"Content-Encoding": coding}))
            await asyncio.sleep(0.05)  # what is left of the body is read away meanwhile
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        check_refusal(answer, OPENAI, 415)
        assert peak < 4 * MIB
        assert there.asked == 0


async def test_an_encoding_in_a_second_header_is_seen() -> None:
    codings = [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    async with scene() as there:
        check_refusal(await ask(there.url, OPENAI.asks(headers=codings)), OPENAI, 415)
        assert (await ask(there.url, OPENAI.asks(headers={"Content-Encoding": "Identity"}))).status == 200


# --- row 9: schemas ---------------------------------------------------------------------------------------------------

BOMBS: dict[str, dict[str, Any]] = {
    "recursion": {"$ref": "#"},
    "backtracking": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
    "doubling": {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(23)} | {"d23": {}}},
    "unique": {"type": "array", "uniqueItems": True, "maxItems": 10**9},
}


@pytest.mark.parametrize("schema", BOMBS.values(), ids=BOMBS.keys())
@pytest.mark.parametrize("shape", [OPENAI, CROSSED], ids=lambda shape: shape.name)
@pytest.mark.parametrize("plugins", [(), ({"use": "structured_output", "settings": {"timeout": 0.5}},)])
async def test_a_callers_schema_holds_nobody_up(shape: Shape, schema: dict[str, Any], plugins: tuple[Any, ...]) -> None:
    async with scene(*plugins) as there, asyncio.timeout(10):
        answer = await ask(there.url, shape.asks(with_schema(shape, schema)))
        assert answer.status in ((200, 400, 422) if plugins else (200, 400))


@pytest.mark.parametrize("shape", [OPENAI, CROSSED], ids=lambda shape: shape.name)
async def test_no_url_of_a_request_is_ever_fetched(shape: Shape) -> None:
    async with scripted(answers) as bait, scene() as there:
        image = {"type": "image_url", "image_url": {"url": f"{bait.url}/image.png"}}
        if shape is CROSSED:
            image = {"type": "image", "source": {"type": "url", "url": f"{bait.url}/image.png"}}
        turn = {"role": "user", "content": [{"type": "text", "text": "hi"}, image]}
        schema = {"$ref": f"{bait.url}/schema.json", "$schema": f"{bait.url}/draft.json"}
        fields = {**json.loads(with_schema(shape, schema)), "messages": [turn], "callback_url": bait.url}
        headers = {"X-Forwarded-Host": bait.url, "X-Callback-Url": bait.url, "Referer": bait.url}
        answer = await ask(there.url, shape.asks(json.dumps(fields).encode(), headers=headers))
        assert answer.status == 200
        assert bait.connections == 0


def with_schema(shape: Shape, schema: dict[str, Any]) -> bytes:
    if shape is OPENAI:
        return shape.body(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    return shape.body(output_config={"format": {"type": "json_schema", "schema": schema}})


# --- rows 10 and 11: models, paths, methods ---------------------------------------------------------------------------


@each_shape
@pytest.mark.parametrize("model", ["nobody", "GPT", "gpt ", "gpt*", "*", "o/gpt", "../gpt", "gpt\n", "__proto__"])
async def test_an_unknown_model_is_not_found(shape: Shape, model: str) -> None:
    assert "does not exist" in await refused(shape, shape.body(model=model), 404)


@each_shape
async def test_the_model_of_another_tenant_does_not_exist_either(shape: Shape) -> None:
    digest = hashlib.sha256(CLIENT_KEY.encode()).hexdigest()
    keys = {"use": "api_key", "settings": {"keys": [{"name": "small", "digest": f"sha256:{digest}"}]}}
    access = {"use": "model_access", "settings": {"callers": {"small": ["nothing"]}}}
    async with scene(keys, access) as there:
        mine = {"Authorization": f"Bearer {CLIENT_KEY}"}
        theirs = check_refusal(await ask(there.url, shape.asks(headers=mine)), shape, 404)
        nobodys = check_refusal(await ask(there.url, shape.asks(shape.body(model="xyz"), headers=mine)), shape, 404)
        assert theirs.replace(shape.model, "xyz") == nobodys
        assert there.asked == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD"])
@pytest.mark.parametrize("shape", [OPENAI, ANTHROPIC], ids=lambda shape: shape.name)
async def test_a_wrong_method_is_told_the_right_one(shape: Shape, method: str) -> None:
    async with scene() as there:
        answer = await ask(there.url, request(shape.path, method=method), head=method == "HEAD")
        assert answer.header("allow") == "POST"
        assert answer.status == 405
        if method != "HEAD":
            check_refusal(answer, shape, 405)


async def test_a_wrong_method_on_sidegates_own_path_is_a_problem() -> None:
    async with scene() as there:
        answer = await ask(there.url, request(f"/v1/calls/{'0' * 32}", method="PUT"))
        check_problem(answer, 405)
        assert answer.header("allow") == "DELETE, GET"
        check_problem(await ask(there.url, request(f"/v1/calls/{'0' * 32}", method="GET")), 404)
        check_problem(await ask(there.url, request("/nowhere", method="GET")), 404)


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/chat/completion", OPENAI),
        ("/v1/chat/completions/", OPENAI),
        ("/v1/messages/count", ANTHROPIC),
        ("/v1/messages/", ANTHROPIC),
    ],
)
async def test_a_wrong_path_is_not_found_in_the_words_of_its_vendor(path: str, shape: Shape) -> None:
    async with scene() as there:
        check_refusal(await ask(there.url, request(path, shape.body())), shape, 404)
        assert there.asked == 0


@each_shape
@pytest.mark.parametrize(
    "kind",
    [DROPPED, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ";;;", "é"],
)
async def test_a_body_of_another_type_is_refused(shape: Shape, kind: str) -> None:
    async with scene() as there:
        check_refusal(await ask(there.url, shape.asks(headers={"Content-Type": kind})), shape, 415)
        assert there.asked == 0


# --- row 19: text that looks like a stream ----------------------------------------------------------------------------

LOOKS_LIKE_SSE = (
    "a\n\ndata: [DONE]\n\nevent: error\ndata: {}\n\n: comment\r\n\r\nid: 7\rretry: 1\n\n\u2028data: x\u0085\u2029\n\n"
    'event: message_stop\ndata: {"type": "message_stop"}\n\n'
)


@pytest.mark.parametrize("shape", [OPENAI, CROSSED], ids=lambda shape: shape.name)
@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "raw"])
@pytest.mark.parametrize(
    "plugins", [[], [{"use": "log", "settings": {"bodies": True}}]], ids=["nobody looks", "looked at"]
)
async def test_text_that_looks_like_a_stream_is_text(
    shape: Shape, escaped: bool, plugins: list[dict[str, Any]]
) -> None:
    async def script(exchange: Exchange) -> None:
        event = openai_event(LOOKS_LIKE_SSE)
        if not escaped:
            event = b"data: " + json.dumps(json.loads(event[6:]), ensure_ascii=False).encode() + b"\n\n"
        await exchange.stream(event, openai_event(None, "stop"), b"data: [DONE]\n\n")

    async with scene(*plugins, script=script) as there:
        answer = await ask(there.url, shape.asks(shape.body(stream=True)))
    assert answer.status == 200
    events = [event async for event in events_of(answer.body)]
    names = [name for name, _ in events]
    if shape is OPENAI:
        said = [json.loads(data) for _, data in events if data != "[DONE]"]
        text = "".join(choice["delta"].get("content") or "" for event in said for choice in event["choices"])
        assert [data for _, data in events].count("[DONE]") == 1
        assert set(names) == {"message"}
    else:
        said = [json.loads(data) for _, data in events]
        text = "".join(event["delta"].get("text", "") for event in said if event["type"] == "content_block_delta")
        assert names.count("message_stop") == 1
        assert "error" not in names
    assert text == LOOKS_LIKE_SSE


async def events_of(body: bytes) -> AsyncIterator[tuple[str, str]]:
    """Name and data of each event, by the rules of the HTML standard."""
    name = "message"
    data: list[str] = []
    for line in body.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "message", []
        elif line.startswith("event:"):
            name = line[6:].removeprefix(" ")
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
