"""Asking a ledger what takes long: in a thread of its own, within a time, a few at a time. It reads only; what this
process has still to write is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from threading import Event
from time import monotonic
from typing import Final, TypeVar

from sidegate.errors import Refusal, SidegateError
from sidegate.ledger.database import Database, Interrupted, StoreError, is_postgres
from sidegate.ledger.store import Ledger

T = TypeVar("T")

ASKED_SECONDS: Final = 10.0
"""The longest a running gateway's client waits for an answer, its turn included."""

WRITTEN_SECONDS: Final = 1.0
"""How long a question waits for what has ended before it to be on record."""

MAX_ASKED: Final = 8
"""Questions under way or waiting for their turn; one runs at a time. More are refused."""

PATIENCE_SECONDS: Final = 300.0
"""The longest a question may take for a command line: a mistake in a script must not read a ledger for ever."""

_SESSION = "SELECT set_config('enable_seqscan', 'on', false), set_config('work_mem', '64MB', false)"


class Asking:
    """A ledger's reader for a running gateway: nobody who asks for one call waits behind it."""

    def __init__(self, url: str, word: str, ledger: Ledger) -> None:
        """`word` names what is asked for, in error codes: `usage_busy`, `usage_too_slow`. `ledger` is who writes to the
        `url`."""
        self._url = url
        self._ledger = ledger
        self._word = word
        self._asked = 0
        self._closed = Event()
        self._thread = ThreadPoolExecutor(1, f"ledger-{word}")

    async def ask(self, work: Callable[[Database], T]) -> T:
        """What `work` finds. Raises a 503 where it takes too long, too many ask, or the ledger cannot be read."""
        if self._asked >= MAX_ASKED:
            message = f"Too many questions about {self._word} are asked at once."
            raise Refusal(503, f"{self._word}_busy", message, retry_after=2)
        gone = Event()
        deadline = monotonic() + ASKED_SECONDS

        def over() -> bool:
            return gone.is_set() or self._closed.is_set() or monotonic() > deadline

        self._asked += 1
        try:
            await self._written()
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, asked, self._url, work, over)
        except Interrupted as error:
            message = f"The answer takes longer than {ASKED_SECONDS:g} s: ask for less time, or in fewer parts."
            raise Refusal(503, f"{self._word}_too_slow", message) from error
        except StoreError as error:
            raise SidegateError("The ledger cannot be read.", status=503, code="ledger_unavailable") from error
        finally:
            gone.set()
            self._asked -= 1

    async def _written(self) -> None:
        """Whoever asks what was used has often just used it."""
        if self._ledger.problem is None:
            with suppress(TimeoutError, SidegateError):
                async with asyncio.timeout(WRITTEN_SECONDS):
                    await self._ledger.flush()

    def stop(self) -> None:
        """What is under way is given up."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)


def asked(url: str, work: Callable[[Database], T], over: Callable[[], bool]) -> T:
    """What `work` finds, unless `over` says meanwhile that it is no longer wanted: `Interrupted`. Raises a
    `StoreError`."""
    if over():
        raise Interrupted("nobody waits for it any more")
    with closing(_database(url)) as database:
        if database.dialect == "postgresql":
            # One question runs at a time: it may read whole tables, with more memory than a call.
            database.execute(_SESSION)
        database.watch(over)
        return work(database)


def _database(url: str) -> Database:
    if is_postgres(url):
        from sidegate.ledger.postgres import PostgresDatabase

        return PostgresDatabase(url, PATIENCE_SECONDS)
    from sidegate.ledger.report_file import open_report
    from sidegate.ledger.sqlite_database import SqliteDatabase, sqlite_path

    return SqliteDatabase(sqlite_path(url), open_report)
