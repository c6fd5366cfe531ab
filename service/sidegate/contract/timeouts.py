"""Timeouts: how long a provider may take, in four phases. One object, changed on its way by model, route and client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sidegate.errors import BadRequest

Seconds = Annotated[float, Meta(gt=0, le=86_400)]

HEADER = "x-sidegate-timeouts"
"""Request header by which a client asks for other timeouts: `first_token=5, total=60`, in seconds."""

PHASES = ("connect", "first_token", "idle", "total")


class Timeouts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long a provider may take, by phase, in seconds."""

    connect: Annotated[Seconds, Meta(description="Until the connection stands.")] = 5
    first_token: Annotated[Seconds, Meta(description="From the request sent to the first token, or the body.")] = 120
    idle: Annotated[Seconds, Meta(description="Between two signs of life of a stream.")] = 60
    total: Annotated[Seconds, Meta(description="All attempts of a call together, however lively.")] = 1800

    def changed(self, by: TimeoutChanges | None) -> Timeouts:
        """With the phases that `by` speaks of."""
        if by is None:
            return self
        return msgspec.structs.replace(self, **by.said())


class TimeoutChanges(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Other timeouts for some phases, in seconds; the rest stays as it is."""

    connect: Annotated[Seconds | None, Meta(description="Until the connection stands.")] = None
    first_token: Annotated[Seconds | None, Meta(description="Until the first token, or the body.")] = None
    idle: Annotated[Seconds | None, Meta(description="Between two signs of life of a stream.")] = None
    total: Annotated[Seconds | None, Meta(description="All attempts of a call together.")] = None

    def said(self) -> dict[str, float]:
        """The phases that are changed."""
        return {phase: value for phase in PHASES if (value := getattr(self, phase)) is not None}


@dataclass(frozen=True, slots=True)
class Patience:
    """What a call's route and client say of its timeouts."""

    route: TimeoutChanges | None = None
    client: TimeoutChanges | None = None
    bounds: TimeoutChanges | None = None
    """The longest that clients may ask for; without a word here, what is configured. Shorter they may always ask."""

    def of(self, configured: Timeouts) -> Timeouts:
        """The timeouts of an attempt, from those of its provider and model."""
        configured = configured.changed(self.route)
        if self.client is None:
            return configured
        most = configured.changed(self.bounds)
        wished = {phase: min(value, getattr(most, phase)) for phase, value in self.client.said().items()}
        return msgspec.structs.replace(configured, **wished)


def asked_for(headers: Mapping[str, str]) -> TimeoutChanges | None:
    """What a client asks for by header; `None` where it does not. Raises `BadRequest`."""
    text = headers.get(HEADER)
    if text is None:
        return None
    wishes: dict[str, str] = {}
    for item in text.split(","):
        phase, _, value = item.partition("=")
        wishes[phase.strip()] = value.strip()
    try:
        return msgspec.convert(wishes, TimeoutChanges, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(
            f"{HEADER} takes seconds by phase ({', '.join(PHASES)}), such as first_token=5, total=60.",
            param=HEADER,
            code="invalid_timeouts",
        ) from error
