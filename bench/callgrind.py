"""Instruction counts of a running process, by valgrind's callgrind: all threads, the kernel's part not.

A process starts uninstrumented, some five times slower than without valgrind; from `begin` on it is some fifty times
slower, and what it executes is counted. The counts do not depend on what else the machine does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SECONDS = 60.0
"""The longest that valgrind may take to answer."""

_TOTALS = re.compile(rb"^totals: (\d+)$", re.MULTILINE)


def missing() -> str | None:
    """What is not installed of it."""
    return next((name for name in ("valgrind", "vgdb") if shutil.which(name) is None), None)


def version() -> str:
    """As valgrind says it: `valgrind-3.19.0`."""
    return subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def read_totals(dump: bytes) -> int:
    """Instructions of a dump. Raises `ValueError` for what is none."""
    found = _TOTALS.findall(dump)
    if not found:
        raise ValueError("callgrind's dump has no totals")
    return sum(map(int, found))


class Callgrind:
    """A process under callgrind; `directory` is its own, for what callgrind writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._dumps = 0
        self.pid = 0
        """Set by whoever starts the process."""

    def command(self, words: Sequence[str]) -> list[str]:
        """The command line under callgrind."""
        return [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            "--read-inline-info=no",
            f"--vgdb-prefix={self._directory / 'vgdb'}",
            f"--callgrind-out-file={self._directory / 'counts'}",
            *words,
        ]

    def begin(self) -> None:
        """Count from now on."""
        self._ask("instrumentation on")

    def end(self) -> None:
        """Count no more, and run faster, until it begins again."""
        self._ask("instrumentation off")

    def zero(self) -> None:
        self._ask("zero")

    def total(self) -> int:
        """Instructions since the last `zero` or `total`."""
        self._ask("dump")
        self._dumps += 1
        return read_totals((self._directory / f"counts.{self._dumps}").read_bytes())

    def _ask(self, command: str) -> None:
        words = ["vgdb", f"--pid={self.pid}", f"--vgdb-prefix={self._directory / 'vgdb'}", *command.split()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"vgdb {command} ended with code {done.returncode}: {done.stderr[-500:]}")
