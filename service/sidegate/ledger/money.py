"""Money: what budgets have spent and hold. Every function is for a transaction that its caller begins and ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from sidegate.contract.reservations import Claim, Standing
from sidegate.ledger.database import Executes

_KEY = "budget = :budget AND subject = :subject AND period = :period"
_WINDOW = (
    "(SELECT coalesce(sum(spent + held), 0) FROM budgets "
    "WHERE budget = :budget AND subject = :subject AND period >= :since)"
)
_HELD = f"SELECT amount FROM holds WHERE call_id = :call AND {_KEY}"
_OPEN = "INSERT OR IGNORE INTO budgets (budget, subject, period) VALUES (:budget, :subject, :period)"
_CLAIM = f"UPDATE budgets SET held = held + :more WHERE {_KEY} AND (NOT :hard OR {_WINDOW} + :more <= :limit)"
_HOLD = (
    "INSERT INTO holds (call_id, budget, subject, period, amount) VALUES (:call, :budget, :subject, :period, :amount) "
    "ON CONFLICT DO UPDATE SET amount = excluded.amount"
)
# Steps of a rolling budget, long out of its window: two days more, so that a clock that jumps by one frees nothing.
_FORGET = (
    "DELETE FROM budgets WHERE budget = :budget AND subject = :subject AND held = 0 "
    "AND period < strftime('%Y-%m-%dT%H:%M', :since, '-2 days')"
)
_HOLDS = "SELECT budget, subject, period, amount FROM holds WHERE call_id = ? ORDER BY budget, subject, period"
_SETTLE = (
    "UPDATE budgets SET spent = spent + :cost, held = held - :amount, "
    f"overshoot = overshoot + CASE WHEN :cost > :amount THEN :cost - :amount ELSE 0 END WHERE {_KEY}"
)


def reserve(connection: sqlite3.Connection, call_id: str, claims: Sequence[Claim]) -> tuple[Standing, ...]:
    """Hold all claims, or none where a hard one has no room. Then what the call held before stays."""
    connection.execute("SAVEPOINT claims")
    standings = tuple(_claim(connection, call_id, claim) for claim in claims)
    if not all(standing.granted for standing in standings):
        connection.execute("ROLLBACK TO claims")
    connection.execute("RELEASE claims")
    return standings


def settle(connection: Executes, call_id: str, cost: int | None) -> None:
    """Charge what the call cost to the budgets it held of. An unknown cost leaves the holds as they are.

    On either store; `reserve` is for SQLite, where nobody else writes meanwhile.
    """
    if cost is None:
        return
    held = connection.execute(_HOLDS, (call_id,))
    for budget, subject, period, amount in held.fetchall():
        connection.execute(
            _SETTLE, {"budget": budget, "subject": subject, "period": period, "amount": amount, "cost": cost}
        )
    connection.execute("DELETE FROM holds WHERE call_id = ?", (call_id,))


def _claim(connection: sqlite3.Connection, call_id: str, claim: Claim) -> Standing:
    names = {"call": call_id, "budget": claim.budget, "subject": claim.subject, "period": claim.period}
    window = {**names, "since": claim.since, "limit": claim.limit, "hard": claim.hard, "amount": claim.amount}
    found = connection.execute(_HELD, names).fetchone()
    before = found[0] if found else 0
    (all_used,) = connection.execute(f"SELECT {_WINDOW}", window).fetchone()
    standing = Standing(claim, all_used - before)
    if connection.execute(_OPEN, names).rowcount and claim.since != claim.period:
        connection.execute(_FORGET, window)
    if connection.execute(_CLAIM, {**window, "more": claim.amount - before}).rowcount:
        connection.execute(_HOLD, window)
    return standing
