"""The store of limits goes wrong under running streams: none is disturbed, and each policy does what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import scene
from tests.servers.process import spare_port
from tests.servers.proxy import FaultProxy
from tests.servers.redis import redis_server
from tests.stores import Store, prepared

Before = Callable[[str], Awaitable[FaultProxy]]
Break = Callable[[FaultProxy], Awaitable[None]]

LIMIT = 6
PERIOD = 31 * 86_400


def limits(policy: str) -> tuple[dict[str, Any], dict[str, Any]]:
    few = {"name": "few", "requests": LIMIT, "period": PERIOD, "per": [], "on_store_failure": policy}
    slots = {"name": "slots", "calls": LIMIT, "per": [], "on_store_failure": policy}
    return {"use": "rate_limit", "settings": {"limits": [few]}}, {"use": "concurrency", "settings": {"limits": [slots]}}


async def black_hole(proxy: FaultProxy) -> None:
    proxy.black_hole()


async def slow(proxy: FaultProxy) -> None:
    proxy.delay(0.3, 0.3)


async def cut_off(proxy: FaultProxy) -> None:
    """What was connected is reset, and who connects anew is told nothing."""
    proxy.black_hole()
    proxy.reset()


each_break = pytest.mark.parametrize(
    "breaks", [FaultProxy.refuse, black_hole, slow, cut_off], ids=["refused", "black hole", "slow", "cut off"]
)


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    return prepared("sqlite", f"sqlite:///{tmp_path}/ledger.db")


@each_break
@pytest.mark.parametrize("policy", ["local", "deny", "allow"])
async def test_streams_go_on_and_new_calls_are_as_the_limit_says(
    kept: Store, redis_url: str, fault_proxy: Before, breaks: Break, policy: str
) -> None:
    broken = await fault_proxy(redis_url)
    async with scene(kept, *limits(policy), counters={"url": broken.url}) as on:
        await on.hold(LIMIT - 2)
        await breaks(broken)
        codes = [(await on.ask(f"m-{number}")).code for number in range(LIMIT)]
        if policy == "deny":
            assert codes == ["limit_store_unavailable"] * LIMIT
        elif policy == "allow":
            assert codes == [None] * LIMIT
        else:
            # What this gateway let through before counts here, too.
            assert codes == [None] * 2 + ["rate_limit_exceeded"] * (LIMIT - 2)
        await on.release()
        await broken.heal()
        await on.well()
        on.check_books()


@pytest.mark.usefixtures("redis_url")
async def test_a_store_that_was_started_again_is_used_again(kept: Store) -> None:
    port = spare_port()
    counters = {"url": f"redis://127.0.0.1:{port}/0", "timeout": 5}
    with ExitStack() as server:
        server.enter_context(redis_server("redis-server", port))
        async with scene(kept, *limits("deny"), counters=counters) as on:
            await on.hold(LIMIT - 2)
            await asyncio.to_thread(server.close)
            assert (await on.ask("m-down")).code == "limit_store_unavailable"
            await asyncio.to_thread(server.enter_context, redis_server("redis-server", port))
            async with asyncio.timeout(30):
                while not (await on.ask(f"m-again-{len(on.asked)}")).whole:  # noqa: ASYNC110  # nobody announces it
                    await asyncio.sleep(0.05)
            await on.release()
            await on.well()
            on.check_books()
