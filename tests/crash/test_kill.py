"""kill -9 of a real gateway at any moment: each call is settled once or listed, and the money adds up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
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


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_killed_gateway_leaves_no_call_untold(tmp_path: Path, moment: str) -> None:
    await round_of(tmp_path, moment, seed=MOMENTS.index(moment))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(50))
async def test_a_killed_gateway_leaves_no_call_untold_at_many_moments(tmp_path: Path, seed: int) -> None:
    await round_of(tmp_path, MOMENTS[seed % len(MOMENTS)], seed=100 + seed)


async def round_of(tmp_path: Path, moment: str, seed: int) -> None:
    random = Random(seed)
    striker = Striker(moment, random.randint(1, 60))
    provider_side = Counted(random, striker)
    async with scripted(provider_side.answer) as provider:
        gateway = Killable(tmp_path, a_config(provider.url))
        await gateway.start()
        striker.kill = gateway.kill
        timer = asyncio.get_running_loop().call_later(random.uniform(0.05, 1.0), striker, "at any time")
        striker.left = 1 if moment == "at any time" else striker.left
        locked: list[sqlite3.Connection] = []

        async def lock(turn: int) -> None:
            """From the third turn on no reservation can be made durable."""
            if moment == "before the reservation" and turn == 2 and not locked:
                locked.append(sqlite3.connect(gateway.database, isolation_level=None))
                locked[0].execute("BEGIN IMMEDIATE")
                came = len(provider_side.charged)
                asyncio.get_running_loop().call_later(0.3, gateway.kill)
                asyncio.get_running_loop().call_later(0.29, lambda: seen.append(len(provider_side.charged) - came))

        seen: list[int] = []
        whole = await callers(gateway.url, striker, lock)
        timer.cancel()
        gateway.kill()
        await gateway.gone()
        for connection in locked:
            connection.close()
    assert all(count <= 12 for count in seen)
    await gateway.start()
    await gateway.stop()
    await adds_up(gateway, provider_side.charged, whole)


def a_config(url: str) -> dict[str, Any]:
    config: dict[str, Any] = budgeted({"name": "all", "amount_usd": LIMIT / 10**9, "period": "month"}, url=url)
    return {**config, "models": {"m-*": [{"provider": "p0", "model": "real"}]}, "ledger": {"batch_seconds": 0.05}}


async def adds_up(gateway: Killable, charged: dict[str, int], whole: dict[str, bool]) -> None:
    rows = gateway.rows("SELECT model_asked, id, state, ending, error, cost_nano_usd FROM calls")
    by_marker = {row[0]: row[1:] for row in rows}
    assert len(by_marker) == len(rows), "a call is on record twice"
    listed = {call["id"]: call for call in msgspec.json.decode(await gateway.reconcile("--json"))}
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
    ((spent, held, overshoot),) = gateway.rows("SELECT sum(spent), sum(held), sum(overshoot) FROM budgets")
    assert spent == sum(cost for *_, cost in by_marker.values() if cost is not None)
    assert held == sum(call["held_nano_usd"] for call in listed.values())
    assert overshoot == 0
    assert sum(charged.values()) <= spent + held <= LIMIT
    await reconciled(gateway, charged, {by_marker[marker][0]: marker for marker in by_marker}, listed)


async def reconciled(
    gateway: Killable, charged: dict[str, int], markers: dict[str, str], listed: dict[str, dict[str, Any]]
) -> None:
    """With the provider's word on what is listed, the books are the provider's."""
    assert len(listed) <= 12, "more calls are open than there are clients"
    for id in listed:
        cost = charged.get(markers[id])
        option = ("--release", id) if cost is None else ("--settle", id, "--cost", f"{cost / 10**9:.9f}")
        assert id in await gateway.reconcile(*option)
    assert await gateway.reconcile() == "nothing to reconcile: every call is settled\n"
    assert gateway.rows("SELECT sum(spent), sum(held) FROM budgets") == [(sum(charged.values()), 0)]
    assert gateway.rows("SELECT sum(cost_nano_usd) FROM calls") == [(sum(charged.values()),)]


async def test_without_a_budget_what_was_open_longer_than_a_batch_is_found(tmp_path: Path) -> None:
    struck = asyncio.Event()

    async def hangs(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="x"))
        struck.set()
        await exchange.closed.wait()

    async with scripted(hangs) as provider:
        config = {**budgeted(url=provider.url, prices=PRICES), "ledger": {"batch_seconds": 0.05}}
        gateway = Killable(tmp_path, config)
        await gateway.start()
        async with aiohttp.ClientSession(gateway.url) as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
            async with client.post("/v1/chat/completions", json=body) as reply:
                await struck.wait()
                for _ in range(500):
                    if gateway.rows("SELECT state FROM calls"):
                        break
                    await asyncio.sleep(0.01)
                gateway.kill()
                with suppress(aiohttp.ClientError):
                    await reply.read()
        await gateway.gone()
    with closing(sqlite3.connect(gateway.database)) as file:
        assert file.execute("SELECT state, ending FROM calls").fetchall() == [("reserved", "in_flight")]
    (call,) = msgspec.json.decode(await gateway.reconcile("--json"))
    assert (call["state"], call["error"], call["held_nano_usd"]) == ("unknown", "gateway_killed", 0)
