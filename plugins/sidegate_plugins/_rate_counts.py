"""The counts of `rate_limit`: what a limit counts, for whom, and how much of it a call is taken to need."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from sidegate.contract import (
    BYTES_PER_TOKEN,
    Attempt,
    Call,
    Grant,
    Host,
    OnStoreFailure,
    RateAllowance,
    RateClaim,
    spent,
)
from sidegate_plugins._token_bound import most_input, most_output, said

Kind: TypeAlias = Literal["requests", "input", "output"]
Estimate: TypeAlias = Literal["likely", "most"]

SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
SPENDING = frozenset(("chat", "text_completion", "embeddings", "realtime_response"))

_NONE = "\x00"
"""Stands for what a call has not got, such as an end user: no name can be this."""

_WORDS: dict[Kind, str] = {"requests": "requests", "input": "input tokens", "output": "output tokens"}
_FIRST: dict[Kind, str] = {"requests": "rate", "input": "rate.input", "output": "rate.output"}


class Holding(NamedTuple):
    """How a limit is held."""

    estimate: Estimate
    wait: float
    on_store_failure: OnStoreFailure


class Count:
    """One number that may not be passed: requests, input or output tokens, in a period."""

    __slots__ = (
        "_failing",
        "_first",
        "bounds",
        "holding",
        "item",
        "kind",
        "limit",
        "name",
        "period",
        "policy",
        "said",
        "told",
        "unit",
        "wait",
    )

    def __init__(self, name: str, kind: Kind, limit: int, period: float, holding: Holding) -> None:
        self.kind = kind
        self.limit = limit
        self.period = period
        self.holding = holding
        self.wait = holding.wait
        # A limit has up to three counts. `:` is in no name of a limit, so each has a name of its own.
        self.name = name if kind == "requests" else f"{name}:{kind}"
        self.unit = "requests" if kind == "requests" else "tokens"
        self.bounds = kind == "output" and holding.estimate == "most"
        """Whether the reply must have a limit of its own, for the estimate to hold."""
        unit = "" if kind == "requests" else ';qu="tokens"'
        self.policy = f'"{self.name}";q={limit};w={math.ceil(period)}{unit}'
        self.item = f'"{self.name}";r='
        """What it is told by, up to how much is left."""
        self.told = str(limit)
        self._first = f"{_FIRST[kind]}\x1f"
        self._failing = holding.on_store_failure
        self.said = f"{limit} {_WORDS[kind]} in {period:g} s"

    def claim(self, who: str, amount: int) -> RateClaim:
        return RateClaim(self._first + who, self.limit, self.period, amount, self._failing)

    def amount(self, call: Call, default: int) -> int | None:
        """How much of it one attempt at the call is taken to need; `None` where it needs nothing of the kind."""
        if self.kind == "requests":
            return 1
        if call.operation not in SPENDING or (self.kind == "output" and call.operation == "embeddings"):
            return None
        if self.holding.estimate == "most":
            return most_input(call) if self.kind == "input" else most_output(call, default)
        if call.asked.tokens is not None:
            return call.asked.tokens[0 if self.kind == "input" else 1]
        if self.kind == "input":
            return -(-len(call.asked.body) // BYTES_PER_TOKEN)
        asked = max(said(call), default=0)
        return asked if asked > 0 else default


class Standing(Struct, frozen=True, gc=False):
    """A count, what was claimed of it, and what it answered."""

    what: Count
    claim: RateClaim
    grant: Grant


class Limits:
    """A limit, made ready: which calls it is for, and its counts."""

    def __init__(self, name: str, counts: Sequence[Count], per: Sequence[str], models: Sequence[str]) -> None:
        self.name = name
        self.counts = counts
        self._per = [_WHO[kind] for kind in per]
        self._exact = frozenset(models)
        self._beginnings = tuple(model[:-1] for model in models if model.endswith("*"))

    def fits(self, model: str) -> bool:
        return not self._exact or model in self._exact or model.startswith(self._beginnings)

    def who(self, call: Call, host: Host) -> str:
        """Whose count it is."""
        whose = self.name
        for who in self._per:
            whose = f"{whose}\x1f{who(call, host) or _NONE}"
        return whose


def counts(name: str, amounts: Sequence[int | None], period: float, holding: Holding) -> tuple[Count, ...]:
    """Of requests, input and output tokens those that are set."""
    kinds: tuple[Kind, ...] = ("requests", "input", "output")
    return tuple(
        Count(name, kind, amount, period, holding)
        for kind, amount in zip(kinds, amounts, strict=True)
        if amount is not None
    )


def allowed(limits: tuple[RateAllowance, ...], holding: Holding) -> tuple[Count, ...]:
    """The counts of what a key or a token lets its bearer use."""
    found: list[Count] = []
    for limit in limits:
        amounts = limit.requests, limit.input_tokens, limit.output_tokens
        found += counts(f"key-{limit.period}", amounts, SECONDS[limit.period], holding)
    return tuple(found)


def bearer(call: Call, count: Count) -> str:
    """Whose count of an allowance it is: the key's, else the caller's. `:` and `=` are in no limit's name."""
    caller = call.caller
    who = f"key={caller.key_id}" if caller.key_id is not None else f"name={caller.name}"
    return f":{count.name}\x1f{who}"


def used(attempts: Sequence[Attempt], call: Call, count: Count, claimed: int) -> int:
    """What these attempts took of it. Of one that nobody knows the claim is kept."""
    return sum(_of(attempt, call, count, claimed) for attempt in attempts)


def _of(attempt: Attempt, call: Call, count: Count, claimed: int) -> int:
    usage = spent(attempt, call.operation)
    tokens = usage.input_tokens if count.kind == "input" else usage.output_tokens
    return claimed if tokens is None else tokens


def _configured(call: Call, host: Host) -> str | None:
    """The name or pattern of the config that the model goes by: names nobody configured must not fill the memory."""
    names = [known.name for known in host.models]
    if call.model in names:
        return call.model
    return max(_fitting(call.model, names), key=len, default=None)


def _fitting(model: str, names: Sequence[str]) -> Iterator[str]:
    return (name for name in names if name.endswith("*") and model.startswith(name[:-1]))


_WHO: dict[str, Callable[[Call, Host], str | None]] = {
    "caller": lambda call, _: call.caller.name,
    "end_user": lambda call, _: call.end_user,
    "key": lambda call, _: call.caller.key_id,
    "team": lambda call, _: call.caller.team,
    "model": _configured,
    "route": lambda call, _: call.route,
}
