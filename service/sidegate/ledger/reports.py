"""Reports: who can be asked what was used, by the ledger's URL."""

from __future__ import annotations

from typing import Protocol

from sidegate.errors import Refusal
from sidegate.ledger.report import Report
from sidegate.ledger.report_query import Query
from sidegate.ledger.store import Ledger


class Reports(Protocol):
    """Reads what a ledger has on record: what has ended in this process before; of others, what is durable by then."""

    async def report(self, query: Query) -> Report:
        """Never runs on the event loop. Raises a `SidegateError` of 503 where it takes too long or cannot be read."""
        ...

    def stop(self) -> None:
        """What is under way is given up."""
        ...


class NoReports:
    """Without a ledger there is nothing to sum up."""

    async def report(self, query: Query) -> Report:
        raise Refusal(501, "no_ledger", "This gateway keeps no ledger, so there are no reports.")

    def stop(self) -> None:
        """Nothing is under way."""


def open_reports(url: str, ledger: Ledger) -> Reports:
    """Reports of the ledger a URL means, which `open_ledger` has found right. Nothing is opened before a report."""
    if not url:
        return NoReports()
    from sidegate.ledger.reporter import Reporter

    return Reporter(url, ledger)
