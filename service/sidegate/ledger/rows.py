"""Rows: a call and its attempts as the ledger keeps them. Money is integer nano-USD; `None` is unknown, never 0."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, TypeAlias

from msgspec import Struct, to_builtins

State: TypeAlias = Literal["reserved", "settled", "unknown"]
"""`reserved`: the call runs, or its gateway was killed and nobody has noticed yet. `settled`: the tokens are on record.
`unknown`: something was sent to a provider and nobody knows what it used; to be reconciled."""


class CallRow(Struct, frozen=True, kw_only=True, gc=False):
    """One call, whatever its delivery, dialect and ending. Tokens are summed over its attempts."""

    id: str
    route: str
    operation: str
    dialect: str
    delivery: str
    caller: str
    key_id: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    end_user: str | None = None
    model_asked: str
    model_served: str | None = None
    provider: str | None = None
    status: int
    ending: str
    error: str | None = None
    """The code of what went wrong."""
    plugin: str | None = None
    """The plugin that refused or failed, by its name in the pipeline."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    estimated: bool = False
    cost_nano_usd: int | None = None
    state: State = "settled"
    started_at: datetime
    first_token: float | None = None
    """Seconds from the call's start until the first token left for the client."""
    duration: float
    """Seconds."""
    settled_at: datetime | None = None
    """When the ledger was given the row."""


class AttemptRow(Struct, frozen=True, kw_only=True, gc=False):
    """One try at one target."""

    call_id: str
    number: int
    provider: str
    target: str
    model: str | None = None
    provider_id: str | None = None
    status: int | None = None
    """The provider's HTTP status."""
    ending: str
    error: str | None = None
    finish: str | None = None
    committed: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    estimated: bool = False
    rates: str | None = None
    """JSON: nano-USD per million tokens, by kind, as they were when the attempt was priced."""
    cost_nano_usd: int | None = None
    started_at: datetime
    first_token: float | None = None
    """Seconds from the attempt's start until the provider's first token."""
    duration: float


Settled: TypeAlias = tuple[CallRow, tuple[AttemptRow, ...]]
"""What is recorded of one call, in one transaction."""


def stamp(moment: datetime) -> str:
    """A time as the ledger has it: UTC, of fixed width, so that it sorts."""
    moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    if not moment.microsecond:
        return moment.isoformat(timespec="microseconds")
    # `isoformat` takes ten times as many steps; msgspec writes the same, but no microseconds where there are none.
    return f"{to_builtins(moment)[:-1]}+00:00"
