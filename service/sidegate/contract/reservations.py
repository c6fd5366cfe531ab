"""Reservations: money that is held before it is spent, so that calls that race never spend a budget twice.

The ledger keeps for each budget, subject and period what was `spent` and what is `held`. A call claims what it may cost
at most, before a provider is reached; when it is settled, its cost is added to `spent` and its claim leaves `held`, in
the transaction that settles it. What a call has cost that nobody knows stays held until an operator reconciles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from sidegate.errors import SidegateError

if TYPE_CHECKING:
    from sidegate.contract.call import Call


@dataclass(frozen=True, slots=True)
class Claim:
    """What one call may cost at most, of one budget. Money is integer nano-USD."""

    budget: str
    """The budget's name, as in the config."""
    subject: str
    """Whose share of it: any text, such as `["ann"]`; each subject has the whole limit."""
    period: str
    """The period the call is charged to. Text that sorts by time: `2026-11-22`."""
    since: str
    """The first period that counts against the limit: `period` itself, or for a rolling budget an earlier one. Later
    ones always count, so that a clock that is set back frees nothing."""
    amount: int
    """What the whole call holds from now on, not what is added by this attempt. 0 or more."""
    limit: int
    hard: bool = True
    """Refused where there is no room. Otherwise only told."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a claim found its budget."""

    claim: Claim
    used: int
    """Spent, and held by other calls, in the periods that count."""

    @property
    def room(self) -> bool:
        """Whether the claim is within the limit."""
        return self.used + self.claim.amount <= self.claim.limit

    @property
    def granted(self) -> bool:
        return self.room or not self.claim.hard

    @property
    def remaining(self) -> int:
        """What is left for other calls while this one holds its claim; 0 where nothing is."""
        return max(0, self.claim.limit - self.used - (self.claim.amount if self.granted else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLimit:
    """What a budget allows in the period a moment belongs to; what was spent of it is the ledger's to know."""

    budget: str
    """Its name, as in its claims."""
    subject: str | None = None
    """Of whom alone, as in its claims; `None`: of each subject that has spent of it."""
    per: tuple[str, ...] = ()
    """What subjects are told apart by, such as `caller`."""
    period: str
    since: str
    """The first period that counts, as in its claims."""
    limit: int
    hard: bool = True
    resets_at: datetime | None = None
    """When the period ends; `None` where it rolls."""


class Reservations(Protocol):
    """What `host.ledger` is to a plugin."""

    async def reserve(self, call: Call, claims: Sequence[Claim]) -> tuple[Standing, ...]:
        """Hold all of the claims, or none where a hard one has no room: one `Standing` each, `granted` where held.

        Call it from `call.notes.reserve`, which the core awaits for every attempt right before its provider is reached.
        It returns when the claims are durable: other calls, other processes on the same ledger and a gateway that
        starts after a crash see them. Where a call reserves again for the next attempt, the new amounts take the place
        of the old ones; after a refusal the old ones stay. Nobody releases: the call's settlement does.

        Raises `SidegateError` 503 `ledger_unavailable` where the claims cannot be made durable within 5 seconds.
        """
        ...


class NoReservations:
    """Holds nothing: where only settings are looked at."""

    async def reserve(self, call: Call, claims: Sequence[Claim]) -> tuple[Standing, ...]:
        raise SidegateError("There is no ledger here.", status=503, code="ledger_unavailable")
