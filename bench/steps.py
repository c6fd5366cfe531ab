"""What each part costs: instruction counts of the gateway with one more part at a time, in the pipeline's order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.counts import SCENARIOS, Counts, count, in_batches
from bench.growth import main_pipeline
from bench.servers import Config, Setting, gateway, gateway_config

SHIPPED = tuple(
    str(use["use"]) for use in main_pipeline(gateway_config(Setting(port=0, provider="", directory=Path()), key=""))
)
"""The plugins of every run, outermost first."""

QUOTED = ("buffered", "streamed", "paced")

Change = Callable[[Config], None]


@dataclass(frozen=True, slots=True)
class Part:
    """What is there after it was added, and by how much that is dearer."""

    name: str
    counts: Counts
    added: Counts


def with_plugins(names: Sequence[str], *, ledger: bool) -> Change:
    """Of the whole pipeline only these."""

    def change(config: Config) -> None:
        in_batches(config)
        plugins = main_pipeline(config)
        plugins[:] = [use for use in plugins if use["use"] in names]
        if not ledger:
            config["ledger"] = {"url": ""}

    return change


def ladder(shipped: Sequence[str] = SHIPPED) -> list[tuple[str, Change]]:
    """Each rung, from nothing at all to everything."""
    rungs = [("the gateway alone", with_plugins((), ledger=False)), ("ledger (SQLite)", with_plugins((), ledger=True))]
    return [*rungs, *((name, with_plugins(shipped[: at + 1], ledger=True)) for at, name in enumerate(shipped))]


async def climb(shipped: Sequence[str] = SHIPPED) -> list[Part]:
    """All of it: some fifteen seconds a rung."""
    chosen = [scenario for scenario in SCENARIOS if scenario.key in QUOTED]
    found: list[tuple[str, Counts]] = []
    for name, change in ladder(shipped):
        found.append((name, await count(gateway(change), chosen, blocks=1)))
        print(f"  {name} {found[-1][1]}", file=sys.stderr)
    return parts(found)


def parts(found: Sequence[tuple[str, Counts]]) -> list[Part]:
    """Each with the difference to the one before; the first with nothing added."""
    before: Mapping[str, float] = found[0][1] if found else {}
    made = []
    for name, counts in found:
        made.append(Part(name, counts, {key: value - before[key] for key, value in counts.items()}))
        before = counts
    return made


def markdown(made: Sequence[Part], per_microsecond: float) -> str:
    """A table, a line for each part; microseconds by how many instructions a call executed in one."""
    lines = [
        "| added | instructions a buffered call | about µs | a streamed call, 100 tokens | a token one by one |",
        "|---|---:|---:|---:|---:|",
    ]
    for number, part in enumerate(made):
        told = part.added if number else part.counts
        sign = "+" if number else ""
        micros = told["buffered"] / per_microsecond
        cells = [f"{told[key]:{sign},.0f}" for key in QUOTED]
        lines.append(f"| {part.name} | {cells[0]} | {micros:{sign},.0f} | {cells[1]} | {cells[2]} |")
    last = made[-1].counts
    cells = [f"{last[key]:,.0f}" for key in QUOTED]
    lines.append(
        f"| **all of it** | {cells[0]} | {last['buffered'] / per_microsecond:,.0f} | {cells[1]} | {cells[2]} |"
    )
    return "\n".join(lines)
