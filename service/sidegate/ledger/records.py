"""Records: the calls and the budgets of a ledger, a page at a time, for whoever administers.

Ids of calls stand in the order of time: the newest come first by the primary key alone, and a moment is a bound of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from sidegate.ledger.database import Executes
from sidegate.ledger.reading import call_row
from sidegate.ledger.rows import CallRow

CallState: TypeAlias = Literal["settled", "unknown", "reserved"]

COLUMNS = {"model": "model_asked"}
"""Where a filter stands, if not under its own name."""

_FIELDS = ", ".join(CallRow.__struct_fields__)
_OVER = "state <> 'reserved'"
_SUBJECTS = """SELECT budget, subject, max(period) FROM budgets WHERE (budget, subject) > (?, ?)
    GROUP BY budget, subject ORDER BY budget, subject LIMIT ?"""
_OF_ONE = """SELECT budget, subject, max(period) FROM budgets WHERE budget = ? AND subject > ?
    GROUP BY budget, subject ORDER BY subject LIMIT ?"""
_TOUCHED = "SELECT 1 FROM budgets WHERE budget = ? AND period >= ? LIMIT 1"
_SPENT = """SELECT coalesce(sum(spent), 0), coalesce(sum(held), 0), coalesce(sum(overshoot), 0) FROM budgets
    WHERE budget = ? AND subject = ? AND period >= ?"""


class CallsAsked(Struct, frozen=True, kw_only=True):
    """Which calls: newest first, those that are over unless `state` says otherwise."""

    where: tuple[tuple[str, str], ...] = ()
    """Fields of a `CallRow`, or `model`, and what they must be."""
    since: datetime | None = None
    until: datetime | None = None
    """Not included."""
    after: str | None = None
    """The id of the last call of the page before."""
    limit: int = 50


class Subject(Struct, frozen=True):
    """Somebody who has spent of a budget."""

    budget: str
    subject: str
    last: str
    """The last period something was spent or held in."""


class Spent(Struct, frozen=True):
    """What is on record of a budget, in nano-USD."""

    spent: int = 0
    held: int = 0
    overshoot: int = 0
    """What calls have cost beyond what they held."""


def calls(database: Executes, asked: CallsAsked) -> list[CallRow]:
    """Those of a page, and one more where there is one. Raises a `StoreError`."""
    terms, values = [], []
    for name, value in asked.where:
        terms.append(f"{COLUMNS.get(name, name)} = ?")
        values.append(value)
    if all(name != "state" for name, _ in asked.where):
        terms.append(_OVER)
    for sign, bound in bounds(asked):
        terms.append(f"id {sign} ?")
        values.append(bound)
    sql = f"SELECT {_FIELDS} FROM calls WHERE {' AND '.join(terms)} ORDER BY id DESC LIMIT ?"
    return [call_row(row) for row in database.execute(sql, (*values, asked.limit + 1)).fetchall()]


def bounds(asked: CallsAsked) -> list[tuple[str, str]]:
    """What an id must be, by when its call began and by the page before."""
    found = []
    if asked.since is not None:
        found.append((">=", first_id(asked.since)))
    if asked.until is not None:
        found.append(("<", first_id(asked.until)))
    if asked.after is not None:
        found.append(("<", asked.after))
    return found


def first_id(moment: datetime) -> str:
    """Less than the id of every call that began at that millisecond or later."""
    return f"{max(0, int(moment.timestamp() * 1000)):012x}"


def subjects(database: Executes, after: tuple[str, str], limit: int, budget: str | None = None) -> list[Subject]:
    """Who has spent of which budget, in their order."""
    if budget is None:
        found = database.execute(_SUBJECTS, (*after, limit))
    else:
        found = database.execute(_OF_ONE, (budget, after[1] if after[0] == budget else "", limit))
    return [Subject(*row) for row in found.fetchall()]


def touched(database: Executes, asked: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether anybody has spent of each budget since a period."""
    return [database.execute(_TOUCHED, place).fetchone() is not None for place in asked]


def spent(database: Executes, asked: Sequence[tuple[str, str, str]]) -> list[Spent]:
    """Of each budget and subject, since a period."""
    found = []
    for place in asked:
        row = database.execute(_SPENT, place).fetchone()
        assert row is not None
        found.append(Spent(*(int(amount) for amount in row)))  # PostgreSQL sums to a decimal
    return found
