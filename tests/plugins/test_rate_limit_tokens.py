"""Limits of tokens: claimed before, settled after, and what a key brings with it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from sidegate.contract import Attempt, Call, Caller, Ending, Grant, Handler, Host, RateClaim, Reply, Request, Usage
from sidegate.contract.allowance import Allowance, RateAllowance
from sidegate.errors import Refusal
from sidegate_plugins.rate_limit import Limit, OfKeys, RateLimit, Settings
from tests.plugins.calls import EPOCH, HandClock, ListOutlet, a_call, a_host, answer, failing

LONG = 10**6
"""Seconds of a period in which a test drains nothing."""


def a_plugin(host: Host, *limits: Limit, **more: Any) -> RateLimit:
    return RateLimit(Settings(limits=limits, **more), host)


def a_limit(name: str = "tpm", **more: Any) -> Limit:
    return Limit(name=name, **{"period": float(LONG), **more})


def asking(clock: HandClock, body: dict[str, Any] | None = None, **more: Any) -> Call:
    """A call of so many bytes, with the fields of its body."""
    fields = body or {}
    request = Request(model="gpt", max_tokens=fields.get("max_tokens"))
    call = a_call(clock, request=request, **more)
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    call.asked = msgspec.structs.replace(call.asked, body=b"x" * 400, fields=raw)
    return call


def spending(*usages: Usage | None, error: BaseException | None = None, came: int = 0) -> Handler:
    """A provider that is tried once for each usage; `None` is one that says nothing."""

    async def handler(call: Call) -> Reply:
        for number, usage in enumerate(usages, 1):
            attempt = Attempt(number=number, provider="p", target="m", started=0, started_at=EPOCH)
            call.attempts.append(attempt)
            for opening in call.notes.openings:
                await opening(call)
            attempt.sent = True
            attempt.usage, attempt.input_bytes, attempt.output_bytes = usage, 400, came
            attempt.ending = Ending.COMPLETE if usage is not None else Ending.CUT
        if error is not None:
            raise error
        return Reply()

    return handler


async def left(host: Host, name: str, limit: int, kind: str = "input", who: str = "ann") -> int:
    key = f"rate{'' if kind == 'requests' else f'.{kind}'}\x1f{name}\x1f{who}"
    (grant,) = await host.rates.take([RateClaim(key, limit, float(LONG), 0)])
    return grant.remaining


async def refused(plugin: RateLimit, call: Call) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await plugin(call, answer)
    return refusal.value


@pytest.mark.parametrize("delivery", ["stream", "buffered", "job"])
async def test_tokens_are_claimed_before_and_settled_after(delivery: str) -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(requests=5, input_tokens=1000, output_tokens=9000))
    during: list[int] = []

    async def looks(call: Call) -> Reply:
        during.extend([await left(host, "tpm", 1000), await left(host, "tpm", 9000, "output")])
        return await spending(Usage(30, 7))(call)

    await plugin(asking(clock, {"max_tokens": 500}, delivery=delivery), looks)
    assert during == [900, 8500]
    assert [await left(host, "tpm", 1000), await left(host, "tpm", 9000, "output")] == [970, 8993]
    assert await left(host, "tpm", 5, "requests") == 4


@pytest.mark.parametrize(
    ("fields", "claimed"),
    [
        ({}, 4096),
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 20}, 20),
        ({"max_output_tokens": 25}, 25),
        ({"max_tokens": 10, "max_completion_tokens": 30}, 30),
        ({"max_tokens": -5}, 4096),
        ({"max_tokens": None}, 4096),
        ({"max_tokens": "many"}, 4096),
        ({"max_tokens": 0}, 4096),
    ],
)
async def test_likely_output_is_what_the_client_allows_or_the_default(fields: dict[str, Any], claimed: int) -> None:
    clock = HandClock()
    host = a_host(clock)
    call = asking(clock)
    call.asked = msgspec.structs.replace(
        call.asked, fields={name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    )
    seen: list[int] = []

    async def looks(call: Call) -> Reply:
        seen.append(await left(host, "tpm", 9000, "output"))
        return Reply()

    await a_plugin(host, a_limit(output_tokens=9000))(call, looks)
    assert seen == [9000 - claimed]
    assert call.request_changed is None


async def test_the_most_is_a_token_a_byte_and_a_limit_the_gateway_sets() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(input_tokens=9000, output_tokens=9000, estimate="most"), default_max_tokens=700)
    seen: list[Any] = []

    async def looks(call: Call) -> Reply:
        seen.extend([call.request.max_tokens, await left(host, "tpm", 9000), await left(host, "tpm", 9000, "output")])
        return Reply()

    await plugin(asking(clock), looks)
    # 400 bytes, and what a provider puts round them.
    assert (seen[0], seen[2]) == (700, 9000 - 700)
    assert seen[1] <= 9000 - 464
    seen.clear()
    await plugin(asking(clock, {"max_tokens": 90}), looks)
    assert seen == [90, 9000 - 464, 9000 - 90]


async def test_an_embedding_has_no_output() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(output_tokens=1), a_limit("in", input_tokens=1000))
    call = asking(clock, operation="embeddings")
    await plugin(call, spending(Usage(12, 0)))
    assert await left(host, "in", 1000) == 988
    assert "tpm" not in call.reply_headers["ratelimit"]


@pytest.mark.parametrize(
    ("handler", "inputs", "outputs"),
    [
        pytest.param(spending(Usage(30, 7)), 970, 993, id="complete"),
        pytest.param(spending(), 1000, 1000, id="no provider"),
        pytest.param(failing(Refusal(403, "no", "No.")), 1000, 1000, id="refused further in"),
        pytest.param(spending(Usage(30, 7), error=KeyError()), 970, 993, id="failed after"),
        pytest.param(spending(Usage(30, 7), error=asyncio.CancelledError()), 970, 993, id="cancelled"),
        pytest.param(spending(None, came=80), 900, 980, id="cut, estimated"),
        pytest.param(spending(None), 900, 500, id="nothing came back: the claim is kept"),
        pytest.param(spending(Usage(30, 7), Usage(40, 9)), 930, 984, id="two tries"),
        pytest.param(spending(Usage(3000, 7000)), 0, 0, id="more than there is"),
    ],
)
async def test_whatever_the_end_what_was_used_is_what_counts(handler: Handler, inputs: int, outputs: int) -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(input_tokens=1000, output_tokens=1000))
    task = asyncio.create_task(_run(plugin, asking(clock, {"max_tokens": 500}), handler))
    await asyncio.wait([task])
    assert [await left(host, "tpm", 1000), await left(host, "tpm", 1000, "output")] == [inputs, outputs]
    task.cancelled() or task.exception()


async def test_a_debt_is_paid_before_the_next_call_is_let_through() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(output_tokens=1000))
    await plugin(asking(clock, {"max_tokens": 500}), spending(Usage(1, 2000)))
    refusal = await refused(plugin, asking(clock, {"max_tokens": 100}))
    assert refusal.retry_after == pytest.approx(1.1 * LONG, rel=0.001)
    clock.pass_by(1.1 * LONG + 1)
    await plugin(asking(clock, {"max_tokens": 100}), answer)


async def test_a_refusal_says_which_tokens_are_short_and_when_there_are_more() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(requests=9, input_tokens=1000, output_tokens=600, period="minute"))
    await plugin(asking(clock, {"max_tokens": 500}), spending(Usage(100, 500)))
    refusal = await refused(plugin, asking(clock, {"max_tokens": 200}))
    assert (refusal.status, refusal.code) == (429, "rate_limit_exceeded")
    assert refusal.message == (
        "Rate limit 'tpm:output' exceeded: 600 output tokens in 60 s; this call may need 200, and 100 are left."
    )
    assert refusal.retry_after == pytest.approx(10, abs=0.01)
    assert refusal.headers == {
        "ratelimit-policy": '"tpm";q=9;w=60, "tpm:input";q=1000;w=60;qu="tokens", "tpm:output";q=600;w=60;qu="tokens"',
        "ratelimit": '"tpm";r=8;t=7, "tpm:input";r=900;t=6, "tpm:output";r=100;t=50',
        "x-ratelimit-limit-requests": "9",
        "x-ratelimit-remaining-requests": "8",
        "x-ratelimit-reset-requests": "6.667s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "100",
        "x-ratelimit-reset-tokens": "50s",
    }


async def test_a_call_that_can_never_fit_says_so_and_is_not_to_be_retried() -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit(output_tokens=600, wait=3600.0))
    refusal = await refused(plugin, asking(clock, {"max_tokens": 601}))
    assert (refusal.status, refusal.retry_after) == (429, None)
    assert refusal.headers["x-should-retry"] == "false"
    assert "never" in refusal.message


async def test_each_try_is_claimed_where_a_limit_is_never_to_be_passed() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(output_tokens=1000, estimate="most"))
    with pytest.raises(Refusal) as refusal:
        await plugin(asking(clock, {"max_tokens": 400}), spending(None, None, None))
    assert refusal.value.code == "rate_limit_exceeded"
    assert await left(host, "tpm", 1000, "output") == 200
    assert (await refused(plugin, asking(clock, {"max_tokens": 400}))).status == 429
    likely = a_plugin(host, a_limit("likely", output_tokens=1000))
    await likely(asking(clock, {"max_tokens": 400}), spending(None, None, None))
    assert await left(host, "likely", 1000, "output") == 0


async def test_tries_that_were_claimed_are_settled_together() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(output_tokens=1000, estimate="most"))
    call = asking(clock, {"max_tokens": 400})
    await plugin(call, spending(Usage(1, 300), Usage(1, 50)))
    assert await left(host, "tpm", 1000, "output") == 650
    assert call.notes.openings == []


async def test_a_second_run_of_the_same_call_settles_its_own_tries() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(input_tokens=1000))
    call = asking(clock)
    for remaining in (970, 940):
        await plugin(call, spending(Usage(30, 7)))
        assert await left(host, "tpm", 1000) == remaining


async def test_in_an_attempt_list_a_try_settles_what_it_used() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(input_tokens=1000))
    outer = asking(clock)
    for number in (1, 2):
        attempt = Attempt(number=number, provider="p", target="m", started=0, started_at=EPOCH, sent=True)
        outer.attempts.append(attempt)
        child = outer.child(attempt, ListOutlet())

        async def handler(call: Call) -> Reply:
            assert call.attempt is not None
            call.attempt.usage, call.attempt.ending = Usage(30, 7), Ending.COMPLETE
            return Reply()

        await plugin(child, handler)
    assert await left(host, "tpm", 1000) == 940


async def test_racing_calls_never_use_more_than_a_limit_that_takes_the_most() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(output_tokens=1000, estimate="most"))
    used = 0

    async def provider(call: Call) -> Reply:
        nonlocal used
        await asyncio.sleep(0)
        used += call.request.max_tokens or 0
        return await spending(Usage(1, call.request.max_tokens))(call)

    calls = [_run(plugin, asking(clock, {"max_tokens": 70}), provider) for _ in range(200)]
    await asyncio.gather(*calls, return_exceptions=True)
    assert used == 980


# --- what keys bring --------------------------------------------------------------------------------------------------


def a_bearer(*limits: RateAllowance, key: str | None = "k1", name: str = "ann") -> Caller:
    return Caller(name, key_id=key, allowance=Allowance(limits=limits))


async def test_what_a_key_brings_is_enforced_also_without_limits_of_the_config() -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock))
    caller = a_bearer(RateAllowance(requests=2, output_tokens=9000))
    calls = [asking(clock, {"max_tokens": 100}, caller=caller) for _ in range(2)]
    for call in calls:
        await plugin(call, spending(Usage(1, 100)))
    assert calls[1].reply_headers["ratelimit"] == '"key-minute";r=0;t=60, "key-minute:output";r=8800;t=2'
    refusal = await refused(plugin, asking(clock, caller=caller))
    assert "'key-minute'" in refusal.message
    assert plugin.enforces == {"limits"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (a_bearer(RateAllowance(requests=1), key="a"), a_bearer(RateAllowance(requests=1), key="b"), False),
        (a_bearer(RateAllowance(requests=1), key="a"), a_bearer(RateAllowance(requests=1), key="a", name="bob"), True),
        (a_bearer(RateAllowance(requests=1), key=None), a_bearer(RateAllowance(requests=1), key=None), True),
        (a_bearer(RateAllowance(requests=1), key=None), a_bearer(RateAllowance(requests=1), key="ann"), False),
        (a_bearer(RateAllowance(requests=1), key=None), a_bearer(RateAllowance(requests=1), key=None, name="b"), False),
    ],
)
async def test_what_a_key_brings_is_counted_by_key_or_by_name(one: Caller, other: Caller, same: bool) -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock))
    await plugin(a_call(clock, caller=one), answer)
    if same:
        await refused(plugin, a_call(clock, caller=other))
    else:
        await plugin(a_call(clock, caller=other), answer)


async def test_two_limits_of_a_key_and_those_of_the_config_all_count() -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit("key-minute", requests=5), of_keys=OfKeys(estimate="most"))
    caller = a_bearer(RateAllowance(requests=9), RateAllowance(requests=3, period="hour"))
    for _ in range(3):
        await plugin(a_call(clock, caller=caller), answer)
    assert "'key-hour'" in (await refused(plugin, a_call(clock, caller=caller))).message


async def test_a_keys_limits_hold_for_all_that_spends_and_are_counted_once() -> None:
    clock = HandClock()
    host = a_host(clock)
    outer = RateLimit(Settings(), replace(host, enforced=frozenset({"limits"})))
    inner = a_plugin(host, operations=("chat",))
    caller = a_bearer(RateAllowance(requests=2))
    for operation in ("embeddings", "text_completion"):
        call = a_call(clock, operation=operation, caller=caller)
        await outer(call, _through(inner))
        await inner(a_call(clock, operation="models", caller=caller), answer)
    await refused(inner, a_call(clock, caller=caller))


def _through(plugin: RateLimit) -> Handler:
    async def handler(call: Call) -> Reply:
        return await plugin(call, answer)

    return handler


# --- stores -----------------------------------------------------------------------------------------------------------


class Rates:
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.taken: list[list[RateClaim]] = []

    async def take(self, claims: Any) -> tuple[Grant, ...]:
        self.taken.append(list(claims))
        return tuple(Grant(True, claim.limit, 1, 0.0, 0.0) for claim in claims)

    def correct(self, claim: RateClaim, used: int) -> None: ...


async def test_all_that_a_call_needs_is_asked_in_one_go_with_what_each_limit_says_of_failures() -> None:
    clock = HandClock()
    rates = Rates()
    host = replace(a_host(clock), rates=rates)
    limits = a_limit("a", requests=1, input_tokens=900, on_store_failure="deny"), a_limit("b", output_tokens=9000)
    plugin = a_plugin(host, *limits, of_keys=OfKeys(on_store_failure="allow"))
    await plugin(asking(clock, caller=a_bearer(RateAllowance(requests=1))), answer)
    (claims,) = rates.taken
    assert [claim.on_store_failure for claim in claims] == ["deny", "deny", "local", "allow"]
    assert len({claim.key for claim in claims}) == 4


async def test_limits_of_one_process_are_refused_where_there_are_several() -> None:
    host = a_host(HandClock())
    with pytest.raises(ValueError, match=r"4 workers: set counters\.url"):
        a_plugin(replace(host, workers=4), a_limit(requests=1))
    a_plugin(replace(host, workers=4, shared=True), a_limit(requests=1))


async def _run(plugin: RateLimit, call: Call, handler: Handler) -> None:
    await plugin(call, handler)
