"""`scripts/bench --publish`: every figure of docs/performance.md, its plots, and the counts that are kept, in one go.

What was measured is kept in bench/published.json, and the page's tables and the plots are made of it alone. So one part
can be measured again without the others, and a change of how it is told needs no measuring.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench import callgrind, growth, kept, many, steps, workers
from bench.callgrind import Callgrind
from bench.counting import counted_all, servers
from bench.counts import SCENARIOS, ratios
from bench.cputime import CpuTime
from bench.curve import Curve, told
from bench.figures import FULL, QUICK, Sizes
from bench.loop import loop_factory
from bench.machine import allow_sockets, machine
from bench.page import FOLDER, PAGE, Published, plots, write
from bench.process import Process
from bench.replies import Incomplete
from bench.run import measured, own_and_installed
from bench.servers import DIRECT, RELAY, free_port

FILE = Path(__file__).parent / "published.json"

BRIEF = replace(
    FULL, rounds=2, fresh_rounds=1, buffered=1500, flat=96, paced_window=2.0, first_one=150, first_many=300, cuts=10
)
"""For a look at how it comes out."""

STREAMS = (500, 1000, 2000)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measure, and write docs/performance.md's figures.")
    parser.add_argument("--publish", action="store_true", required=True)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and points: under 5 minutes")
    parser.add_argument("--part", action="append", choices=[*PARTS], metavar="NAME", help=f"only: {', '.join(PARTS)}")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page and the plots again")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    lacking = callgrind.missing() or workers.missing()
    if lacking and not options.page:
        print(f"{lacking} is not installed, and is needed for what is published", file=sys.stderr)
        return 2
    published = read()
    allow_sockets()
    for name in () if options.page else options.part or PARTS:
        begun = time.monotonic()
        print(f"measuring: {name}", file=sys.stderr)
        published[name] = PARTS[name](options.quick)
        published["machine"], published["date"] = machine(), datetime.now(UTC).strftime("%B %Y")
        FILE.write_bytes(msgspec.json.format(msgspec.json.encode(published)) + b"\n")
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    FOLDER.mkdir(exist_ok=True)
    for name, plot in plots(published).items():
        (FOLDER / name).write_text(plot)
    PAGE.write_text(write(PAGE.read_text(), published))
    for curve in published.get("growth", []):
        print(told(msgspec.convert(curve, Curve)))
    return 0


def read(path: Path = FILE) -> Published:
    """What was measured last, by part."""
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes()) if path.exists() else {}
    return found


def _table(quick: bool) -> object:
    used = own_and_installed()
    bench, sizes = measured(used, BRIEF if quick else FULL)
    return {"sizes": sizes, "servers": [DIRECT, *(server.name for server in used)], "rounds": bench.rounds}


def _counts(_: bool) -> object:
    counts = counted_all(SCENARIOS, servers(), Callgrind)
    times = counted_all(SCENARIOS, servers(), CpuTime)
    found = kept.Kept(kept.versions(), kept.rounded(counts, 0), kept.rounded(ratios(times, RELAY), 2))
    kept.write(found)
    return {"counts": found.counts}


def _parts(quick: bool) -> object:
    return asyncio.run(steps.climb(steps.SHIPPED[:2] if quick else steps.SHIPPED))


def _growth(quick: bool) -> object:
    extent = growth.QUICK if quick else growth.FULL
    return asyncio.run(_curves(extent, STREAMS[:2] if quick else STREAMS))


async def _curves(extent: growth.Extent, streams: Sequence[int]) -> list[Curve]:
    curves = [curve async for curve in growth.all_curves(extent)]
    try:
        return [*curves, await many.streams(streams)]
    except (Incomplete, RuntimeError, TimeoutError) as error:
        print(f"left out: streams: {error!r}", file=sys.stderr)
        return curves


def _workers(quick: bool) -> object:
    sizes = QUICK if quick else FULL
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_by_workers(sizes, 1 if quick else workers.ROUNDS))


async def _by_workers(sizes: Sizes, rounds: int) -> workers.Told:
    with tempfile.TemporaryDirectory(prefix="sidegate-bench-") as directory:
        port = free_port()
        command = [sys.executable, "-m", "bench.provider", str(port)]
        mock = Process(command, frozenset(), Path(directory) / "mock")
        try:
            return await workers.measure(f"http://127.0.0.1:{port}", sizes, rounds)
        finally:
            mock.stop()


PARTS: dict[str, Callable[[bool], object]] = {
    "table": _table,
    "counts": _counts,
    "parts": _parts,
    "growth": _growth,
    "workers": _workers,
}
