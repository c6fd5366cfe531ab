"""Many streams at once: what each costs a second, in instructions, and whether it is more among many.

Not in lock-step: the streams speak by the clock, a token every few seconds each, as much as a server that is counted
can follow.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.callgrind import Callgrind
from bench.counts import ANYWHERE, in_batches
from bench.curve import Curve
from bench.load import Connection, Line, open_streams
from bench.process import Process
from bench.replies import Incomplete
from bench.servers import Server, free_port, gateway, relay, start
from bench.traffic import Shape

INTERVAL = 4000
"""Milliseconds between two tokens of a stream."""
WINDOWS = 2
"""Tokens of each stream that are counted."""


async def streams(counts: Sequence[int], servers: Sequence[Server] | None = None) -> Curve:
    """Thousands of instructions that a stream costs a second."""
    curve = Curve("streams", f"Streams at once, a token every {INTERVAL // 1000} s each", "streams")
    curve = replace(curve, unit="instructions a stream and second, thousands")
    for server in servers or [gateway(in_batches), relay()]:
        curve.lines[server.name] = await _counted(server, counts)
    return curve


async def _counted(server: Server, counts: Sequence[int]) -> list[tuple[float, float]]:
    with tempfile.TemporaryDirectory(prefix="sidegate-counts-") as name:
        directory, port = Path(name), free_port()
        meter = Callgrind(directory)
        same = {**server.environ, "PYTHONHASHSEED": "0"}
        under = replace(server, command=lambda told: meter.command(server.command(told)), environ=same)
        mock = Process([sys.executable, "-m", "bench.provider", str(port)], frozenset(), directory / "mock")
        try:
            running = await start(under, f"http://127.0.0.1:{port}", directory, ANYWHERE)
            assert running.process is not None
            meter.pid = running.process.pid
            try:
                return await _growing(running.line, meter, counts)
            finally:
                running.process.stop()
        finally:
            mock.stop()


async def _growing(line: Line, meter: Callgrind, counts: Sequence[int]) -> list[tuple[float, float]]:
    opened: list[Connection] = []
    points = []
    try:
        for count in counts:
            opened += await open_streams(line, Shape(10_000, INTERVAL), count - len(opened))
            points.append((float(count), await _at(opened, meter)))
    except Incomplete as error:
        if len(points) < 2:
            raise
        print(f"left out: {error}", file=sys.stderr)
    finally:
        for stream in opened:
            stream.close()
    return points


async def _at(streams: Sequence[Connection], meter: Callgrind) -> float:
    """Opening them is not counted, and so goes ten times as fast."""
    meter.begin()
    await asyncio.sleep(1)
    seconds = WINDOWS * INTERVAL / 1000
    meter.zero()
    before = sum(stream.tokens() for stream in streams)
    await asyncio.sleep(seconds)
    total = meter.total()
    came = sum(stream.tokens() for stream in streams) - before
    meter.end()
    if came < len(streams) * WINDOWS * 0.8:
        raise Incomplete(f"{len(streams)} streams brought {came} tokens in {seconds} s: the machine is too slow")
    return total / len(streams) / seconds / 1000
