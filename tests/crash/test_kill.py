"""kill -9 of a real gateway at any moment: each call is settled once or listed, and the money adds up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.testing import Exchange, scripted
from tests.crash.killing import Killable
from tests.relaying import DONE, ROLE, STOP, delta, event
from tests.spending import INPUT, OUTPUT, PRICES, budgeted
from tests.stores import Store

LIMIT = 50_000_000
MOMENTS = ("before the reservation", "at the provider", "in mid-stream", "while it settles", "at any time")

Strike = Callable[[str], None]
"""Told how far a call has come; may kill."""


class Counted:
    """A provider that charges for each request as it comes, by its marker, and says how far it is."""

    def __init__(self, random: Random, strike: Strike) -> None:
        self.random = random
        self.strike = strike
        self.charged: dict[str, int] = {}

    async def answer(self, exchange: Exchange) -> None:
        asked = exchange.json
        marker = asked["messages"][0]["content"]
        assert marker not in self.charged, "the provider was asked twice"
        usage = {"prompt_tokens": len(exchange.body) // 5, "completion_tokens": self.random.randint(4, 20)}
        self.charged[marker] = usage["prompt_tokens"] * INPUT + usage["completion_tokens"] * OUTPUT
        self.strike("at the provider")
        await exchange.head(Transfer_Encoding="chunked")
        for number, piece in enumerate((ROLE, *[delta(content="word ")] * 4)):
            await exchange.chunk(piece)
            await asyncio.sleep(0.01)
            if number == 2:
                self.strike("in mid-stream")
        told = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-1", "choices": []}
        for piece in (STOP, event({**told, "usage": usage}), DONE):
            await exchange.chunk(piece)
        await exchange.chunk(b"")


class Striker:
    """Kills the gateway at the chosen moment: the one after so many calls have come that far."""

    def __init__(self, moment: str, after: int) -> None:
        self.moment = moment
        self.left = after
        self.kill: Callable[[], None] = lambda: None

    def __call__(self, moment: str) -> None:
        if moment == self.moment:
            self.left -= 1
            if not self.left:
                self.kill()


async def callers(url: str, strike: Strike, lock: Callable[[int], Awaitable[None]]) -> dict[str, bool]:
    """Twelve clients that call until the gateway is gone. By marker: whether the reply came whole."""
    whole: dict[str, bool] = {}

    async def one(number: int) -> None:
        async with aiohttp.ClientSession(url) as client:
            for turn in range(50):
                await lock(turn)
                marker = f"m-{number}-{turn}"
                whole[marker] = False
                messages = [{"role": "user", "content": marker}]
                body = {"model": marker, "messages": messages, "stream": True, "max_tokens": 20}
                async with client.post("/v1/chat/completions", json=body) as reply:
                    whole[marker] = (await reply.read()).endswith(b"data: [DONE]\n\n")
                strike("while it settles")

    async def until_gone(number: int) -> None:
        with suppress(aiohttp.ClientError, ConnectionError):
            await one(number)

    await asyncio.gather(*(until_gone(number) for number in range(12)))
    return whole


@pytest.mark.parametrize("moment", ["before the reservation", "in mid-stream", "while it settles"])
async def test_a_killed_gateway_leaves_no_call_untold(tmp_path: Path, store: Store, moment: str) -> None:
    await round_of(tmp_path, store, moment, seed=MOMENTS.index(moment))


async def test_another_replica_finds_what_a_killed_one_left_open(tmp_path: Path, store: Store) -> None:
    await round_of(tmp_path, store, "in mid-stream", seed=7, replica=True)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(50))
async def test_a_killed_gateway_leaves_no_call_untold_at_many_moments(tmp_path: Path, store: Store, seed: int) -> None:
    await round_of(tmp_path, store, MOMENTS[seed % len(MOMENTS)], seed=100 + seed, replica=seed % 3 == 0)


async def round_of(tmp_path: Path, store: Store, moment: str, seed: int, replica: bool = False) -> None:
    """With `replica`, another gateway runs on the store all the time; else the killed one is started again."""
    random = Random(seed)
    striker = Striker(moment, random.randint(1, 60))
    books = Counted(random, striker)
    async with scripted(books.answer) as provider:
        config = a_config(provider.url)
        gateway, other = Killable(tmp_path, config, store), Killable(tmp_path, config, store)
        await gateway.start()
        if replica:
            await other.start()
        with ExitStack() as locks:
            whole = await until_killed(gateway, striker, books, locks)
    if replica:
        await none_open(store)
    else:
        await other.start()
    await other.stop()
    adds_up(gateway, books.charged, whole)


async def until_killed(gateway: Killable, striker: Striker, books: Counted, locks: ExitStack) -> dict[str, bool]:
    """Call until the gateway is killed at its moment; by marker, which replies came whole."""
    loop = asyncio.get_running_loop()
    striker.kill = gateway.kill
    timer = loop.call_later(books.random.uniform(0.05, 1.0), striker, "at any time")
    striker.left = 1 if striker.moment == "at any time" else striker.left
    reached: list[int] = []

    async def lock(turn: int) -> None:
        """From the third turn on no reservation can be made durable."""
        if striker.moment == "before the reservation" and turn == 2 and not reached:
            reached.append(len(books.charged))
            locks.enter_context(gateway.store.locked())
            loop.call_later(0.3, gateway.kill)

    whole = await callers(gateway.url, striker, lock)
    timer.cancel()
    gateway.kill()
    await gateway.gone()
    # Those that were on their way when the lock came have gone through; nobody else has.
    assert all(len(books.charged) - count <= 12 for count in reached)
    return whole


async def none_open(store: Store) -> None:
    """Returns when nothing is `reserved` any more."""
    async with asyncio.timeout(60):
        while store.rows("SELECT 1 FROM calls WHERE state = 'reserved'"):  # noqa: ASYNC110  # another process's doing
            await asyncio.sleep(0.1)


def a_config(url: str) -> dict[str, Any]:
    config: dict[str, Any] = budgeted({"name": "all", "amount_usd": LIMIT / 10**9, "period": "month"}, url=url)
    return {**config, "models": {"m-*": [{"provider": "p0", "model": "real"}]}, "ledger": {"batch_seconds": 0.05}}


def adds_up(gateway: Killable, charged: dict[str, int], whole: dict[str, bool]) -> None:
    rows = gateway.store.rows("SELECT model_asked, id, state, ending, error, cost_nano_usd FROM calls")
    by_marker = {row[0]: row[1:] for row in rows}
    assert len(by_marker) == len(rows), "a call is on record twice"
    listed = {call["id"]: call for call in msgspec.json.decode(gateway.reconcile("--json"))}
    assert charged.keys() <= by_marker.keys(), "the provider was reached by a call that is not on record"
    assert {state for _, state, *_ in by_marker.values()} <= {"settled", "unknown"}
    for marker, (id, state, ending, error, cost) in by_marker.items():
        if state == "settled":
            assert (ending, cost) == ("complete", charged[marker]), (marker, error)
            assert id not in listed
        else:
            assert (error, cost) == ("gateway_killed", None)
            assert listed[id]["held_nano_usd"] >= charged.get(marker, 0)
    assert {marker for marker, came in whole.items() if came} <= by_marker.keys()
    ((spent, held, overshoot),) = gateway.store.rows("SELECT sum(spent), sum(held), sum(overshoot) FROM budgets")
    assert spent == sum(cost for *_, cost in by_marker.values() if cost is not None)
    assert held == sum(call["held_nano_usd"] for call in listed.values())
    assert overshoot == 0
    assert sum(charged.values()) <= spent + held <= LIMIT
    reconciled(gateway, charged, {by_marker[marker][0]: marker for marker in by_marker}, listed)


def reconciled(
    gateway: Killable, charged: dict[str, int], markers: dict[str, str], listed: dict[str, dict[str, Any]]
) -> None:
    """With the provider's word on what is listed, the books are the provider's."""
    assert len(listed) <= 12, "more calls are open than there are clients"
    for id in listed:
        cost = charged.get(markers[id])
        option = ("--release", id) if cost is None else ("--settle", id, "--cost", f"{cost / 10**9:.9f}")
        assert id in gateway.reconcile(*option)
    assert gateway.reconcile() == "nothing to reconcile: every call is settled\n"
    assert gateway.store.rows("SELECT sum(spent), sum(held) FROM budgets") == [(sum(charged.values()), 0)]
    assert gateway.store.rows("SELECT sum(cost_nano_usd) FROM calls") == [(sum(charged.values()),)]


async def test_without_a_budget_what_was_open_longer_than_a_batch_is_found(tmp_path: Path, store: Store) -> None:
    struck = asyncio.Event()

    async def hangs(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="x"))
        struck.set()
        await exchange.closed.wait()

    async with scripted(hangs) as provider:
        config = {**budgeted(url=provider.url, prices=PRICES), "ledger": {"batch_seconds": 0.05}}
        gateway = Killable(tmp_path, config, store)
        await gateway.start()
        async with aiohttp.ClientSession(gateway.url) as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
            async with client.post("/v1/chat/completions", json=body) as reply:
                await struck.wait()
                for _ in range(500):
                    if store.rows("SELECT state FROM calls"):
                        break
                    await asyncio.sleep(0.01)
                gateway.kill()
                with suppress(aiohttp.ClientError):
                    await reply.read()
        await gateway.gone()
    assert store.rows("SELECT state, ending FROM calls") == [("reserved", "in_flight")]
    (call,) = msgspec.json.decode(gateway.reconcile("--json"))
    assert (call["state"], call["error"], call["held_nano_usd"]) == ("unknown", "gateway_killed", 0)
