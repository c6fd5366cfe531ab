"""Processes: each server is one of its own, on a core of its own, and is ended by whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_CLOSING_SECONDS = 10


class Cores(NamedTuple):
    """Who runs where; empty is anywhere."""

    server: frozenset[int]
    provider: frozenset[int]
    load: frozenset[int]


def share_out() -> Cores:
    """The server under test alone on a core; provider and load on the other, or each on one where there are three."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return Cores(frozenset(), frozenset(), frozenset())
    return Cores(frozenset(cores[:1]), frozenset(cores[1:2]), frozenset(cores[-1:]))


def pin(cores: frozenset[int]) -> None:
    """Keep this process on `cores`."""
    if cores:
        os.sched_setaffinity(0, cores)


class Process:
    """A running server. `stop` ends it, by its own id and no other."""

    def __init__(
        self, command: Sequence[str], cores: frozenset[int], log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        own = os.sched_getaffinity(0)
        self._log = log
        with log.open("ab") as said:
            # What is started inherits the cores: so they hold from its first instruction, for all its threads.
            pin(cores)
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    env={**os.environ, **(environ or {})},
                )
            finally:
                os.sched_setaffinity(0, own)
        self.pid = self._process.pid

    def check(self) -> None:
        """Raises `RuntimeError`, with the end of what it said, where it runs no more."""
        code = self._process.poll()
        if code is not None:
            end = self._log.read_bytes()[-2000:].decode("utf-8", "replace")
            raise RuntimeError(f"a server ended with code {code}: {self._process.args!r}\n{end}")

    def cpu(self) -> float:
        """Seconds of CPU so far, of it and of what it started, all threads: utime and stime of proc(5), in steps of
        10 ms each."""
        return sum(map(_cpu_ticks, self.family())) / _TICKS

    def resident(self) -> float:
        """Resident memory of it and of what it started, MiB."""
        return sum(map(_resident_kib, self.family())) / 1024

    def family(self) -> list[int]:
        """The process and everything below it."""
        found = [self.pid]
        for pid in found:
            found += _children(pid)
        return found

    def stop(self) -> None:
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def _cpu_ticks(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])
