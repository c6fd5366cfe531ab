"""`idempotency` in a real gateway: both dialects, streamed and buffered, one provider call and the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest

from sidegate.testing import Exchange, Running, ScriptedProvider, demo_config, gateway, scripted
from sidegate.testing.provider import Script
from sidegate_plugins.api_key import key_digest
from tests.plugins.calls import HandClock
from tests.relaying import DONE, ROLE, STOP, WHOLE, answers, delta, event, leads_to, messages
from tests.test_relay import anthropic_stream

IDEMPOTENCY = {"use": "sidegate_plugins.idempotency:Idempotency"}
COST = {"use": "sidegate_plugins.cost:Cost", "settings": {"prices": {"*": {"input": 1, "output": 2}}}}
KEYS = {
    "use": "sidegate_plugins.api_key:ApiKey",
    "settings": {"keys": [{"name": name, "digest": key_digest(f"sg-{name}")} for name in ("ann", "bob")]},
}
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "openai_responses": "/v1/responses"}

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
everywhere = pytest.mark.parametrize("dialect", PATHS)


class Client:
    """Asks with the same body and the same key, unless told otherwise."""

    def __init__(self, running: Running, session: aiohttp.ClientSession, path: str, stream: bool) -> None:
        self.running = running
        self._session = session
        self._path = path
        self._stream = stream

    def post(self, key: str = "k-1", caller: str = "ann", **more: Any) -> Any:
        headers = {"Idempotency-Key": key, "Authorization": f"Bearer sg-{caller}", "anthropic-version": "2023-06-01"}
        body = {**messages(self._stream), "input": "x", "prompt": "x", **more}
        if self._path == PATHS["openai_responses"]:
            del body["prompt"]  # There it is a template that the provider keeps.
        return self._session.post(self.running.url + self._path, json=body, headers=headers)

    async def ask(self, **given: Any) -> tuple[int, bytes, dict[str, str]]:
        async with self.post(**given) as reply:
            return reply.status, await reply.read(), {name.lower(): value for name, value in reply.headers.items()}

    async def record(self, headers: dict[str, str]) -> Any:
        url = f"{self.running.url}/v1/calls/{headers['x-request-id']}"
        async with self._session.get(url, headers={"Authorization": "Bearer sg-ann"}) as reply:
            return await reply.json()


@asynccontextmanager
async def served(config: Any, path: str, stream: bool, clock: HandClock | None = None) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(limit=0)
    async with gateway(config, clock=clock) as running, aiohttp.ClientSession(connector=connector) as session:
        yield Client(running, session, path, stream)


@asynccontextmanager
async def before(
    script: Script, path: str, stream: bool, *inner: Any, dialect: str = "openai", **rest: Any
) -> AsyncIterator[tuple[Client, ScriptedProvider]]:
    """A gateway with keys and idempotency before a scripted provider."""
    async with scripted(script) as provider:
        config = leads_to(provider.url, dialect=dialect, plugins=(KEYS, IDEMPOTENCY, *inner), **rest)
        async with served(config, path, stream) as client:
            yield client, provider


def without_comments(body: bytes) -> bytes:
    return b"".join(line for line in body.splitlines(keepends=True) if not line.startswith(b":"))


@everywhere
@both
async def test_a_reply_is_told_again_byte_for_byte_and_costs_nothing(dialect: str, stream: bool) -> None:
    """The demo provider names nothing, so every id and time in the body is the gateway's own."""
    config = demo_config(KEYS, IDEMPOTENCY, COST)
    async with served(config, PATHS[dialect], stream, HandClock()) as client:
        first = await client.ask(model="demo")
        clock = client.running.service.clock
        assert isinstance(clock, HandClock)
        clock.pass_by(30)
        second = await client.ask(model="demo")
        records = [await client.record(first[2]), await client.record(second[2])]
    assert (first[0], second[0]) == (200, 200)
    assert without_comments(second[1]) == without_comments(first[1]).replace(b"\n\n\n", b"\n\n")
    assert second[2]["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first[2]
    assert first[2]["x-request-id"] != second[2]["x-request-id"]
    assert records[0]["cost_nano_usd"] > 0
    assert (records[1]["cost_nano_usd"], records[1]["attempts"], records[1]["ending"]) == (0, [], "complete")
    assert records[1]["output_tokens"] == 0


@both
@pytest.mark.parametrize("inner", [(), ({"use": "tests.tapping:Tapping"},), ({"use": "tests.tapping:Shouting"},)])
@pytest.mark.parametrize("path", PATHS.values())
async def test_whatever_is_looked_at_or_changed_further_in_is_told_again_alike(
    path: str, stream: bool, inner: Any
) -> None:
    async with before(answers, path, stream, *inner) as (client, provider):
        first, second = await client.ask(), await client.ask()
    assert second[1] == first[1]
    assert (first[0], len(provider.exchanges)) == (200, 1)
    if path == PATHS["openai"] and not inner:
        whole = ROLE + delta(content="H") + delta(content="é") + STOP + DONE
        assert second[1] == (whole if stream else WHOLE)


@both
@pytest.mark.parametrize("outer", ["tests.tapping:Tapping", "tests.tapping:Shouting"])
async def test_whatever_stands_further_out_acts_on_both(stream: bool, outer: str) -> None:
    async with scripted(answers) as provider:
        config = leads_to(provider.url, plugins=({"use": outer}, IDEMPOTENCY))
        async with served(config, PATHS["openai"], stream) as client:
            first, second = await client.ask(), await client.ask()
    assert second[1] == first[1]
    assert ("É".encode() in second[1]) == outer.endswith("Shouting")
    assert len(provider.exchanges) == 1


async def test_a_stream_from_another_dialect_is_told_again_with_its_first_time() -> None:
    async def claude(exchange: Exchange) -> None:
        await exchange.stream(*anthropic_stream())

    async with scripted(claude) as provider:
        config = leads_to(provider.url, dialect="anthropic", plugins=(KEYS, IDEMPOTENCY))
        clock = HandClock()
        async with served(config, PATHS["openai"], True, clock) as client:
            first = await client.ask()
            clock.pass_by(30)
            second = await client.ask()
    assert second[1] == first[1]
    assert b'"created":' in first[1]
    assert len(provider.exchanges) == 1


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
async def test_completions_and_embeddings_too(path: str) -> None:
    async with served(demo_config(KEYS, IDEMPOTENCY), path, False) as client:
        first, second = await client.ask(model="demo"), await client.ask(model="demo")
    assert second[1] == first[1]
    assert (first[0], second[2]["idempotent-replayed"]) == (200, "true")


@everywhere
@both
async def test_fifty_racing_calls_are_one_call_of_the_provider(dialect: str, stream: bool) -> None:
    everybody = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await everybody.wait()
        await answers(exchange)

    async with before(slow, PATHS[dialect], stream) as (client, provider):
        asking = [asyncio.create_task(client.ask()) for _ in range(50)]
        await in_flight(client, 50)
        everybody.set()
        replies = await asyncio.gather(*asking)
        assert len(provider.exchanges) == 1
        records = [await client.record(reply[2]) for reply in replies]
    assert {(status, body) for status, body, _ in replies} == {(200, replies[0][1])}
    assert sum("idempotent-replayed" not in headers for *_, headers in replies) == 1
    assert sorted(len(record["attempts"]) for record in records) == [0] * 49 + [1]


@everywhere
@both
async def test_another_body_is_refused_in_the_clients_words(dialect: str, stream: bool) -> None:
    async with before(answers, PATHS[dialect], stream) as (client, provider):
        await client.ask()
        status, body, _ = await client.ask(temperature=0.5)
    assert (status, len(provider.exchanges)) == (422, 1)
    assert b"idempotency_key_reused" in body or dialect == "anthropic"
    assert (b'"type":"error"' in body) == (dialect == "anthropic")


@both
async def test_a_key_of_one_caller_tells_nothing_to_another(stream: bool) -> None:
    async with before(answers, PATHS["openai"], stream) as (client, provider):
        await client.ask(caller="ann")
        replies = [await client.ask(caller="bob"), await client.ask(caller="bob", temperature=0.5)]
    assert [reply[0] for reply in replies] == [200, 422]
    assert "idempotent-replayed" not in replies[0][2]
    assert len(provider.exchanges) == 2


@everywhere
async def test_a_first_client_that_leaves_in_the_middle_cuts_those_who_read_along(dialect: str) -> None:
    async def slow(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="x"))
        await exchange.closed.wait()

    async with before(slow, PATHS[dialect], True) as (client, provider):
        leading = await client.post()
        await leading.content.readany()
        async with client.post() as following:
            await following.content.readany()
            leading.close()
            rest = await following.content.read()
        assert b'"error"' in rest
        assert b"[DONE]" not in rest
        assert b"message_stop" not in rest
        provider.script = answers
        status, body, headers = await client.ask()
    assert (status, len(provider.exchanges)) == (200, 2)
    assert "idempotent-replayed" not in headers
    assert "é".encode() in body


@everywhere
@both
async def test_where_the_first_client_leaves_unheard_the_next_runs_the_call(dialect: str, stream: bool) -> None:
    reached = asyncio.Event()

    async def silent(exchange: Exchange) -> None:
        reached.set()
        await exchange.closed.wait()

    async with before(silent, PATHS[dialect], stream) as (client, provider):
        leading = asyncio.create_task(client.ask())
        await reached.wait()
        following = [asyncio.create_task(client.ask()) for _ in range(3)]
        await in_flight(client, 4)
        provider.script = answers
        leading.cancel()
        with suppress(asyncio.CancelledError):
            await leading
        replies = await asyncio.gather(*following)
    assert [reply[0] for reply in replies] == [200] * 3
    assert len({reply[1] for reply in replies}) == 1
    assert len(provider.exchanges) == 2


@both
async def test_a_reply_nobody_was_there_for_is_kept_where_its_route_goes_on(stream: bool) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        reached.set()
        await go_on.wait()
        await answers(exchange)

    routes = [{"name": "r", "pipeline": "main", "on_disconnect": "continue"}]
    async with before(slow, PATHS["openai"], stream, routes=routes) as (client, provider):
        leading = asyncio.create_task(client.ask())
        await reached.wait()
        leading.cancel()
        await asyncio.wait([leading])
        go_on.set()
        status, body, headers = await client.ask()
    assert (status, headers["idempotent-replayed"], len(provider.exchanges)) == (200, "true", 1)
    assert "é".encode() in body


@both
async def test_a_provider_that_fails_is_asked_again(stream: bool) -> None:
    async def broken(exchange: Exchange) -> None:
        await exchange.reply(b'{"error":{"message":"bad"}}', 400)

    async with before(broken, PATHS["openai"], stream) as (client, provider):
        assert (await client.ask())[0] == 400
        provider.script = answers
        assert (await client.ask())[0] == 200
        assert len(provider.exchanges) == 2


async def test_a_stream_that_is_cut_is_not_kept() -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.stream(ROLE, delta(content="x"), event({"error": {"message": "gone", "code": 500}}))

    async with before(cut, PATHS["openai"], True) as (client, provider):
        assert b'"error"' in (await client.ask())[1]
        provider.script = answers
        assert (await client.ask())[1].endswith(DONE)


async def test_a_follower_may_wait_longer_than_a_plugin_may_take() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        reached.set()
        await go_on.wait()
        await answers(exchange)

    clock = HandClock()
    async with scripted(slow) as provider:
        config = leads_to(provider.url, plugins=(KEYS, IDEMPOTENCY))
        async with served(config, PATHS["openai"], True, clock) as client:
            asking = [asyncio.create_task(client.ask()) for _ in range(2)]
            await reached.wait()
            await in_flight(client, 2)
            clock.pass_by(60)
            client.running.service.live.check(3600, 3600)
            go_on.set()
            assert [reply[0] for reply in await asyncio.gather(*asking)] == [200, 200]


async def in_flight(client: Client, count: int) -> None:
    """Waits until so many calls have come as far as the first of them or its followers."""
    async with asyncio.timeout(20):
        while len(client.running.service.live) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await asyncio.sleep(0)
