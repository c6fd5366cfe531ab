"""The benchmark: `python -m bench.run`, from the root of the repository. See README.md for what each figure means.

Every server is a process of its own, pinned to a core where there are two; rounds take turns between the servers, and
what is told is the median of the rounds. Loopback only; only processes started here are ended.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import dataclasses
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import figures, table
from bench.figures import FULL, QUICK, Sizes, Values
from bench.load import Line
from bench.loop import loop_factory
from bench.machine import allow_sockets, machine
from bench.peers import installed
from bench.process import Cores, Process, pin, share_out
from bench.servers import DIRECT, Running, Server, free_port, gateway, lean, peer, relay, start

ROOT = Path(__file__).parents[1]


def compile_sources() -> None:
    """As pip leaves what it installs; a start from sources alone takes a third longer."""
    for folder in ("service", "plugins", "bench"):
        compileall.compile_dir(ROOT / folder, quiet=2)


class Bench:
    """One benchmark under way: what runs, and what was measured so far."""

    def __init__(self, servers: Sequence[Server], sizes: Sizes, directory: Path, cores: Cores) -> None:
        self._servers = servers
        self._sizes = sizes
        self._directory = directory
        self._cores = cores
        self._provider = Line(free_port())
        self._direct = Running(Server(DIRECT, lambda told: ()), None, self._provider)
        self._processes: list[Process] = []
        self.rounds: dict[str, dict[str, list[float]]] = {}

    async def measure(self) -> None:
        """Everything. Whatever happens, what was started is stopped."""
        try:
            compile_sources()
            await self._start_provider()
            await self._fresh()
            await self._steady()
        finally:
            for process in self._processes:
                process.stop()

    async def _start_provider(self) -> None:
        command = [sys.executable, "-m", "bench.provider", str(self._provider.port)]
        self._processes.append(Process(command, self._cores.provider, self._directory / "provider.stderr"))
        for _ in range(1000):
            self._processes[0].check()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._provider.port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            return
        raise RuntimeError("the mock provider did not start")

    async def _fresh(self) -> None:
        """What needs a process that has done nothing before."""
        for number in range(self._sizes.fresh_rounds):
            for server in self._in_turn([self._direct.server, *self._servers], number):
                running = self._direct if server.name == DIRECT else await self._start(server)
                try:
                    values = await figures.fresh(running, self._sizes)
                finally:
                    self._stop(running)
                self._note(server.name, {**values, "added_crowd": values["beside"] - values["alone"]})
            print(f"fresh round {number + 1} of {self._sizes.fresh_rounds} done", file=sys.stderr)

    async def _steady(self) -> None:
        """What is measured of servers that have been running."""
        everyone = [self._direct, *[await self._start(server) for server in self._servers]]
        for running in everyone:
            await figures.buffered(running, QUICK)
            await figures.flat_out(running, QUICK)
        for number in range(self._sizes.rounds):
            for figure in self._figures():
                for running in self._in_turn(everyone, number):
                    self._note(running.server.name, await figure(running, self._sizes))
            self._note_added()
            print(f"round {number + 1} of {self._sizes.rounds} done", file=sys.stderr)

    def _figures(self) -> tuple[Callable[[Running, Sizes], Awaitable[Values]], ...]:
        async def abort(running: Running, sizes: Sizes) -> Values:
            return await figures.abort(running, sizes, self._provider)

        return figures.buffered, figures.flat_out, figures.one_by_one, figures.first_token, figures.each_token, abort

    def _note(self, server: str, values: Values) -> None:
        for key, value in values.items():
            self.rounds.setdefault(key, {}).setdefault(server, []).append(value)

    def _note_added(self) -> None:
        """What each server adds to the direct line, of the same round."""
        for whole, added in (("first_one", "added_one"), ("first_many", "added_many"), ("token", "added_token")):
            direct = self.rounds[whole][DIRECT][-1]
            for server in self._servers:
                self._note(server.name, {added: self.rounds[whole][server.name][-1] - direct})

    async def _start(self, server: Server) -> Running:
        provider = f"http://127.0.0.1:{self._provider.port}"
        running = await start(server, provider, self._directory, self._cores)
        assert running.process is not None
        self._processes.append(running.process)
        return running

    def _stop(self, running: Running) -> None:
        if running.process is not None:
            running.process.stop()
            self._processes.remove(running.process)

    @staticmethod
    def _in_turn(everyone: Sequence[Any], number: int) -> Sequence[Any]:
        """The other way round in every second round: what warms up or tires is nobody's advantage."""
        return everyone[::-1] if number % 2 else everyone


def report(bench: Bench, servers: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    """Everything for `--json`: medians, ratios to the relay, and every value they come from."""
    figures = {
        row.key: {
            "label": row.label.strip(),
            "better": row.better,
            "median": {name: table.median(values) for name, values in bench.rounds.get(row.key, {}).items()},
            "ratio_to_relay": {name: table.ratio(bench.rounds, row, name) for name in servers if name != DIRECT},
            "rounds": bench.rounds.get(row.key, {}),
        }
        for row in table.rows(sizes)
    }
    return {"machine": machine(), "sizes": sizes, "figures": figures}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="The gateway beside a bare relay and a direct line.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default: {FULL.rounds}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value there too")
    parser.add_argument("--no-peers", action="store_true", help="without the servers of bench/peers.py")
    parser.add_argument(
        "--peer",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "KEY", "COMMAND"),
        help="another server: its command line, with {port}, {provider} and {directory}",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = dataclasses.replace(sizes, rounds=options.rounds, fresh_rounds=options.rounds)
    servers = [*own_and_installed(options.no_peers), *(peer(name, command, key) for name, key, command in options.peer)]
    names = [DIRECT, *(server.name for server in servers)]
    bench, sizes = measured(servers, sizes)
    print("  ".join(f"{name} {value}" for name, value in machine().items()))
    print(table.render(bench.rounds, names, sizes))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report(bench, names, sizes))) + b"\n")
    return 0


def own_and_installed(no_peers: bool = False) -> list[Server]:
    """The servers of every run."""
    return [*([] if no_peers else installed()), relay(), lean(), gateway()]


def measured(servers: Sequence[Server], sizes: Sizes) -> tuple[Bench, Sizes]:
    """A whole run; and its sizes, where the system did not let it have as many sockets."""
    streams = allow_sockets()
    if sizes.crowd > streams:
        print(f"only {streams} streams at once: the limit of open files (ulimit -n) is too low", file=sys.stderr)
        sizes = dataclasses.replace(sizes, slow=min(sizes.slow, streams), crowd=streams)
    before, cores = os.sched_getaffinity(0), share_out()
    pin(cores.load)
    try:
        with tempfile.TemporaryDirectory(prefix="sidegate-bench-") as directory:
            bench = Bench(servers, sizes, Path(directory), cores)
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(_measured(bench))
    finally:
        os.sched_setaffinity(0, before)
    return bench, sizes


async def _measured(bench: Bench) -> None:
    """A terminated benchmark stops what it started, like an interrupted one."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await bench.measure()


if __name__ == "__main__":
    sys.exit(main())
