"""CPU time of a running process, where there is no valgrind: all threads, the kernel's part too, in nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def read_run_time(schedstat: str) -> int:
    """Nanoseconds on a processor, of a task's schedstat (the kernel's Documentation/scheduler/sched-stats.rst)."""
    return int(schedstat.split()[0])


class CpuTime:
    """Used as `Callgrind` is, on a process as it is."""

    def __init__(self, directory: Path) -> None:
        self._from = 0
        self.pid = 0

    def command(self, words: Sequence[str]) -> list[str]:
        return list(words)

    def begin(self) -> None:
        """It is always counted."""

    def zero(self) -> None:
        self._from = self._spent()

    def total(self) -> int:
        before = self._from
        self.zero()
        return self._from - before

    def _spent(self) -> int:
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(read_run_time(task.read_text()) for task in tasks)
