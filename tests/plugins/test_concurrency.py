from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sidegate.contract import Attempt, Call, Caller, Chunk, Host, Reply, Text
from sidegate.counters.slots import LocalSlots
from sidegate.errors import Refusal
from sidegate_plugins.concurrency import Concurrency, Limit, Settings
from tests.plugins.calls import EPOCH, HandClock, ListOutlet, a_call, a_host, answer, failing

CLOCK = HandClock()


class Provider:
    """A handler that sends a word for each `go`, and ends with the last."""

    def __init__(self, words: int = 2) -> None:
        self.running = 0
        self._words = [asyncio.Event() for _ in range(words)]

    async def __call__(self, call: Call) -> Reply:
        self.running += 1
        try:
            for word in self._words:
                await word.wait()
                await call.send(Chunk.of(Text("word ")))
            return Reply()
        finally:
            self.running -= 1

    async def say(self, words: int) -> None:
        for word in self._words[:words]:
            word.set()
        await settled()


async def settled() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def a_plugin(host: Host, *limits: Limit, **more: Any) -> Concurrency:
    return Concurrency(Settings(limits=limits, **more), host)


def a_limit(name: str = "own", calls: int = 1, **more: Any) -> Limit:
    return Limit(name=name, calls=calls, **more)


async def begun(plugin: Concurrency, provider: Provider, call: Call | None = None) -> asyncio.Task[Reply]:
    task = asyncio.create_task(_run(plugin, call or a_call(CLOCK), provider))
    await settled()
    return task


async def _run(plugin: Concurrency, call: Call, provider: Provider) -> Reply:
    return await plugin(call, provider)


async def refused(plugin: Concurrency, call: Call | None = None) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await plugin(call or a_call(CLOCK), answer)
    return refusal.value


@pytest.mark.parametrize("delivery", ["stream", "buffered", "job"])
async def test_a_slot_is_held_until_the_last_chunk(delivery: str) -> None:
    provider = Provider(words=2)
    plugin = a_plugin(a_host(CLOCK), a_limit())
    task = await begun(plugin, provider, a_call(CLOCK, delivery=delivery))
    await provider.say(1)
    refusal = await refused(plugin)
    assert (refusal.status, refusal.code) == (429, "concurrency_limit_exceeded")
    assert refusal.retry_after
    await provider.say(2)
    assert task.done()
    await plugin(a_call(CLOCK), answer)


async def test_a_call_cancelled_in_the_middle_of_its_stream_frees_its_slot() -> None:
    provider = Provider()
    plugin = a_plugin(a_host(CLOCK), a_limit())
    task = await begun(plugin, provider)
    await provider.say(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await plugin(a_call(CLOCK), answer)


@pytest.mark.parametrize("error", [KeyError(), Refusal(403, "no", "No.")])
async def test_a_call_that_fails_frees_its_slot(error: Exception) -> None:
    plugin = a_plugin(a_host(CLOCK), a_limit())
    for _ in range(3):
        with pytest.raises(type(error)):
            await plugin(a_call(CLOCK), failing(error))


async def test_the_queue_is_served_in_order_and_has_an_end() -> None:
    provider = Provider()
    plugin = a_plugin(a_host(CLOCK), a_limit(queue=1, wait=30))
    first = await begun(plugin, provider)
    second = await begun(plugin, provider)
    await refused(plugin)
    assert provider.running == 1
    await provider.say(2)
    await asyncio.gather(first, second)


async def test_a_wait_ends_in_429() -> None:
    provider = Provider()
    plugin = a_plugin(a_host(CLOCK), a_limit(queue=1, wait=0.001))
    task = await begun(plugin, provider)
    await refused(plugin)
    await provider.say(2)
    await task


@pytest.mark.parametrize(
    ("per", "one", "other"),
    [
        (("caller",), {"caller": "ann"}, {"caller": "bob"}),
        (("end_user",), {"end_user": "x"}, {"end_user": None}),
        (("team",), {"caller": Caller("ann", team="red")}, {"caller": Caller("ann")}),
        (("model",), {"model": "gpt"}, {"model": "claude"}),
        (("route",), {"route": "a"}, {"route": "b"}),
        (("caller", "route"), {"route": "a"}, {"route": "b"}),
    ],
)
async def test_each_has_slots_of_its_own(per: Any, one: dict[str, Any], other: dict[str, Any]) -> None:
    provider = Provider()
    plugin = a_plugin(a_host(CLOCK), a_limit(per=per))
    task = await begun(plugin, provider, a_call(CLOCK, **one))
    await plugin(a_call(CLOCK, **other), answer)
    await refused(plugin, a_call(CLOCK, **one))
    await provider.say(2)
    await task


def an_attempt(provider: str) -> Call:
    attempt = Attempt(number=1, provider=provider, target="m", started=0, started_at=EPOCH)
    return a_call(CLOCK).child(attempt, ListOutlet())


async def test_a_provider_has_slots_in_an_attempt_list() -> None:
    provider = Provider()
    plugin = a_plugin(a_host(CLOCK), a_limit(per=("provider",)))
    task = await begun(plugin, provider, an_attempt("small"))
    await plugin(an_attempt("large"), answer)
    await refused(plugin, an_attempt("small"))
    await provider.say(2)
    await task


async def test_a_limit_per_provider_outside_an_attempt_is_a_fault_and_not_ignored() -> None:
    with pytest.raises(RuntimeError, match="attempt list"):
        await a_plugin(a_host(CLOCK), a_limit(per=("provider",)))(a_call(CLOCK), answer)


async def test_a_refusal_by_the_second_limit_gives_back_the_slot_of_the_first() -> None:
    host = a_host(CLOCK)
    provider = Provider()
    plugin = a_plugin(host, a_limit("a", 5), a_limit("b", 1, per=()))
    task = await begun(plugin, provider)
    await refused(plugin, a_call(CLOCK, caller="bob"))
    assert isinstance(host.slots, LocalSlots)
    assert len(host.slots) == 2
    await provider.say(2)
    await task
    assert len(host.slots) == 0


async def slow(call: Call) -> Reply:
    await settled()
    return Reply()


async def test_slots_are_taken_in_one_order_whatever_the_config_says() -> None:
    host = a_host(CLOCK)
    limits = a_limit("a", per=(), queue=9, wait=30), a_limit("b", per=(), queue=9, wait=30)
    one, other = a_plugin(host, *limits), a_plugin(host, *reversed(limits))
    calls = [plugin(a_call(CLOCK), slow) for plugin in (one, one, other, other)]
    async with asyncio.timeout(5):
        await asyncio.gather(*calls)


async def test_cancelling_a_call_needs_no_slot() -> None:
    provider = Provider()
    plugin = a_plugin(a_host(CLOCK), a_limit())
    task = await begun(plugin, provider)
    for operation in ("calls", "models"):
        await plugin(a_call(CLOCK, operation=operation), answer)
    await provider.say(2)
    await task


def test_two_limits_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        a_plugin(a_host(CLOCK), a_limit(), a_limit())


@pytest.mark.parametrize("limit", [{"calls": 0}, {"queue": -1}, {"wait": -1}, {"per": ["key"]}, {"size": 1}])
def test_settings_that_mean_nothing_are_refused(limit: dict[str, Any]) -> None:
    good = {"name": "own", "calls": 1}
    msgspec.convert({"limits": [good]}, Settings)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"limits": [good | limit]}, Settings)
