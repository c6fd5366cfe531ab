"""Keys as text, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sidegate.commands.table import table
from sidegate.contract.allowance import Allowance, RateAllowance
from sidegate.keys.key import Shown


def lines(keys: Sequence[Shown]) -> list[str]:
    """One line a key."""
    head = ("ID", "NAME", "OWNER", "TEAM", "STATE", "EXPIRES", "MAY USE")
    return table([head, *(_row(key) for key in keys)], indent="")


def one(key: Shown) -> list[str]:
    """All about one key."""
    rows = [
        ("id", key.id),
        ("name", key.name),
        ("owner", key.owner or "-"),
        ("team", key.team or "-"),
        ("tags", ", ".join(key.tags) or "-"),
        ("end users", "names them" if key.names_end_users else "not believed"),
        ("state", _state(key)),
        ("created", _said(key.created_at)),
        ("expires", _said(key.expires_at) if key.expires_at is not None else "never"),
        ("may use", "; ".join(_allowed(key.allowance)) or "all"),
    ]
    return table(rows)


def _row(key: Shown) -> tuple[str, ...]:
    expires = f"{key.expires_at.astimezone(UTC):%Y-%m-%d}" if key.expires_at is not None else "never"
    may = "; ".join(_allowed(key.allowance)) or "all"
    return key.id, key.name, key.owner or "", key.team or "", key.state, expires, may


def _state(key: Shown) -> str:
    if key.revoked_at is not None:
        return f"revoked {_said(key.revoked_at)}"
    if key.rotated_until is not None:
        return f"{key.state}; its old secret is good until {_said(key.rotated_until)}"
    return key.state


def _allowed(allowance: Allowance | None) -> Iterable[str]:
    if allowance is None:
        return
    if allowance.models:
        yield ", ".join(allowance.models)
    yield from (text for limit in allowance.limits for text in _rates(limit))
    if allowance.concurrency is not None:
        yield f"{allowance.concurrency} at a time"
    for budget in allowance.budgets:
        zone = "" if budget.timezone == "UTC" else f" ({budget.timezone})"
        yield f"{budget.amount_usd} USD/{budget.period}{zone}{'' if budget.hard else ', soft'}"


def _rates(limit: RateAllowance) -> Iterable[str]:
    for amount, what in (
        (limit.requests, "calls"),
        (limit.input_tokens, "input tokens"),
        (limit.output_tokens, "output tokens"),
    ):
        if amount is not None:
            yield f"{amount:,} {what}/{limit.period}"


def _said(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
