"""Deadlines: what is due far off shares a timer, and fires all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from sidegate.contract.timeouts import Timeouts
from sidegate.errors import PhaseTimeout
from sidegate.upstream import deadline as deadline_module
from sidegate.upstream.deadline import GRAIN_SECONDS, PORTION, Deadline, Dial


class Timer:
    def __init__(self, callback: Any, args: tuple[Any, ...]) -> None:
        self._callback: Any = callback
        self._args = args

    def run(self) -> None:
        if self._callback is not None:
            self._callback(*self._args)

    def cancel(self) -> None:
        self._callback = None


class Loop:
    """A loop whose time is set, and whose timers are a list."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Timer]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any, *args: Any) -> Timer:
        timer = Timer(callback, args)
        self.timers.append((when, timer))
        return timer

    def call_soon(self, callback: Any, *args: Any) -> Timer:
        return self.call_at(self.now, callback, *args)

    def pass_to(self, now: float) -> None:
        self.now = now
        due = [timer for when, timer in self.timers if when <= now]
        self.timers = [(when, timer) for when, timer in self.timers if when > now]
        for timer in due:
            timer.run()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    at_hand = SimpleNamespace(
        get_running_loop=lambda: made,
        current_task=lambda loop: asyncio.current_task(),
        CancelledError=asyncio.CancelledError,
    )
    monkeypatch.setattr(deadline_module, "asyncio", at_hand)
    return made


TIMES = Timeouts(connect=1, first_token=60, idle=20, total=100)


async def fired(deadline: Deadline, steps: Callable[[Deadline], None]) -> PhaseTimeout | None:
    """What a task hears that goes through the steps."""
    try:
        with deadline:
            steps(deadline)
            await asyncio.sleep(0)
    except PhaseTimeout as timeout:
        return timeout
    return None


async def test_what_is_due_far_off_shares_a_timer_and_fires_within_a_grain(loop: Loop) -> None:
    dial = Dial()

    def steps(deadline: Deadline) -> None:
        deadline.wait("first_token", 60)
        with Deadline(TIMES, 0.0, dial):
            assert len(loop.timers) == 1
        loop.pass_to(1060.0 - GRAIN_SECONDS)
        assert _cancelling() == 0
        loop.pass_to(1060.0 + GRAIN_SECONDS)
        assert _cancelling() == 1

    late = await fired(Deadline(TIMES, 0.0, dial), steps)
    assert late is not None
    assert late.phase == "first_token"
    assert _cancelling() == 0


async def test_many_that_are_due_together_are_looked_at_in_portions(loop: Loop) -> None:
    dial = Dial()
    many = [Deadline(TIMES, 0.0, dial) for _ in range(PORTION + 1)]
    for deadline in many:
        deadline.__enter__()
        deadline.pause()
        deadline.wait("idle", 20)
        loop.now += 0.0001
        deadline.again()
    assert len(loop.timers) == 2
    looked_at: list[Deadline] = []
    for deadline in many:
        deadline.check = partial(looked_at.append, deadline)  # type: ignore[method-assign]
    loop.pass_to(1020.0 + 2 * GRAIN_SECONDS)
    assert len(looked_at) == PORTION
    # One that ends meanwhile is left out.
    (last,) = set(many) - set(looked_at)
    last.__exit__(None, None, None)
    loop.pass_to(1200.0)
    assert len(looked_at) == PORTION
    assert loop.timers == []


async def test_one_that_has_ended_does_not_fire(loop: Loop) -> None:
    assert await fired(Deadline(TIMES, 0.0, Dial()), lambda deadline: deadline.wait("idle", 20)) is None
    loop.pass_to(1200.0)
    assert _cancelling() == 0
    assert loop.timers == []


async def test_one_that_has_moved_is_armed_anew_and_then_to_the_moment(loop: Loop) -> None:
    def steps(deadline: Deadline) -> None:
        deadline.wait("idle", 20)
        loop.now = 1003.0
        deadline.again()
        loop.pass_to(1020.0 + GRAIN_SECONDS)
        assert _cancelling() == 0
        # Less than five seconds are left: a timer of its own.
        assert 1023.0 in [when for when, _ in loop.timers]
        loop.pass_to(1023.0)

    late = await fired(Deadline(TIMES, 0.0, Dial()), steps)
    assert late is not None
    assert late.phase == "idle"


async def test_the_total_is_one_for_all_phases(loop: Loop) -> None:
    def steps(deadline: Deadline) -> None:
        deadline.wait("first_token", 60)
        loop.pass_to(1010.0 + GRAIN_SECONDS)

    late = await fired(Deadline(TIMES, 90.0, Dial()), steps)
    assert late is not None
    assert late.phase == "total"


def _cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()
