"""A usage report as a table for people: aligned, within the terminal's width, harmless whatever a name contains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from unicodedata import combining, east_asian_width

from msgspec import Struct

from sidegate.ledger.report import Report, Sums
from sidegate.ledger.report_query import TIMES
from sidegate.ledger.report_text import usd

NARROWEST = 12
"""Names are cut off to make room for columns, but not below this."""

_GAP = "  "
_MILLIONTH = Decimal("0.000001")


class _Column(Struct, frozen=True):
    head: str
    cell: Callable[[Sums], str]
    rank: int = 0
    """Columns of the highest rank are the first to be left out where there is no room; 0: never."""
    wanted: Callable[[Sums], object] = lambda totals: True


def lines(report: Report, width: int) -> Iterator[str]:
    """The head, a row each, the totals, and what has to be known to read them."""
    query, totals = report.query, report.totals
    since, until = (f"{moment:%Y-%m-%d %H:%M}" for moment in (query.since, query.until))
    yield f"Usage by {', '.join(query.by)}, {since} to {until} {query.timezone}"
    if query.where:
        yield shown(f"Only {', '.join(f'{name}={value}' for name, value in query.where)}")
    yield ""
    if not totals.calls:
        yield "No calls."
        return
    names = [[shown(part or "-") for part in key] for key, _ in report.rows]
    columns, widths = _fitted(report, names, width)
    rows = [*(sums for _, sums in report.rows), totals]
    cells = [[column.cell(sums) for column in columns] for sums in rows]
    sizes = [max(len(cell) for cell in each) for each in zip([column.head for column in columns], *cells, strict=True)]
    yield _line(query.by, widths, [column.head for column in columns], sizes)
    rule = _GAP.join("-" * size for size in (*widths, *sizes))
    yield rule
    for name, row in zip(names, cells[:-1], strict=True):
        yield _line(name, widths, row, sizes)
    yield rule
    yield _line(["total", *[""] * (len(widths) - 1)], widths, cells[-1], sizes)
    yield from _notes(report)


def _notes(report: Report) -> Iterator[str]:
    totals = report.totals
    notes = []
    if totals.cost_unknown:
        notes.append(f"The cost of {_calls(totals.cost_unknown)} is unknown, so not in the sums: >= is a lower bound.")
    if totals.tokens_unknown:
        notes.append(f"The tokens of {_calls(totals.tokens_unknown)} are unknown in part, so not in the sums.")
    if totals.estimated:
        notes.append(f"The tokens of {_calls(totals.estimated)} are estimated in part.")
    if "tag" in report.query.by:
        notes.append("A call with several tags is in the row of each, and once in the total.")
    if report.truncated:
        notes.append(f"Only the first {len(report.rows):,} rows are shown; the total is of all.")
    if notes:
        yield ""
        yield from notes


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


# --- columns ----------------------------------------------------------------------------------------------------------


def _columns(totals: Sums) -> list[_Column]:
    money = _money(totals)
    columns = [
        _Column("calls", lambda sums: f"{sums.calls:,}"),
        _Column("errors", lambda sums: f"{sums.errors:,}"),
        _Column("input", lambda sums: _count(sums.input_tokens)),
        _Column("cached", lambda sums: _count(sums.cache_read_tokens), 3, lambda sums: sums.cache_read_tokens),
        _Column("written", lambda sums: _count(sums.cache_write_tokens), 5, lambda sums: sums.cache_write_tokens),
        _Column("output", lambda sums: _count(sums.output_tokens)),
        _Column("reasoning", lambda sums: _count(sums.reasoning_tokens), 4, lambda sums: sums.reasoning_tokens),
        _Column("cost USD", money),
        _Column("unknown", lambda sums: f"{sums.cost_unknown:,}", 0, lambda sums: sums.cost_unknown),
        _Column("avg s", lambda sums: _average(sums.duration), 1),
        _Column("first s", lambda sums: _average(sums.first_token), 2, lambda sums: sums.spoke),
    ]
    return [column for column in columns if column.wanted(totals)]


def _fitted(report: Report, names: list[list[str]], width: int) -> tuple[list[_Column], list[int]]:
    """The columns that have room beside the names, and how wide each name may be. Times are never cut."""
    columns = _columns(report.totals)
    longest = [max(map(_width, each)) for each in zip([*report.query.by], *names, strict=True)]
    longest[0] = max(longest[0], len("total"))
    least = [
        size if name in TIMES else min(size, NARROWEST) for name, size in zip(report.query.by, longest, strict=True)
    ]
    sums = [*(sums for _, sums in report.rows), report.totals]

    def taken(column: _Column) -> int:
        return len(_GAP) + max(len(column.head), *(len(column.cell(each)) for each in sums))

    used = {id(column): taken(column) for column in columns}
    gaps = len(_GAP) * (len(longest) - 1)
    while sum(least) + gaps + sum(used[id(column)] for column in columns) > width:
        dearest = max(columns, key=lambda column: column.rank)
        if not dearest.rank:
            break
        columns.remove(dearest)
    spare = width - sum(least) - gaps - sum(used[id(column)] for column in columns)
    for index, size in enumerate(longest):
        more = min(size - least[index], max(0, spare))
        least[index] += more
        spare -= more
    return columns, least


def _money(totals: Sums) -> Callable[[Sums], str]:
    """Nine decimals while it is little; then six, rounded, which is a millionth of a dollar."""
    exact = usd(totals.cost_nano_usd or 0) < 1

    def cell(sums: Sums) -> str:
        if sums.cost_nano_usd is None:
            return "unknown"
        amount = usd(sums.cost_nano_usd)
        rounded = amount if exact else amount.quantize(_MILLIONTH, ROUND_HALF_EVEN)
        text = f"{rounded:,f}" if rounded or not amount else f"< {_MILLIONTH:f}"
        return f">= {text}" if sums.cost_unknown else text

    return cell


def _count(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _average(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:,.2f}"


# --- text -------------------------------------------------------------------------------------------------------------


def _line(names: Sequence[str], widths: Sequence[int], cells: Sequence[str], sizes: Sequence[int]) -> str:
    left = [_cut(name, width) for name, width in zip(names, widths, strict=True)]
    right = [f"{cell:>{size}}" for cell, size in zip(cells, sizes, strict=True)]
    return _GAP.join([*left, *right])


def shown(text: str) -> str:
    """Without what a terminal would obey: clients choose some of these names."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _width(text: str) -> int:
    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _cut(text: str, width: int) -> str:
    if _width(text) > width:
        while _width(text) > width - 2:
            text = text[:-1]
        text += ".."
    return text + " " * (width - _width(text))
