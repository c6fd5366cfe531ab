"""Keys: the wrong ones are refused, the right ones are seen nowhere, and nothing of one side reaches the other."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from typing import Any

import pytest

from sidegate.contract import Call, Handler, Plugin, Reply
from sidegate.telemetry.logs import configure_logging
from sidegate.testing import Exchange, Running
from tests.abuse.scene import (
    ANTHROPIC,
    CLIENT_KEY,
    OPENAI,
    PROVIDER_KEY,
    SHAPES,
    Shape,
    anthropic_says,
    check_problem,
    check_refusal,
    openai_says,
    scene,
)
from tests.abuse.sockets import ask, request

LOG = {"use": "log", "settings": {"bodies": True}}
KEY = {
    "use": "api_key",
    "settings": {"keys": [{"name": "ann", "digest": "sha256:" + hashlib.sha256(CLIENT_KEY.encode()).hexdigest()}]},
}
MINE = {"Authorization": f"Bearer {CLIENT_KEY}"}

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


# --- row 56: who has no key -------------------------------------------------------------------------------------------

WRONG: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "another": [("Authorization", "Bearer sg-another-key-0000000000000000000")],
    "a near one": [("Authorization", f"Bearer {CLIENT_KEY[:-1]}1")],
    "a prefix": [("Authorization", f"Bearer {CLIENT_KEY[:-1]}")],
    "more than it": [("Authorization", f"Bearer {CLIENT_KEY}0")],
    "another case": [("Authorization", f"Bearer {CLIENT_KEY.upper()}")],
    "an empty one": [("Authorization", "Bearer ")],
    "no scheme": [("Authorization", CLIENT_KEY)],
    "Basic": [("Authorization", "Basic " + base64.b64encode(f"ann:{CLIENT_KEY}".encode()).decode())],
    "its digest": [("Authorization", "Bearer " + hashlib.sha256(CLIENT_KEY.encode()).hexdigest())],
    "a long one": [("Authorization", "Bearer " + "a" * 8000)],
    "no ASCII": [("Authorization", "Bearer ключ-é")],
    "two that differ": [("Authorization", f"Bearer {CLIENT_KEY}"), ("x-api-key", "other")],
    "in a cookie": [("Cookie", f"key={CLIENT_KEY}")],
    "the provider's": [("Authorization", f"Bearer {PROVIDER_KEY}")],
}


@each_shape
@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
async def test_without_the_key_nothing_is_asked_of_a_provider(shape: Shape, headers: list[tuple[str, str]]) -> None:
    async with scene(KEY) as there:
        answer = await ask(there.url, shape.asks(headers=headers))
        check_refusal(answer, shape, 401)
        assert answer.header("www-authenticate") == 'Bearer realm="sidegate"'
        assert there.asked == 0
        assert (await ask(there.url, shape.asks(headers=MINE))).status == 200


@each_shape
async def test_a_key_in_the_url_is_no_key(shape: Shape) -> None:
    async with scene(KEY, LOG) as there:
        for name in ("api_key", "key", "access_token", "api-key"):
            answer = await ask(there.url, request(f"{shape.path}?{name}={CLIENT_KEY}", shape.body()))
            check_refusal(answer, shape, 401)
        assert there.asked == 0


@each_shape
async def test_bytes_that_are_no_text_are_no_key(shape: Shape) -> None:
    data = shape.asks(headers={"Authorization": "Bearer @"}).replace(b"@", b"\xff\xfe\xe9")
    async with scene(KEY) as there:
        check_refusal(await ask(there.url, data), shape, 401)


@each_shape
async def test_who_calls_is_asked_before_what(shape: Shape) -> None:
    """A stranger learns nothing of models, and nothing of what it did wrong."""
    async with scene(KEY) as there:
        for body in (shape.body(model="nobody"), b"not JSON", shape.raw('"max_tokens": -1'), b""):
            check_refusal(await ask(there.url, shape.asks(body)), shape, 401)
        for path in ("/v1/models", f"/v1/calls/{'0' * 32}"):
            assert (await ask(there.url, request(path, method="GET"))).status == 401


# --- row 57: the time a key takes -------------------------------------------------------------------------------------


async def test_keys_are_compared_by_their_digests_and_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def spied(one: str, other: str) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spied)
    async with scene(KEY) as there:
        assert (await ask(there.url, OPENAI.asks(headers=MINE))).status == 200
    digest = hashlib.sha256(CLIENT_KEY.encode()).hexdigest()
    assert compared == [(digest, digest)]


# --- row 58: where keys are not ---------------------------------------------------------------------------------------


class Leaks(Plugin[None]):
    """Fails with what it has seen."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.headers.get("x-break"):
            raise RuntimeError(f"{call.headers.get('Authorization')} {PROVIDER_KEY}")
        return await handler(call)


async def test_no_key_is_in_any_answer_log_line_metric_or_row() -> None:
    async def script(exchange: Exchange) -> None:
        key = exchange.headers.get("authorization", "")
        if len(there.provider.exchanges) == 1:
            return await exchange.reply(openai_says("hi"))
        said = json.dumps({"error": {"message": f"Incorrect API key provided: {key}", "type": "x", "code": key}})
        return await exchange.reply(said.encode(), 400 + len(there.provider.exchanges) % 2, X_Key=key)

    async with scene(LOG, KEY, {"use": "tests.abuse.test_secrets:Leaks"}, script=script) as there:
        undo = configure_logging(there.running.service.log)  # type: ignore[arg-type]
        try:
            seen = await everything_said(there.running)
        finally:
            undo()
    for key in (CLIENT_KEY, PROVIDER_KEY, "5ecret"):
        assert key.encode() not in seen


async def everything_said(running: Running) -> bytes:
    """What the gateway says while it is treated badly, the log included."""
    answers = [
        await ask(running.url, OPENAI.asks(headers=MINE)),
        *[await ask(running.url, OPENAI.asks(headers=MINE)) for _ in range(4)],
        await ask(running.url, OPENAI.asks(headers={**MINE, "x-break": "1"})),
        await ask(running.url, OPENAI.asks(headers={**MINE, "X": "a\nb"})),
        await ask(running.url, OPENAI.asks(headers={**MINE, "Transfer-Encoding": "chunked"})),
        await ask(running.url, OPENAI.asks(headers={"Authorization": f"Basic {CLIENT_KEY}"})),
        await ask(running.url, request(f"/v1/nowhere?key={CLIENT_KEY}", headers=MINE)),
        await ask(running.url, request(f"/{CLIENT_KEY}", method="GET")),
        await ask(running.url, request("/v1/models", method="GET", headers=MINE)),
        await ask(running.admin_url, request("/metrics", method="GET", headers={"Host": "localhost"})),
    ]
    first = answers[0].header("x-request-id")
    answers.append(await ask(running.url, request(f"/v1/calls/{first}", method="GET", headers=MINE)))
    logging.getLogger("any.library").error("a header was %s", MINE["Authorization"])
    said = b"".join(repr(answer.headers).encode() + answer.body for answer in answers)
    # What it calls a model is told to the client again, but not to the log.
    assert (await ask(running.url, OPENAI.asks(OPENAI.body(model=CLIENT_KEY), headers=MINE))).status == 404
    return said + running.log.data


# --- rows 59 and 60: allow-lists --------------------------------------------------------------------------------------

PRIVATE = {
    "Cookie": "session=5ecret",
    "Authorization": f"Bearer {CLIENT_KEY}",
    "X-Forwarded-For": "10.0.0.1",
    "X-Real-IP": "10.0.0.1",
    "Forwarded": "for=10.0.0.1",
    "Via": "1.1 proxy",
    "Referer": "http://intern/",
    "Origin": "http://intern",
    "User-Agent": "client/1",
    "Connection": "keep-alive, X-Nominated",
    "X-Nominated": "1",
    "Keep-Alive": "timeout=5",
    "TE": "trailers",
    "Proxy-Authorization": "Basic 5ecret",
    "OpenAI-Organization": "org-5ecret",
    "X-Stainless-OS": "Linux",
    "X-Anything": "1",
    "x-goog-api-key": CLIENT_KEY,
    "api-key": CLIENT_KEY,
}
SENT = {"host", "content-type", "content-length", "accept", "accept-encoding", "user-agent"}


@each_shape
async def test_nothing_of_the_clients_goes_out_but_what_is_listed(shape: Shape) -> None:
    async with scene(KEY) as there:
        assert (await ask(there.url, shape.asks(headers=PRIVATE))).status == 200
        (exchange,) = there.provider.exchanges
    keys = {"x-api-key", "anthropic-version"} if shape is ANTHROPIC else {"authorization"}
    assert set(exchange.headers) == SENT | keys
    assert exchange.headers["user-agent"].startswith("sidegate/")
    assert CLIENT_KEY not in "".join(exchange.headers.values())
    assert CLIENT_KEY.encode() not in exchange.body


async def test_the_versions_an_anthropic_client_speaks_go_out() -> None:
    versions = {"anthropic-version": "2023-06-01", "anthropic-beta": "a-1,b-2"}
    async with scene() as there:
        assert (await ask(there.url, ANTHROPIC.asks(headers=versions))).status == 200
        headers = there.provider.exchanges[0].headers
    assert {name: headers[name] for name in versions} == versions


@each_shape
@pytest.mark.parametrize("status", [200, 400, 429, 500])
async def test_nothing_of_the_providers_comes_back_but_what_is_listed(shape: Shape, status: int) -> None:
    async def script(exchange: Exchange) -> None:
        body = anthropic_says("hi") if exchange.path.endswith("/messages") else openai_says("hi")
        named = {
            "Set_Cookie": "session=5ecret",
            "Server": "internal-5ecret",
            "Access_Control_Allow_Origin": "*",
            "X_Api_Key": PROVIDER_KEY,
            "Authorization": f"Bearer {PROVIDER_KEY}",
            "Location": "http://intern/",
            "OpenAI_Organization": "org-5ecret",
            "Via": "1.1 intern",
            "X_Request_Id": "theirs",
            "Alt_Svc": "h3=:443",
            "Strict_Transport_Security": "max-age=1",
            "Retry_After": "77",
            "Cf_Ray": "5ecret",
            "OpenAI_Project": "proj_5ecret",
            "Anthropic_Organization_Id": "5ecret",
        }
        await exchange.reply(body if status == 200 else b"{}", status, **named)

    async with scene(script=script) as there:
        answer = await ask(there.url, shape.asks())
    assert answer.status == {200: 200, 400: 400, 429: 429, 500: 502}[status]
    allowed = {"server", "x-request-id", "request-id", "content-type", "content-length", "date", "retry-after"}
    allowed |= {"x-should-retry", "retry-after-ms"}  # for SDKs, so that they do not multiply our retries
    assert {name for name, _ in answer.headers} <= allowed
    assert answer.header("server") == "sidegate/0.1.0"
    assert answer.header("x-request-id") != "theirs"
    assert (answer.header("retry-after") == "77") is (status in (429, 500))
    assert b"5ecret" not in answer.body


# --- row 62: administration -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/metrics", "/admin", "/docs", "/openapi.json", "/debug", "/console", "/config"])
async def test_administration_is_not_where_the_clients_are(path: str) -> None:
    async with scene() as there:
        check_problem(await ask(there.url, request(path, method="GET")), 404)


async def test_the_admin_listener_takes_no_calls() -> None:
    async with scene() as there:
        answer = await ask(there.running.admin_url, OPENAI.asks(headers={"Host": "localhost"}))
        check_refusal(answer, OPENAI, 404)
        assert there.asked == 0


# --- row 63: the log --------------------------------------------------------------------------------------------------

FORGED = 'gpt\r\n{"event": "forged"}\x1b[2J\x1b]0;x\x07\u2028\u202e"}\x7f\x9b'


@each_shape
async def test_nothing_a_client_says_breaks_a_line_of_the_log(shape: Shape) -> None:
    body = shape.body(model=FORGED, messages=[{"role": "user", "content": FORGED}])
    async with scene(LOG) as there:
        check_refusal(await ask(there.url, shape.asks(body)), shape, 404)
        data = there.running.log.data
        (line,) = there.running.log.events("call")
    assert data.count(b"\n") == len(data.splitlines())
    assert {json.loads(one)["event"] for one in data.split(b"\n") if one} == {"call"}
    assert line["model"] == FORGED
    assert not [byte for byte in data if byte < 0x20 and byte != 0x0A or byte == 0x7F]
    for mark in ("\u2028", "\u202e", "\x9b"):
        assert mark.encode() not in data


# --- row 69: browsers -------------------------------------------------------------------------------------------------


@each_shape
async def test_no_page_of_another_origin_may_call(shape: Shape) -> None:
    foreign: dict[str, Any] = {"Origin": "http://evil.example"}
    async with scene() as there:
        asked = {**foreign, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        preflight = await ask(there.url, request(shape.path, method="OPTIONS", headers=asked))
        check_refusal(preflight, shape, 405)
        simple = [
            await ask(there.url, shape.asks(headers={**foreign, "Content-Type": kind}))
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
        ]
        for answer in simple:
            check_refusal(answer, shape, 415)
        assert there.asked == 0
        whole = await ask(there.url, shape.asks(headers=foreign))
    for answer in (preflight, *simple, whole):
        assert not [name for name, _ in answer.headers if name.startswith("access-control-")]
