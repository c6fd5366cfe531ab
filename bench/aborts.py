"""How soon a provider is let go, what a failover costs, and what a reader that stands still holds.

`python -m bench.aborts`, from the root of the repository. The gateway is a process of its own on a core of its own,
with every plugin of the benchmark on; clients and the probed provider share this process and its clock. Load, where
there is any, is 200 streams of 50 tokens a second each from the mock provider. `--quick` shows that it runs; its
figures mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figures import INTERVAL
from bench.load import open_streams
from bench.probe import Probe, ask, leave, server
from bench.process import Cores, Process, pin, share_out
from bench.servers import Running, free_port, start
from bench.traffic import Shape
from sidegate.testing import ScriptedProvider, scripted

RUN_SECONDS = 300
MIB = 2**20

Took = list[tuple[str, list[float]]]
"""Labels, and seconds."""


@dataclass(frozen=True, slots=True)
class Sizes:
    aborts: int
    failovers: int
    load: int
    still: int


FULL = Sizes(aborts=200, failovers=200, load=200, still=50)
QUICK = Sizes(aborts=3, failovers=3, load=5, still=3)


class Aborts:
    """Everything that is measured of one gateway."""

    def __init__(self, running: Running, provider: ScriptedProvider, probe: Probe, sizes: Sizes) -> None:
        self._running = running
        self._provider = provider
        self._probe = probe
        self._sizes = sizes
        self._random = random.Random(1)  # moments within a token's time

    async def abort(self, model: str, how: str) -> float:
        """Seconds from the client's leaving to the end of the provider's connection."""
        self._provider.exchanges.clear()
        self._probe.reached.clear()
        reader, writer = await ask(self._running.line.port, model)
        if model == "speaks":
            await reader.readuntil(b'"content":"x"')
        await self._probe.reached.wait()
        await asyncio.sleep(self._random.uniform(0, INTERVAL / 1000))
        (exchange,) = self._provider.exchanges
        left = asyncio.get_running_loop().time()
        leave(writer, how)
        await exchange.closed.wait()
        assert exchange.closed_at is not None
        return exchange.closed_at - left

    async def aborts(self) -> Took:
        found: Took = []
        for model, when in (("waits", "first-token wait"), ("speaks", "in mid-stream")):
            for how in ("FIN", "RST"):
                took = [await self.abort(model, how) for _ in range(self._sizes.aborts)]
                found.append((f"{how}, {when}", took))
        return found

    async def loaded(self) -> Took:
        """The same among other streams."""
        streams = await open_streams(self._running.line, Shape(100_000, INTERVAL), self._sizes.load)
        try:
            return [(f"{label}, among {len(streams)} streams", took) for label, took in await self.aborts()]
        finally:
            for stream in streams:
                stream.close()

    async def first(self, model: str) -> float:
        """Seconds to the first token."""
        began = asyncio.get_running_loop().time()
        reader, writer = await ask(self._running.line.port, model)
        await reader.readuntil(b'"content":"x"')
        took = asyncio.get_running_loop().time() - began
        writer.transport.abort()
        return took

    async def failovers(self) -> Took:
        """What a target that fails puts on top of the time to the first token."""
        names = ("after-refusal", "after-503", "after-reset")
        took: dict[str, list[float]] = {name: [] for name in ("answers", *names)}
        for name in took:
            # The connections stand, as they do in a gateway that works.
            await self.first(name)
        for _ in range(self._sizes.failovers):
            for name, values in took.items():
                values.append(await self.first(name))
        direct = statistics.median(took["answers"])
        return [
            ("first token, the target is well", took["answers"]),
            *((f"failover {name.replace('-', ' ')}: added", [v - direct for v in took[name]]) for name in names),
        ]

    async def still(self) -> tuple[float, float]:
        """Per reader that stands still, before a provider flat out: MiB of the gateway's, and MiB it could send."""
        process = self._running.process
        assert process is not None
        before, self._probe.sent = process.resident(), 0
        held = [await ask(self._running.line.port, "floods", buffer=4096) for _ in range(self._sizes.still)]
        for reader, _ in held:
            # StreamReader has no public way to stand still.
            reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(3)
        grown = (process.resident() - before) / len(held)
        sent = self._probe.sent / len(held)
        for _, writer in held:
            writer.transport.abort()
        return grown, sent / MIB


async def measure(sizes: Sizes, cores: Cores) -> str:
    """Start everything, measure, and stop what was started. Gives the table."""
    probe = Probe()
    with tempfile.TemporaryDirectory(prefix="sidegate-bench-") as name:
        directory, port = Path(name), free_port()
        mock = Process([sys.executable, "-m", "bench.provider", str(port)], cores.provider, directory / "mock")
        try:
            async with asyncio.timeout(RUN_SECONDS), scripted(probe) as provider:
                running = await start(server(provider.url), f"http://127.0.0.1:{port}", directory, cores)
                assert running.process is not None
                try:
                    return await _table(Aborts(running, provider, probe, sizes))
                finally:
                    running.process.stop()
        finally:
            mock.stop()


async def _table(measured: Aborts) -> str:
    rows = [*await measured.aborts(), *await measured.loaded(), *await measured.failovers()]
    lines = [f"{'milliseconds':<52}{'median':>9}{'p99':>9}{'worst':>9}{'of':>6}"]
    for label, took in rows:
        values = sorted(1000 * seconds for seconds in took)
        p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
        lines.append(f"{label:<52}{statistics.median(values):>9.2f}{p99:>9.2f}{values[-1]:>9.2f}{len(values):>6}")
    grown, sent = await measured.still()
    lines.append(
        f"a reader that stands still: {grown:.2f} MiB of the gateway's memory; its provider could send {sent:.1f} MiB"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.aborts", description="How soon a provider is let go.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    options = parser.parse_args(arguments)
    cores = share_out()
    pin(cores.load)
    # Not on uvloop, whose clock tells whole milliseconds.
    print(asyncio.run(measure(QUICK if options.quick else FULL, cores)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
