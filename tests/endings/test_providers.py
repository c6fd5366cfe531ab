"""Whatever a provider does: what the client is told, when the provider is let go, and what the ledger says."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import trustme

from sidegate.testing import MISBEHAVIOURS, Exchange, answering, closed_port, gateway, scripted
from sidegate.testing.misbehaviour import BREAKING, ODDITIES, REFUSING
from sidegate.testing.oddities import LARGE, MANY
from sidegate.testing.voices import TEXT, USED, WORDS
from tests.endings.expected import BROKEN, End
from tests.endings.ground import ANTHROPIC, CLIENTS, KEY, LONG, OPENAI, SHORT, Client, Scene, Seen, leads, scene

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
each_client = pytest.mark.parametrize("client", CLIENTS, ids=[client.dialect for client in CLIENTS])
DIALECTS = ("openai", "anthropic", "openai_responses")
each_provider = pytest.mark.parametrize("dialect", DIALECTS, ids=[f"of-{name}" for name in DIALECTS])

INTERNAL = ("Traceback", "aiohttp", "msgspec", "127.0.0.1", "10.1.2.3", "internal", "nginx", "5ecret", "real-1")


def test_every_misbehaviour_has_its_row() -> None:
    assert set(BROKEN) | set(ODDITIES) | {"dropped_where_kept"} == set(MISBEHAVIOURS)
    assert set(BROKEN) == (set(BREAKING) | set(REFUSING)) - {"dropped_where_kept"}
    assert all(len(maker.__doc__ or "") > 20 for maker in MISBEHAVIOURS.values())


@both
@each_client
@each_provider
@pytest.mark.parametrize("name", BROKEN)
async def test_a_reply_that_is_none(
    name: str, dialect: str, client: Client, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sidegate")
    end = BROKEN[name][0 if stream else 1]
    async with scene(MISBEHAVIOURS[name](dialect), dialect, timeouts={} if end.phase else LONG) as on:
        seen = await on.ask(client, stream)
        check_told(seen, end)
        await check_provider(on, end, seen)
        check_record(await on.record(seen.id), end, begun=dialect == "anthropic" and stream)
        await check_secrets(on, seen, caplog.text)


def check_told(seen: Seen, end: End) -> None:
    """An error reply while nothing had been said, an error event after, and never a mark of a clean end."""
    assert seen.whole, "an error is told, and the body ended: a client need not guess"
    assert seen.status == end.status
    if end.status == 200:
        error = seen.failure
        assert not seen.marked
        assert seen.text == WORDS[0] + WORDS[1], "what was said before is not lost"
        assert sum("error" in told for told in seen.told) == 1
    else:
        assert seen.headers["Content-Type"].startswith("application/json")
        error = seen.client.error(seen.body)
    assert error is not None
    if seen.client is not ANTHROPIC:
        assert error["code"].startswith(end.code)
    assert not [word for word in INTERNAL if word in error["message"]]
    if end.phase:
        assert SHORT / 2 < seen.seconds < LONG["connect"] / 2, "it was that timeout, and no other"
    else:
        assert seen.seconds < LONG["connect"] / 2, "it was not a timeout that ended it"


async def check_provider(on: Scene, end: End, seen: Seen) -> None:
    """One request, with our key and no retry; its connection closed at once, or kept because it was read to its end."""
    assert len(on.provider.exchanges) == 1
    assert on.provider.connections == 1
    assert KEY in str(on.provider.exchanges[0].headers)
    if not end.closes:
        assert on.provider.exchanges[0].closed_at is None
        return
    took = await on.closed()
    assert took < seen.seconds + 5
    if end.phase:
        assert took >= SHORT / 2


def check_record(record: Any, end: End, begun: bool) -> None:
    assert record["ending"] == end.ending
    assert record["error"].startswith(end.code)
    assert record["status"] == (end.told or end.status)
    (attempt,) = record["attempts"]
    assert (attempt["ending"], attempt["error"]) == (record["ending"], record["error"])
    assert attempt["committed"] is (end.status == 200)
    tokens = (record["input_tokens"], record["output_tokens"])
    if end.bill == "nothing" and record["state"] == "settled":
        assert (tokens, record["estimated"]) == ((0, 0), False)
    elif end.bill == "counted":
        assert (record["state"], record["estimated"]) == ("settled", True)
        # Anthropic tells the input when it begins; 10 bytes of text are 3 tokens, about.
        assert tokens == ((USED[0] if begun else record["input_tokens"]), 3)
        assert record["input_tokens"] > 0
    else:
        assert (record["state"], record["output_tokens"]) == ("unknown", None)
        assert record["input_tokens"] > 0


async def check_secrets(on: Scene, seen: Seen, log: str) -> None:
    """No key, nor a word of the provider's inside, is anywhere."""
    async with on.http.get(on.running.admin_url + "/metrics") as reply:
        metrics = await reply.text()
    everywhere = (seen.body.decode(), str(seen.headers), log, on.running.log.data.decode(), metrics)
    record = json.dumps(await on.record(seen.id))
    assert not [text for text in (*everywhere, record) if "5ecret" in text]
    assert not [word for word in ("internal", "nginx", "10.1.2.3") if word in seen.body.decode()]


async def test_a_rate_limit_says_when_to_come_back_and_a_mistake_what_it_was() -> None:
    for client in CLIENTS:
        async with scene(MISBEHAVIOURS["rate_limited"](client.dialect), client.dialect) as on:
            assert (await on.ask(client, True)).headers["Retry-After"] == "17"
        async with scene(MISBEHAVIOURS["echoes_the_key_in_a_mistake"](client.dialect), client.dialect) as on:
            assert (
                "Odd header: "
                in (await on.ask(client, True)).client.error((await on.ask(client, True)).body)["message"]
            )


async def test_a_redirect_is_not_followed() -> None:
    async with scene(MISBEHAVIOURS["redirects"]("openai")) as on:
        await on.ask(OPENAI, False)
        assert [exchange.path for exchange in on.provider.exchanges] == ["/chat/completions"]


@each_client
async def test_a_failure_after_a_sign_of_life_is_an_event(client: Client) -> None:
    """A heartbeat commits the status, and no attempt."""
    script = MISBEHAVIOURS["never_answers"](client.dialect)
    async with scene(script, client.dialect, server={"heartbeat": 0.1, "drain": 1}) as on:
        seen = await on.ask(client, True)
        record = await on.record(seen.id)
    assert (seen.status, seen.whole, seen.marked) == (200, True, False)
    assert seen.events[0].startswith(b":")
    assert seen.failure is not None
    assert (record["ending"], record["status"], record["attempts"][0]["committed"]) == ("timed_out", 504, False)


async def test_a_provider_that_never_ends_is_read_to_a_bound_only() -> None:
    sent = 0

    async def endless(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.head(Transfer_Encoding="chunked")
        while not exchange.closed.is_set():
            await exchange.chunk(b"x" * 2**16)
            sent += 2**16

    async with scene(endless) as on:
        seen = await on.ask(OPENAI, True)
        await on.closed()
    assert seen.status == 502
    assert sent < 24 * 2**20, "8 MiB of an event, and what the kernel's buffers hold"


# --- oddities ---------------------------------------------------------------------------------------------------------


@both
@each_client
@each_provider
@pytest.mark.parametrize("name", ODDITIES)
async def test_an_oddity_changes_nothing(name: str, dialect: str, client: Client, stream: bool) -> None:
    async with scene(MISBEHAVIOURS[name](dialect), dialect, timeouts=LONG) as on:
        seen = await on.ask(client, stream)
        record = await on.record(seen.id)
        said = {"large_event": "x" * LARGE, "many_tokens": "x" * MANY}.get(name, TEXT)
        assert (seen.status, seen.whole) == (200, True)
        if stream:
            assert seen.text == said
            assert seen.marked
            assert (
                sum(client.mark in (told, told.get("type") if isinstance(told, dict) else "") for told in seen.told)
                == 1
            )
        else:
            assert client.text(seen.body) == said
        assert not {"Content-Encoding", "Link"} & set(seen.headers)
        (attempt,) = record["attempts"]
        assert (record["ending"], attempt["ending"], record["state"]) == ("complete", "complete", "settled")
        check_usage(name, record)
        # Kept for the next call, but where the provider closes it.
        again = await on.ask(client, stream)
        assert again.status == 200
        assert on.provider.connections == (2 if name == "http_1_0" else 1)


def check_usage(name: str, record: Any) -> None:
    tokens = (record["input_tokens"], record["output_tokens"])
    if name in ("no_usage", "wrong_usage"):
        assert record["estimated"]
        # 20 bytes of text.
        assert (record["input_tokens"] > 10, record["output_tokens"]) == (True, 5)
    else:
        assert not record["estimated"]
        assert tokens == (USED[0], MANY if name == "many_tokens" else USED[1])


@pytest.mark.parametrize("name", ["no_usage", "wrong_usage", "usage_twice"])
async def test_a_client_that_did_not_ask_for_usage_gets_no_event_of_it(name: str) -> None:
    """`chunk.choices[0]` is what every client of OpenAI's says to each chunk."""
    async with scene(MISBEHAVIOURS[name]("openai")) as on:
        seen = await on.ask(OPENAI, True)
        assert all(told["choices"] for told in seen.told if told != OPENAI.mark)


# --- connections that do not come about, or not for long --------------------------------------------------------------


@both
@each_client
async def test_a_kept_connection_that_had_timed_out_is_replaced_once(client: Client, stream: bool) -> None:
    async with scene(MISBEHAVIOURS["dropped_where_kept"](client.dialect), client.dialect) as on:
        for _ in range(3):
            seen = await on.ask(client, stream)
            assert seen.status == 200
            record = await on.record(seen.id)
            assert (record["ending"], len(record["attempts"])) == ("complete", 1)
            assert (record["input_tokens"], record["output_tokens"]) == USED
        # Well; dropped, and sent again on a new connection; the same once more.
        assert [exchange.reused for exchange in on.provider.exchanges] == [False, True, False, True, False]


@both
@each_client
@pytest.mark.parametrize("where", ["closed port", "no such host"])
async def test_a_provider_that_cannot_be_reached(client: Client, stream: bool, where: str) -> None:
    url = closed_port() if where == "closed port" else "http://nobody.invalid:1"
    async with gateway(leads(url, client.dialect, timeouts={"connect": 2})) as running:
        async with aiohttp.ClientSession() as http:
            async with http.post(running.url + client.path, json=client.body(stream)) as reply:
                assert reply.status == 502
                error = client.error(await reply.read())
                assert "reached" in error["message"]
                call_id = reply.headers["x-request-id"]
            async with http.get(f"{running.url}/v1/calls/{call_id}") as reply:
                record = await reply.json()
    assert (record["ending"], record["error"]) == ("provider_error", "provider_unreachable")
    assert (record["input_tokens"], record["output_tokens"], record["estimated"]) == (0, 0, False)


async def test_a_provider_that_takes_no_connection_is_a_connect_timeout() -> None:
    """A full backlog: the kernel answers no SYN."""
    held: list[asyncio.StreamWriter] = []
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(0)
        port = bound.getsockname()[1]
        filling = [asyncio.create_task(asyncio.open_connection("127.0.0.1", port)) for _ in range(4)]
        await asyncio.sleep(0.05)
        config = leads(f"http://127.0.0.1:{port}", timeouts={"first_token": 30})
        async with gateway(config) as running, aiohttp.ClientSession() as http:
            began = asyncio.get_running_loop().time()
            async with http.post(running.url + OPENAI.path, json=OPENAI.body(True)) as reply:
                took = asyncio.get_running_loop().time() - began
                assert (reply.status, (await reply.json())["error"]["code"]) == (504, "connect_timeout")
                row = await running.service.ledger.call(reply.headers["x-request-id"])
        for task in filling:
            task.cancel()
        for done in await asyncio.gather(*filling, return_exceptions=True):
            held += [done[1]] if isinstance(done, tuple) else []
        for writer in held:
            writer.transport.abort()
    assert row is not None
    assert (row[0].ending, row[0].input_tokens) == ("timed_out", 0)
    assert SHORT / 2 < took < 5


@dataclass(frozen=True)
class Shown:
    """A TLS server: the certificate it shows, and the authority that signed it."""

    server: ssl.SSLContext
    trust: ssl.SSLContext


def shown(case: str) -> Shown:
    """A certificate of 127.0.0.1 by an authority that is trusted, but for what `case` says."""
    authority = trustme.CA()
    past = datetime.now(UTC) - timedelta(days=1)
    name = "elsewhere.example" if case == "wrong name" else "127.0.0.1"
    certificate = authority.issue_cert(name, not_after=past if case == "expired" else None)
    server, trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    certificate.configure_cert(server)
    (trustme.CA() if case == "unknown authority" else authority).configure_trust(trust)
    return Shown(server, trust)


@both
@pytest.mark.parametrize("case", ["good", "expired", "wrong name", "unknown authority"])
async def test_only_a_good_certificate_is_talked_to(case: str, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the good one passes shows that it is the fault which is refused, and not all of TLS."""
    made = shown(case)
    monkeypatch.setattr("sidegate.upstream.dialer.trusted", lambda: made.trust)
    async with scripted(answering("openai"), tls=made.server) as provider:
        async with gateway(leads(provider.url, timeouts={"connect": 2})) as running, aiohttp.ClientSession() as http:
            async with http.post(running.url + OPENAI.path, json=OPENAI.body(stream)) as reply:
                body = await reply.read()
                row = await running.service.ledger.call(reply.headers["x-request-id"])
    assert row is not None
    if case == "good":
        assert (reply.status, row[0].ending, row[0].output_tokens) == (200, "complete", USED[1])
        return
    assert (reply.status, OPENAI.error(body)["code"]) == (502, "provider_unreachable")
    assert (row[0].ending, row[0].input_tokens, row[0].output_tokens) == ("provider_error", 0, 0)
    assert provider.exchanges == [], "neither key nor prompt was sent"


@both
async def test_a_port_that_speaks_no_tls(stream: bool) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server, gateway(leads(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as running:
        async with aiohttp.ClientSession() as http:
            async with http.post(running.url + OPENAI.path, json=OPENAI.body(stream)) as reply:
                assert (reply.status, (await reply.json())["error"]["code"]) == (502, "provider_unreachable")
                row = await running.service.ledger.call(reply.headers["x-request-id"])
    assert row is not None
    assert (row[0].ending, row[0].output_tokens) == ("provider_error", 0)


async def test_the_good_script_is_good() -> None:
    """Otherwise the others would prove nothing."""
    for client in (OPENAI, ANTHROPIC):
        async with scene(answering(client.dialect), client.dialect) as on, scripted(answering("openai")):
            assert (await on.ask(client, True)).text == TEXT
            assert client.text((await on.ask(client, False)).body) == TEXT
            assert on.provider.connections == 1
