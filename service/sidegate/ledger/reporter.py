"""Asking a ledger for a report: read only, while a gateway writes to it and while none runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sidegate.ledger.asking import MAX_ASKED as MAX_ASKED
from sidegate.ledger.asking import PATIENCE_SECONDS as PATIENCE_SECONDS
from sidegate.ledger.asking import Asking, asked
from sidegate.ledger.report import Report, run
from sidegate.ledger.report_query import Query
from sidegate.ledger.store import Ledger


class Reporter:
    """Reports for a running gateway: a thread of its own, so that nobody who asks for one call waits for them."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self._asking = Asking(url, "usage", ledger)

    async def report(self, query: Query) -> Report:
        """Raises a 503 where it takes too long, too many ask, or the ledger cannot be read."""
        return await self._asking.ask(partial(run, query=query))

    def stop(self) -> None:
        """What is under way is given up."""
        self._asking.stop()


def report_from(url: str, query: Query, over: Callable[[], bool]) -> Report:
    """The report, unless `over` says meanwhile that it is no longer wanted: `Interrupted`. Raises a `StoreError`."""
    return asked(url, partial(run, query=query), over)
