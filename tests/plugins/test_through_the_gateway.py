"""The plugins that need no money, in a real gateway: each dialect, streamed and buffered, cut off and failing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from sidegate.contract import Call, Handler, Plugin, Reply
from sidegate.counters.slots import LocalSlots
from sidegate.testing import Running, demo_config, gateway
from sidegate_plugins.api_key import key_digest

SECRET = "sg-0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
LOG = {"use": "sidegate_plugins.log:Log"}
COST = {"use": "sidegate_plugins.cost:Cost", "settings": {"prices": {"demo*": {"input": 1, "output": 2}}}}
KEYS = {
    "use": "sidegate_plugins.api_key:ApiKey",
    "settings": {"keys": [{"name": "ann", "digest": key_digest(SECRET), "team": "red"}]},
}
SLOTS = {"use": "sidegate_plugins.concurrency:Concurrency", "settings": {"limits": [{"name": "own", "calls": 1}]}}
SLOW = {"demo": {"dialect": "demo", "settings": {"tokens_per_second": 60, "first_token": 0}}}

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "openai_responses": "/v1/responses"}

everywhere = pytest.mark.parametrize(
    ("dialect", "stream"), [(dialect, stream) for dialect in PATHS for stream in (True, False)]
)


class Failing(Plugin[None]):
    """Raises when the reply is over, as a broken plugin does."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        await handler(call)
        raise KeyError("broken")


FAILING = {"use": f"{__name__}:Failing"}


class Client:
    def __init__(self, running: Running, session: aiohttp.ClientSession, dialect: str, stream: bool) -> None:
        self.running = running
        self._session = session
        self._dialect = dialect
        self._stream = stream

    def post(self, key: str = SECRET, model: str = "demo", **headers: str) -> Any:
        body = {
            "model": model,
            "max_tokens": 30,
            "stream": self._stream,
            "messages": [{"role": "user", "content": "Tell me of the sea."}],
        }
        if self._dialect == "openai_responses":
            body |= {"input": body.pop("messages"), "max_output_tokens": body.pop("max_tokens")}
        given = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01", **headers}
        return self._session.post(self.running.url + PATHS[self._dialect], json=body, headers=given)

    async def ask(self, **given: str) -> tuple[int, bytes, dict[str, str]]:
        async with self.post(**given) as response:
            return response.status, await response.read(), {k.lower(): v for k, v in response.headers.items()}

    async def last_line(self, count: int = 1) -> dict[str, Any]:
        """The last of `count` calls in the log; they are written when the call ends, which a client cannot see."""
        async with asyncio.timeout(5):
            while len(self.running.log.events("call")) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.running.log.events("call")[-1]


@asynccontextmanager
async def served(dialect: str, stream: bool, *plugins: dict[str, Any], **rest: Any) -> AsyncIterator[Client]:
    async with gateway(demo_config(*plugins, **rest)) as running, aiohttp.ClientSession() as session:
        yield Client(running, session, dialect, stream)


@everywhere
async def test_a_call_with_a_key_is_answered_and_logged_without_it(dialect: str, stream: bool) -> None:
    async with served(dialect, stream, LOG, KEYS) as client:
        status, _, _ = await client.ask()
        line = await client.last_line()
        assert status == 200
        assert (line["caller"], line["team"], line["status"], line["ending"]) == ("ann", "red", 200, "complete")
        assert (line["provider"], line["delivery"]) == ("demo", "stream" if stream else "buffered")
        assert line["input_tokens"] > 0
        assert line["output_tokens"] > 0
        assert SECRET.encode() not in client.running.log.data
        assert b"sea" not in client.running.log.data


@everywhere
async def test_a_call_without_a_key_is_refused_in_the_clients_words_and_logged(dialect: str, stream: bool) -> None:
    async with served(dialect, stream, LOG, KEYS) as client:
        status, body, headers = await client.ask(key="sg-wrong")
        line = await client.last_line()
    assert status == 401
    assert headers["www-authenticate"] == 'Bearer realm="sidegate"'
    assert (b'"type":"error"' in body) == (dialect == "anthropic")
    assert (line["ending"], line["error"], line["attempts"], line["cost_nano_usd"]) == (
        "refused",
        "invalid_api_key",
        [],
        0,
    )


@everywhere
async def test_a_model_out_of_sight_does_not_exist(dialect: str, stream: bool) -> None:
    access = {"use": "sidegate_plugins.model_access:ModelAccess", "settings": {"callers": {"ann": ["demo"]}}}
    async with served(dialect, stream, KEYS, access) as client, aiohttp.ClientSession() as session:
        assert (await client.ask())[0] == 200
        hidden, unknown = await client.ask(model="demo-2"), await client.ask(model="nothing")
        assert (hidden[0], unknown[0]) == (404, 404)
        url, headers = f"{client.running.url}/v1/models", {"x-api-key": SECRET}
        async with session.get(url, headers=headers) as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["demo"]


@everywhere
async def test_a_rate_limit_is_told_in_headers_and_refuses_with_retry_after(dialect: str, stream: bool) -> None:
    limit = {
        "use": "sidegate_plugins.rate_limit:RateLimit",
        "settings": {"limits": [{"name": "rpm", "requests": 2, "period": "minute"}]},
    }
    async with served(dialect, stream, KEYS, limit) as client:
        first, _, third = [await client.ask() for _ in range(3)]
    assert (first[0], first[2]["x-ratelimit-remaining-requests"], first[2]["ratelimit-policy"]) == (
        200,
        "1",
        '"rpm";q=2;w=60',
    )
    assert third[0] == 429
    assert third[2]["x-ratelimit-remaining-requests"] == "0"
    assert 25 <= int(third[2]["retry-after"]) <= 31


@everywhere
async def test_a_second_call_is_refused_while_the_first_runs_and_let_in_after(dialect: str, stream: bool) -> None:
    async with served(dialect, stream, LOG, KEYS, SLOTS, providers=SLOW) as client:
        first = asyncio.create_task(client.ask())
        await holding(client.running, 1)
        status, _, headers = await client.ask()
        assert (status, "retry-after" in headers) == (429, True)
        assert (await first)[0] == 200
        await holding(client.running, 0)


@everywhere
async def test_a_client_that_leaves_frees_its_slot_and_is_logged(dialect: str, stream: bool) -> None:
    async with served(dialect, stream, LOG, KEYS, SLOTS, providers=SLOW) as client:
        await leave(client, stream)
        await holding(client.running, 0)
        line = await client.last_line()
        assert line["ending"] == "client_gone"
        assert [attempt["ending"] for attempt in line["attempts"]] == ["client_gone"]


@everywhere
@pytest.mark.parametrize("whole", [True, False])
async def test_the_line_says_what_the_ledger_says(dialect: str, stream: bool, whole: bool) -> None:
    async with served(dialect, stream, LOG, KEYS, SLOTS, COST, providers=SLOW) as client:
        await (client.ask() if whole else leave(client, stream))
        line = await client.last_line()
        async with asyncio.timeout(5):
            while (settled := await client.running.service.ledger.call(line["call"])) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    row = settled[0]
    told = (row.input_tokens, row.output_tokens, row.cost_nano_usd, row.estimated, row.ending, row.provider)
    names = ("input_tokens", "output_tokens", "cost_nano_usd", "usage_estimated", "ending", "provider")
    assert tuple(line[name] for name in names) == told
    assert line["ending"] == ("complete" if whole else "client_gone")
    assert line["cost_nano_usd"] or not (whole or stream)


@everywhere
async def test_a_provider_has_slots_in_an_attempt_list(dialect: str, stream: bool) -> None:
    slots = {**SLOTS, "settings": {"limits": [{"name": "p", "calls": 1, "per": ["provider"], "queue": 1, "wait": 5}]}}
    async with served(dialect, stream, attempt=(slots,), providers=SLOW) as client:
        first = asyncio.create_task(client.ask())
        await holding(client.running, 1)
        second = asyncio.create_task(client.ask())
        await queueing(client.running, 1)
        third = await client.ask()
        assert [(await first)[0], (await second)[0], third[0]] == [200, 200, 429]
        await holding(client.running, 0)


@everywhere
async def test_a_plugin_that_breaks_frees_the_slot_and_is_logged(dialect: str, stream: bool) -> None:
    async with served(dialect, stream, LOG, KEYS, SLOTS, FAILING) as client:
        for count in (1, 2):
            status, body, _ = await client.ask()
            line = await client.last_line(count)
            assert b"broken" not in body
            assert (status, line["ending"], line["error"]) == (200 if stream else 500, "failed", "plugin_error")
        await holding(client.running, 0)


async def leave(client: Client, stream: bool) -> None:
    """Hang up: after the first bytes of a stream, or while a buffered reply is made."""
    if stream:
        async with client.post() as response:
            await response.content.readany()
            await holding(client.running, 1)
            response.close()
        return
    asking = asyncio.create_task(client.ask())
    await holding(client.running, 1)
    asking.cancel()
    await asyncio.wait([asking])


async def holding(running: Running, count: int) -> None:
    """Waits until so many keys have a slot in use."""
    slots = running.service.host.slots
    assert isinstance(slots, LocalSlots)
    async with asyncio.timeout(5):
        while len(slots) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def queueing(running: Running, count: int) -> None:
    """Waits until so many calls wait for the demo provider."""
    slots = running.service.host.slots
    assert isinstance(slots, LocalSlots)
    async with asyncio.timeout(5):
        while slots.waiting("slots\x1fp\x1fdemo") != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("queue", ["rate_limit", "concurrency"])
async def test_waiting_in_a_queue_is_no_time_of_the_plugins_own(queue: str) -> None:
    """The bound on a plugin is 0.5 s here, and the wait is longer."""
    rate = {"name": "one", "requests": 1, "period": 1.2, "wait": 5}
    slot = {"name": "one", "calls": 1, "queue": 5, "wait": 5}
    use = {
        "rate_limit": "sidegate_plugins.rate_limit:RateLimit",
        "concurrency": "sidegate_plugins.concurrency:Concurrency",
    }
    plugin = {"use": use[queue], "settings": {"limits": [rate if queue == "rate_limit" else slot]}}
    config = demo_config(plugin, server={"plugin_timeout": 0.5, "drain": 2})
    config["providers"]["demo"]["settings"] = {"first_token": 1.2, "tokens_per_second": 0}
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway(config) as running, aiohttp.ClientSession() as session:

        async def status() -> int:
            async with session.post(running.url + PATHS["openai"], json=body) as reply:
                return reply.status

        assert list(await asyncio.gather(status(), status())) == [200, 200]
