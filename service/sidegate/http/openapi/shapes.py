"""Shapes of the gateway's own bodies that are not made from a type: reports, jobs, tickets."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

Object: TypeAlias = dict[str, Any]


class Usage(Struct, kw_only=True):
    """The measures of some calls. A sum of which nothing is known is null."""

    calls: int
    errors: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: str | None
    """Exact, nine decimals."""
    cost_unknown: int
    """Calls whose cost nobody knows: it is not in the sum."""
    tokens_unknown: int
    estimated: int
    """Calls whose tokens are estimated in part."""
    duration: float | None
    """Seconds, on average."""
    first_token: float | None
    """Seconds until then, on average."""


class UsageCondition(Struct, kw_only=True):
    dimension: str
    value: str


class UsageReport(Struct, kw_only=True):
    """Who used what. Each row has the dimensions of `by`, and the measures of the totals."""

    object: Literal["usage"]
    by: list[str]
    since: datetime
    until: datetime
    timezone: str
    where: list[UsageCondition]
    data: list[Object]
    totals: Usage
    truncated: bool


class JobProgress(Struct, kw_only=True):
    events: int
    input_tokens: int | None
    output_tokens: int | None
    estimated: bool


class JobRun(Struct, kw_only=True):
    """One time that it ran."""

    generation: int
    call: str
    """The id of its call."""
    started_at: str
    ended_at: str | None
    ending: str | None
    cost_nano_usd: int | None


class JobError(Struct, kw_only=True):
    status: int
    code: str
    message: str


class JobLinks(Struct, kw_only=True):
    self: str
    result: str
    events: str


class JobBase(Struct, kw_only=True):
    id: str
    object: Literal["job"]
    state: Literal["queued", "running", "completed", "failed", "cancelled", "expired"]
    operation: str
    model: str
    stream: bool
    urgency: int
    generation: int
    progress: JobProgress
    cost_nano_usd: int | None
    runs: list[JobRun]
    status: int | None
    error: JobError | None
    created_at: str
    started_at: str | None
    ended_at: str | None
    expires_at: str | None


class Job(JobBase, kw_only=True):
    """A call that is run later, or outlives its connection."""

    links: JobLinks


class AnyJob(JobBase, kw_only=True):
    """A job of any caller."""

    caller: str
    route: str
    call: str | None


class Jobs(Struct, kw_only=True):
    object: Literal["list"]
    data: list[Job]
    next: str | None


class AnyJobs(Struct, kw_only=True):
    object: Literal["list"]
    data: list[AnyJob]
    next: str | None


class Ticket(Struct, kw_only=True):
    """What opens the events of one job where no header can be sent."""

    ticket: str
    expires_at: str
    events: str
    """Where, with the ticket."""


class SocketTicket(Struct, kw_only=True):
    """What opens one chat socket where no header can be sent."""

    ticket: str
    expires_at: str
    url: str
    """Where, with the ticket."""


class Reloaded(Struct, kw_only=True):
    """The config was read again, and is in force."""

    object: Literal["reload"]
    generation: int
    changed: list[str]
