"""What the two stores do not say alike in a report: sums beyond 64 bits, tags, and which row is the dearest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sidegate.ledger.database import Dialect, Row

INTEGERS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
)
COUNTS: Final = (
    "sum(calls.duration)",
    "sum(calls.first_token)",
    "count(*)",
    "count(*) FILTER (WHERE calls.ending <> 'complete')",
    "count(*) FILTER (WHERE calls.cost_nano_usd IS NULL)",
    "count(*) FILTER (WHERE calls.input_tokens IS NULL OR calls.output_tokens IS NULL)",
    "count(*) FILTER (WHERE calls.estimated)",
    "count(calls.first_token)",
)
"""What is measured first, in this order; then come the `INTEGERS`."""

CALLS: Final = 2
"""Which of them is the number of calls."""

_COST: Final = INTEGERS.index("cost_nano_usd")


class Words(NamedTuple):
    """How one store says it."""

    dialect: Dialect
    measures: tuple[str, ...]
    tags: str
    """Joins each `calls.tags` with its tags, once each, as `tag.value`; null where there is none."""
    tagged: str
    """Whether a call has the tag that is its argument."""
    integers: Callable[[Row], Iterator[int | None]]
    """The sums of `INTEGERS` from what their measures came to."""
    cost: Callable[[Sequence[str]], str]
    """By what rows are sorted, given the names of the measures."""


def _joined(halves: Row) -> Iterator[int | None]:
    for high, low in zip(halves[::2], halves[1::2], strict=True):
        yield None if high is None else (high << 32) + low


def _whole(sums: Row) -> Iterator[int | None]:
    for found in sums:
        yield None if found is None else int(found)


def _sqlite_cost(measures: Sequence[str]) -> str:
    # A float, which cannot overflow: near enough to sort by.
    high, low = measures[len(COUNTS) + 2 * _COST :][:2]
    return f"coalesce({high}, 0) * 4294967296.0 + coalesce({low}, 0)"


def _postgresql_cost(measures: Sequence[str]) -> str:
    return f"coalesce({measures[len(COUNTS) + _COST]}, 0)"


_SQLITE = Words(
    "sqlite",
    # SQLite's sum() of integers fails beyond 64 bits: each half of a number is summed by itself.
    (
        *COUNTS,
        *(half for name in INTEGERS for half in (f"sum(calls.{name} >> 32)", f"sum(calls.{name} & 4294967295)")),
    ),
    # A tag that a call has twice is one.
    """LEFT JOIN json_each(calls.tags) AS tag ON tag.key = 0 OR NOT EXISTS (
        SELECT 1 FROM json_each(calls.tags) AS earlier WHERE earlier.value = tag.value AND earlier.key < tag.key)""",
    "EXISTS (SELECT 1 FROM json_each(calls.tags) AS one WHERE one.value = ?)",
    _joined,
    _sqlite_cost,
)
_POSTGRESQL = Words(
    "postgresql",
    # Its sum() of 64 bits has no bound.
    (*COUNTS, *(f"sum(calls.{name})" for name in INTEGERS)),
    """LEFT JOIN LATERAL (
        SELECT DISTINCT value FROM json_array_elements_text(calls.tags::json) AS each (value)) AS tag ON true""",
    """(calls.tags <> '[]' AND EXISTS (
        SELECT 1 FROM json_array_elements_text(calls.tags::json) AS one (value) WHERE one.value = ?))""",
    _whole,
    _postgresql_cost,
)
WORDS: Mapping[Dialect, Words] = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
