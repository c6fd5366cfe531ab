"""Money on PostgreSQL: all claims of a batch are decided at once, under locks that are taken in one order.

Whoever claims of a budget holds an advisory lock for its subject until the commit. So what is read after it is all that
others were granted; locks on the rows that stand for its periods would not do, for another may be adding a period.
Settlements take no such lock: what they let go of, or charge beyond a hold, counts from their commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from sidegate.contract.reservations import Claim, Standing
from sidegate.ledger.work import Reservation

LOCK_SUBJECTS = "SELECT pg_advisory_xact_lock(key) FROM unnest(%(keys)s::bigint[]) AS key"
# Rows of what is claimed and of what is settled, in one order, so that no two wait for each other.
LOCK_ROWS = """SELECT budget, subject, period FROM budgets WHERE (budget, subject, period) IN (
        SELECT budget, subject, period FROM holds WHERE call_id = ANY(%(calls)s)
        UNION ALL SELECT * FROM json_to_recordset(%(claimed)s) AS claimed(budget text, subject text, period text))
    ORDER BY budget, subject, period FOR UPDATE"""
READ_HELD = "SELECT call_id, budget, subject, period, amount FROM holds WHERE call_id = ANY(%(calls)s)"
READ_USED = """SELECT given.budget, given.subject, given.since, (SELECT coalesce(sum(spent + held), 0) FROM budgets
        WHERE budget = given.budget AND subject = given.subject AND period >= given.since)
    FROM json_to_recordset(%(windows)s) AS given(budget text, subject text, since text)"""
OPEN_PERIODS = """INSERT INTO budgets (budget, subject, period)
    SELECT budget, subject, period FROM json_populate_recordset(NULL::budgets, %(changes)s)
    ORDER BY budget, subject, period ON CONFLICT DO NOTHING"""
CHANGE = """UPDATE budgets SET held = budgets.held + change.held
    FROM json_populate_recordset(NULL::budgets, %(changes)s) AS change
    WHERE budgets.budget = change.budget AND budgets.subject = change.subject AND budgets.period = change.period"""
HOLD = """INSERT INTO holds (call_id, budget, subject, period, amount)
    SELECT call_id, budget, subject, period, amount FROM json_populate_recordset(NULL::holds, %(holds)s)
    ON CONFLICT (call_id, budget, subject, period) DO UPDATE SET amount = excluded.amount"""
# Whoever deletes the hold charges what it stood for, so that is done once. A statement of its own, after the calls are
# settled: it sees what a commit brought that this one had to wait for.
CHARGE = """WITH let_go AS (
        DELETE FROM holds USING calls WHERE holds.call_id = ANY(%(calls)s) AND calls.id = holds.call_id
            AND calls.state <> 'reserved' AND calls.cost_nano_usd IS NOT NULL
        RETURNING holds.budget, holds.subject, holds.period, holds.amount, calls.cost_nano_usd AS cost)
    UPDATE budgets SET spent = budgets.spent + sums.cost, held = budgets.held - sums.amount,
        overshoot = budgets.overshoot + sums.beyond
    FROM (SELECT budget, subject, period, sum(cost)::bigint AS cost, sum(amount)::bigint AS amount,
        sum(greatest(0, cost - amount))::bigint AS beyond FROM let_go GROUP BY budget, subject, period) AS sums
    WHERE budgets.budget = sums.budget AND budgets.subject = sums.subject AND budgets.period = sums.period"""
FORGET = "DELETE FROM budgets WHERE budget = %(budget)s AND subject = %(subject)s AND held = 0 AND period < %(before)s"

Period: TypeAlias = tuple[str, str, str]
"""Budget, subject and period: a row."""

_KEPT = timedelta(days=2)


class Book:
    """What a batch's claims find, and what comes of them. Decides as SQLite does, one reservation after the other."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, Period], int] = {}
        """What calls hold, by call and row."""
        self.used: dict[Period, int] = {}
        """What is spent and held, by budget, subject and first period that counts."""
        self.changes: dict[Period, int] = {}
        self.holds: dict[tuple[str, Period], int] = {}

    def decide(self, call: str, claims: Sequence[Claim]) -> tuple[Standing, ...]:
        """Hold all claims, or none where a hard one has no room. Then what the call held before stays."""
        standings = tuple(self._standing(call, claim) for claim in claims)
        if all(standing.granted for standing in standings):
            for claim in claims:
                self._hold(call, claim)
        return standings

    def _standing(self, call: str, claim: Claim) -> Standing:
        used = self.used[claim.budget, claim.subject, claim.since]
        return Standing(claim, used - self.held.get((call, row_of(claim)), 0))

    def _hold(self, call: str, claim: Claim) -> None:
        row = row_of(claim)
        more = claim.amount - self.held.get((call, row), 0)
        self.held[call, row] = self.holds[call, row] = claim.amount
        self.changes[row] = self.changes.get(row, 0) + more
        for budget, subject, since in self.used:
            if (budget, subject) == row[:2] and since <= claim.period:
                self.used[budget, subject, since] += more


def row_of(claim: Claim) -> Period:
    return claim.budget, claim.subject, claim.period


def locks(claims: Iterable[Claim]) -> list[int]:
    """Keys of advisory locks, in the order they are taken in."""
    return sorted({_key(claim) for claim in claims})


def windows(claims: Iterable[Claim]) -> str:
    return _json({(claim.budget, claim.subject, claim.since) for claim in claims}, "budget", "subject", "since")


def claimed(claims: Iterable[Claim]) -> str:
    return _json({row_of(claim) for claim in claims}, "budget", "subject", "period")


def changes(book: Book) -> str:
    rows = [(*row, more) for row, more in book.changes.items()]
    return _json(rows, "budget", "subject", "period", "held")


def holds(book: Book) -> str:
    rows = [(call, *row, amount) for (call, row), amount in book.holds.items()]
    return _json(rows, "call_id", "budget", "subject", "period", "amount")


def forgotten(reservations: Iterable[Reservation], known: set[Period]) -> list[dict[str, str]]:
    """Which steps of rolling budgets may go, where a new one begins: those long out of the window. Two days more, so
    that a clock that jumps by one frees nothing."""
    found = {
        (claim.budget, claim.subject): before
        for reservation in reservations
        for claim in reservation.claims
        if claim.since != claim.period and row_of(claim) not in known and (before := _before(claim.since))
    }
    return [{"budget": budget, "subject": subject, "before": before} for (budget, subject), before in found.items()]


def _before(since: str) -> str | None:
    try:
        return f"{datetime.fromisoformat(since) - _KEPT:%Y-%m-%dT%H:%M}"
    except ValueError:
        return None


def _key(claim: Claim) -> int:
    digest = blake2b(f"{claim.budget}\0{claim.subject}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def _json(rows: Iterable[tuple[str | int, ...]], *names: str) -> str:
    return msgspec.json.encode([dict(zip(names, row, strict=True)) for row in rows]).decode()
