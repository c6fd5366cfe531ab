"""SQL of who runs jobs: take them, make their events durable, end them. Each function is one transaction.

Whoever writes must own the job, in this generation: one that was taken over writes nothing any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sidegate.contract.ids import new_call_id
from sidegate.jobs.job import ENDED, Batch, Claimed, Outcome, encode
from sidegate.jobs.sql_tend import known
from sidegate.jobs.store import Bounds, Owner
from sidegate.ledger.database import Database, Row

_LOCK = 0x53474A31
"""Of PostgreSQL's advisory lock under which jobs are taken: `SGJ1`. Who counts what runs must be alone."""

_WAITING = "SELECT 1 FROM jobs WHERE state = 'queued' AND run_after <= ? AND give_up_at > ? LIMIT 1"
_RUNNING = "SELECT caller, model, count(*) FROM jobs WHERE state = 'running' GROUP BY caller, model"
_TAKE = """UPDATE jobs SET state = 'running', owner = :owner, generation = generation + 1, call_id = :call,
    started_at = coalesce(started_at, :now), last = 0, size = 0, input_tokens = NULL, output_tokens = NULL,
    estimated = 0 WHERE id = :id AND state = 'queued'"""
_TAKEN = """SELECT id, caller, route, operation, dialect, model, streams, generation, call_id, give_up_at, submission,
    body FROM jobs WHERE id = ?"""
_RUN = "INSERT INTO job_runs (job_id, generation, call_id, owner, started_at) VALUES (?, ?, ?, ?, ?)"
_MINE = "id = :job AND owner = :owner AND generation = :generation AND state = 'running'"
_SAVE = f"""UPDATE jobs SET last = :last, size = size + :grown, input_tokens = :input_tokens,
    output_tokens = :output_tokens, estimated = :estimated WHERE {_MINE}"""
_EVENT = """INSERT INTO job_events (job_id, generation, first, last, data) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING"""
_FINISH = f"""UPDATE jobs SET state = :state, status = :status, ending = :ending, error = :error, headers = :headers,
    last = :last, size = size + :grown, input_tokens = :input_tokens, output_tokens = :output_tokens,
    estimated = :estimated, ended_at = :now, remove_at = :keep_until WHERE {_MINE}"""
_FINISHED = "SELECT state FROM jobs WHERE id = :job AND owner = :owner AND generation = :generation"
_RUN_ENDED = """UPDATE job_runs SET ended_at = :now, ending = :ending, cost_nano_usd = :cost
    WHERE job_id = :job AND generation = :generation"""
_BACK = f"UPDATE jobs SET state = 'queued', owner = NULL, run_after = :run_after WHERE {_MINE}"
_UNDO = f"""UPDATE jobs SET state = 'queued', owner = NULL, run_after = :run_after, generation = generation - 1
    WHERE {_MINE}"""
_CANCELLED = f"""UPDATE jobs SET state = 'cancelled', status = 499, ending = 'cancelled', ended_at = :now,
    remove_at = :keep_until WHERE {_MINE} AND cancelling = 1"""
_CANCELLING = "SELECT id FROM jobs WHERE owner = ? AND state = 'running' AND cancelling = 1"


def waiting(database: Database, *, now: str) -> bool:
    return database.execute(_WAITING, (now, now)).fetchone() is not None


def claim(database: Database, *, owner: Owner, room: int, bounds: Bounds, now: str) -> list[Claimed]:
    taken: list[Claimed] = []
    with database.transaction():
        if database.dialect == "postgresql":
            database.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
        counted = _Counted(database, bounds)
        while len(taken) < room:
            rows = counted.candidates(database, room - len(taken), now)
            fitting = [row for row in rows if counted.fits(row)]
            taken += [_take(database, row[0], owner, now) for row in fitting]
            if not rows or (not fitting and not counted.full):
                break
        if taken:
            known(database, owner=owner)
    return taken


class _Counted:
    """What runs at all gateways, by caller and by model."""

    def __init__(self, database: Database, bounds: Bounds) -> None:
        self._bounds = bounds
        self._callers: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        if bounds.per_caller is not None or bounds.per_model is not None:
            for caller, model, count in database.execute(_RUNNING).fetchall():
                self._callers[caller] += count
                self._models[model] += count

    @property
    def full(self) -> bool:
        return bool(self._full(self._callers, self._bounds.per_caller)) or bool(
            self._full(self._models, self._bounds.per_model)
        )

    def candidates(self, database: Database, limit: int, now: str) -> list[Row]:
        """Those that may run, in order, without callers and models that have no room."""
        callers = self._full(self._callers, self._bounds.per_caller)
        models = self._full(self._models, self._bounds.per_model)
        terms = "".join(
            f" AND {name} NOT IN ({', '.join('?' * len(some))})"
            for name, some in (("caller", callers), ("model", models))
            if some
        )
        sql = f"""SELECT id, caller, model FROM jobs WHERE state = 'queued' AND run_after <= ? AND give_up_at > ?{terms}
            ORDER BY urgency, created_at, id LIMIT {limit}"""
        return database.execute(sql, (now, now, *callers, *models)).fetchall()

    def fits(self, row: Row) -> bool:
        _, caller, model = row
        per_caller, per_model = self._bounds.per_caller, self._bounds.per_model
        if per_caller is not None and self._callers[caller] >= per_caller:
            return False
        if per_model is not None and self._models[model] >= per_model:
            return False
        self._callers[caller] += 1
        self._models[model] += 1
        return True

    @staticmethod
    def _full(counts: Counter[str], bound: int | None) -> list[str]:
        return [] if bound is None else sorted(name for name, count in counts.items() if count >= bound)


def _take(database: Database, id: str, owner: Owner, now: str) -> Claimed:
    call = new_call_id(datetime.fromisoformat(now))
    database.execute(_TAKE, {"id": id, "owner": owner.id, "call": call, "now": now})
    database.execute("DELETE FROM job_events WHERE job_id = ?", (id,))
    row = database.execute(_TAKEN, (id,)).fetchone()
    assert row is not None
    *some, submission, body = row
    named: dict[str, Any] = dict(zip(Claimed.__struct_fields__, some, strict=False))
    named |= {"streams": bool(named["streams"]), "submission": bytes(submission), "body": bytes(body)}
    taken = Claimed(**named)
    database.execute(_RUN, (id, taken.generation, call, owner.id, now))
    return taken


def save(database: Database, *, owner: str, batches: Sequence[Batch]) -> set[tuple[str, int]]:
    lost: set[tuple[str, int]] = set()
    with database.transaction():
        for batch in batches:
            if database.execute(_SAVE, _named(batch, owner)).rowcount:
                _append(database, batch)
            else:
                lost.add((batch.job, batch.generation))
    return lost


def finish(
    database: Database, *, owner: str, ends: Sequence[tuple[Batch, Outcome]], now: str, keep_until: str
) -> set[tuple[str, int]]:
    lost: set[tuple[str, int]] = set()
    with database.transaction():
        for batch, outcome in ends:
            names = _named(batch, owner) | _ended(outcome) | {"now": now, "keep_until": keep_until}
            if database.execute(_FINISH, names).rowcount:
                _append(database, batch)
                database.execute(_RUN_ENDED, names)
                continue
            found = database.execute(_FINISHED, names).fetchone()
            # It may have been done already, and the answer lost.
            if found is None or found[0] not in ENDED:
                lost.add((batch.job, batch.generation))
    return lost


def _ended(outcome: Outcome) -> dict[str, Any]:
    return {
        "state": outcome.state,
        "status": outcome.status,
        "ending": outcome.ending,
        "error": None if outcome.error is None else encode(outcome.error),
        "headers": encode(outcome.headers),
        "cost": outcome.spent.cost_nano_usd,
    }


def put_back(
    database: Database,
    *,
    owner: str,
    job: Claimed,
    ending: str,
    run_after: str,
    now: str,
    keep_until: str,
    cost: int | None,
    undone: bool,
) -> bool:
    names = {"job": job.id, "owner": owner, "generation": job.generation, "run_after": run_after}
    with database.transaction():
        if database.execute(_CANCELLED, {**names, "now": now, "keep_until": keep_until}).rowcount:
            # Its caller has been told so meanwhile: it must not begin again.
            database.execute(_RUN_ENDED, {**names, "now": now, "ending": "cancelled", "cost": cost})
            return True
        if not database.execute(_UNDO if undone else _BACK, names).rowcount:
            return False
        if undone:
            database.execute("DELETE FROM job_runs WHERE job_id = :job AND generation = :generation", names)
        else:
            database.execute(_RUN_ENDED, {**names, "now": now, "ending": ending, "cost": cost})
    return True


def cancelling(database: Database, *, owner: str) -> list[str]:
    return [row[0] for row in database.execute(_CANCELLING, (owner,)).fetchall()]


def _append(database: Database, batch: Batch) -> None:
    if batch.data:
        database.execute(_EVENT, (batch.job, batch.generation, batch.first, batch.last, batch.data))


def _named(batch: Batch, owner: str) -> dict[str, Any]:
    spent = batch.spent
    return {
        "job": batch.job,
        "owner": owner,
        "generation": batch.generation,
        "last": batch.last,
        "grown": len(batch.data),
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "estimated": int(spent.estimated),
    }
