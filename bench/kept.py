"""The counts that are kept in the repository, and what a change does to them."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from bench import callgrind
from bench.counts import Counts, Scenario, ratios
from bench.machine import python_build
from bench.servers import RELAY

FILE = Path(__file__).parent / "counts.json"

TOLERANCE = 0.03
"""Of an instruction count. Two runs of the same code differ by less than 0.01."""

ROUGH = 0.25
"""Of the ratio of two CPU times, where there is no valgrind."""

PACKAGES = ("aiohttp", "msgspec", "uvloop", "httptools", "multidict", "yarl", "prometheus-client")


class Kept(msgspec.Struct, frozen=True):
    """What stands in the file: counts of instructions, and ratios of CPU times to the relay's."""

    versions: dict[str, str]
    counts: dict[str, Counts]
    cpu_ratios: dict[str, Counts]


class Verdict(Enum):
    """What comes of a comparison."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    UNKNOWN = "not comparable"

    @property
    def code(self) -> int:
        """What the command ends with."""
        return {Verdict.WORSE: 1, Verdict.UNKNOWN: 2}.get(self, 0)


@dataclass(frozen=True, slots=True)
class Change:
    """A scenario of a server, then and now."""

    server: str
    scenario: str
    then: float | None
    now: float

    def share(self) -> float | None:
        """0.05 is five percent more."""
        return self.now / self.then - 1 if self.then else None


def versions(instrument: str | None = None) -> dict[str, str]:
    """What a count depends on besides this code."""
    found = {
        "python": python_build(),
        "machine": f"{platform.system()} {platform.machine()} {' '.join(platform.libc_ver())}",
        "sqlite": sqlite3.sqlite_version,
        "valgrind": instrument if instrument is not None else callgrind.version(),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def read(path: Path = FILE) -> Kept | None:
    return msgspec.json.decode(path.read_bytes(), type=Kept) if path.exists() else None


def write(kept: Kept, path: Path = FILE) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")


def rounded(counts: Mapping[str, Counts], digits: int) -> dict[str, Counts]:
    return {name: {key: round(value, digits) for key, value in each.items()} for name, each in counts.items()}


def changes(then: Mapping[str, Counts], now: Mapping[str, Counts]) -> list[Change]:
    return [
        Change(server, key, then.get(server, {}).get(key), value)
        for server, each in now.items()
        for key, value in each.items()
    ]


def differing(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """One line for each version that is another one."""
    names = sorted(then.keys() | now.keys())
    return [
        f"{name}: {then.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in names
        if then.get(name) != now.get(name)
    ]


def judge(found: Sequence[Change], tolerance: float) -> Verdict:
    """The worst of them. What was not kept before is unknown; the relay's own counts judge nobody."""
    shares = [change.share() for change in found if change.server != RELAY]
    known = [share for share in shares if share is not None]
    if any(share > tolerance for share in known):
        return Verdict.WORSE
    if len(known) < len(shares) or not shares:
        return Verdict.UNKNOWN
    return Verdict.BETTER if any(share < -tolerance for share in known) else Verdict.SAME


def render(counts: Mapping[str, Counts], then: Mapping[str, Counts], scenarios: Sequence[Scenario], unit: str) -> str:
    """A line for each scenario and server: the count, its ratio to the relay's, and the change to what is kept."""
    to_relay = ratios(counts, RELAY) if RELAY in counts else {}
    lines = [["", "", unit, "to relay", "change"]]
    for scenario in scenarios:
        for number, (server, each) in enumerate(counts.items()):
            (change,) = changes(then, {server: {scenario.key: each[scenario.key]}})
            share = change.share()
            ratio = to_relay.get(server, {}).get(scenario.key)
            lines.append(
                [
                    "" if number else scenario.label,
                    server,
                    f"{change.now:,.0f}",
                    "" if ratio is None else f"{ratio:.2f}x",
                    "" if share is None else f"{share:+.1%}",
                ]
            )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
