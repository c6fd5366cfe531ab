"""How long usage reports take: a ledger of a million calls, made by chance with a fixed seed, and the usual questions.

    python -m bench.usage --calls 1000000 --ledger /tmp/million.db

Each question is asked five times, each time by a connection of its own; told are the median and the slowest. The file
is made where it is not there, and kept.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median

from sidegate.ledger.report_file import report_from
from sidegate.ledger.report_query import Query, read_query
from sidegate.ledger.rows import CallRow
from sidegate.ledger.sqlite_file import open_file
from sidegate.ledger.sqlite_rows import write

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAYS = 90
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


def make(path: Path, count: int) -> None:
    """A ledger of so many calls."""
    with closing(open_file(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for row in rows(count, Random(1)):
            write(connection, (row, ()))
        connection.execute("COMMIT")


def times(path: Path, query: Query, rounds: int = 5) -> tuple[list[float], int]:
    """Seconds, the quickest first, and how many rows came."""
    found: list[float] = []
    rows = 0
    for _ in range(rounds):
        start = time.perf_counter()
        rows = len(report_from(path, query, lambda: False).rows)
        found.append(time.perf_counter() - start)
    return sorted(found), rows


def main() -> None:
    parser = argparse.ArgumentParser(description="How long usage reports take.")
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--ledger", type=Path, required=True)
    options = parser.parse_args()
    if not options.ledger.exists():
        start = time.perf_counter()
        make(options.ledger, options.calls)
        print(f"made {options.calls:,} calls in {time.perf_counter() - start:.0f} s")
    print(f"SQLite {sqlite3.sqlite_version}, {options.ledger.stat().st_size / 2**20:,.0f} MiB")
    for asked in QUESTIONS:
        parameters = {name: [value] for name, value in asked.items()}
        seconds, found = times(options.ledger, read_query(parameters, NOW))
        said = " ".join(f"{name}={value}" for name, value in asked.items())
        print(f"{said:<56} {found:>6,} rows  median {median(seconds):.2f} s  slowest {seconds[-1]:.2f} s", flush=True)


if __name__ == "__main__":
    main()
