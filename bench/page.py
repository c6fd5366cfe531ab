"""The page: the tables of docs/performance.md and its plots, made of what was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import plots as svg
from bench import steps, table, workers
from bench.counts import SCENARIOS, Counts, ratios
from bench.curve import Curve
from bench.figures import Sizes
from bench.servers import DIRECT, GATEWAY, RELAY

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "docs" / "figures"

Published = dict[str, Any]

_MARKED = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)

# What the drawing shows: the row, and what it says of it.
_SHOWN = (
    ("buffered_cpu", "buffered calls per second of CPU (more is better)"),
    ("flat_cpu", "streamed tokens per second of CPU, flat out (more is better)"),
    ("paced_cpu", "µs of CPU for a token that comes by itself (less is better)"),
    ("added_one", "ms added to the first token (less is better)"),
    ("crowd", "KiB for each of many slow streams (less is better)"),
)


def write(page: str, published: Published) -> str:
    """The page with what stands between its marks made anew. Raises `ValueError` for a mark that is not known."""

    def made(match: re.Match[str]) -> str:
        name = match[2]
        if name not in SECTIONS:
            raise ValueError(f"the page has a mark that nothing is known for: {name}")
        return f"{match[1]}{SECTIONS[name](published)}\n{match[3]}"

    return _MARKED.sub(made, page)


def plots(published: Published) -> dict[str, str]:
    """Every plot, by the name of its file."""
    found = {}
    if "table" in published:
        found["overview.svg"] = _overview(published["table"])
    for curve in msgspec.convert(published.get("growth", []), list[Curve]):
        found[f"{curve.key}.svg"] = svg.lines(curve.title, curve.axis, curve.unit, curve.lines)
    return found


def _overview(measured: Mapping[str, Any]) -> str:
    rounds = measured["rounds"]
    names = [name for name in measured["servers"] if name != DIRECT]
    groups = []
    for key, heading in _SHOWN:
        values = {name: table.median(rounds.get(key, {}).get(name, ())) for name in names}
        shown = {name: value for name, value in values.items() if value is not None}
        if shown:
            groups.append((heading, shown))
    return svg.bars("One core each, the gateway with every plugin on", groups)


def _machine(published: Published) -> str:
    found = published.get("machine", {})
    packages = ", ".join(f"{name} {found.get(name)}" for name in ("aiohttp", "msgspec", "uvloop"))
    return (
        f"{published.get('date', '')}, sidegate {found.get('sidegate')}. {found.get('cores')} cores of an"
        f" {found.get('processor')}, {found.get('system')}, CPython {found.get('python')}, {packages}."
    )


def _table(published: Published) -> str:
    if "table" not in published:
        return "Not measured yet."
    measured = published["table"]
    servers, rounds = measured["servers"], measured["rounds"]
    sizes = msgspec.convert(measured["sizes"], Sizes)
    lines = [
        f"| | {' | '.join(servers)} | {GATEWAY} / {RELAY} | better |",
        f"|---|{'---:|' * (len(servers) + 1)}---|",
    ]
    for row in table.rows(sizes):
        medians = [table.median(rounds.get(row.key, {}).get(name, ())) for name in servers]
        cells = ["" if value is None else f"{value:,.{row.digits}f}" for value in medians]
        ratio = table.ratio(rounds, row, GATEWAY)
        cells.append("" if ratio is None else f"**{ratio:.2f}**")
        lines.append(f"| {row.label.strip()} | {' | '.join(cells)} | {row.better} |")
    return "\n".join([*lines, "", f"Medians of {sizes.rounds} rounds."])


def _counts(published: Published) -> str:
    if "counts" not in published:
        return "Not measured yet."
    counts: dict[str, Counts] = published["counts"]["counts"]
    to_relay = ratios(counts, RELAY)[GATEWAY]
    lines = [f"| instructions of | {RELAY} | {GATEWAY} | ratio |", "|---|---:|---:|---:|"]
    for each in SCENARIOS:
        own, base = counts[GATEWAY][each.key], counts[RELAY][each.key]
        lines.append(f"| {each.label} | {base:,.0f} | {own:,.0f} | {to_relay[each.key]:.2f} |")
    return "\n".join(lines)


def _parts(published: Published) -> str:
    if "parts" not in published:
        return "Not measured yet."
    made = msgspec.convert(published["parts"], list[steps.Part])
    return steps.markdown(made, _per_microsecond(published, made[-1].counts))


def _per_microsecond(published: Published, whole: Counts) -> float:
    """Instructions that the gateway executes in a microsecond of its CPU time, the system's share of it included."""
    rounds = published.get("table", {}).get("rounds", {}).get("buffered_cpu", {}).get(GATEWAY, ())
    per_second = table.median(rounds)
    return whole["buffered"] * per_second / 1e6 if per_second else float("inf")


def _growth(published: Published) -> str:
    curves = msgspec.convert(published.get("growth", []), list[Curve])
    return "\n".join(f"![{curve.title}]({FOLDER.name}/{curve.key}.svg)" for curve in curves) or "Not measured yet."


def _workers(published: Published) -> str:
    return workers.markdown(published["workers"]) if "workers" in published else "Not measured yet."


SECTIONS = {
    "machine": _machine,
    "table": _table,
    "counts": _counts,
    "parts": _parts,
    "growth": _growth,
    "workers": _workers,
}


def marks(page: str) -> Sequence[str]:
    """The names of the page's marks, in order."""
    return [match[2] for match in _MARKED.finditer(page)]
