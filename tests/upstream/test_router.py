"""The router: who is asked, in which order, how soon, and what the client hears where nobody answers."""

from __future__ import annotations

import asyncio

import pytest

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.meaning import Start, Text
from sidegate.errors import Ending, PhaseTimeout, ProviderError, Refusal
from sidegate.upstream.provider import DROPPED
from sidegate.upstream.retry import ProviderBusy
from tests.upstream.scene import Scene, fails, unreachable

A, B, C = {"provider": "a"}, {"provider": "b"}, {"provider": "c"}

# --- the same target, the next, or nobody -----------------------------------------------------------------------------


async def test_what_is_answered_is_asked_once_without_a_pause() -> None:
    scene = Scene([A, B])
    assert await scene.play() == ["a/m"]
    assert scene.clock.slept == []


async def test_a_failure_of_the_moment_is_tried_again_after_a_pause_and_then_elsewhere() -> None:
    scene = Scene([A, B])
    assert await scene.play(a=[fails(500)]) == ["a/m", "a/m"]
    assert scene.clock.slept == [0.25]
    assert await scene.play(a=[fails(500), fails(500)]) == ["a/m", "a/m", "b/m"]


@pytest.mark.parametrize("error", [unreachable(), PhaseTimeout("connect", 5), fails(503), fails(529), fails(429)])
async def test_a_target_that_needs_time_is_asked_again_only_after_the_others(error: ProviderError) -> None:
    scene = Scene([A, B])
    assert await scene.play(a=[error], b=[unreachable()]) == ["a/m", "b/m", "a/m"]
    assert len(scene.clock.slept) == 1


async def test_a_lone_target_is_asked_again_after_a_pause() -> None:
    scene = Scene(A)
    assert await scene.play(a=[unreachable()]) == ["a/m", "a/m"]
    assert scene.clock.slept == [0.25]


@pytest.mark.parametrize("error", [fails(401), fails(403), fails(429, code="insufficient_quota"), ProviderBusy()])
async def test_a_target_that_will_not_do_is_left_at_once_and_not_asked_again(error: ProviderError) -> None:
    scene = Scene([A, B])
    assert await scene.play(a=[error], b=[fails(500)]) == ["a/m", "b/m", "b/m"]
    alone = Scene(A)
    assert await alone.fail(a=[error]) is error
    assert alone.asked == ["a/m"]


@pytest.mark.parametrize("error", [fails(400), fails(404), fails(409), fails(422), PhaseTimeout("total", 9)])
async def test_what_would_fail_anywhere_is_told_at_once(error: ProviderError) -> None:
    scene = Scene([A, B])
    assert await scene.fail(a=[error]) is error
    assert scene.asked == ["a/m"]


async def test_a_refusal_inside_an_attempt_is_no_reason_to_ask_anybody_else() -> None:
    scene = Scene([A, B])
    scene.scripts = {"a": [Refusal(403, "no", "No.")]}
    with pytest.raises(Refusal):
        await scene.router(scene.new_call())
    assert scene.asked == ["a/m"]


async def test_attempts_are_counted_for_each_target() -> None:
    scene = Scene([A, B], providers={"a": {"retry": {"attempts": 3}}, "b": {"retry": {"attempts": 1}}})
    await scene.fail(a=[fails(500)] * 9, b=[fails(500)] * 9)
    assert scene.asked == ["a/m", "a/m", "a/m", "b/m"]


async def test_after_something_was_said_nobody_else_is_asked() -> None:
    async def breaks(call: Call) -> ProviderError:
        await call.send(Chunk.of(Text("half an ans")))
        return fails(500)

    scene = Scene([A, B])
    error = await scene.fail(a=[breaks])
    assert scene.asked == ["a/m"]
    assert scene.call is not None
    assert scene.call.attempts[0].committed
    assert "x-should-retry" not in error.headers


async def test_what_an_attempt_said_before_it_began_is_not_heard() -> None:
    async def overloaded(call: Call) -> ProviderError:
        await call.send(Chunk.of(Start(model="first")))
        return fails(529)

    scene = Scene([A, B])
    assert await scene.play(a=[overloaded]) == ["a/m", "b/m"]
    assert scene.client.parts == [Text("b")]


async def test_every_attempt_is_on_record_with_what_went_wrong() -> None:
    scene = Scene([A, B])
    await scene.play(a=[fails(500), fails(502)])
    assert scene.call is not None
    said = [(a.number, a.provider, a.target, a.status, a.error, a.ending) for a in scene.call.attempts]
    assert said == [
        (1, "a", "m", 500, "provider_error", Ending.PROVIDER_ERROR),
        (2, "a", "m", 502, "provider_error", Ending.PROVIDER_ERROR),
        (3, "b", "m", None, None, Ending.COMPLETE),
    ]
    assert all(attempt.ended is not None for attempt in scene.call.attempts)


async def test_what_a_failed_attempt_could_not_say_is_not_told_of_the_next() -> None:
    async def translated(call: Call) -> ProviderError:
        call.reply_headers[DROPPED] = "seed"
        return fails(529)

    scene = Scene([A, B])
    await scene.play(a=[translated])
    assert scene.call is not None
    assert DROPPED not in scene.call.reply_headers


# --- time -------------------------------------------------------------------------------------------------------------


async def test_pauses_grow_and_are_capped() -> None:
    scene = Scene(A, providers={"a": {"retry": {"attempts": 5, "base": 1, "cap": 3}}})
    await scene.fail(a=[fails(500)] * 9)
    assert scene.clock.slept == [1, 2, 3, 3]


async def test_a_retry_after_is_waited_for_where_nobody_else_answers() -> None:
    scene = Scene([A, B])
    assert await scene.play(a=[fails(429, retry_after="4")], b=[fails(500)] * 2) == ["a/m", "b/m", "b/m", "a/m"]
    assert sum(scene.clock.slept) >= 4


async def test_a_retry_after_beyond_patience_is_the_clients_to_wait() -> None:
    scene = Scene(A)
    error = await scene.fail(a=[fails(429, retry_after="11")])
    assert (error.status, error.retry_after) == (429, 11)
    assert scene.asked == ["a/m"]
    assert scene.clock.slept == []
    assert "x-should-retry" not in error.headers, "the client's SDK is to wait and ask again"


async def test_no_wait_reaches_beyond_the_calls_total() -> None:
    scene = Scene(A, providers={"a": {"timeouts": {"total": 3}}})
    await scene.fail(a=[fails(503, retry_after="3")])
    assert scene.asked == ["a/m"]
    assert scene.clock.slept == []
    assert await scene.play(a=[fails(503, retry_after="2")]) == ["a/m", "a/m"]


async def test_no_target_is_begun_after_the_calls_total() -> None:
    async def slow(call: Call) -> ProviderError:
        scene.clock.at += 5
        return PhaseTimeout("first_token", 5)

    scene = Scene([A, B], providers={"a": {}, "b": {"timeouts": {"total": 5}}})
    error = await scene.fail(a=[slow, slow])
    assert isinstance(error, PhaseTimeout)
    assert scene.asked == ["a/m", "a/m"]


async def test_a_call_that_is_stopped_while_it_waits_asks_nobody_any_more() -> None:
    scene = Scene(A)
    waiting = asyncio.Event()

    async def forever(seconds: float) -> None:
        waiting.set()
        await asyncio.get_running_loop().create_future()

    scene.router._sleep = forever
    scene.scripts = {"a": [fails(500)]}
    task = asyncio.create_task(scene.router(scene.new_call()))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scene.asked == ["a/m"]


# --- what is told -----------------------------------------------------------------------------------------------------


async def test_when_all_fail_the_client_hears_when_to_come_back() -> None:
    once = {"retry": {"attempts": 1}}
    scene = Scene([A, B, C], providers={"a": once, "b": once, "c": once})
    error = await scene.fail(a=[fails(429, retry_after="2")], b=[fails(500)], c=[unreachable()])
    assert (error.status, error.retry_after) == (429, 2)


async def test_sdks_are_asked_not_to_retry_what_the_gateway_has_retried() -> None:
    scene = Scene(A)
    error = await scene.fail(a=[fails(500)] * 2)
    assert error.headers == {"x-should-retry": "false"}
    once = Scene(A, providers={"a": {"retry": {"attempts": 1}}})
    assert (await once.fail(a=[fails(500)])).headers == {}
