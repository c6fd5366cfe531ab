"""The table: medians over the rounds, and each server's ratio to the relay."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.figures import INTERVAL, Sizes
from bench.servers import DIRECT, RELAY

Rounds = Mapping[str, Mapping[str, Sequence[float]]]
"""By row and server: a value of each round."""

NOISE = 0.15
"""Differences below it mean nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line: which figure, in words, and what is better."""

    key: str
    label: str
    better: str
    digits: int = 0
    part_of: str = ""
    """The row that this is a part of: what a server adds to the direct line's."""


def rows(sizes: Sizes) -> tuple[Row, ...]:
    """Every line of the table, in order."""
    many = f"{sizes.at_once} at once"
    return (
        Row("buffered_cpu", f"buffered calls per second of CPU, {many}", "more"),
        Row("buffered_wall", f"buffered calls per second, {many}", "more"),
        Row("flat_cpu", f"streamed tokens per second of CPU, flat out, {many}", "more"),
        Row("flat_wall", f"streamed tokens per second, flat out, {many}", "more"),
        Row("paced_cpu", f"CPU per token one by one, us ({sizes.paced} streams, {INTERVAL} ms)", "less", 1),
        Row("first_one", "time to first token, one call at a time, median, ms", "less", 2),
        Row("added_one", "  of it added to the direct line", "less", 2, part_of="first_one"),
        Row("first_many", f"time to first token, {many}, p99, ms", "less", 2),
        Row("added_many", "  of it added to the direct line", "less", 2, part_of="first_many"),
        Row("token", f"a token on its way, {sizes.timed} streams, median, ms", "less", 3),
        Row("added_token", "  of it added to the direct line", "less", 3, part_of="token"),
        Row("alone", f"a token on its way, {sizes.paced} streams, p99, ms", "less", 2),
        Row("beside", f"  with {sizes.crowd:,} slow streams beside them", "less", 2),
        Row("added_crowd", "  of it added by the slow ones", "less", 2, part_of="beside"),
        Row("crowd", f"memory of each of {sizes.crowd:,} slow streams, KiB", "less", 1),
        Row("idle", "memory idle, MiB", "less", 1),
        Row("slow", f"memory with {sizes.slow:,} slow streams, MiB", "less", 1),
        Row("ready", "start to first reply, s", "less", 2),
        Row("abort", "client gone to provider closed, median, ms", "less", 2),
    )


def median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def ratio(rounds: Rounds, row: Row, server: str) -> float | None:
    """A server's median by the relay's; none to a difference that is smaller than the noise of what it is part of."""
    own, base = (median(rounds.get(row.key, {}).get(name, ())) for name in (server, RELAY))
    if own is None or not base:
        return None
    direct = median(rounds.get(row.part_of, {}).get(DIRECT, ()))
    return None if direct is not None and base < NOISE * direct else own / base


def render(rounds: Rounds, servers: Sequence[str], sizes: Sizes) -> str:
    """As text: a line a row, a column a server, and the ratio of each that is neither direct nor the relay."""
    compared = [name for name in servers if name not in (DIRECT, RELAY)]
    lines = [["", *servers, *(f"{name}/relay" for name in compared), "better"]]
    for row in rows(sizes):
        medians = [median(rounds.get(row.key, {}).get(name, ())) for name in servers]
        ratios = [ratio(rounds, row, name) for name in compared]
        cells = [_cell(value, row.digits) for value in medians]
        lines.append([row.label, *cells, *(_cell(value, 2, "x") for value in ratios), row.better])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.ljust(width) if not place else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((first, *rest)).rstrip()


def _cell(value: float | None, digits: int, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.{digits}f}{unit}"
