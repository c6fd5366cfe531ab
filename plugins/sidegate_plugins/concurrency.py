"""How many calls run at a time, for each caller, end user, team, model, route or provider; others queue, or get 429.

A call holds its slot until its reply is over: of a stream, until the last chunk. In an `attempt` list a limit may be
`per: [provider]`, so that a small provider is not overrun; a call that fails over then leaves the first one's slot.
What a key or a token lets its bearer have at a time counts as a limit of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from sidegate.contract import Call, Enforced, Handler, Host, OnStoreFailure, Plugin, Reply, SlotClaim

_NONE = "\x00"
"""Stands for what a call has not got, such as an end user: no name can be this."""

_SPENDING = frozenset(("chat", "text_completion", "embeddings", "realtime"))

Operation = Literal["chat", "text_completion", "embeddings", "models", "calls", "usage", "realtime"]

Queue = Annotated[int, Meta(ge=0, le=10**6, description="Calls that may wait for a slot.")]
Wait = Annotated[float, Meta(ge=0, le=3600, description="Seconds a call may wait for a slot.")]
Failing = Annotated[
    OnStoreFailure, Meta(description="While the shared store is away: let all through, refuse all, or count here.")
]


class Limit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One limit."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Tells it from the others.")]
    calls: Annotated[int, Meta(ge=1, le=10**6, description="Calls at a time.")]
    per: Annotated[
        tuple[Literal["caller", "end_user", "team", "model", "route", "provider"], ...],
        Meta(description="What has slots of its own; the same slots for all if empty. `provider`: attempt lists only."),
    ] = ("caller",)
    queue: Queue = 0
    wait: Wait = 5.0
    on_store_failure: Failing = "local"


class OfKeys(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the limit is held that a key or a token brings."""

    queue: Queue = 0
    wait: Wait = 5.0
    on_store_failure: Failing = "local"


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    limits: Annotated[
        tuple[Limit, ...],
        Meta(description="A call needs a slot of each; empty: only of what keys and tokens bring."),
    ] = ()
    of_keys: Annotated[OfKeys, Meta(description="How the limit is held that a key or a token brings.")] = field(
        default_factory=OfKeys
    )
    operations: Annotated[tuple[Operation, ...], Meta(description="What takes a slot.")] = (
        "chat",
        "text_completion",
        "embeddings",
        "realtime",
    )


class Concurrency(Plugin[Settings]):
    """Holds a slot of each limit round the rest of the pipeline."""

    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job", "socket"})
    enforces: ClassVar[frozenset[Enforced]] = frozenset({"concurrency"})

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        names = [limit.name for limit in settings.limits]
        if len(set(names)) < len(names):
            raise ValueError("two limits have the same name")
        if host.workers > 1 and not host.shared:
            raise ValueError(f"per-process limits with {host.workers} workers: set counters.url")
        for limit in settings.limits:
            if "provider" in limit.per and not host.per_attempt:
                raise ValueError(f"limit {limit.name} is per provider: its place is an `attempt` list")
        self._limits = tuple(_Ready(limit) for limit in settings.limits)

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        claims = self._claims(call)
        if not claims:
            return await handler(call)
        held = self.host.slots.hold(claims)
        with call.waiting():
            await held.__aenter__()
        try:
            return await handler(call)
        finally:
            await held.__aexit__(None, None, None)

    def _claims(self, call: Call) -> list[SlotClaim]:
        claims: list[SlotClaim] = []
        for limit in self._limits if call.operation in self.settings.operations else ():
            claims.append(limit.claim(call))
        allowance = call.caller.allowance
        if allowance is not None and allowance.concurrency is not None and self._holds_keys(call):
            own = self.settings.of_keys
            claims.append(SlotClaim(_bearer(call), allowance.concurrency, own.queue, own.wait, own.on_store_failure))
        return claims

    def _holds_keys(self, call: Call) -> bool:
        """What a key brings is for whole calls that spend, whatever `operations` says; the innermost counts it."""
        return call.attempt is None and call.operation in _SPENDING and "concurrency" not in self.host.enforced


class _Ready:
    """A limit, made ready."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._first = f"slots\x1f{limit.name}"
        self._per = [_WHO[kind] for kind in limit.per]

    def claim(self, call: Call) -> SlotClaim:
        """What the call claims of it."""
        key = self._first
        for who in self._per:
            key = f"{key}\x1f{who(call) or _NONE}"
        limit = self._limit
        return SlotClaim(key, limit.calls, limit.queue, limit.wait, limit.on_store_failure)


def _bearer(call: Call) -> str:
    """Whose slots they are that an allowance gives: the key's, else the caller's. `:` is in no limit's name."""
    caller = call.caller
    return f"slots\x1f:key\x1f{caller.key_id}" if caller.key_id is not None else f"slots\x1f:name\x1f{caller.name}"


def _provider(call: Call) -> str | None:
    return None if call.attempt is None else call.attempt.provider


_WHO: dict[str, Callable[[Call], str | None]] = {
    "caller": lambda call: call.caller.name,
    "end_user": lambda call: call.end_user,
    "team": lambda call: call.caller.team,
    "model": lambda call: call.model,
    "route": lambda call: call.route,
    "provider": _provider,
}
