"""Checks of calls in flight: each in time, though most calls are not looked at, and others have their turn between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from sidegate.contract.call import Call, Notes
from sidegate.contract.frame import Frame
from sidegate.contract.reply import Reply
from sidegate.errors import Ending
from sidegate.live import PORTION, Live, LiveCall
from sidegate.outlet import NullSink
from tests.upstream.scene import HandClock

SEND, BEAT, PLUGIN = 60.0, 15.0, 10.0
TICK = 0.25


class Reader(NullSink):
    """A client's edge that is told what to say of itself, and keeps when it was asked for a sign of life."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.comments = True
        self.quiet = clock.monotonic()
        self.blocked_since = 0.0
        self.looks = 0
        self.beats: list[float] = []
        self.cut = 0.0

    @property
    def quiet_since(self) -> float:  # type: ignore[override]
        self.looks += 1
        return self.quiet

    async def beat(self) -> None:
        self.beats.append(self._clock.monotonic())
        if self.comments:
            self.quiet = self._clock.monotonic()

    def abort(self) -> None:
        self.cut = self.cut or self._clock.monotonic()


class Outlet:
    def __init__(self, sink: Reader) -> None:
        self.sink = sink
        self.notes = Notes()

    async def chunks(self, chunks: object) -> None: ...
    async def raw(self, data: bytes, meaningful: bool) -> None: ...
    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return True

    def detach(self) -> None: ...


class Running:
    """A plugin's stretch."""

    name, watches_only, overdue, forgotten = "slow", False, False, -1

    def __init__(self, since: float) -> None:
        self.since = since

    def reported(self, error: Exception | SystemExit) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Scene:
    """Calls that only wait, and a clock that moves from tick to tick."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.replies: list[Reply] = []
        self.live = Live(
            self.clock, lambda call, reply, _: self.replies.append(reply), limit=10**6, plugin_timeout=PLUGIN
        )
        self.calls: list[LiveCall] = []

    def call(self) -> tuple[LiveCall, Reader]:
        sink = Reader(self.clock)
        outlet = Outlet(sink)
        call = Call(
            id=f"{len(self.calls)}",
            operation="chat",
            dialect="openai.chat",
            model="m",
            delivery="stream",
            outlet=outlet,
            started=self.clock.monotonic(),
            started_at=self.clock.now(),
        )
        running = self.live.start(call, self._waits, outlet, "cancel")  # type: ignore[arg-type]
        self.calls.append(running)
        return running, sink

    async def tick(self, seconds: float = TICK) -> None:
        self.clock.at += seconds
        self.live.check(SEND, BEAT)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @staticmethod
    async def _waits(_: Call) -> Reply:
        await asyncio.Event().wait()
        return Reply()


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    try:
        yield made
    finally:
        await made.live.drain(0)


async def test_a_silent_stream_shows_signs_of_life_a_heartbeat_apart() -> None:
    async with scene() as at:
        _, sink = at.call()
        for _ in range(int(3 * BEAT / TICK)):
            await at.tick()
        assert sink.beats == [1000 + BEAT, 1000 + 2 * BEAT, 1000 + 3 * BEAT]


async def test_a_stream_that_cannot_show_any_is_not_asked_for_one_at_each_tick() -> None:
    async with scene() as at:
        _, sink = at.call()
        sink.comments = False
        for _ in range(int(3 * BEAT / TICK)):
            await at.tick()
        assert sink.beats[0] == 1000 + BEAT
        assert len(sink.beats) <= 3 * BEAT / PLUGIN


async def test_a_reader_that_stands_still_is_cut_in_time_whenever_it_began_to() -> None:
    async with scene() as at:
        running, sink = at.call()
        await at.tick(7)
        sink.blocked_since = began = at.clock.at
        while not sink.cut:
            sink.quiet = at.clock.at
            await at.tick()
        assert SEND < sink.cut - began <= SEND + TICK
        assert running.reply is not None
        assert running.reply.ending is Ending.CLIENT_GONE


async def test_a_plugin_that_takes_too_long_is_interrupted_in_time_whenever_it_began() -> None:
    async with scene() as at:
        running, _ = at.call()
        await at.tick(7)
        frame: Frame = Running(at.clock.at)
        running.call.notes.frame = frame
        while not frame.overdue:
            await at.tick()
        assert PLUGIN <= at.clock.at - frame.since <= PLUGIN + TICK


async def test_other_bounds_count_from_the_next_tick_on() -> None:
    async with scene() as at:
        running, _ = at.call()
        _, sink = at.call()
        await at.tick()
        running.call.notes.frame = frame = Running(at.clock.at)
        at.live.bound(limit=10, plugin_timeout=1.0)
        await at.tick(1.0)
        assert frame.overdue
        assert not sink.beats
        at.live.check(SEND, 1.0)
        await asyncio.sleep(0)
        assert sink.beats


async def test_calm_streams_are_looked_at_seldom() -> None:
    async with scene() as at:
        sinks = [at.call()[1] for _ in range(20)]
        ticks = int(10 * PLUGIN / TICK)
        for _ in range(ticks):
            for sink in sinks:
                sink.quiet = at.clock.at
            await at.tick()
        assert all(sink.looks <= 12 for sink in sinks), f"of {ticks} ticks"


async def test_others_have_their_turn_while_thousands_are_checked() -> None:
    async with scene() as at:
        for _ in range(5000):
            at.call()
        assert len(list(at.live.checks(SEND, BEAT))) >= 5000 * 20 // PORTION, "each is looked at"
        assert len(list(at.live.checks(SEND, BEAT))) == 5000 // PORTION, "none can be overdue"


async def test_a_call_that_ended_between_two_portions_is_left_alone() -> None:
    async with scene() as at:
        made = [at.call() for _ in range(200)]
        at.clock.at += 2 * BEAT
        portions = at.live.checks(SEND, BEAT)
        next(portions)
        running, sink = made[-1]
        assert running.task is not None
        running.task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [*portions]
        await asyncio.sleep(0)
        assert not sink.beats
        assert made[-2][1].beats


@pytest.mark.parametrize("seed", range(5))
async def test_no_check_comes_later_than_if_each_call_were_looked_at_every_time(seed: int) -> None:
    random = Random(seed)
    async with scene() as at:
        made = [at.call() for _ in range(8)]
        wanted: dict[int, list[float]] = {number: [] for number in range(len(made))}
        for _ in range(2000):
            for number, (running, sink) in enumerate(made):
                _happens(random, running, sink, at.clock.at)
                now = at.clock.at + TICK
                if not sink.blocked_since and now - sink.quiet >= BEAT:
                    wanted[number].append(now)
                if sink.blocked_since and now - sink.blocked_since > SEND / 10:
                    sink.blocked_since = 0.0
            await at.tick()
        assert {number: sink.beats for number, (_, sink) in enumerate(made)} == wanted
        assert any(wanted.values())


def _happens(random: Random, running: LiveCall, sink: Reader, now: float) -> None:
    """Something, seldom: a token, a reader that stands still or goes on, a plugin that begins or ends."""
    match random.randrange(120):
        case 0 | 1:
            sink.quiet, sink.blocked_since = now, 0.0
        case 2:
            sink.quiet = sink.blocked_since = now
        case 3:
            running.call.notes.frame = Running(now)
        case 4 | 5 | 6 | 7:
            running.call.notes.frame = None
        case _:
            frame = running.call.notes.frame
            if frame is not None and now - frame.since > PLUGIN / 2:
                running.call.notes.frame = None
