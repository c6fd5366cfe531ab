"""How many calls a caller, end user, team, model or route may make in a while. More get 429 and are told when to retry.

A leaky bucket for each of them: a burst up to the limit, then a steady pace. Put it inside `api_key` and outside
whatever costs something. Several limits count together: a call takes from all of them, or from none.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from sidegate.contract import Call, Handler, Host, Plugin, RateClaim, Reply
from sidegate.errors import Refusal
from sidegate_plugins._rate_headers import Standing, tell

_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_NONE = "\x00"
"""Stands for what a call has not got, such as an end user: no name can be this."""

Pattern = Annotated[str, Meta(min_length=1, pattern=r"^[^*]*\*?$")]
Operation = Literal["chat", "text_completion", "embeddings", "models", "calls", "usage"]


class Limit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One limit."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Its name in headers and messages.")]
    requests: Annotated[int, Meta(ge=1, le=10**9, description="Calls in a period.")]
    period: Annotated[
        Annotated[float, Meta(ge=0.001, le=31 * 86_400)] | Literal["second", "minute", "hour", "day"],
        Meta(description="Seconds, or a word."),
    ]
    per: Annotated[
        tuple[Literal["caller", "end_user", "key", "team", "model", "route"], ...],
        Meta(description="What has a count of its own; one count for all if empty."),
    ] = ("caller",)
    models: Annotated[tuple[Pattern, ...], Meta(description="Only for these models, which may end in `*`.")] = ()
    wait: Annotated[float, Meta(ge=0, le=3600, description="Seconds a call may wait for room before 429.")] = 0.0


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    limits: Annotated[tuple[Limit, ...], Meta(min_length=1, description="All must have room.")]
    operations: Annotated[tuple[Operation, ...], Meta(description="What counts as a call.")] = (
        "chat",
        "text_completion",
        "embeddings",
    )


class RateLimit(Plugin[Settings]):
    """Takes from every limit that fits the call, waits where it may, or refuses."""

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        names = [limit.name for limit in settings.limits]
        if len(set(names)) < len(names):
            raise ValueError("two limits have the same name")
        self._limits = tuple(_Limit(limit) for limit in settings.limits)

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.operation not in self.settings.operations:
            return await handler(call)
        claims = [limit.claim(call, self.host) for limit in self._limits if limit.fits(call.model)]
        if claims:
            tell(call.reply_headers, await self._taken(call, claims))
        return await handler(call)

    async def _taken(self, call: Call, claims: list[_Claim]) -> list[Standing]:
        began = self.host.clock.monotonic()
        while True:
            grants = await self.host.rates.take([claim for _, claim in claims])
            standings = [
                Standing(limit.name, claim, grant) for (limit, claim), grant in zip(claims, grants, strict=True)
            ]
            short = [(limit, grant) for (limit, _), grant in zip(claims, grants, strict=True) if not grant.allowed]
            if not short:
                return standings
            waited = self.host.clock.monotonic() - began
            if any(waited + grant.retry_after > limit.wait for limit, grant in short):
                raise _refusal(standings)
            with call.waiting():
                await sleep(max(grant.retry_after for _, grant in short))


class _Limit:
    def __init__(self, limit: Limit) -> None:
        self.name = limit.name
        self.requests = limit.requests
        self.period = _SECONDS[limit.period] if isinstance(limit.period, str) else limit.period
        self.wait = limit.wait
        self._per = [_WHO[kind] for kind in limit.per]
        self._exact = frozenset(limit.models)
        self._beginnings = tuple(model[:-1] for model in limit.models if model.endswith("*"))

    def fits(self, model: str) -> bool:
        return not self._exact or model in self._exact or model.startswith(self._beginnings)

    def claim(self, call: Call, host: Host) -> _Claim:
        key = "\x1f".join(["rate", self.name, *[who(call, host) or _NONE for who in self._per]])
        return self, RateClaim(key, self.requests, self.period)


def _configured(call: Call, host: Host) -> str | None:
    """The name or pattern of the config that the model goes by: names nobody configured must not fill the memory."""
    names = [known.name for known in host.models]
    if call.model in names:
        return call.model
    return max(
        (name for name in names if name.endswith("*") and call.model.startswith(name[:-1])), key=len, default=None
    )


_WHO: dict[str, Callable[[Call, Host], str | None]] = {
    "caller": lambda call, _: call.caller.name,
    "end_user": lambda call, _: call.end_user,
    "key": lambda call, _: call.caller.key_id,
    "team": lambda call, _: call.caller.team,
    "model": _configured,
    "route": lambda call, _: call.route,
}


_Claim: TypeAlias = tuple[_Limit, RateClaim]


def _refusal(standings: list[Standing]) -> Refusal:
    shortest = max(standings, key=lambda standing: standing.grant.retry_after)
    headers: dict[str, str] = {}
    tell(headers, standings)
    return Refusal(
        429,
        "rate_limit_exceeded",
        f"Rate limit {shortest.name!r} exceeded: {shortest.claim.limit} requests in {shortest.claim.period:g} s.",
        retry_after=shortest.grant.retry_after,
        headers=headers,
    )
