"""Allowance: what a key or a token lets its bearer use, beside what the config says of everybody.

The plugin that names the caller reads it, the plugins further in enforce it: `model_access` the models, `rate_limit`
the limits, `concurrency` the calls at a time, `cost` the budgets. Where one of them is missing, nothing would hold
what the key promises, so the call is refused: see `enforced`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from sidegate.errors import Refusal

Pattern = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^*]*\*?$")]
"""A model name, or its beginning and `*`."""

Enforced = Literal["models", "limits", "concurrency", "budgets"]
"""What a plugin may say that it enforces, in `Plugin.enforces`."""

Amount = Annotated[int, Meta(ge=1, le=10**12)]

NANO: Final = 10**9
_MOST_USD: Final = 10**8


def nano_usd(amount: str | int | float) -> int:
    """USD as integer nano-USD, exactly: a float counts as the decimal it is written as. Raises `ValueError`."""
    try:
        nano = Decimal(str(amount)) * NANO
    except ArithmeticError as error:
        raise ValueError("not a number") from error
    if not nano.is_finite() or not 0 <= nano <= _MOST_USD * NANO or nano != nano.to_integral_value():
        raise ValueError(f"must be 0 to {_MOST_USD:,}, no finer than 0.000000001")
    return int(nano)


def time_zone(name: str) -> tzinfo:
    """The zone of an IANA name, or `UTC`. Raises `ValueError`."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("no such time zone on this machine") from error


class RateAllowance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """So much in a time; at least one amount is set."""

    requests: Annotated[Amount | None, Meta(description="Calls in a period.")] = None
    input_tokens: Annotated[Amount | None, Meta(description="Tokens sent to providers in a period.")] = None
    output_tokens: Annotated[Amount | None, Meta(description="Tokens received from them in a period.")] = None
    period: Annotated[Literal["second", "minute", "hour", "day"], Meta(description="How long it is.")] = "minute"

    def __post_init__(self) -> None:
        if self.requests is self.input_tokens is self.output_tokens is None:
            raise ValueError("a limit needs `requests`, `input_tokens` or `output_tokens`")


class BudgetAllowance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """So many USD in a time."""

    amount_usd: Annotated[str | int | float, Meta(description="USD in each period; a string is a decimal.")]
    period: Annotated[Literal["day", "week", "month"], Meta(description="Weeks begin on Monday.")] = "month"
    timezone: Annotated[str, Meta(max_length=64, description="When days begin: `UTC`, or an IANA name.")] = "UTC"
    hard: Annotated[bool, Meta(description="Refuse what may go over it; otherwise only say so.")] = True

    def __post_init__(self) -> None:
        try:
            nano_usd(self.amount_usd)
        except ValueError as error:
            raise ValueError(f"`amount_usd`: {error}") from error
        try:
            time_zone(self.timezone)
        except ValueError as error:
            raise ValueError(f"`timezone`: {error}") from error


class Allowance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What its bearer may use. Each empty or null field restricts nothing.

    There is one limit of each kind for a period, and one hard and one soft budget for a period and time zone: by these
    counters and ledger tell them apart.
    """

    models: Annotated[
        tuple[Pattern, ...], Meta(max_length=1000, description="Models it may use; a name may end in `*`.")
    ] = ()
    limits: Annotated[tuple[RateAllowance, ...], Meta(max_length=16, description="All must have room.")] = ()
    concurrency: Annotated[Annotated[int, Meta(ge=1, le=10**6)] | None, Meta(description="Calls at a time.")] = None
    budgets: Annotated[tuple[BudgetAllowance, ...], Meta(max_length=16, description="All must have room.")] = ()

    def __post_init__(self) -> None:
        amounts = Counter(
            f"limits of {kind} a {limit.period}"
            for limit in self.limits
            for kind in ("requests", "input_tokens", "output_tokens")
            if getattr(limit, kind) is not None
        )
        budgets = Counter(
            f"{'hard' if budget.hard else 'soft'} budgets a {budget.period} ({budget.timezone})"
            for budget in self.budgets
        )
        for what, number in (amounts + budgets).items():
            if number > 1:
                raise ValueError(f"{number} {what}: there can be one")

    @property
    def needs(self) -> Iterator[Enforced]:
        """What must be enforced for it to hold."""
        if self.models:
            yield "models"
        if self.limits:
            yield "limits"
        if self.concurrency is not None:
            yield "concurrency"
        if self.budgets:
            yield "budgets"


ENFORCED_BY: dict[Enforced, str] = {
    "models": "model_access",
    "limits": "rate_limit",
    "concurrency": "concurrency",
    "budgets": "cost",
}
"""The plugin that comes with the gateway for each, for messages."""


def unenforced(allowance: Allowance | None, by: Iterable[str]) -> str | None:
    """What is missing where plugins that enforce `by` stand further in; `None` where nothing is."""
    if allowance is None:
        return None
    have = frozenset(by)
    missing = [need for need in allowance.needs if need not in have]
    if not missing:
        return None
    return ", ".join(f"{need} (plugin {ENFORCED_BY[need]})" for need in missing)


def require_enforced(allowance: Allowance | None, by: Iterable[str]) -> None:
    """Raises `Refusal` 403 `allowance_not_enforced` where a key promises what this pipeline does not hold."""
    missing = unenforced(allowance, by)
    if missing is not None:
        raise Refusal(
            403, "allowance_not_enforced", f"This key has restrictions that this route does not enforce: {missing}."
        )
