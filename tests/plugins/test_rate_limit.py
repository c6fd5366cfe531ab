from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sidegate.contract import Call, Caller, Grant, Host, RateClaim
from sidegate.errors import Refusal
from sidegate_plugins import rate_limit
from sidegate_plugins._rate_headers import duration
from sidegate_plugins.rate_limit import Limit, RateLimit, Settings
from tests.plugins.calls import HandClock, a_call, a_host, answer, failing


def a_plugin(host: Host, *limits: Limit, **more: Any) -> RateLimit:
    return RateLimit(Settings(limits=limits, **more), host)


def a_limit(name: str = "rpm", requests: int = 2, period: Any = "minute", **more: Any) -> Limit:
    return Limit(name=name, requests=requests, period=period, **more)


async def refused(plugin: RateLimit, call: Call) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await plugin(call, answer)
    return refusal.value


async def left(host: Host, name: str, limit: int, period: float) -> Grant:
    (grant,) = await host.rates.take([RateClaim(f"rate\x1f{name}\x1fann", limit, period, 0)])
    return grant


@pytest.mark.parametrize("delivery", ["stream", "buffered", "job"])
async def test_a_call_too_many_gets_429_and_the_time_to_wait(delivery: str) -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit())
    for _ in range(2):
        await plugin(a_call(clock, delivery=delivery), answer)
    refusal = await refused(plugin, a_call(clock, delivery=delivery))
    assert (refusal.status, refusal.code, refusal.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert refusal.retry_after == pytest.approx(30, abs=0.01)
    assert refusal.headers == {
        "ratelimit-policy": '"rpm";q=2;w=60',
        "ratelimit": '"rpm";r=0;t=60',
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }
    clock.pass_by(refusal.retry_after or 0)
    await plugin(a_call(clock), answer)


async def test_replies_say_what_is_left_of_every_limit_and_the_tightest_twice() -> None:
    clock = HandClock()
    call = a_call(clock)
    await a_plugin(a_host(clock), a_limit(requests=60), a_limit("daily", 10, "day"))(call, answer)
    assert call.reply_headers == {
        "ratelimit-policy": '"rpm";q=60;w=60, "daily";q=10;w=86400',
        "ratelimit": '"rpm";r=59;t=1, "daily";r=9;t=8640',
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "2h24m0s",
    }


async def test_headers_of_two_plugins_stand_side_by_side_and_a_second_run_replaces_the_first() -> None:
    clock = HandClock()
    host = a_host(clock)
    outer, inner = a_plugin(host, a_limit("outer", 5)), a_plugin(host, a_limit("inner", 9))
    call = a_call(clock)
    for _ in range(2):
        await inner(call, answer)
    await outer(call, answer)
    assert call.reply_headers["ratelimit"] == '"inner";r=7;t=14, "outer";r=4;t=12'
    assert call.reply_headers["x-ratelimit-remaining-requests"] == "4"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0115, "12ms"), (1, "1s"), (1.5, "1.5s"), (59.9999, "60s"), (360, "6m0s"), (7203, "2h0m3s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_a_call_takes_from_all_limits_or_from_none() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit("wide", 100), a_limit("narrow", 1, 3600))
    await plugin(a_call(clock), answer)
    for _ in range(10):
        assert "narrow" in (await refused(plugin, a_call(clock))).message
    assert (await left(host, "wide", 100, 60)).remaining == 99


@pytest.mark.parametrize(
    ("per", "one", "other"),
    [
        (("caller",), {"caller": "ann"}, {"caller": "bob"}),
        (("end_user",), {"end_user": "x"}, {"end_user": "y"}),
        (("end_user",), {"end_user": None}, {"end_user": "\x00x"}),
        (("key",), {"caller": Caller("ann", key_id="1")}, {"caller": Caller("ann", key_id="2")}),
        (("team",), {"caller": Caller("ann", team="red")}, {"caller": Caller("ann", team="blue")}),
        (("team",), {"caller": Caller("ann", team="red")}, {"caller": Caller("ann")}),
        (("model",), {"model": "gpt"}, {"model": "claude"}),
        (("route",), {"route": "a"}, {"route": "b"}),
        (("caller", "model"), {"model": "gpt"}, {"model": "claude"}),
    ],
)
async def test_each_has_a_count_of_its_own(per: Any, one: dict[str, Any], other: dict[str, Any]) -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock, "gpt", "claude"), a_limit(requests=1, per=per))
    await plugin(a_call(clock, **one), answer)
    await plugin(a_call(clock, **other), answer)
    await refused(plugin, a_call(clock, **one))
    await refused(plugin, a_call(clock, **other))


async def test_nothing_per_is_one_count_for_all() -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit(requests=1, per=()))
    await plugin(a_call(clock, caller="ann"), answer)
    await refused(plugin, a_call(clock, caller="bob", route="other"))


async def test_model_names_nobody_configured_share_one_count() -> None:
    clock = HandClock()
    host = a_host(clock, "gpt", "open/*", "open/large/*")
    plugin = a_plugin(host, a_limit(requests=1, per=("model",)))
    for model in ("gpt", "open/a", "open/large/a", "made-up-1"):
        await plugin(a_call(clock, model=model), answer)
    for model in ("open/b", "open/large/b", "made-up-2"):
        await refused(plugin, a_call(clock, model=model))


async def test_a_limit_may_be_for_some_models() -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit(requests=1, models=("gpt", "claude-*")))
    for model in ("other", "gpt-mini", "claude"):
        for _ in range(2):
            await plugin(a_call(clock, model=model), answer)
    await plugin(a_call(clock, model="gpt"), answer)
    await refused(plugin, a_call(clock, model="claude-x"))


async def test_a_star_is_every_model() -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit(requests=1, models=("*",)))
    await plugin(a_call(clock), answer)
    await refused(plugin, a_call(clock))


async def test_lists_and_administration_are_not_counted_unless_asked() -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit(requests=1))
    for operation in ("models", "calls", "models"):
        call = a_call(clock, operation=operation)
        await plugin(call, answer)
        assert call.reply_headers == {}
    strict = a_plugin(a_host(clock), a_limit(requests=1), operations=("models",))
    await strict(a_call(clock, operation="models"), answer)
    await refused(strict, a_call(clock, operation="models"))
    await strict(a_call(clock), answer)


async def test_a_call_may_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandClock()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.pass_by(seconds)

    monkeypatch.setattr(rate_limit, "sleep", sleep)
    plugin = a_plugin(a_host(clock), a_limit(requests=2, period=10.0, wait=7.5))
    for _ in range(2):
        await plugin(a_call(clock), answer)
    await plugin(a_call(clock), answer)
    assert slept == [pytest.approx(5, abs=0.01)]


async def test_a_wait_that_is_too_short_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "sleep", None)
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit(requests=2, period=10.0, wait=4.9))
    for _ in range(2):
        await plugin(a_call(clock), answer)
    await refused(plugin, a_call(clock))


async def test_who_was_overtaken_while_waiting_is_refused_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(requests=1, period=10.0, wait=25))

    async def overtaken(seconds: float) -> None:
        clock.pass_by(seconds)
        await host.rates.take([RateClaim("rate\x1frpm\x1fann", 1, 10.0)])

    await plugin(a_call(clock), answer)
    monkeypatch.setattr(rate_limit, "sleep", overtaken)
    before = clock.seconds
    await refused(plugin, a_call(clock))
    assert clock.seconds - before <= 25


async def test_a_limit_that_may_not_wait_refuses_though_another_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "sleep", None)
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit("a", 1, 10.0, wait=60), a_limit("b", 1, 5.0))
    await plugin(a_call(clock), answer)
    await refused(plugin, a_call(clock))


async def test_a_waiting_call_can_be_cancelled_and_has_taken_nothing() -> None:
    clock = HandClock()
    host = a_host(clock)
    plugin = a_plugin(host, a_limit(requests=1, period=100.0, wait=1000))
    await plugin(a_call(clock), answer)
    task = asyncio.create_task(_run(plugin, a_call(clock)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    clock.pass_by(100.001)
    assert (await left(host, "rpm", 1, 100.0)).remaining == 1


async def test_a_call_that_fails_has_been_counted() -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit(requests=1))
    with pytest.raises(KeyError):
        await plugin(a_call(clock), failing(KeyError()))
    await refused(plugin, a_call(clock))


async def test_many_at_once_are_never_more_than_the_limit() -> None:
    clock = HandClock()
    plugin = a_plugin(a_host(clock), a_limit(requests=7))
    calls = [_run(plugin, a_call(clock)) for _ in range(50)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 7


def test_two_limits_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        a_plugin(a_host(HandClock()), a_limit(), a_limit())


@pytest.mark.parametrize(
    "limit",
    [
        {"requests": 0},
        {"period": "fortnight"},
        {"period": 0},
        {"per": ["ip"]},
        {"name": 'a"b'},
        {"models": ["*x"]},
        {"wait": -1},
        {"rpm": 5},
    ],
)
def test_settings_that_mean_nothing_are_refused(limit: dict[str, Any]) -> None:
    good = {"name": "rpm", "requests": 1, "period": 60}
    msgspec.convert({"limits": [good]}, Settings)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"limits": [good | limit]}, Settings)
    with pytest.raises(msgspec.ValidationError, match="needs"):
        msgspec.convert({"limits": [{"name": "none", "period": 60}]}, Settings)


async def _run(plugin: RateLimit, call: Call) -> None:
    await plugin(call, answer)
