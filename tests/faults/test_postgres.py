"""The ledger's PostgreSQL goes wrong in every way that a network and a server know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sidegate.errors import ConfigError
from tests.faults.scene import scene
from tests.servers.proxy import FaultProxy
from tests.stores import Store, prepared

Before = Callable[[str], Awaitable[FaultProxy]]


@pytest.fixture
def kept(postgres_url: str) -> Store:
    return prepared("postgresql", postgres_url)


async def test_a_server_that_is_down_at_the_start_ends_it_and_says_why(kept: Store, fault_proxy: Before) -> None:
    broken = await fault_proxy(kept.url)
    await broken.refuse()
    with pytest.raises(ConfigError, match=r"^ledger.url: postgresql://127.0.0.1"):
        async with scene(kept, url=broken.url):
            pass


async def test_or_is_waited_for_and_nothing_is_let_in_meanwhile(kept: Store, fault_proxy: Before) -> None:
    broken = await fault_proxy(kept.url)
    await broken.refuse()
    async with scene(kept, url=broken.url, ledger={"on_start_failure": "wait"}) as on:
        assert not await on.ready()
        assert (await on.ask("m-early")).code == "ledger_unavailable"
        await broken.heal()
        await on.well()
        assert (await on.ask("m-late")).whole
        await on.well()
        on.check_books()


@pytest.mark.parametrize("how", ["refused", "black hole"])
async def test_streams_go_on_while_it_is_down_and_what_is_billed_is_refused(
    kept: Store, fault_proxy: Before, how: str
) -> None:
    broken = await fault_proxy(kept.url)
    async with scene(kept, url=broken.url) as on:
        await on.hold(4)
        await broken.refuse() if how == "refused" else broken.black_hole()
        first, second = await asyncio.gather(on.ask("m-first"), on.ask("m-second"))
        assert (first.code, second.code) == ("ledger_unavailable", "ledger_unavailable")
        await on.release()
        await broken.heal()
        await on.well()
        assert (await on.ask("m-after")).whole
        await on.well()
        on.check_books()


async def test_a_slow_one_makes_calls_slow_and_loses_nothing(kept: Store, fault_proxy: Before) -> None:
    broken = await fault_proxy(kept.url)
    async with scene(kept, url=broken.url) as on:
        await on.hold(4)
        broken.delay(0.3, 0.3)
        asking = [asyncio.create_task(on.ask(f"m-slow-{number}")) for number in range(8)]
        await on.release()
        assert all(told.whole for told in await asyncio.gather(*asking))
        await on.well()
        on.check_books()


async def test_connections_that_are_reset_between_two_calls_are_made_anew(kept: Store, fault_proxy: Before) -> None:
    broken = await fault_proxy(kept.url)
    async with scene(kept, url=broken.url) as on:
        await on.hold(4)
        broken.reset()
        assert (await on.ask("m-next")).whole
        await on.release()
        await on.well()
        on.check_books()


@pytest.mark.parametrize("skip", [0, 1], ids=["reserving", "settling"])
@pytest.mark.parametrize("how", ["cut in a transaction", "answer to the commit lost"])
async def test_a_connection_that_breaks_is_not_noticed_by_any_call(
    kept: Store, fault_proxy: Before, how: str, skip: int
) -> None:
    broken = await fault_proxy(kept.url)
    async with scene(kept, url=broken.url) as on:
        await on.hold(4)
        strike = broken.cut_message if how == "cut in a transaction" else broken.lose_answer
        struck = strike(b"m-struck", skip)
        assert (await on.ask("m-struck")).whole
        async with asyncio.timeout(20):
            await struck.wait()
        await on.release()
        await on.well()
        on.check_books()
        assert await on.ready()
