"""In flight: what is told of a call that runs, to its caller and to whoever administers."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.spending import billed

_logger = logging.getLogger("sidegate.calls")


class OwnInFlight(Struct, frozen=True, kw_only=True):
    """A call that runs, as its caller sees it."""

    id: str
    state: Literal["in_flight"] = "in_flight"
    operation: str
    model: str
    delivery: str
    end_user: str | None
    provider: str | None
    """Of its last attempt."""
    attempts: int
    started_at: datetime
    duration: float
    """Seconds until now."""
    first_token: float | None
    """Seconds from its start until the first token left for the client."""


class InFlight(OwnInFlight, frozen=True, kw_only=True):
    """A call that runs, as whoever administers sees it. Tokens and cost are of all attempts so far."""

    caller: str
    key_id: str | None
    team: str | None
    route: str
    dialect: str
    input_tokens: int | None
    output_tokens: int | None
    estimated: bool
    """Whether the tokens are estimated, from bytes: most providers tell them at the end."""
    cost_nano_usd: int | None


def own_in_flight(call: Call, clock: Clock) -> dict[str, Any]:
    """The call as its caller sees it, as plain data."""
    plain: dict[str, Any] = msgspec.to_builtins(OwnInFlight(**_shared(call, clock)))
    return plain


def in_flight(call: Call, clock: Clock) -> InFlight:
    """The call as whoever administers sees it."""
    caller = call.caller
    return InFlight(
        **_shared(call, clock),
        **_so_far(call),
        caller=_text(caller.name),
        key_id=_optional(caller.key_id),
        team=_optional(caller.team),
        route=call.route,
        dialect=call.dialect,
    )


def _shared(call: Call, clock: Clock) -> dict[str, Any]:
    first = call.notes.first_token
    return {
        "id": call.id,
        "operation": call.operation,
        "model": _text(call.model),
        "delivery": call.delivery,
        "end_user": _optional(call.end_user),
        "provider": call.attempts[-1].provider if call.attempts else None,
        "attempts": len(call.attempts),
        "started_at": call.started_at,
        "duration": clock.monotonic() - call.started,
        "first_token": None if first is None else first - call.started,
    }


def _so_far(call: Call) -> dict[str, Any]:
    try:
        bills = [billed(call, attempt) for attempt in call.attempts]
    except Exception:
        # The price is a plugin's: a fault of it hides no call.
        _logger.exception("call %s could not be priced", call.id)
        bills = []
    return {
        "input_tokens": _sum([usage.input_tokens for usage, _ in bills]),
        "output_tokens": _sum([usage.output_tokens for usage, _ in bills]),
        "estimated": any(usage.estimated for usage, _ in bills),
        "cost_nano_usd": _sum([cost for _, cost in bills]),
    }


def _sum(values: list[int | None]) -> int | None:
    """Unknown where one of them is, or where there is none."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _text(value: str) -> str:
    """Fit for UTF-8: header values may hold surrogates."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _optional(value: str | None) -> str | None:
    return None if value is None else _text(value)
