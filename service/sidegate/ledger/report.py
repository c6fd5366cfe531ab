"""Report: what was used, summed over the ledger's calls. One pass over the rows in question, exact whatever the size.

A call that is not over (`reserved`) is not in it. Unknown costs and tokens are counted, never taken for 0.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, TypeAlias

from msgspec import Struct

from sidegate.ledger.report_query import COLUMNS, TIMES, Query
from sidegate.ledger.report_time import bound, label, named

MAX_ROWS = 10_000
"""Rows of an answer. Its totals are of all calls, also where rows were left out."""

_INTEGERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
)
_COUNTS = (
    "count(*)",
    "sum(calls.ending <> 'complete')",
    "sum(calls.cost_nano_usd IS NULL)",
    "sum(calls.input_tokens IS NULL OR calls.output_tokens IS NULL)",
    "sum(calls.estimated)",
    "sum(calls.duration)",
    "count(calls.first_token)",
    "sum(calls.first_token)",
)
# SQLite's sum() of integers fails beyond 64 bits: each half of a number is summed by itself.
_HALVES = tuple(half for name in _INTEGERS for half in (f"sum(calls.{name} >> 32)", f"sum(calls.{name} & 4294967295)"))
_MEASURES = ", ".join((*_COUNTS, *_HALVES))
_NAMED = ", ".join(f"{measure} AS m{number}" for number, measure in enumerate((*_COUNTS, *_HALVES)))
_GIVEN = ", ".join(f"m{number}" for number in range(len(_COUNTS) + len(_HALVES)))
_SUMMED = ", ".join(f"sum(m{number})" for number in range(len(_COUNTS) + len(_HALVES)))
# A tag that a call has twice is one.
_TAGS = """LEFT JOIN json_each(calls.tags) AS tag ON tag.key = 0 OR NOT EXISTS (
    SELECT 1 FROM json_each(calls.tags) AS earlier WHERE earlier.value = tag.value AND earlier.key < tag.key)"""
_COST = len(_COUNTS) + 2 * _INTEGERS.index("cost_nano_usd")
# A float, which cannot overflow: near enough to sort by.
_BY_COST = f"coalesce(m{_COST}, 0) * 4294967296.0 + coalesce(m{_COST + 1}, 0) DESC, m0 DESC"
_BY_SUMMED_COST = f"total(m{_COST}) * 4294967296.0 + total(m{_COST + 1}) DESC, sum(m0) DESC"

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


def run(connection: sqlite3.Connection, query: Query) -> Report:
    """Ask, as of one moment. Raises `sqlite3.Error`."""
    connection.execute("BEGIN")
    try:
        found = connection.execute(*_grouped(query)).fetchall()
        width = len(query.by)
        rows = tuple((_key(query, row[:width]), _sums(row[width:])) for row in found[:MAX_ROWS])
        truncated = len(found) > MAX_ROWS
        if truncated or "tag" in query.by:  # else every call is in exactly one row
            totals = _sums(connection.execute(*_total(query)).fetchone())
        else:
            totals = add(sums for _, sums in rows)
    finally:
        connection.execute("COMMIT")
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


def _grouped(query: Query) -> tuple[str, list[str]]:
    """Summed in two steps: by what stands in a call, and these sums by tag, where tags are asked for.

    So the tags of a thousand calls that have the same ones are read once.
    """
    arguments: list[str] = []
    inner, outer = [], []
    for number, name in enumerate(query.by):
        expression, needed = label(query, name) if name in TIMES else (COLUMNS[name], [])
        arguments += needed
        tag = name == "tag"
        inner.append(f"{'calls.tags' if tag else expression} AS {'tags' if tag else f'k{number}'}")
        outer.append(expression if tag else f"k{number}")
    condition, values = _condition(query)
    numbers = ", ".join(str(number) for number in range(1, len(inner) + 1))
    calls = f"(SELECT {', '.join(inner)}, {_NAMED} FROM calls WHERE {condition} GROUP BY {numbers}) AS calls"
    if "tag" in query.by:
        source, measures, order = f"{calls} {_TAGS} GROUP BY {numbers}", _SUMMED, _BY_SUMMED_COST
    else:
        source, measures, order = calls, _GIVEN, _BY_COST
    order = numbers if set(query.by) & set(TIMES) else f"{order}, {numbers}"
    statement = f"SELECT {', '.join(outer)}, {measures} FROM {source} ORDER BY {order} LIMIT {MAX_ROWS + 1}"
    return statement, [*arguments, *values]


def _total(query: Query) -> tuple[str, list[str]]:
    condition, arguments = _condition(query)
    return f"SELECT {_MEASURES} FROM calls WHERE {condition}", arguments


def _condition(query: Query) -> tuple[str, list[str]]:
    terms = ["calls.started_at >= ?", "calls.started_at < ?", "calls.state <> 'reserved'"]
    arguments = [bound(query.since), bound(query.until)]
    if query.caller is not None:
        terms.append("calls.caller = ?")
        arguments.append(query.caller)
    wanted: dict[str, list[str]] = {}
    for name, value in query.where:
        wanted.setdefault(name, []).append(value)
    for name, values in wanted.items():
        terms.append(f"({' OR '.join(_is(name, value) for value in values)})")
        arguments += [value for value in values if value]
    return " AND ".join(terms), arguments


def _is(name: str, value: str) -> str:
    if name == "tag":
        tagged = "EXISTS (SELECT 1 FROM json_each(calls.tags) AS one WHERE one.value = ?)"
        return tagged if value else "calls.tags = '[]'"
    return f"{COLUMNS[name]} = ?" if value else f"nullif({COLUMNS[name]}, '') IS NULL"


def _sums(row: tuple[Any, ...]) -> Sums:
    calls, errors, cost_unknown, tokens_unknown, estimated, seconds, spoke, first = row[: len(_COUNTS)]
    halves = row[len(_COUNTS) :]
    integers: dict[str, Any] = {
        name: None if high is None else (high << 32) + low
        for name, high, low in zip(_INTEGERS, halves[::2], halves[1::2], strict=True)
    }
    return Sums(
        calls=calls,
        errors=errors or 0,
        cost_unknown=cost_unknown or 0,
        tokens_unknown=tokens_unknown or 0,
        estimated=estimated or 0,
        seconds=seconds or 0.0,
        spoke=spoke,
        first_token_seconds=first or 0.0,
        **integers,
    )
