"""SQL of what goes on by itself: who lives, whose jobs are taken over, what has waited or was kept too long."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import asdict

from sidegate.jobs.job import POISONED, Failure, encode
from sidegate.jobs.store import Buried, Owner
from sidegate.ledger.database import Database
from sidegate.ledger.lease import GATEWAY_KILLED

MANY = 500
"""Jobs to a transaction of those that go on by themselves."""

_BEAT = """INSERT INTO job_owners (id, host, pid, beats) VALUES (:id, :host, :pid, :beats)
    ON CONFLICT (id) DO UPDATE SET beats = excluded.beats"""
_KNOWN = """INSERT INTO job_owners (id, host, pid, beats) VALUES (:id, :host, :pid, :beats)
    ON CONFLICT (id) DO NOTHING"""
_OWNERS = """SELECT DISTINCT jobs.owner, job_owners.host, job_owners.pid, job_owners.beats
    FROM jobs LEFT JOIN job_owners ON job_owners.id = jobs.owner WHERE jobs.state = 'running' AND jobs.owner <> ?"""
_LEFT = "SELECT id, generation, kills, cancelling FROM jobs WHERE owner = ? AND state = 'running'"
_AGAIN = "UPDATE jobs SET state = 'queued', owner = NULL, kills = kills + 1 WHERE id = :id"
_END = """UPDATE jobs SET state = :state, kills = kills + 1, status = :status, ending = :ending, error = :error,
    ended_at = :now, remove_at = :keep_until WHERE id = :id"""
_RUN_ENDED = "UPDATE job_runs SET ended_at = :now, ending = :killed WHERE job_id = :id AND generation = :generation"
_SOME = "SELECT id FROM jobs WHERE {} ORDER BY id LIMIT ?"
_EXPIRED = "state = 'queued' AND give_up_at <= ?"
_REMOVE = """UPDATE jobs SET state = 'removed', submission = NULL, body = NULL, headers = NULL, error = NULL,
    again = NULL, remove_at = :forget_at WHERE id = :id"""


def beat(database: Database, *, owner: Owner) -> None:
    database.execute(_BEAT, asdict(owner))


def known(database: Database, *, owner: Owner) -> None:
    """That there is this owner. One that beats already goes on counting: a count that falls back looks like silence."""
    database.execute(_KNOWN, asdict(owner))


def owners(database: Database, *, but: str) -> list[tuple[str, str | None, int | None, int | None]]:
    return [(row[0], row[1], row[2], row[3]) for row in database.execute(_OWNERS, (but,)).fetchall()]


def bury(database: Database, *, owners: Sequence[str], most_kills: int, now: str, keep_until: str) -> Buried:
    """All that dead gateways ran: into the queue again, in their old places, unless they kill whoever runs them."""
    again: list[str] = []
    ended: list[str] = []
    with database.transaction():
        for owner in sorted(owners):
            for id, generation, kills, cancelling in database.execute(_LEFT + database.for_update, (owner,)).fetchall():
                names = {"id": id, "generation": generation, "now": now, "killed": GATEWAY_KILLED}
                database.execute(_RUN_ENDED, names)
                if not cancelling and kills + 1 < most_kills:
                    database.execute(_AGAIN, {"id": id})
                    again.append(id)
                    continue
                failure = None if cancelling else encode(_poisoned(kills + 1))
                state, status = ("cancelled", 499) if cancelling else ("failed", 500)
                end = {"state": state, "status": status, "ending": state, "error": failure, "keep_until": keep_until}
                database.execute(_END, {"id": id, "now": now, **end})
                ended.append(id)
            database.execute("DELETE FROM job_owners WHERE id = ?", (owner,))
    return Buried(again=tuple(again), ended=tuple(ended))


def expire(database: Database, *, now: str, keep_until: str) -> int:
    with database.transaction():
        sql = _SOME.format(_EXPIRED) + database.for_update
        found = database.execute(sql, (now, MANY)).fetchall()
        failure = Failure(status=504, code="job_expired", type="server_error", message="The job waited too long.")
        for (id,) in found:
            sql = """UPDATE jobs SET state = 'expired', status = 504, ending = 'timed_out', error = :error, last = 0,
                ended_at = :now, remove_at = :keep_until WHERE id = :id AND state = 'queued'"""
            database.execute(sql, {"id": id, "error": encode(failure), "now": now, "keep_until": keep_until})
    return len(found)


def remove(database: Database, *, now: str, forget_at: str) -> int:
    """What was asked and said is dropped first; later, that there ever was such a job."""
    with database.transaction():
        database.execute("DELETE FROM job_tickets WHERE until <= ?", (now,))
        old = database.execute(_SOME.format("remove_at <= ? AND state = 'removed'"), (now, MANY)).fetchall()
        for (id,) in old:
            database.execute("DELETE FROM jobs WHERE id = ?", (id,))
            database.execute("DELETE FROM job_runs WHERE job_id = ?", (id,))
        found = database.execute(_SOME.format("remove_at <= ? AND state <> 'removed'"), (now, MANY)).fetchall()
        for (id,) in found:
            database.execute(_REMOVE, {"id": id, "forget_at": forget_at})
            database.execute("DELETE FROM job_events WHERE job_id = ?", (id,))
    return len(found)


def count(database: Database) -> dict[str, int]:
    sql = "SELECT state, count(*) FROM jobs WHERE state IN ('queued', 'running') GROUP BY state"
    return {"queued": 0, "running": 0} | {row[0]: row[1] for row in database.execute(sql).fetchall()}


def leave(database: Database, *, owner: str) -> None:
    database.execute("DELETE FROM job_owners WHERE id = ?", (owner,))


def _poisoned(times: int) -> Failure:
    message = f"The job was running {times} times when its gateway died, and is not tried again."
    return Failure(status=500, code=POISONED, type="server_error", message=message)
