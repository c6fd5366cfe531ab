"""How many calls run at a time, for each caller, end user, team, model, route or provider; others queue, or get 429.

A call holds its slot until its reply is over: of a stream, until the last chunk. In an `attempt` list a limit may be
`per: [provider]`, so that a small provider is not overrun; a call that fails over then leaves the first one's slot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sidegate.contract import Call, Handler, Host, Plugin, Reply, SlotClaim

_NONE = "\x00"
"""Stands for what a call has not got, such as an end user: no name can be this."""

Operation = Literal["chat", "text_completion", "embeddings", "models", "calls", "usage"]


class Limit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One limit."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Tells it from the others.")]
    calls: Annotated[int, Meta(ge=1, le=10**6, description="Calls at a time.")]
    per: Annotated[
        tuple[Literal["caller", "end_user", "team", "model", "route", "provider"], ...],
        Meta(description="What has slots of its own; the same slots for all if empty. `provider`: attempt lists only."),
    ] = ("caller",)
    queue: Annotated[int, Meta(ge=0, le=10**6, description="Calls that may wait for a slot.")] = 0
    wait: Annotated[float, Meta(ge=0, le=3600, description="Seconds a call may wait for a slot.")] = 5.0


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    limits: Annotated[tuple[Limit, ...], Meta(min_length=1, description="A call needs a slot of each.")]
    operations: Annotated[tuple[Operation, ...], Meta(description="What takes a slot.")] = (
        "chat",
        "text_completion",
        "embeddings",
    )


class Concurrency(Plugin[Settings]):
    """Holds a slot of each limit round the rest of the pipeline."""

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        names = [limit.name for limit in settings.limits]
        if len(set(names)) < len(names):
            raise ValueError("two limits have the same name")

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.operation not in self.settings.operations:
            return await handler(call)
        held = self.host.slots.hold([self._claim(limit, call) for limit in self.settings.limits])
        with call.waiting():
            await held.__aenter__()
        try:
            return await handler(call)
        finally:
            await held.__aexit__(None, None, None)

    def _claim(self, limit: Limit, call: Call) -> SlotClaim:
        return SlotClaim(self._key(limit, call), limit.calls, limit.queue, limit.wait)

    def _key(self, limit: Limit, call: Call) -> str:
        return "\x1f".join(["slots", limit.name, *(_WHO[kind](call) or _NONE for kind in limit.per)])


def _provider(call: Call) -> str:
    if call.attempt is None:
        raise RuntimeError("a limit per provider belongs in an attempt list: outside, no provider is chosen yet")
    return call.attempt.provider


_WHO: dict[str, Callable[[Call], str | None]] = {
    "caller": lambda call: call.caller.name,
    "end_user": lambda call: call.end_user,
    "team": lambda call: call.caller.team,
    "model": lambda call: call.model,
    "route": lambda call: call.route,
    "provider": _provider,
}
