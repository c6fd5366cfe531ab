"""SQL of what clients ask: accept, look, cancel, read. Each function is one transaction, and may be tried again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec.structs import asdict

from sidegate.jobs.frames import Position
from sidegate.jobs.job import Head, Job, NewJob, Run
from sidegate.jobs.store import Full
from sidegate.ledger.database import Database, Row

_NEW = NewJob.__struct_fields__
_INSERT = f"""INSERT INTO jobs
    ({", ".join(_NEW)}, state, generation, kills, cancelling, last, size, estimated, run_after)
    VALUES ({", ".join(f":{name}" for name in _NEW)}, 'queued', 0, 0, 0, 0, 0, 0, :created_at) ON CONFLICT DO NOTHING"""
_SHOWN = ", ".join(Job.__struct_fields__)
_ONE = f"SELECT {_SHOWN} FROM jobs WHERE id = ?"
_AGAIN = f"SELECT {_SHOWN} FROM jobs WHERE again = ?"
_QUEUED = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE caller = ? AND state = 'queued' LIMIT ?) AS waiting"
_RUNS = """SELECT generation, call_id, started_at, ended_at, ending, cost_nano_usd FROM job_runs WHERE job_id = ?
    ORDER BY generation"""
_CANCEL_QUEUED = """UPDATE jobs SET state = 'cancelled', status = 499, ending = 'cancelled', ended_at = :now,
    remove_at = :keep_until WHERE id = :id AND state = 'queued'"""
_CANCEL_RUNNING = "UPDATE jobs SET cancelling = 1 WHERE id = ? AND state = 'running'"
_EVENTS = (
    """SELECT first, data FROM job_events WHERE job_id = ? AND generation = ? AND last > ? ORDER BY first LIMIT ?"""
)
_TICKET = """INSERT INTO job_tickets (digest, job_id, until) VALUES (?, ?, ?)
    ON CONFLICT (digest) DO UPDATE SET job_id = excluded.job_id, until = excluded.until"""
_NAMED = "SELECT job_id FROM job_tickets WHERE digest = ? AND until > ?"
_HAS_TICKET = "SELECT 1 FROM job_tickets WHERE digest = ? AND job_id = ? AND until > ?"


def submit(database: Database, *, job: NewJob, most_queued: int) -> Job:
    with database.transaction():
        found = database.execute(_AGAIN, (job.again,)).fetchone() if job.again is not None else None
        if found is None:
            (waiting,) = database.execute(_QUEUED, (job.caller, most_queued)).fetchall()[0]
            if waiting >= most_queued:
                raise Full
            database.execute(_INSERT, {**asdict(job), "streams": int(job.streams)})
            # Not there where another gateway was sent the same at the same moment.
            found = database.execute(_ONE, (job.id,)).fetchone() or database.execute(_AGAIN, (job.again,)).fetchone()
    assert found is not None
    return read_job(found)


def get(database: Database, *, id: str) -> Job | None:
    found = database.execute(_ONE, (id,)).fetchone()
    return None if found is None else read_job(found)


def runs(database: Database, *, id: str) -> list[Run]:
    return [Run(*row) for row in database.execute(_RUNS, (id,)).fetchall()]


def page(database: Database, *, caller: str | None, state: str | None, after: str | None, limit: int) -> list[Job]:
    terms, values = ["state <> 'removed'"], []
    if caller is not None:
        terms.append("caller = ?")
        values.append(caller)
    if state is not None:
        terms.append("state = ?")
        values.append(state)
    if after is not None:
        mine = "" if caller is None else " AND caller = ?"
        terms.append(f"(created_at, id) < (SELECT created_at, id FROM jobs WHERE id = ?{mine})")
        values += [after] if caller is None else [after, caller]
    sql = f"SELECT {_SHOWN} FROM jobs WHERE {' AND '.join(terms)} ORDER BY created_at DESC, id DESC LIMIT {limit}"
    return [read_job(row) for row in database.execute(sql, values).fetchall()]


def cancel(database: Database, *, id: str, now: str, keep_until: str) -> Job | None:
    with database.transaction():
        names = {"id": id, "now": now, "keep_until": keep_until}
        if not database.execute(_CANCEL_QUEUED, names).rowcount:
            database.execute(_CANCEL_RUNNING, (id,))
        found = database.execute(_ONE, (id,)).fetchone()
    return None if found is None else read_job(found)


def events(database: Database, *, id: str, since: Position, limit: int) -> list[tuple[int, bytes]]:
    return [(first, bytes(data)) for first, data in database.execute(_EVENTS, (id, *since, limit)).fetchall()]


def submission(database: Database, *, id: str) -> tuple[bytes, bytes] | None:
    found = database.execute("SELECT submission, headers FROM jobs WHERE id = ?", (id,)).fetchone()
    return None if found is None else (bytes(found[0] or b""), bytes(found[1] or b"{}"))


def heads(database: Database, *, ids: Collection[str]) -> dict[str, Head]:
    found: dict[str, Head] = {}
    wanted = list(ids)
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        # As many as a power of two, the last one again and again: few statements to remember.
        some += [some[-1]] * ((1 << (len(some) - 1).bit_length()) - len(some))
        sql = f"SELECT id, state, generation, last FROM jobs WHERE id IN ({', '.join('?' * len(some))})"
        found |= {row[0]: Head(*row[1:]) for row in database.execute(sql, some).fetchall()}
    return found


def add_ticket(database: Database, *, digest: str, id: str, until: str) -> None:
    database.execute(_TICKET, (digest, id, until))


def has_ticket(database: Database, *, digest: str, id: str, now: str) -> bool:
    return database.execute(_HAS_TICKET, (digest, id, now)).fetchone() is not None


def named(database: Database, *, digest: str, now: str) -> str | None:
    found = database.execute(_NAMED, (digest, now)).fetchone()
    return None if found is None else str(found[0])


def read_job(row: Row) -> Job:
    named: dict[str, Any] = dict(zip(Job.__struct_fields__, row, strict=True))
    named["streams"], named["estimated"] = bool(named["streams"]), bool(named["estimated"])
    named["error"] = None if named["error"] is None else bytes(named["error"])
    return Job(**named)
