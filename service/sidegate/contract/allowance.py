"""Allowance: what a key or a token lets its bearer use, beside what the config says of everybody.

The plugin that names the caller reads it, the plugins further in enforce it: `model_access` the models, `rate_limit`
the limits, `concurrency` the calls at a time, `cost` the budgets. Where one of them is missing, nothing would hold
what the key promises, so the call is refused: see `enforced`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sidegate.errors import Refusal

Pattern = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^*]*\*?$")]
"""A model name, or its beginning and `*`."""

Enforced = Literal["models", "limits", "concurrency", "budgets"]
"""What a plugin may say that it enforces, in `Plugin.enforces`."""

Amount = Annotated[int, Meta(ge=1, le=10**12)]


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


class Allowance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What its bearer may use. Each empty or null field restricts nothing."""

    models: Annotated[
        tuple[Pattern, ...], Meta(max_length=1000, description="Models it may use; a name may end in `*`.")
    ] = ()
    limits: Annotated[tuple[RateAllowance, ...], Meta(max_length=16, description="All must have room.")] = ()
    concurrency: Annotated[Annotated[int, Meta(ge=1, le=10**6)] | None, Meta(description="Calls at a time.")] = None
    budgets: Annotated[tuple[BudgetAllowance, ...], Meta(max_length=16, description="All must have room.")] = ()

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


BY: dict[Enforced, str] = {
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
    return ", ".join(f"{need} (plugin {BY[need]})" for need in missing)


def require_enforced(allowance: Allowance | None, by: Iterable[str]) -> None:
    """Raises `Refusal` 403 `allowance_not_enforced` where a key promises what this pipeline does not hold."""
    missing = unenforced(allowance, by)
    if missing is not None:
        raise Refusal(
            403, "allowance_not_enforced", f"This key has restrictions that this route does not enforce: {missing}."
        )
