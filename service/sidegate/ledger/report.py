"""Report: what was used, summed over the ledger's calls. One pass over the rows in question, exact whatever the size.

A call that is not over (`reserved`) is not in it. Unknown costs and tokens are counted, never taken for 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from msgspec import Struct

from sidegate.ledger.database import Database, Row
from sidegate.ledger.report_query import COLUMNS, TIMES, Query
from sidegate.ledger.report_sql import CALLS, COUNTS, INTEGERS, WORDS, Words
from sidegate.ledger.report_time import bound, label, named

MAX_ROWS = 10_000
"""Rows of an answer. Its totals are of all calls, also where rows were left out."""

Key: TypeAlias = tuple[str | None, ...]


class Sums(Struct, frozen=True, kw_only=True):
    """The measures of some calls. A sum is `None` where nothing of it is known, and a lower bound where a part is."""

    calls: int = 0
    errors: int = 0
    """Calls whose ending is not `complete`."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_nano_usd: int | None = None
    cost_unknown: int = 0
    """Calls whose cost is not in the sum, because nobody knows it."""
    tokens_unknown: int = 0
    """Calls of whose input or output it is the same."""
    estimated: int = 0
    """Calls whose tokens are in part estimated."""
    seconds: float = 0.0
    """Durations, summed."""
    spoke: int = 0
    """Calls with a first token."""
    first_token_seconds: float = 0.0
    """The time until then, summed."""

    @property
    def duration(self) -> float | None:
        """The average, in seconds."""
        return self.seconds / self.calls if self.calls else None

    @property
    def first_token(self) -> float | None:
        """The average of the calls that had one, in seconds."""
        return self.first_token_seconds / self.spoke if self.spoke else None


class Report(Struct, frozen=True, kw_only=True):
    """The answer to a query: by time where a time is asked for, else the dearest first."""

    query: Query
    rows: tuple[tuple[Key, Sums], ...]
    totals: Sums
    truncated: bool = False
    """Whether there were more than `MAX_ROWS`."""


def run(database: Database, query: Query) -> Report:
    """Ask, as of one moment. Raises a `StoreError`."""
    words = WORDS[database.dialect]
    with database.transaction(write=False):
        found = database.execute(*_grouped(query, words)).fetchall()
        width = len(query.by)
        rows = tuple((_key(query, row[:width]), _sums(row[width:], words)) for row in found[:MAX_ROWS])
        truncated = len(found) > MAX_ROWS
        if truncated or "tag" in query.by:  # else every call is in exactly one row
            (total,) = database.execute(*_total(query, words)).fetchall()
            totals = _sums(total, words)
        else:
            totals = add(sums for _, sums in rows)
    return Report(query=query, rows=rows, totals=totals, truncated=truncated)


def _key(query: Query, key: Key) -> Key:
    if "hour" not in query.by:
        return key
    place = query.by.index("hour")
    return (*key[:place], named(query, str(key[place])), *key[place + 1 :])


def add(parts: Iterable[Sums]) -> Sums:
    """The sums of calls that are in one part each."""
    totals: dict[str, Any] = {}
    for part in parts:
        for name in Sums.__struct_fields__:
            value = getattr(part, name)
            if value is not None:
                totals[name] = totals.get(name, 0) + value
    return Sums(**totals)


def _grouped(query: Query, words: Words) -> tuple[str, list[str]]:
    """Summed in two steps: by what stands in a call, and these sums by tag, where tags are asked for.

    So the tags of a thousand calls that have the same ones are read once.
    """
    arguments: list[str] = []
    inner, outer = [], []
    for number, name in enumerate(query.by):
        expression, needed = label(query, name, words.dialect) if name in TIMES else (COLUMNS[name], [])
        arguments += needed
        tag = name == "tag"
        inner.append(f"{'calls.tags' if tag else expression} AS {'tags' if tag else f'k{number}'}")
        outer.append(expression if tag else f"k{number}")
    condition, values = _condition(query, words)
    numbers = ", ".join(str(number) for number in range(1, len(inner) + 1))
    named = ", ".join(f"{measure} AS m{number}" for number, measure in enumerate(words.measures))
    calls = f"(SELECT {', '.join(inner)}, {named} FROM calls WHERE {condition} GROUP BY {numbers}) AS calls"
    measures = [f"m{number}" for number in range(len(words.measures))]
    if "tag" in query.by:
        measures = [f"sum({measure})" for measure in measures]
        calls = f"{calls} {words.tags} GROUP BY {numbers}"
    sorted_by = [f"{number} NULLS FIRST" for number in range(1, len(inner) + 1)]
    if not set(query.by) & set(TIMES):
        sorted_by = [f"{words.cost(measures)} DESC", f"{measures[CALLS]} DESC", *sorted_by]
    statement = f"SELECT {', '.join([*outer, *measures])} FROM {calls} ORDER BY {', '.join(sorted_by)}"
    return f"{statement} LIMIT {MAX_ROWS + 1}", [*arguments, *values]


def _total(query: Query, words: Words) -> tuple[str, list[str]]:
    condition, arguments = _condition(query, words)
    return f"SELECT {', '.join(words.measures)} FROM calls WHERE {condition}", arguments


def _condition(query: Query, words: Words) -> tuple[str, list[str]]:
    terms = ["calls.started_at >= ?", "calls.started_at < ?", "calls.state <> 'reserved'"]
    arguments = [bound(query.since), bound(query.until)]
    if query.caller is not None:
        terms.append("calls.caller = ?")
        arguments.append(query.caller)
    wanted: dict[str, list[str]] = {}
    for name, value in query.where:
        wanted.setdefault(name, []).append(value)
    for name, values in wanted.items():
        terms.append(f"({' OR '.join(_is(name, value, words) for value in values)})")
        arguments += [value for value in values if value]
    return " AND ".join(terms), arguments


def _is(name: str, value: str, words: Words) -> str:
    if name == "tag":
        return words.tagged if value else "calls.tags = '[]'"
    return f"{COLUMNS[name]} = ?" if value else f"nullif({COLUMNS[name]}, '') IS NULL"


def _sums(row: Row, words: Words) -> Sums:
    seconds, first, *counts = row[: len(COUNTS)]
    calls, errors, cost_unknown, tokens_unknown, estimated, spoke = (int(count or 0) for count in counts)
    integers: dict[str, Any] = dict(zip(INTEGERS, words.integers(row[len(COUNTS) :]), strict=True))
    return Sums(
        calls=calls,
        errors=errors,
        cost_unknown=cost_unknown,
        tokens_unknown=tokens_unknown,
        estimated=estimated,
        seconds=float(seconds or 0.0),
        spoke=spoke,
        first_token_seconds=float(first or 0.0),
        **integers,
    )
