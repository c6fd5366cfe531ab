"""However calls end, nothing of them stays: no task, no connection, no slot, no entry, no memory; and one row each."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sqlite3
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidegate.contract import Call, Handler, Plugin, Reply
from sidegate.errors import Refusal
from sidegate.testing import MISBEHAVIOURS, Exchange, Running, ScriptedProvider, answering, gateway, scripted
from tests.endings.ground import CLIENTS, Client, leads, until

SEED = 20_251
CALLS = 300
LONG_CALLS = 2_000
AT_ONCE = 20
GROWTH = 400_000
"""Bytes by which a round may leave more in use than the one before: 100 calls that kept 4 KiB each would be found."""

PROVIDERS = (
    "never_answers",
    "silent_in_mid_stream",
    "reset_in_mid_stream",
    "closed_in_mid_stream",
    "ends_without_finish",
    "error_in_mid_stream",
    "nonsense_in_mid_stream",
    "dropped",
    "fails",
    "rate_limited",
    "many_tokens",
    "byte_by_byte",
)
ENDED = frozenset({"complete", "provider_error", "cut", "stalled", "client_gone", "cancelled", "timed_out", "refused"})


class Moody(Plugin[None]):
    """Refuses what asks for it: before the call, or in the middle of its reply."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        mood = call.headers.get("x-mood")
        if mood == "refuse":
            raise Refusal(403, "in_no_mood", "Not now.")
        if mood == "refuse later":
            call.tap(_refuse)
        return await handler(call)


def _refuse(chunk: Any) -> None:
    if chunk.text:
        raise Refusal(403, "in_no_mood", "Not that.")


class Storm:
    """Calls that end in seeded random ways."""

    def __init__(self, running: Running, http: aiohttp.ClientSession, source: random.Random) -> None:
        self._running = running
        self._http = http
        self._random = source
        self.told: list[str] = []
        """The ids of the calls that the client saw a head of."""

    async def calls(self, count: int) -> None:
        """So many calls, some at a time."""
        ways = [self._random.choice(_WAYS) for _ in range(count)]
        names = [self._random.choice(PROVIDERS) for _ in range(count)]
        room = asyncio.Semaphore(AT_ONCE)

        async def one(way: _Way, name: str) -> None:
            async with room:
                with suppress(aiohttp.ClientError, TimeoutError):
                    await way(self, name)

        await asyncio.gather(*(one(way, name) for way, name in zip(ways, names, strict=True)))
        assert await until(lambda: len(self._running.service.live) == 0, 10) < 10

    async def reads(self, name: str) -> None:
        await self._ask(name)

    async def behaves(self, name: str) -> None:
        await self._ask("well")

    async def leaves(self, name: str) -> None:
        """At any moment, from before the request is out to the end of the reply."""
        async with asyncio.timeout(self._random.choice([0.0, 0.001, 0.003, 0.01, 0.03, 0.1])):
            await self._ask(self._random.choice([name, "well"]))

    async def is_cancelled(self, name: str) -> None:
        asking = asyncio.create_task(self._ask("silent_in_mid_stream"))
        await asyncio.sleep(self._random.choice([0, 0.01, 0.03]))
        live = self._running.service.live.all()
        if live:
            call_id = self._random.choice(live).call.id
            async with self._http.delete(f"{self._running.url}/v1/calls/{call_id}") as reply:
                self.told.append(reply.headers["x-request-id"])
        await asking

    async def is_refused(self, name: str) -> None:
        await self._ask(name, self._random.choice(["refuse", "refuse later"]))

    async def _ask(self, name: str, mood: str = "") -> None:
        client: Client = self._random.choice(CLIENTS)
        asked = client.body(self._random.random() < 0.7, model=f"{client.dialect}-{name}")
        async with self._http.post(
            self._running.url + client.path, json=asked, headers={"x-mood": mood} if mood else {}
        ) as reply:
            self.told.append(reply.headers["x-request-id"])
            await reply.read()


_Way = Callable[[Storm, str], Awaitable[None]]
_WAYS: tuple[_Way, ...] = (
    Storm.reads,
    Storm.reads,
    Storm.behaves,
    Storm.leaves,
    Storm.leaves,
    Storm.is_cancelled,
    Storm.is_refused,
)


async def by_model(exchange: Exchange) -> None:
    """Whatever the model's name asks for."""
    dialect, name = exchange.json["model"].split("-")
    await (answering if name == "well" else MISBEHAVIOURS[name])(dialect)(exchange)


@asynccontextmanager
async def stormy(state: Path) -> AsyncIterator[tuple[Running, ScriptedProvider]]:
    async with scripted(by_model) as provider:
        plugins = [
            {"use": "tests.endings.test_leaks:Moody"},
            {"use": "concurrency", "settings": {"limits": [{"name": "all", "calls": 1000}]}},
        ]
        config = leads(provider.url, plugins=plugins, state=str(state), timeouts={"first_token": 0.15, "idle": 0.15})
        base = config["providers"]["p"]
        config["providers"] = {
            # A target that is left alone, or a retry budget that is spent, would be no storm.
            client.dialect: {**base, "dialect": client.dialect, "circuit": None, "key_rest": 0.001}
            for client in CLIENTS
        }
        config["models"] = {f"{client.dialect}-*": {"provider": client.dialect} for client in CLIENTS}
        async with gateway(config) as running:
            yield running, provider


def seen_open(running: Running) -> list[Any]:
    """Connections that the gateway has taken from its pool and not given back."""
    return list(running.service.transport.in_use)


def held(running: Running) -> list[Any]:
    """Slots that are held or waited for, and rooms at providers that are taken."""
    slots: Any = running.service.host.slots
    providers: list[Any] = [upstream.provider for upstream in running.service.upstreams.values()]
    # The room is `max_connections`, 1000 by default.
    return [*slots._lines, *(provider._room for provider in providers if provider._room != 1000)]


def tasks() -> Counter[str]:
    """The tasks of this loop by what they run."""
    return Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]


class Register:
    """Which calls were begun, and which were settled, each time."""

    def __init__(self, running: Running) -> None:
        self.begun: list[str] = []
        self.settled: list[str] = []
        live: Any = running.service.live
        start, settle = live.start, live._settle

        def started(call: Call, *rest: Any) -> Any:
            self.begun.append(call.id)
            return start(call, *rest)

        def settles(call: Call, *rest: Any) -> None:
            self.settled.append(call.id)
            settle(call, *rest)

        live.start, live._settle = started, settles


async def settled(running: Running, before: Counter[str]) -> None:
    """Wait until nothing is left of any call, and say what is where that does not come."""
    with suppress(AssertionError):
        await until(lambda: not (tasks() - before) and not seen_open(running) and not held(running), 5)
    assert tasks() - before == Counter()
    assert seen_open(running) == []
    assert held(running) == []
    assert running.service.live.all() == []


async def stays(expected: int | None) -> int:
    """Bytes in use; for a while those on their way out are waited for, as what a thread is about to write."""
    used = 0
    for _ in range(100):
        gc.collect()
        used = tracemalloc.get_traced_memory()[0]
        if expected is None or used < expected:
            break
        await asyncio.sleep(0.05)
    return used


@pytest.mark.parametrize(
    "count", [CALLS, pytest.param(LONG_CALLS, marks=[pytest.mark.long, pytest.mark.timeout(900)])], ids=str
)
async def test_nothing_stays_of_calls_however_they_end(count: int, tmp_path: Path) -> None:
    source = random.Random(SEED)
    grown: list[int] = []
    async with stormy(tmp_path) as (running, provider):
        register = Register(running)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            storm = Storm(running, http, source)
            await storm.calls(20)
        await asyncio.sleep(0.1)
        before = tasks()
        tracemalloc.start()
        try:
            for _ in range(3):
                async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
                    storm._http = http
                    await storm.calls(count // 3)
                    url = running.url + CLIENTS[0].path
                    # A pool of the client's is closed with it, and the gateway sees it.
                    async with http.post(url, json=CLIENTS[0].body(True, model="openai-well")) as reply:
                        storm.told.append(reply.headers["x-request-id"])
                        assert (await reply.read()).endswith(b"data: [DONE]\n\n")
                provider.exchanges.clear()
                await settled(running, before)
                grown.append(await stays(grown[-1] + GROWTH if grown else None))
        finally:
            tracemalloc.stop()
    check_rows(tmp_path, register, storm.told)
    # The ids that are kept for the check, and pools that are filled once, are within the margin.
    assert max(later - earlier for earlier, later in zip(grown, grown[1:], strict=False)) < GROWTH, grown


def check_rows(state: Path, register: Register, told: list[str]) -> None:
    """Every call was settled once and is on record, with an ending; and no attempt without its call."""
    assert sorted(register.settled) == sorted(register.begun)
    assert len(set(register.begun)) == len(register.begun)
    with sqlite3.connect(state / "sidegate.db") as database:
        rows = database.execute("SELECT id, ending FROM calls").fetchall()
        orphans = database.execute(
            "SELECT count(*) FROM attempts WHERE call_id NOT IN (SELECT id FROM calls)"
        ).fetchone()
    assert {row[0] for row in rows} == set(register.begun)
    assert set(told) <= set(register.begun)
    assert {row[1] for row in rows} <= ENDED
    assert len({row[1] for row in rows}) >= 6, "the storm has all kinds of endings in it"
    assert orphans == (0,)


async def test_descriptors_of_files_are_given_back(tmp_path: Path) -> None:
    """Sockets of clients, of providers and of the ledger."""
    before = len(os.listdir("/proc/self/fd"))
    async with stormy(tmp_path) as (running, _):
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            await Storm(running, http, random.Random(SEED + 1)).calls(60)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)
