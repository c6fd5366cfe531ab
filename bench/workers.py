"""One worker and two, with limits that they share in Redis: what a call costs them, and how many they answer.

Nothing is pinned here: load and workers take the cores as they come, so only what is by CPU is told in relation.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.counts import ANYWHERE
from bench.figures import FULL, Sizes, Values, buffered
from bench.process import Process
from bench.servers import Config, Server, free_port, gateway, start

ROUNDS = 3
Told = dict[str, Values]


def missing() -> str | None:
    """What is not installed of it."""
    return None if shutil.which("redis-server") else "redis-server"


def servers(redis: str) -> list[Server]:
    """The same gateway, three times."""

    def shared(workers: int) -> Server:
        def change(config: Config) -> None:
            config["counters"] = {"url": redis, "timeout": 1}
            config["workers"] = workers

        return gateway(change, name=f"{workers} worker{'s' if workers > 1 else ''}, limits in Redis")

    return [gateway(name="1 worker, limits in the process"), shared(1), shared(2)]


async def measure(provider: str, sizes: Sizes = FULL, rounds: int = ROUNDS) -> Told:
    """Microseconds of CPU for a buffered call, and calls a second, by server: medians."""
    found: dict[str, list[Values]] = {}
    with tempfile.TemporaryDirectory(prefix="sidegate-bench-") as name, _redis(Path(name)) as (store, redis):
        for _ in range(rounds):
            for server in servers(redis):
                running = await start(server, provider, Path(name), ANYWHERE)
                assert running.process is not None
                try:
                    await _quiet(running.process)
                    await buffered(running, replace(sizes, buffered=sizes.at_once * 10))
                    before = store.cpu()
                    values = await buffered(running, sizes)
                    values["redis"] = (store.cpu() - before) / sizes.buffered * 1e6
                finally:
                    running.process.stop()
                found.setdefault(server.name, []).append(values)
    return {name: _median(each) for name, each in found.items()}


async def _quiet(process: Process) -> None:
    """Wait until all workers have started: the first one answers while the others still import."""
    for _ in range(60):
        before = process.cpu()
        await asyncio.sleep(0.5)
        if process.cpu() - before < 0.05:
            return
    raise RuntimeError("the workers do not come to rest")


def _median(rounds: list[Values]) -> Values:
    values = {key: statistics.median(each.get(key, 0.0) for each in rounds) for key in rounds[0]}
    micros = 1e6 / values["buffered_cpu"] if values.get("buffered_cpu") else 0.0
    return {"cpu": micros, "calls": values["buffered_wall"], "redis": values["redis"]}


@contextmanager
def _redis(directory: Path) -> Iterator[tuple[Process, str]]:
    port = free_port()
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    process = Process(words, frozenset(), directory / "redis")
    try:
        yield process, f"redis://127.0.0.1:{port}"
    finally:
        process.stop()


def markdown(told: Told) -> str:
    """A table, a line for each."""
    lines = ["| | µs of CPU a call | µs of CPU of Redis's a call | calls a second |", "|---|---:|---:|---:|"]
    for name, each in told.items():
        lines.append(f"| {name} | {each['cpu']:,.0f} | {each['redis']:,.0f} | {each['calls']:,.0f} |")
    return "\n".join(lines)
