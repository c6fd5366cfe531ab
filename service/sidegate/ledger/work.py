"""Work: what waits for the ledger's writer. Each knows its rows, and what is to be told when they are durable."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TypeAlias

from sidegate.contract.call import Call
from sidegate.contract.reply import Attempt
from sidegate.contract.reservations import Claim, Standing
from sidegate.errors import SidegateError
from sidegate.ledger import settlement
from sidegate.ledger.rows import Settled

UNAVAILABLE = "ledger_unavailable"

Key: TypeAlias = tuple[str, int]
"""The call, and 0 for its settlement, its attempt's number for an opening, the same below 0 for a reservation."""


def unavailable() -> SidegateError:
    """What a caller is told whose call cannot be recorded."""
    return SidegateError("The gateway cannot record calls.", status=503, code=UNAVAILABLE, retry_after=5)


class Settlement:
    """A call has ended."""

    __slots__ = ("key", "rows")
    urgent = False
    opens = False

    def __init__(self, rows: Settled) -> None:
        self.key: Key = (rows[0].id, 0)
        self.rows = rows

    def done(self) -> None:
        """Nobody waits."""

    def unfit(self) -> None:
        """Said in the log."""


class Opening:
    """A call opens an attempt."""

    __slots__ = ("_attempt", "_call", "key")
    urgent = False
    opens = True

    def __init__(self, call: Call, attempt: Attempt) -> None:
        self.key: Key = (call.id, attempt.number)
        self._call = call
        self._attempt = attempt

    @property
    def rows(self) -> Settled:
        """Made when they are written: most calls are over before, and only their settlement is."""
        return settlement.opened(self._call, self._attempt)

    def done(self) -> None:
        """Nobody waits."""

    def unfit(self) -> None:
        """Said in the log."""


class Reservation:
    """A call opens an attempt, and claims what it may cost. Written at once: somebody waits for `answer`."""

    __slots__ = ("_failed", "answer", "claims", "key", "rows", "standings")
    urgent = True
    opens = True

    def __init__(self, rows: Settled, claims: Sequence[Claim]) -> None:
        self.key: Key = (rows[0].id, -rows[1][0].number)
        self.rows = rows
        self.claims = claims
        self.standings: tuple[Standing, ...] = ()
        """What came of it, once it is durable: the journal's to set, anew with each try."""
        self._failed = False
        self.answer: Future[tuple[Standing, ...]] = Future()

    @property
    def given_up(self) -> bool:
        """Nobody waits any more: what is not written yet need not be."""
        return self.answer.cancelled()

    def done(self) -> None:
        if not self.answer.set_running_or_notify_cancel():
            return
        if self._failed:
            self.answer.set_exception(unavailable())
        else:
            self.answer.set_result(self.standings)

    def unfit(self) -> None:
        self._failed = True


Work: TypeAlias = Settlement | Opening | Reservation
"""`unfit` is told where no database takes it; `done` comes once, after the commit, in the writer's thread."""
