"""Asking a ledger for a report: read only, while a gateway writes to it and while none runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event
from time import monotonic
from typing import Final

from sidegate.errors import Refusal, SidegateError
from sidegate.ledger.database import Database, Interrupted, StoreError, is_postgres
from sidegate.ledger.report import Report, run
from sidegate.ledger.report_query import Query

REPORT_SECONDS: Final = 10.0
"""The longest a running gateway's client waits for a report, its turn included."""

MAX_ASKED: Final = 8
"""Reports under way or waiting for their turn; one runs at a time. More are refused."""

PATIENCE_SECONDS: Final = 300.0
"""The longest a report may take for a command line: a mistake in a script must not read a ledger for ever."""

_SESSION = "SELECT set_config('enable_seqscan', 'on', false), set_config('work_mem', '64MB', false)"


class Reporter:
    """Reports for a running gateway: a thread of its own, so that nobody who asks for one call waits for them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._asked = 0
        self._closed = Event()
        self._thread = ThreadPoolExecutor(1, "ledger-report")

    async def report(self, query: Query) -> Report:
        """Raises a 503 where it takes too long, too many ask, or the ledger cannot be read."""
        if self._asked >= MAX_ASKED:
            raise Refusal(503, "usage_busy", "Too many usage reports are asked for at once.", retry_after=2)
        gone = Event()
        deadline = monotonic() + REPORT_SECONDS

        def over() -> bool:
            return gone.is_set() or self._closed.is_set() or monotonic() > deadline

        self._asked += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, report_from, self._url, query, over)
        except Interrupted as error:
            message = f"The report takes longer than {REPORT_SECONDS:g} s: ask for less time, or in fewer parts."
            raise Refusal(503, "usage_too_slow", message) from error
        except StoreError as error:
            raise SidegateError("The ledger cannot be read.", status=503, code="ledger_unavailable") from error
        finally:
            gone.set()
            self._asked -= 1

    def stop(self) -> None:
        """What is under way is given up."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)


def report_from(url: str, query: Query, over: Callable[[], bool]) -> Report:
    """The report, unless `over` says meanwhile that it is no longer wanted: `Interrupted`. Raises a `StoreError`."""
    if over():
        raise Interrupted("nobody waits for it any more")
    with closing(_database(url)) as database:
        if database.dialect == "postgresql":
            # One report runs at a time: it may read whole tables, with more memory than a call.
            database.execute(_SESSION)
        database.watch(over)
        return run(database, query)


def _database(url: str) -> Database:
    if is_postgres(url):
        from sidegate.ledger.postgres import PostgresDatabase

        return PostgresDatabase(url, PATIENCE_SECONDS)
    from sidegate.ledger.report_file import open_report
    from sidegate.ledger.sqlite_database import SqliteDatabase, sqlite_path

    return SqliteDatabase(sqlite_path(url), open_report)
