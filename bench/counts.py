"""Instruction counts of a fixed script of calls: `scripts/bench --count` and `--compare`.

They are the same on a busy machine and on a quiet one, to a fraction of a percent, so a change of a few percent shows.
They are not time: the system's share of a call is not in them, nor what memory and caches cost.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.callgrind import Callgrind
from bench.lockstep import Script
from bench.process import Cores, Process
from bench.servers import Config, Server, start
from bench.traffic import Shape

BLOCKS = 3
"""What is told is the median of so many runs of the same script in one process."""

CALLS = 100
"""The ledger writes a hundred calls at once, so every block has one batch."""

PIECES = 100
SETTLE_SECONDS = 0.3
FLAT = 8
"""Tokens to a piece, flat out, as the mock provider writes them."""

ANYWHERE = Cores(frozenset(), frozenset(), frozenset())

Counts = dict[str, float]
"""By scenario."""


class Meter(Protocol):
    """What is counted of a process: its instructions, or its time."""

    pid: int

    def command(self, words: Sequence[str]) -> list[str]: ...

    def begin(self) -> None: ...

    def zero(self) -> None: ...

    def total(self) -> int: ...


class Counted(NamedTuple):
    """A server that is counted, and who calls it."""

    script: Script
    meter: Meter
    process: Process


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line: what is done, and for how much of it a count is told."""

    key: str
    label: str
    measure: Callable[[Script, Meter, int], Awaitable[list[float]]]
    """In so many blocks."""


async def _buffered(script: Script, meter: Meter, blocks: int) -> list[float]:
    return await per_call(script.buffered, meter, blocks=blocks)


async def _short(script: Script, meter: Meter, blocks: int) -> list[float]:
    return await per_call(lambda: script.streamed(Shape(10)), meter, blocks=blocks)


async def _streamed(script: Script, meter: Meter, blocks: int) -> list[float]:
    return await per_call(lambda: script.streamed(Shape(100)), meter, blocks=blocks)


async def _flat(script: Script, meter: Meter, blocks: int) -> list[float]:
    return await _per_token(script, meter, FLAT, blocks)


async def _paced(script: Script, meter: Meter, blocks: int) -> list[float]:
    return await _per_token(script, meter, 1, blocks)


SCENARIOS = (
    Scenario("buffered", "a call with a whole reply of 1 KB, per call", _buffered),
    Scenario("short", "a stream of 10 tokens in 2 pieces, per call", _short),
    Scenario("streamed", "a stream of 100 tokens in pieces of 8, per call", _streamed),
    Scenario("flat", "a token of a long stream, 8 to a piece, per token", _flat),
    Scenario("paced", "a token of a long stream, one by one, per token", _paced),
)


async def per_call(
    call: Callable[[], Awaitable[None]], meter: Meter, *, calls: int = CALLS, blocks: int = BLOCKS
) -> list[float]:
    """Of each block; one more comes before, to warm up."""
    found = []
    for block in range(blocks + 1):
        meter.zero()
        for _ in range(calls):
            await call()
        # What comes after a call, such as the ledger's batch, is counted too.
        await asyncio.sleep(SETTLE_SECONDS)
        if block:
            found.append(meter.total() / calls)
    return found


async def _per_token(script: Script, meter: Meter, tokens: int, blocks: int) -> list[float]:
    """In the middle of a stream with so many tokens to a piece, so without what a call costs. In three blocks at least:
    they are short, and what comes by the clock is much in one."""
    blocks = max(blocks, BLOCKS)
    shape = Shape((blocks + 1) * PIECES * tokens, 1 if tokens == 1 else 0)
    stream = await script.begin(shape)
    await script.step(stream, PIECES // 2)
    found = []
    for _ in range(blocks):
        meter.zero()
        await script.step(stream, PIECES)
        found.append(meter.total() / (PIECES * tokens))
    await script.end(stream, shape)
    return found


def in_batches(config: Config) -> None:
    """The ledger writes by number and never by the clock, since a process under an instrument is slow. And so a
    connection is kept for longer."""
    config["ledger"] = {"batch_seconds": 10}
    config["server"] |= {"keepalive_timeout": 600, "body_timeout": 600}


@asynccontextmanager
async def counted(server: Server, meter: Callable[[Path], Meter] = Callgrind) -> AsyncIterator[Counted]:
    """Start it, with a script's provider behind it; from then on it is counted. It is ended at the end."""
    with tempfile.TemporaryDirectory(prefix="sidegate-counts-") as name:
        directory = Path(name)
        used = meter(directory)
        same = {**server.environ, "PYTHONHASHSEED": "0"}
        under = replace(server, command=lambda told: used.command(server.command(told)), environ=same)
        async with Script() as script:
            running = await start(under, script.provider, directory, ANYWHERE)
            assert running.process is not None
            try:
                used.pid = running.process.pid
                await script.connect(running.line)
                used.begin()
                yield Counted(script, used, running.process)
            finally:
                running.process.stop()


async def count(
    server: Server,
    scenarios: Sequence[Scenario],
    meter: Callable[[Path], Meter] = Callgrind,
    blocks: int = BLOCKS,
) -> Counts:
    """Have it do the scripts. What is told is the median of the blocks."""
    counts = {}
    async with counted(server, meter) as under:
        for scenario in scenarios:
            counts[scenario.key] = statistics.median(await scenario.measure(under.script, under.meter, blocks))
            under.process.check()
    return counts


def ratios(counts: Mapping[str, Counts], floor: str) -> dict[str, Counts]:
    """Of each server to the one that is the floor."""
    base = counts[floor]
    return {
        name: {key: value / base[key] for key, value in each.items() if base.get(key)}
        for name, each in counts.items()
        if name != floor
    }
