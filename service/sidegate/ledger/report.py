"""Report: what was used, summed over the ledger's calls. One pass over the rows in question, exact whatever the size.

A call that is not over (`reserved`) is not in it. Unknown costs and tokens are counted, never taken for 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from sidegate.ledger.database import Database, Row
from sidegate.ledger.report_query import COLUMNS, TIMES, Query
from sidegate.ledger.report_sql import CALLS, COUNTS, INTEGERS, WORDS, Words
from sidegate.ledger.report_time import AT, bound, label, named, width

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
    *found, total = database.execute(*_statement(query, words)).fetchall()
    keys = len(query.by)
    rows = tuple((_key(query, row[:keys]), _sums(row[keys:], words)) for row in found[:MAX_ROWS])
    return Report(query=query, rows=rows, totals=_sums(total[keys:], words), truncated=len(found) > MAX_ROWS)


def _key(query: Query, key: Key) -> Key:
    if "hour" not in query.by:
        return key
    place = query.by.index("hour")
    return (*key[:place], named(query, str(key[place])), *key[place + 1 :])


def _statement(query: Query, words: Words) -> tuple[str, list[str]]:
    """Summed in two steps: by what stands in a call, and these sums by what is made of that; the last row is of all.

    So the tags of a thousand calls that have the same ones are read once, and so is the day of calls of one hour.
    """
    outer, arguments = _keys(query, words)
    inner = list(dict.fromkeys(_inner(query)))
    condition, values = _condition(query, words)
    named = ", ".join(f"{measure} AS m{number}" for number, measure in enumerate(words.measures))
    calls = f"SELECT {', '.join(inner)}, {named} FROM calls WHERE {condition} GROUP BY {_ordinals(inner)}"
    measures = [f"m{number}" for number in range(len(words.measures))]
    sums = [f"sum({measure})" for measure in measures]
    source = "summed AS calls"
    if not all(key == AT or key.startswith("k") for key in outer):
        measures = sums
        source = f"{source} {words.tags if 'tag' in query.by else ''} GROUP BY {_ordinals(outer)}"
    order = [f"{number} NULLS FIRST" for number in range(1, len(outer) + 1)]
    if not set(query.by) & set(TIMES):
        order = [f"{words.cost(measures)} DESC", f"{measures[CALLS]} DESC", *order]
    told = f"SELECT {', '.join([*outer, *measures])} FROM {source} ORDER BY {', '.join(order)} LIMIT {MAX_ROWS + 1}"
    total = f"SELECT {', '.join([*(['NULL'] * len(outer)), *sums])} FROM summed"
    statement = f"WITH summed AS MATERIALIZED ({calls}) SELECT * FROM ({told}) AS told UNION ALL {total}"
    return statement, [*values, *arguments]


def _keys(query: Query, words: Words) -> tuple[list[str], list[str]]:
    """What a row of the report is named by, of what the first step gives; with its arguments."""
    keys, arguments = [], []
    for number, name in enumerate(query.by):
        key, needed = label(query, name, width(query), words.dialect) if name in TIMES else (f"k{number}", [])
        keys.append(COLUMNS[name] if name == "tag" else key)
        arguments += needed
    return keys, arguments


def _inner(query: Query) -> Iterator[str]:
    for number, name in enumerate(query.by):
        if name == "tag":
            yield "calls.tags AS tags"
        elif name in TIMES:
            yield f"substr(calls.started_at, 1, {width(query)}) AS at"
        else:
            yield f"{COLUMNS[name]} AS k{number}"


def _ordinals(expressions: Sequence[str]) -> str:
    return ", ".join(str(number) for number in range(1, len(expressions) + 1))


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
