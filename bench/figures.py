"""Figures: each a run against one server, bounded in count and time, that gives one value or several."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.load import Connection, Line, Load, Timed, open_streams, open_timed, run
from bench.replies import Incomplete
from bench.servers import Running
from bench.traffic import BUFFERED, Shape

RUN_SECONDS = 120
"""No run takes longer; one that does ends the benchmark."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    rounds: int
    fresh_rounds: int
    """Of what needs a process that has done nothing before."""
    at_once: int
    buffered: int
    flat: int
    flat_tokens: int
    paced: int
    paced_window: float
    """Seconds of which the CPU is taken while tokens come one by one."""
    first_one: int
    first_many: int
    timed: int
    timed_window: float
    """Seconds of which each token's way is taken."""
    slow: int
    crowd: int
    """Slow streams beside `paced` fast ones."""
    cuts: int
    settle: float
    """Seconds after a run: what a server does then (a ledger's batch of rows) is counted too."""


FULL = Sizes(
    rounds=5,
    fresh_rounds=2,
    at_once=32,
    buffered=3000,
    flat=256,
    flat_tokens=500,
    paced=100,
    paced_window=4.0,
    first_one=300,
    first_many=800,
    timed=32,
    timed_window=3.0,
    slow=1000,
    crowd=5000,
    cuts=40,
    settle=0.4,
)
QUICK = Sizes(
    rounds=1,
    fresh_rounds=1,
    at_once=8,
    buffered=80,
    flat=16,
    flat_tokens=100,
    paced=10,
    paced_window=0.5,
    first_one=10,
    first_many=16,
    timed=4,
    timed_window=0.3,
    slow=20,
    crowd=40,
    cuts=3,
    settle=0.1,
)

INTERVAL = 20
"""Milliseconds between two tokens that come one by one: 50 a second, as models speak."""

Values = dict[str, float]
T = TypeVar("T")


async def buffered(running: Running, sizes: Sizes) -> Values:
    """Whole replies of 1 KB."""
    work = run(running.line, BUFFERED, stream=False, count=sizes.buffered, at_once=sizes.at_once)
    load, cpu = await _spent(running, work, sizes.settle)
    return {"buffered_wall": load.calls / load.seconds, **_per("buffered_cpu", load.calls, cpu)}


async def flat_out(running: Running, sizes: Sizes) -> Values:
    """Streams as fast as they go."""
    shape = Shape(sizes.flat_tokens)
    work = run(running.line, shape, stream=True, count=sizes.flat, at_once=sizes.at_once)
    load, cpu = await _spent(running, work, sizes.settle)
    return {"flat_wall": load.tokens / load.seconds, **_per("flat_cpu", load.tokens, cpu)}


async def one_by_one(running: Running, sizes: Sizes) -> Values:
    """CPU for a token that comes alone, taken while all streams are under way, so without what a call costs."""
    if running.process is None:
        return {}
    shape = Shape(int((sizes.paced_window + 30) * 1000 / INTERVAL), INTERVAL)
    streams = await open_streams(running.line, shape, sizes.paced)
    try:
        await asyncio.sleep(sizes.settle)
        tokens, cpu = _tokens(streams), running.process.cpu()
        await asyncio.sleep(sizes.paced_window)
        cpu, tokens = running.process.cpu() - cpu, _tokens(streams) - tokens
    finally:
        _leave(streams)
    await asyncio.sleep(sizes.settle)
    return {"paced_cpu": cpu / tokens * 1e6}


async def first_token(running: Running, sizes: Sizes) -> Values:
    """Time to the first token, alone and among others. The direct line's is taken off by whoever compares."""
    one = await _bounded(run(running.line, Shape(4, 1), stream=True, count=sizes.first_one, at_once=1))
    shape = Shape(10, INTERVAL)
    spread = shape.tokens * INTERVAL / 1000
    many = await _bounded(
        run(running.line, shape, stream=True, count=sizes.first_many, at_once=sizes.at_once, spread=spread)
    )
    return {"first_one": statistics.median(one.first) * 1000, "first_many": _percentile(many.first, 0.99) * 1000}


async def each_token(running: Running, sizes: Sizes) -> Values:
    """How long a token is on its way, from the provider's write to the client's read."""
    shape = Shape(int((sizes.timed_window + 30) * 1000 / INTERVAL), INTERVAL, timed=True)
    streams = await _bounded(open_timed(running.line, shape, sizes.timed))
    try:
        took = await _on_the_way(streams, sizes.timed_window)
    finally:
        _leave(streams)
    return {"token": statistics.median(took) * 1000}


async def fresh(running: Running, sizes: Sizes) -> Values:
    """Of a fresh server: its start, its memory idle and under slow streams, and what those do to the fast beside."""
    values = {} if running.process is None else {"ready": running.ready, "idle": running.process.resident()}
    fast_shape = Shape(int(RUN_SECONDS * 1000 / INTERVAL), INTERVAL, timed=True)
    slow_shape = Shape(RUN_SECONDS * 2, 1000)
    slow = await _bounded(open_streams(running.line, slow_shape, sizes.slow))
    fast: list[Timed] = []
    try:
        await asyncio.sleep(sizes.settle)
        if running.process is not None:
            values["slow"] = running.process.resident()
        _leave(slow)
        fast = await _bounded(open_timed(running.line, fast_shape, sizes.paced))
        alone = await _on_the_way(fast, sizes.timed_window)
        before = running.process.resident() if running.process is not None else 0.0
        slow = await _bounded(open_streams(running.line, slow_shape, sizes.crowd))
        await asyncio.sleep(sizes.settle)
        beside = await _on_the_way(fast, sizes.timed_window)
        if running.process is not None:
            values["crowd"] = (running.process.resident() - before) * 1024 / sizes.crowd
    finally:
        _leave(slow)
        _leave(fast)
    values["alone"] = _percentile(alone, 0.99) * 1000
    values["beside"] = _percentile(beside, 0.99) * 1000
    return values


async def _on_the_way(streams: Sequence[Timed], seconds: float) -> list[float]:
    """Of every token that comes in so many seconds."""
    for stream in streams:
        stream.took = []
    await asyncio.sleep(seconds)
    took = [each for stream in streams for each in stream.took]
    if len(took) < len(streams) * seconds * 1000 / INTERVAL / 2:
        raise Incomplete(f"{len(streams)} streams brought {len(took)} tokens in {seconds} s")
    return took


async def abort(running: Running, sizes: Sizes, provider: Line) -> Values:
    """From a client's leaving to the end of the provider's connection."""
    took: list[float] = []
    for _ in range(sizes.cuts):
        before, _ = await _cut(provider)
        (stream,) = await open_streams(running.line, Shape(500, INTERVAL), 1)
        left = time.monotonic()
        stream.close()
        took.append(await _bounded(_next_cut(provider, before)) - left)
    return {"abort": statistics.median(took) * 1000}


async def _spent(running: Running, work: Awaitable[Load], settle: float) -> tuple[Load, float | None]:
    before = running.process.cpu() if running.process else 0.0
    load = await _bounded(work)
    await asyncio.sleep(settle)
    return load, running.process.cpu() - before if running.process else None


async def _bounded(work: Awaitable[T]) -> T:
    async with asyncio.timeout(RUN_SECONDS):
        return await work


def _per(name: str, count: int, cpu: float | None) -> Values:
    """Per second of CPU; nothing where the run was too short for the clock."""
    return {name: count / cpu} if cpu else {}


async def _next_cut(provider: Line, before: int) -> float:
    while True:
        count, last = await _cut(provider)
        if count > before:
            return last
        await asyncio.sleep(0.001)


async def _cut(provider: Line) -> tuple[int, float]:
    connection = Connection()
    await connection.send(provider.port, b"GET /cut HTTP/1.1\r\nHost: mock\r\n\r\n")
    count, last = (await connection.reply()).split()
    connection.close()
    return int(count), float(last)


def _tokens(streams: Sequence[Connection]) -> int:
    return sum(stream.tokens() for stream in streams)


def _leave(streams: Sequence[Connection]) -> None:
    for stream in streams:
        stream.close()


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
