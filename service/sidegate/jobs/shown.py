"""Shown: a job as its caller sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sidegate.jobs.job import Job, Run, Spent, read_failure


def shown(job: Job, runs: Sequence[Run], now: Spent | None, prefix: str) -> dict[str, Any]:
    """`now` is what its present run has used, where that runs here. Costs are null where one of them is unknown."""
    tokens = now or Spent(job.input_tokens, job.output_tokens, job.estimated)
    path = f"{prefix}/v1/jobs/{job.id}"
    return {
        "id": job.id,
        "object": "job",
        "state": job.state,
        "operation": job.operation,
        "model": job.model,
        "stream": job.streams,
        "urgency": job.urgency,
        "generation": job.generation,
        "progress": {
            "events": job.last,
            "input_tokens": tokens.input_tokens,
            "output_tokens": tokens.output_tokens,
            "estimated": tokens.estimated,
        },
        "cost_nano_usd": _cost(job, runs, now),
        "runs": [_run(run, now if run.call == job.call_id else None) for run in runs],
        "status": job.status,
        "error": _error(job),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "expires_at": job.remove_at if job.ended else job.give_up_at,
        "links": {"self": path, "result": f"{path}/result", "events": f"{path}/events"},
    }


def encoded(value: object) -> bytes:
    return msgspec.json.encode(value)


def _cost(job: Job, runs: Sequence[Run], now: Spent | None) -> int | None:
    """Of all runs: what a killed one has cost nobody here knows, so nobody knows the sum."""
    total = 0
    for run in runs:
        cost = run.cost_nano_usd
        if cost is None and now is not None and run.call == job.call_id:
            cost = now.cost_nano_usd
        if cost is None:
            return None
        total += cost
    return total


def _run(run: Run, now: Spent | None) -> dict[str, Any]:
    said = msgspec.to_builtins(run)
    if run.ending is None and now is not None:
        said["cost_nano_usd"] = now.cost_nano_usd
    return dict(said)


def _error(job: Job) -> dict[str, Any] | None:
    if job.error is None:
        return None
    failure = read_failure(job.error)
    return {"status": failure.status, "code": failure.code, "message": failure.message}
