"""How long usage reports take: a ledger of a million calls, made by chance with a fixed seed, and the usual questions.

    python -m bench.usage --calls 1000000 --ledger sqlite:////tmp/million.db
    python -m bench.usage --calls 1000000 --ledger postgresql://postgres@127.0.0.1/million

Each question is asked five times, each time by a connection of its own; told are the median, the slowest, and what it
takes of the processor in this process: with SQLite all of it, and the same whatever else the machine does. A ledger
that has no calls yet is filled, as a gateway does it, and kept. A PostgreSQL database must be there and empty.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from statistics import median

from sidegate.contract.host import SystemClock
from sidegate.ledger.database import is_postgres
from sidegate.ledger.journal import Journal
from sidegate.ledger.lease import Lease
from sidegate.ledger.migrate import migrate
from sidegate.ledger.opening import open_database
from sidegate.ledger.report_query import Query, read_query
from sidegate.ledger.reporter import report_from
from sidegate.ledger.rows import CallRow
from sidegate.ledger.work import Settlement

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAYS = 90
BATCH = 100
CALLERS = 200
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet", "claude-haiku", "embed-small")
QUESTIONS: tuple[dict[str, str], ...] = (
    {"by": "model", "since": "7d"},
    {"by": "caller,model", "since": "7d"},
    {"by": "model", "since": "90d"},
    {"by": "caller,model", "since": "90d"},
    {"by": "day", "since": "90d"},
    {"by": "day,model", "since": "90d"},
    {"by": "day,model", "since": "90d", "timezone": "Europe/Berlin"},
    {"by": "hour", "since": "90d", "timezone": "America/New_York"},
    {"by": "month,team", "since": "90d"},
    {"by": "tag", "since": "90d"},
    {"by": "end_user", "since": "90d"},
    {"by": "model,day", "since": "90d", "where": "caller=service-7"},
    {"by": "end_user,day", "since": "90d"},
)


def rows(count: int, random: Random) -> Iterator[CallRow]:
    """Calls as a gateway would have recorded them, evenly over the last days."""
    start = NOW - timedelta(days=DAYS)
    for number in range(count):
        caller = int(random.paretovariate(1)) % CALLERS
        model = random.choice(MODELS)
        complete = random.random() < 0.97
        yield CallRow(
            id=f"{random.getrandbits(128):032x}",
            route="main",
            operation="embeddings" if model.startswith("embed") else "chat",
            dialect="openai.chat",
            delivery=random.choice(("stream", "buffered")),
            caller=f"service-{caller}",
            key_id=f"key-{caller}",
            team=f"team-{caller % 12}",
            tags=("batch", "night") if caller % 5 == 0 else ("live",),
            end_user=f"user-{random.randrange(5000)}",
            model_asked=model,
            model_served=f"{model}-2026-08-06",
            provider="anthropic" if model.startswith("claude") else "openai",
            status=200 if complete else 502,
            ending="complete" if complete else random.choice(("cut", "client_gone", "provider_error")),
            input_tokens=random.randrange(20_000),
            output_tokens=random.randrange(2_000),
            cache_read_tokens=random.randrange(10_000),
            estimated=not complete,
            cost_nano_usd=random.randrange(90_000_000) if random.random() < 0.99 else None,
            started_at=start + timedelta(days=DAYS) * (number / count),
            first_token=random.random(),
            duration=random.expovariate(0.3),
            settled_at=NOW,
        )


def make(url: str, count: int) -> None:
    """A ledger of so many calls."""
    journal, lease = journal_of(url), Lease(SystemClock())
    made = rows(count, Random(1))
    with closing(journal.database):
        while batch := [Settlement((row, ())) for row in islice(made, BATCH)]:
            journal.write(batch, lease, False)
        if is_postgres(url):
            # As its own autovacuum does a minute later.
            journal.database.execute("VACUUM ANALYZE calls")


def journal_of(url: str) -> Journal:
    """What a gateway's writer writes to."""
    if is_postgres(url):
        from sidegate.ledger.postgres import PostgresDatabase
        from sidegate.ledger.postgres_journal import PostgresJournal

        return PostgresJournal(PostgresDatabase(url, 300.0))
    from sidegate.ledger.sqlite_database import SqliteDatabase, sqlite_path
    from sidegate.ledger.sqlite_journal import SqliteJournal

    return SqliteJournal(SqliteDatabase(sqlite_path(url)))


def times(url: str, query: Query, rounds: int = 5) -> tuple[list[float], int]:
    """Seconds, the quickest first, and how many rows came."""
    found: list[float] = []
    rows = 0
    for _ in range(rounds):
        start = time.perf_counter()
        rows = len(report_from(url, query, lambda: False).rows)
        found.append(time.perf_counter() - start)
    return sorted(found), rows


def main() -> None:
    parser = argparse.ArgumentParser(description="How long usage reports take.")
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--ledger", required=True, metavar="URL")
    options = parser.parse_args()
    migrate(options.ledger)
    with closing(open_database(options.ledger)) as database:
        empty = database.execute("SELECT id FROM calls LIMIT 1").fetchone() is None
    if empty:
        start = time.perf_counter()
        make(options.ledger, options.calls)
        seconds = time.perf_counter() - start
        print(f"made {options.calls:,} calls in {seconds:.0f} s: {options.calls / seconds:,.0f} a second")
    for asked in QUESTIONS:
        parameters = {name: [value] for name, value in asked.items()}
        cpu = time.process_time()
        seconds_each, found = times(options.ledger, read_query(parameters, NOW))
        cpu = (time.process_time() - cpu) / len(seconds_each)
        said = " ".join(f"{name}={value}" for name, value in asked.items())
        told = f"median {median(seconds_each):.2f} s  slowest {seconds_each[-1]:.2f} s  of its own CPU {cpu:.2f} s"
        print(f"{said:<56} {found:>7,} rows  {told}", flush=True)


if __name__ == "__main__":
    main()
