"""How much a caller, end user, team, model or route may use in a while: calls, tokens. More get 429, and when to retry.

A leaky bucket for each of them: a burst up to the limit, then a steady pace. Tokens are claimed by an estimate before
the provider is asked, and settled by what was used when the reply is over. Put it inside `api_key` and outside whatever
costs something. Several limits count together: a call takes from all of them, or from none. What a key or a token lets
its bearer use counts as limits of its own.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct, field

from sidegate.contract import Call, Enforced, Handler, Host, OnStoreFailure, Plugin, RateClaim, Reply
from sidegate.errors import Refusal, SidegateError
from sidegate_plugins._rate_counts import (
    SECONDS,
    SPENDING,
    Count,
    Estimate,
    Holding,
    Limits,
    Standing,
    allowed,
    bearer,
    counts,
)
from sidegate_plugins._rate_counts import used as used_of
from sidegate_plugins._rate_headers import tell
from sidegate_plugins._token_bound import bounded

Pattern = Annotated[str, Meta(min_length=1, pattern=r"^[^*]*\*?$")]
Operation = Literal[
    "chat",
    "text_completion",
    "embeddings",
    "models",
    "calls",
    "usage",
    "get_response",
    "delete_response",
    "cancel_response",
    "list_input_items",
    "realtime",
    "realtime_response",
]
Amount = Annotated[int, Meta(ge=1, le=10**12)]

Estimated = Annotated[
    Estimate,
    Meta(description="Of tokens claimed before: `likely` may pass the limit by what was estimated short; `most` not."),
]
Wait = Annotated[float, Meta(ge=0, le=3600, description="Seconds a call may wait for room before 429.")]
Failing = Annotated[
    OnStoreFailure, Meta(description="While the shared store is away: let all through, refuse all, or count here.")
]


class Limit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One limit: of calls, of tokens, or of both, each with a count of its own."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Its name in headers and messages.")]
    requests: Annotated[Amount | None, Meta(description="Calls in a period.")] = None
    input_tokens: Annotated[Amount | None, Meta(description="Tokens sent to providers in a period.")] = None
    output_tokens: Annotated[Amount | None, Meta(description="Tokens received from them in a period.")] = None
    period: Annotated[
        Annotated[float, Meta(ge=0.001, le=31 * 86_400)] | Literal["second", "minute", "hour", "day"],
        Meta(description="Seconds, or a word."),
    ]
    per: Annotated[
        tuple[Literal["caller", "end_user", "key", "team", "model", "route"], ...],
        Meta(description="What has a count of its own; one count for all if empty."),
    ] = ("caller",)
    models: Annotated[tuple[Pattern, ...], Meta(description="Only for these models, which may end in `*`.")] = ()
    estimate: Estimated = "likely"
    wait: Wait = 0.0
    on_store_failure: Failing = "local"

    def __post_init__(self) -> None:
        if self.requests is self.input_tokens is self.output_tokens is None:
            raise ValueError("a limit needs `requests`, `input_tokens` or `output_tokens`")


class OfKeys(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the limits are held that a key or a token brings."""

    estimate: Estimated = "likely"
    wait: Wait = 0.0
    on_store_failure: Failing = "local"


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    limits: Annotated[
        tuple[Limit, ...], Meta(description="All must have room; empty: only what keys and tokens bring.")
    ] = ()
    of_keys: Annotated[OfKeys, Meta(description="How the limits are held that a key or a token brings.")] = field(
        default_factory=OfKeys
    )
    default_max_tokens: Annotated[
        int,
        Meta(ge=1, le=10**6, description="Output expected where a client sets no limit; by `most`, the limit it gets."),
    ] = 4096
    operations: Annotated[tuple[Operation, ...], Meta(description="What counts as a call.")] = (
        "chat",
        "text_completion",
        "embeddings",
        "realtime",
        "realtime_response",
    )


Held: TypeAlias = list[tuple[Count, list[RateClaim]]]
"""What all attempts have claimed of tokens."""


class RateLimit(Plugin[Settings]):
    """Takes from every limit that fits, waits where it may, or refuses; settles tokens when the reply is over."""

    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job", "socket"})
    enforces: ClassVar[frozenset[Enforced]] = frozenset({"limits"})

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        names = [limit.name for limit in settings.limits]
        if len(set(names)) < len(names):
            raise ValueError("two limits have the same name")
        if host.workers > 1 and not host.shared:
            raise ValueError(f"per-process limits with {host.workers} workers: set counters.url")
        self._limits = tuple(_ready(limit) for limit in settings.limits)
        own = settings.of_keys
        holding = Holding(own.estimate, own.wait, own.on_store_failure)
        self._allowed = lru_cache(maxsize=1024)(partial(allowed, holding=holding))

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        found = self._counts(call)
        if not found:
            return await handler(call)
        before = 0 if call.asked.begun else len(call.attempts)
        counts, claims = self._claims(call, found)
        standings = await self._taken(call, counts, claims)
        tell(call.reply_headers, standings)
        tokens: Held = []
        for standing in standings:
            if standing.what.kind != "requests":
                tokens.append((standing.what, [standing.claim]))
        if not tokens:
            return await handler(call)
        return await self._settled(call, handler, tokens, before)

    def _counts(self, call: Call) -> list[tuple[Count, str]]:
        """Those that fit the call, and whose they are."""
        found: list[tuple[Count, str]] = []
        for limit in self._limits if call.operation in self.settings.operations else ():
            if limit.fits(call.model):
                who = limit.who(call, self.host)
                for count in limit.counts:
                    found.append((count, who))
        allowance = call.caller.allowance
        if allowance is not None and allowance.limits and self._holds_keys(call):
            found += [(count, bearer(call, count)) for count in self._allowed(allowance.limits)]
        return found

    def _holds_keys(self, call: Call) -> bool:
        """What a key brings is for whole calls that spend, whatever `operations` says; the innermost counts it."""
        return call.attempt is None and call.operation in SPENDING and "limits" not in self.host.enforced

    def _claims(self, call: Call, found: Sequence[tuple[Count, str]]) -> tuple[list[Count], list[RateClaim]]:
        """The counts that one attempt needs something of, and what it claims of each."""
        default = self.settings.default_max_tokens
        for count, _ in found:
            if count.bounds:
                bounded(call, default)
                break
        counts: list[Count] = []
        claims: list[RateClaim] = []
        for count, who in found:
            amount = count.amount(call, default)
            if amount is not None:
                counts.append(count)
                claims.append(count.claim(who, amount))
        return counts, claims

    async def _taken(self, call: Call, counts: Sequence[Count], claims: Sequence[RateClaim]) -> list[Standing]:
        began = self.host.clock.monotonic()
        while True:
            grants = await self.host.rates.take(claims)
            assert len(grants) == len(claims)
            standings = list(map(Standing, counts, claims, grants))
            short: list[Standing] = []
            for standing in standings:
                if not standing.grant.allowed:
                    short.append(standing)
            if not short:
                return standings
            waited = self.host.clock.monotonic() - began
            if any(_never(one) or waited + one.grant.retry_after > one.what.wait for one in short):
                raise _refusal(standings, short)
            with call.waiting():
                await sleep(max(one.grant.retry_after for one in short))

    async def _settled(self, call: Call, handler: Handler, tokens: Held, before: int) -> Reply:
        """Tokens are settled by what all attempts of this run used, as the ledger has it, whatever the end."""
        opening = partial(self._opening, call, tokens, before)
        call.notes.openings.append(opening)
        try:
            return await handler(call)
        finally:
            call.notes.openings.remove(opening)
            attempts = call.attempts[before:] if call.attempt is None else [call.attempt]
            for count, held in tokens:
                self._correct(held, used_of(attempts, call, count, held[0].amount))

    async def _opening(self, call: Call, tokens: Held, before: int, attempt: Call) -> None:
        """Another attempt is another claim, where a limit is never to be passed; else its use is settled after."""
        if call.attempt is not None or len(call.attempts) - before < 2:
            return
        again = [(count, held) for count, held in tokens if count.holding.estimate == "most"]
        if not again:
            return
        try:
            await self._taken(attempt, [count for count, _ in again], [held[0] for _, held in again])
        except SidegateError as error:
            error.plugin = error.plugin or (call.notes.frame.name if call.notes.frame is not None else None)
            raise
        for _, held in again:
            held.append(held[0])

    def _correct(self, held: list[RateClaim], used: int) -> None:
        """One after the other up to what was claimed; the last takes what is over."""
        for claim in held[:-1]:
            self.host.rates.correct(claim, min(used, claim.amount))
            used = max(0, used - claim.amount)
        self.host.rates.correct(held[-1], used)


def _ready(limit: Limit) -> Limits:
    period = SECONDS[limit.period] if isinstance(limit.period, str) else limit.period
    holding = Holding(limit.estimate, limit.wait, limit.on_store_failure)
    amounts = limit.requests, limit.input_tokens, limit.output_tokens
    return Limits(limit.name, counts(limit.name, amounts, period, holding), limit.per, limit.models)


def _never(standing: Standing) -> bool:
    """More than the limit is: no waiting helps."""
    return standing.claim.amount > standing.what.limit


def _refusal(standings: list[Standing], short: list[Standing]) -> Refusal:
    worst = max(short, key=lambda standing: (_never(standing), standing.grant.retry_after))
    count, claim, grant = worst.what, worst.claim, worst.grant
    headers: dict[str, str] = {}
    tell(headers, standings)
    message = f"Rate limit {count.name!r} exceeded: {count.said}."
    if count.kind != "requests":
        message = f"{message[:-1]}; this call may need {claim.amount}, and {grant.remaining} are left."
    if _never(worst):
        message += " It can never be let through as it is."
        headers["x-should-retry"] = "false"
    retry_after = None if _never(worst) else grant.retry_after
    return Refusal(429, "rate_limit_exceeded", message, retry_after=retry_after, headers=headers)
