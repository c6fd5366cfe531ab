"""Job: what is kept of one, and what is said of it.

queued ──▶ running ──▶ completed | failed | cancelled | expired ──▶ removed
   ▲          │
   └──────────┘  its gateway died, drained, or a limit had no room: it runs again, as the next generation
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from sidegate.contract.caller import Caller
from sidegate.contract.timeouts import TimeoutChanges
from sidegate.errors import SidegateError

State: TypeAlias = Literal["queued", "running", "completed", "failed", "cancelled", "expired", "removed"]

ENDED: Final = frozenset(("completed", "failed", "cancelled", "expired"))


class Submission(Struct, frozen=True, kw_only=True):
    """All that a job needs to run, but the body. No credential is among it: the caller is kept, not the key."""

    caller: Caller | None
    """Who asked, as the pipeline has named it; `None` where no plugin names callers."""
    end_user: str | None = None
    placed: tuple[str, bool] | None = None
    """Model and stream, in a dialect that says them in the path."""
    array: bool = False
    """The stream is wanted as a JSON array."""
    headers: dict[str, str] = {}
    timeouts: TimeoutChanges | None = None
    wants_usage: bool = True
    watched: bool = False
    """Its client reads along: a limit that has no room is said to it at once."""


class NewJob(Struct, frozen=True, kw_only=True):
    """A job that is to be accepted."""

    id: str
    caller: str
    route: str
    operation: str
    dialect: str
    model: str
    streams: bool
    urgency: int
    submission: bytes
    body: bytes
    again: str | None
    """Tells a request that is sent twice: of caller, end user and `Idempotency-Key`."""
    digest: str
    created_at: str
    give_up_at: str


POISONED = "job_poisoned"
"""The code of a job whose gateways died of it."""


class Job(Struct, frozen=True, kw_only=True):
    """A job as it stands in the store. Times are as the ledger has them."""

    id: str
    caller: str
    route: str
    operation: str
    dialect: str
    model: str
    streams: bool
    urgency: int
    state: State
    generation: int
    """How often it has begun."""
    kills: int
    """How often its gateway has died of it, or with it."""
    call_id: str | None
    """The call of its last run."""
    last: int
    """The number of the last event of this generation that is durable."""
    size: int
    """Bytes of its events."""
    input_tokens: int | None
    output_tokens: int | None
    estimated: bool
    status: int | None
    ending: str | None
    error: bytes | None
    created_at: str
    give_up_at: str
    started_at: str | None
    ended_at: str | None
    remove_at: str | None
    digest: str | None

    @property
    def why(self) -> SidegateError | None:
        """Why it ended otherwise than complete; `None` where it did not."""
        if not self.ended or self.state in ("completed", "removed"):
            return None
        if self.error is not None:
            return read_failure(self.error).raised()
        return SidegateError("The job was cancelled.", status=499, code="cancelled", type="invalid_request_error")

    @property
    def untold(self) -> SidegateError | None:
        """The same, where none of its events says it: nobody ran it any more."""
        why = self.why
        if why is None or self.error is None or why.code == POISONED:
            return why
        return why if self.state == "expired" and not self.last else None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Run(Struct, frozen=True):
    """One time that a job ran, and the call it was."""

    generation: int
    call: str
    started_at: str
    ended_at: str | None
    ending: str | None
    cost_nano_usd: int | None


class Claimed(Struct, frozen=True, kw_only=True):
    """A job that this process is to run now."""

    id: str
    caller: str
    route: str
    operation: str
    dialect: str
    model: str
    streams: bool
    generation: int
    call_id: str
    give_up_at: str
    submission: bytes
    body: bytes


class Head(Struct, frozen=True):
    """How far a job is."""

    state: State
    generation: int
    last: int


class Spent(Struct, frozen=True):
    """What a run has used, as far as is known."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    estimated: bool = False
    cost_nano_usd: int | None = None


class Batch(Struct, frozen=True, kw_only=True):
    """Events of a run that are to be made durable together: frames with their ids."""

    job: str
    generation: int
    first: int
    last: int
    data: bytes
    spent: Spent


class Outcome(Struct, frozen=True, kw_only=True):
    """How a run ended, for good."""

    state: State
    status: int
    ending: str
    spent: Spent
    headers: dict[str, str]
    error: Failure | None = None


class Failure(Struct, frozen=True, kw_only=True):
    """An error, as it is kept."""

    status: int
    code: str
    type: str
    message: str
    param: str | None = None
    retry_after: float | None = None

    @classmethod
    def of(cls, error: SidegateError) -> Failure:
        return cls(
            status=error.status,
            code=error.code,
            type=error.type,
            message=error.message,
            param=error.param if isinstance(error.param, str) else None,
            retry_after=error.retry_after,
        )

    def raised(self) -> SidegateError:
        """The same error, to be told again."""
        said: dict[str, Any] = msgspec.structs.asdict(self)
        return SidegateError(said.pop("message"), **said)


_json = msgspec.json.Encoder()
_submission = msgspec.json.Decoder(Submission)
_failure = msgspec.json.Decoder(Failure)


def encode(value: object) -> bytes:
    """A `Submission`, a `Failure` or headers, as the store keeps them."""
    return _json.encode(value)


def read_submission(data: bytes) -> Submission:
    return _submission.decode(data)


def read_failure(data: bytes) -> Failure:
    return _failure.decode(data)
