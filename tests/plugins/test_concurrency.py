from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from sidegate.contract import Attempt, Call, Caller, Chunk, Host, Reply, SlotClaim, Text
from sidegate.contract.allowance import Allowance
from sidegate.counters.slots import LocalSlots
from sidegate.errors import Refusal
from sidegate_plugins.concurrency import Concurrency, Limit, OfKeys, Settings
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
    plugin = a_plugin(replace(a_host(CLOCK), per_attempt=True), a_limit(per=("provider",)))
    task = await begun(plugin, provider, an_attempt("small"))
    await plugin(an_attempt("large"), answer)
    await refused(plugin, an_attempt("small"))
    await provider.say(2)
    await task


def test_a_limit_per_provider_outside_an_attempt_list_is_refused_by_the_start() -> None:
    with pytest.raises(ValueError, match="limit own is per provider: its place is an `attempt` list"):
        a_plugin(a_host(CLOCK), a_limit(per=("provider",)))


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


# --- what keys bring, and stores --------------------------------------------------------------------------------------


def a_bearer(calls: int, key: str | None = "k1", name: str = "ann") -> Caller:
    return Caller(name, key_id=key, allowance=Allowance(concurrency=calls))


@pytest.mark.parametrize("operation", ["chat", "embeddings", "text_completion"])
async def test_what_a_key_may_have_at_a_time_holds_for_all_that_spends(operation: str) -> None:
    provider = Provider()
    plugin = a_plugin(a_host(CLOCK), operations=("chat",))
    task = await begun(plugin, provider, a_call(CLOCK, caller=a_bearer(1), operation=operation))
    await refused(plugin, a_call(CLOCK, caller=a_bearer(1, name="other name of the same key")))
    for caller in (a_bearer(1, key="k2"), a_bearer(1, key=None), Caller("ann", key_id="k1")):
        await plugin(a_call(CLOCK, caller=caller), answer)
    for other in ("calls", "models"):
        await plugin(a_call(CLOCK, caller=a_bearer(1), operation=other), answer)
    await provider.say(2)
    await task
    assert plugin.enforces == {"concurrency"}


async def test_of_two_plugins_the_inner_one_holds_what_a_key_brings() -> None:
    host = a_host(CLOCK)
    outer = Concurrency(Settings(), replace(host, enforced=frozenset({"concurrency"})))
    inner = a_plugin(host)

    async def through(call: Call) -> Reply:
        return await inner(call, answer)

    await outer(a_call(CLOCK, caller=a_bearer(1)), through)
    attempt = an_attempt("small")
    attempt.caller = a_bearer(1)
    provider = Provider()
    task = await begun(inner, provider, a_call(CLOCK, caller=a_bearer(1)))
    await inner(attempt, answer)
    await provider.say(2)
    await task


async def test_a_key_that_is_full_waits_as_the_settings_say() -> None:
    provider = Provider()
    plugin = a_plugin(a_host(CLOCK), of_keys=OfKeys(queue=1, wait=30))
    first = await begun(plugin, provider, a_call(CLOCK, caller=a_bearer(1)))
    second = await begun(plugin, provider, a_call(CLOCK, caller=a_bearer(1)))
    await refused(plugin, a_call(CLOCK, caller=a_bearer(1)))
    await provider.say(2)
    await asyncio.gather(first, second)


class Slots:
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.claims: list[SlotClaim] = []

    def hold(self, claims: Sequence[SlotClaim]) -> nullcontext[None]:
        self.claims += claims
        return nullcontext()


async def test_all_that_a_call_needs_is_asked_in_one_go_with_what_each_limit_says_of_failures() -> None:
    slots = Slots()
    limits = a_limit("a", on_store_failure="deny"), a_limit("b", per=())
    plugin = a_plugin(replace(a_host(CLOCK), slots=slots), *limits, of_keys=OfKeys(on_store_failure="allow"))
    await plugin(a_call(CLOCK, caller=a_bearer(3)), answer)
    assert [claim.on_store_failure for claim in slots.claims] == ["deny", "local", "allow"]
    assert len({claim.key for claim in slots.claims}) == 3


async def test_limits_of_one_process_are_refused_where_there_are_several() -> None:
    with pytest.raises(ValueError, match=r"2 workers: set counters\.url"):
        a_plugin(replace(a_host(CLOCK), workers=2), a_limit())
    a_plugin(replace(a_host(CLOCK), workers=2, shared=True), a_limit())
