"""What a call leaves behind: nothing, also where it failed or its client left, however seldom the collector comes.

A stream that has lived long is old to the collector. In a cycle it would stay until all objects are looked at.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from sidegate.contract.call import Call
from sidegate.contract.reply import Reply
from sidegate.testing import Exchange, Running, gateway, scripted
from tests.relaying import DONE, ROLE, STOP, chat, delta, leads_to

PLUGINS = tuple({"use": name} for name in ("log", "concurrency", "structured_output"))


async def speaks(exchange: Exchange) -> None:
    match exchange.json["messages"][0]["content"]:
        case "whole":
            await exchange.stream(ROLE, delta(content="x"), STOP, DONE)
        case "fail":
            await exchange.reply(b'{"error":{"message":"down"}}', 503)
        case "cut":
            await exchange.head()
            await exchange.chunk(ROLE + delta(content="x"))
            exchange.reset()
        case _:
            await exchange.head()
            await exchange.chunk(ROLE + delta(content="x"))
            await exchange.closed.wait()


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@asynccontextmanager
async def ended() -> AsyncIterator[tuple[Running, list[weakref.ref[Call]]]]:
    """A gateway, and the calls that have been settled."""
    async with scripted(speaks) as provider:
        config = leads_to(provider.url, plugins=PLUGINS)
        config["providers"]["p0"] |= {"circuit": None, "retry": {"attempts": 1}}
        async with gateway(config) as running:
            live, settled = running.service.live, list[weakref.ref[Call]]()
            settle = live._settle

            def noted(call: Call, reply: Reply, seconds: float) -> None:
                settled.append(weakref.ref(call))
                settle(call, reply, seconds)

            live._settle = noted
            yield running, settled


async def gone(calls: list[weakref.ref[Call]], count: int) -> bool:
    """Whether so many have ended, and none is left a moment later."""
    async with asyncio.timeout(20):
        while len(calls) < count or any(call() is not None for call in calls):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return True


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("says", ["whole", "fail", "cut", "nothing more", "no such model"])
async def test_a_call_is_gone_when_it_has_ended(says: str) -> None:
    async with ended() as (running, calls), aiohttp.ClientSession() as session:
        for _ in range(2):
            asked = chat(stream=True, messages=[{"role": "user", "content": says}])
            asked["model"] = "other" if says == "no such model" else "m"
            async with session.post(running.url + "/v1/chat/completions", json=asked) as response:
                if says == "nothing more":
                    await response.content.readany()
                    response.close()
                else:
                    with suppress(aiohttp.ClientError):
                        await response.read()
        assert await gone(calls, 2)
