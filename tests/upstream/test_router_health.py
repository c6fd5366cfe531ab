"""The router in bad times: budgets, keys that rest, and targets that are left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.meaning import Text
from sidegate.contract.reply import Reply
from sidegate.contract.timeouts import Patience, TimeoutChanges
from sidegate.errors import PhaseTimeout, ProviderError, Refusal
from tests.upstream.scene import Scene, fails

A, B, C = {"provider": "a"}, {"provider": "b"}, {"provider": "c"}

# --- the budget -------------------------------------------------------------------------------------------------------


async def test_in_an_outage_a_provider_sees_little_more_than_its_calls() -> None:
    scene = Scene(A, providers={"a": {"circuit": None, "retry": {"base": 0.001, "share": 0.2, "reserve": 10}}})
    asked = 0
    for _ in range(500):
        await scene.fail(a=[fails(500)] * 2)
        asked += len(scene.asked)
    assert 500 < asked <= 500 + 100 + 10 + 1


async def test_without_budget_the_next_provider_is_still_asked() -> None:
    scene = Scene([A, B], providers={"a": {"circuit": None, "retry": {"share": 0, "reserve": 1}}, "b": {}})
    assert await scene.play(a=[fails(500)] * 2) == ["a/m", "a/m", "b/m"]
    assert await scene.play(a=[fails(500)] * 2) == ["a/m", "b/m"]


async def test_another_model_of_a_provider_that_was_asked_draws_on_its_budget_too() -> None:
    targets = [{"provider": "a", "model": "x"}, {"provider": "a", "model": "y"}]
    scene = Scene(targets, providers={"a": {"retry": {"attempts": 1, "share": 0, "reserve": 1}}})
    assert await scene.play(a=[fails(500)]) == ["a/x", "a/y"]
    await scene.fail(a=[fails(500)])
    assert scene.asked == ["a/x"]


async def test_without_budget_nobody_waits_for_a_retry_that_will_not_be() -> None:
    scene = Scene(A, providers={"a": {"circuit": None, "retry": {"share": 0, "reserve": 1}}})
    await scene.fail(a=[fails(500)] * 2)
    scene.clock.slept.clear()
    await scene.fail(a=[fails(500)] * 2)
    assert scene.asked == ["a/m"]
    assert scene.clock.slept == []


# --- keys -------------------------------------------------------------------------------------------------------------


def rests(scene: Scene, provider: str, error: ProviderError, number: int = 0) -> Callable[[Call], Any]:
    """A provider's answer about key `number`, as `HttpProvider` takes it."""

    async def act(call: Call) -> ProviderError:
        credentials = scene.upstreams[provider].credentials
        credentials.failed(credentials.all[number], error)
        return error

    return act


TWO_KEYS = {"api_key": "", "api_keys": ["k1", "k2"]}


@pytest.mark.parametrize("status", [401, 402, 403, 429])
async def test_another_key_is_tried_at_once(status: int) -> None:
    scene = Scene([A, B], providers={"a": TWO_KEYS, "b": {}})
    assert await scene.play(a=[rests(scene, "a", fails(status))]) == ["a/m", "a/m"]
    assert scene.clock.slept == []


async def test_an_overloaded_provider_is_not_asked_again_at_once_with_another_key() -> None:
    scene = Scene(A, providers={"a": TWO_KEYS})
    assert await scene.play(a=[fails(503)]) == ["a/m", "a/m"]
    assert scene.clock.slept == [0.25]


async def test_a_target_whose_keys_all_rest_is_passed_over_while_another_is_there() -> None:
    scene = Scene([A, B])
    assert await scene.play(a=[rests(scene, "a", fails(401))]) == ["a/m", "b/m"]
    assert await scene.play() == ["b/m"]
    assert await scene.play(b=[fails(500)] * 2) == ["b/m", "b/m", "a/m"], "as the last resort it is asked"
    scene.clock.at += 300
    assert await scene.play() == ["a/m"]


async def test_a_lone_target_is_asked_although_its_keys_rest() -> None:
    scene = Scene(A)
    error = await scene.fail(a=[rests(scene, "a", fails(401))])
    assert error.code == "provider_auth"
    assert await scene.play() == ["a/m"]


async def test_where_the_keys_of_all_targets_rest_they_are_asked_in_their_order() -> None:
    scene = Scene([A, B])
    await scene.fail(a=[rests(scene, "a", fails(401))], b=[rests(scene, "b", fails(401))])
    assert await scene.play() == ["a/m"]


async def test_a_target_that_was_waited_for_is_asked_and_not_passed_over() -> None:
    once = {"retry": {"attempts": 2, "base": 0.001}}
    scene = Scene([A, B], providers={"a": once, "b": once})
    limited = rests(scene, "a", fails(429, retry_after="5"))
    assert await scene.play(a=[limited], b=[fails(503)]) == ["a/m", "b/m", "a/m"]


# --- circuits ---------------------------------------------------------------------------------------------------------

SICK: dict[str, Any] = {"circuit": {"min_calls": 2, "open_seconds": 10}, "retry": {"attempts": 1}}


async def test_an_open_target_is_skipped_while_another_is_there() -> None:
    scene = Scene([A, B], providers={"a": SICK, "b": {}})
    for _ in range(2):
        assert await scene.play(a=[fails(500)]) == ["a/m", "b/m"]
    assert scene.changes == [("a", "m", 1)]
    assert await scene.play() == ["b/m"]
    scene.clock.at += 10
    assert await scene.play() == ["a/m"]
    assert scene.changes == [("a", "m", 1), ("a", "m", -1)]


async def test_when_all_are_open_the_client_is_told_when_to_come_back() -> None:
    later = {"circuit": {"min_calls": 2, "open_seconds": 25}, "retry": {"attempts": 1}}
    scene = Scene([A, B], providers={"a": later, "b": SICK})
    for _ in range(2):
        await scene.fail(a=[fails(500)], b=[fails(500)])
    error = await scene.fail()
    assert scene.asked == []
    assert (error.status, error.code, error.retry_after) == (503, "circuit_open", 10)
    assert error.headers == {}


async def test_refusals_rate_limits_and_callers_mistakes_open_nothing() -> None:
    scene = Scene(A, providers={"a": SICK})
    for error in (fails(400), fails(429), fails(401), fails(404)) * 3:
        await scene.fail(a=[error])
    for _ in range(4):
        scene.scripts = {"a": [Refusal(403, "no", "No.")]}
        with pytest.raises(Refusal):
            await scene.router(scene.new_call())
    assert scene.changes == []


async def test_clients_that_leave_open_nothing_and_give_their_probe_back() -> None:
    async def hangs(call: Call) -> None:
        reached.set()
        await asyncio.get_running_loop().create_future()

    scene = Scene(A, providers={"a": SICK})
    for _ in range(2):
        await scene.fail(a=[fails(500)])
    scene.clock.at += 10
    for _ in range(3):
        reached = asyncio.Event()
        scene.scripts = {"a": [hangs]}
        task = asyncio.create_task(scene.router(scene.new_call()))
        await reached.wait()
        assert (await scene.fail()).code == "circuit_open", "one probe at a time"
        task.cancel()
        await asyncio.wait([task])
    assert await scene.play() == ["a/m"]


async def test_a_probe_has_proved_its_target_when_its_reply_begins() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def long(call: Call) -> None:
        await call.send(Chunk.of(Text("a long ")))
        begun.set()
        await go_on.wait()

    scene = Scene(A, providers={"a": SICK})
    for _ in range(2):
        await scene.fail(a=[fails(500)])
    scene.clock.at += 10
    scene.scripts = {"a": [long]}
    task = asyncio.create_task(scene.router(scene.new_call()))
    await begun.wait()
    assert await scene.play() == ["a/m"]
    go_on.set()
    await task
    assert scene.changes == [("a", "m", 1), ("a", "m", -1)]


async def test_a_probe_counts_once_though_it_begins_and_ends() -> None:
    two = {"circuit": {**SICK["circuit"], "probes": 2}, "retry": {"attempts": 1}}
    scene = Scene(A, providers={"a": two})
    for _ in range(2):
        await scene.fail(a=[fails(500)])
    scene.clock.at += 10
    assert await scene.play() == ["a/m"]
    assert scene.changes == [("a", "m", 1)], "one of two"
    assert await scene.play() == ["a/m"]
    assert scene.changes == [("a", "m", 1), ("a", "m", -1)]


async def test_what_a_plugin_answered_by_itself_proves_nothing_of_the_target() -> None:
    async def by_itself(call: Call) -> Reply:
        await call.send(Chunk.of(Text("from a cache")))
        return Reply()

    scene = Scene(A, providers={"a": SICK})
    answers, scene.router._attempt_handler = scene.router._attempt_handler, by_itself
    await scene.router(scene.new_call())
    scene.router._attempt_handler = answers
    await scene.fail(a=[fails(500)])
    assert scene.changes == [], "one attempt only was the provider's"
    await scene.fail(a=[fails(500)])
    scene.clock.at += 10
    scene.router._attempt_handler = by_itself
    await scene.router(scene.new_call())
    assert scene.changes == [("a", "m", 1)]


@pytest.mark.parametrize(("delivery", "opens"), [("stream", True), ("buffered", False)])
async def test_a_late_first_token_counts_where_there_is_one(delivery: str, opens: bool) -> None:
    async def late(call: Call) -> None:
        scene.clock.at += 3

    scene = Scene(A, providers={"a": {"circuit": {"min_calls": 2, "slow_after": 2, "slow_rate": 1}}})
    for _ in range(2):
        scene.scripts = {"a": [late]}
        await scene.router(scene.new_call(delivery=delivery))
    assert bool(scene.changes) is opens


async def test_models_that_lead_to_the_same_target_share_what_is_known_of_it() -> None:
    scene = Scene({"provider": "a", "model": "real"}, providers={"a": SICK}, names="m*")
    for name in ("m1", "m2"):
        await scene.fail(name, a=[fails(500)])
    assert (await scene.fail("m3")).code == "circuit_open"


async def test_a_wildcards_models_fail_each_for_itself() -> None:
    scene = Scene(A, providers={"a": SICK}, names="m*")
    for _ in range(2):
        await scene.fail("m-sick", a=[fails(500)])
    assert (await scene.fail("m-sick")).code == "circuit_open"
    assert await scene.play("m-well") == ["a/m-well"]
    assert scene.changes == [("a", "m*", 1)]


@pytest.mark.parametrize(("patience", "opens"), [(None, True), (TimeoutChanges(first_token=0.1), False)])
async def test_a_client_that_will_not_wait_spoils_no_target_for_others(
    patience: TimeoutChanges | None, opens: bool
) -> None:
    scene = Scene(A, providers={"a": SICK})
    for _ in range(3):
        scene.scripts = {"a": [PhaseTimeout("first_token", 0.1)]}
        call = scene.new_call()
        call.patience = Patience(client=patience)
        with pytest.raises(ProviderError):
            await scene.router(call)
    assert bool(scene.changes) is opens
