"""Faults of every kind at random moments between a gateway under load and its database: the books are right."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from tests.faults.scene import Scene, scene
from tests.servers.proxy import FaultProxy
from tests.stores import Store, prepared

Before = Callable[[str], Awaitable[FaultProxy]]

CLIENTS = 6
KINDS = ("refuse", "reset", "black hole", "slow", "cut a message", "cut a reply", "lose an answer")


@pytest.fixture
def kept(postgres_url: str) -> Store:
    return prepared("postgresql", postgres_url)


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_breaks_nothing_is_lost_or_doubled(kept: Store, fault_proxy: Before, seed: int) -> None:
    await round_of(kept, fault_proxy, seed, faults=8, longest=0.4)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(100, 120))
async def test_whatever_breaks_nothing_is_lost_or_doubled_in_the_long_run(
    kept: Store, fault_proxy: Before, seed: int
) -> None:
    """Faults last longer here than a call waits for its reservation."""
    await round_of(kept, fault_proxy, seed, faults=15, longest=7)


async def round_of(kept: Store, fault_proxy: Before, seed: int, faults: int, longest: float) -> None:
    random = Random(seed)
    broken = await fault_proxy(kept.url)
    async with scene(kept, url=broken.url) as on:
        over = asyncio.Event()
        clients = [asyncio.create_task(client(on, number, over)) for number in range(CLIENTS)]
        await on.hold(2)
        for _ in range(faults):
            await strike(broken, random)
            await asyncio.sleep(random.uniform(0, longest))
            if random.random() < 0.7:
                await broken.heal()
                await asyncio.sleep(random.uniform(0, 0.3))
        await broken.heal()
        over.set()
        await asyncio.gather(*clients)
        await on.release()
        await on.well()
        assert (await on.ask("m-last")).whole
        await on.well()
        on.check_books()


async def client(on: Scene, number: int, over: asyncio.Event) -> None:
    """One call after the other, whatever comes of them: each is answered."""
    turn = 0
    while not over.is_set():
        told = await on.ask(f"m-{number}-{turn}")
        assert told.whole or told.code == "ledger_unavailable", told
        turn += 1


async def strike(broken: FaultProxy, random: Random) -> None:
    kind = random.choice(KINDS)
    if kind == "refuse":
        await broken.refuse()
    elif kind == "reset":
        broken.reset()
    elif kind == "black hole":
        broken.black_hole()
    elif kind == "slow":
        broken.delay(random.uniform(0, 0.3), random.uniform(0, 0.3))
    elif kind == "cut a message":
        broken.cut_message(random.choice([b"BEGIN", b"m-", b"COMMIT"]), random.randint(0, 3))
    elif kind == "cut a reply":
        broken.cut_reply(random.randint(0, 2000))
    else:
        broken.lose_answer(b"m-", random.randint(0, 3))
