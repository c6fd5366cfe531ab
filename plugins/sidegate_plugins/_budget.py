"""Budgets: what may be spent, by whom, in which time. The settings, and the period a moment belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import product
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from sidegate.contract import BudgetAllowance, BudgetLimit, Call, nano_usd, time_zone

BUCKETS: Final = 12
"""A rolling window moves in steps of a twelfth of itself."""

By: TypeAlias = Literal["caller", "end_user", "key", "team", "tag", "model", "route"]


class Rolling(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The last hours, whenever it is."""

    hours: Annotated[int, Meta(ge=1, le=8760, description="How many; counted in steps of a twelfth of them.")]


class Budget(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An amount for a time, shared by all calls or by those of one caller, team, ... each."""

    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="What ledger and metrics call it; keeps it."),
    ]
    amount_usd: Annotated[str | int | float, Meta(description="USD in each period; a string is a decimal.")]
    per: Annotated[tuple[By, ...], Meta(description="Whose: each combination has the whole amount. Empty: one.")] = ()
    period: Annotated[
        Literal["day", "week", "month"] | Rolling,
        Meta(description="Weeks begin on Monday; or `{hours: N}`, rolling."),
    ] = "month"
    timezone: Annotated[str, Meta(description="When days begin: `UTC`, or an IANA name.")] = "UTC"
    hard: Annotated[bool, Meta(description="Refuse what may go over it; otherwise only say so.")] = True
    models: Annotated[
        tuple[str, ...], Meta(description="Names that calls ask for and that count; a name may end in `*`.")
    ] = ("*",)


class Ready:
    """A budget, checked. Raises `ValueError` where it cannot work."""

    def __init__(self, budget: Budget) -> None:
        self.name = budget.name
        self.hard = budget.hard
        self.limit = _nano(budget)
        self.per = budget.per
        self._period = budget.period
        self._zone = _zone(budget)
        self._exact = frozenset(name for name in budget.models if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in budget.models if name.endswith("*"))

    def covers(self, model: str) -> bool:
        """Whether calls that ask for this name count."""
        return model in self._exact or model.startswith(self._prefixes)

    def subjects(self, call: Call) -> Iterator[str]:
        """Whose share a call takes from: one, or one for each of its caller's tags. Nobody is a subject too."""
        for values in product(*(_values(by, call) for by in self.per)):
            yield msgspec.json.encode(values).decode()

    def period(self, now: datetime) -> tuple[str, str]:
        """The period a moment belongs to, and the first that counts with it. As text, both sort by time."""
        if isinstance(self._period, Rolling):
            return _rolling(now, self._period.hours)
        local = now.astimezone(self._zone)
        if self._period == "month":
            name = local.strftime("%Y-%m")
        else:
            name = (local.date() - timedelta(days=local.weekday() if self._period == "week" else 0)).isoformat()
        return name, name

    def resets(self, now: datetime) -> datetime | None:
        """When the period ends that a moment belongs to, UTC; a rolling one has no end."""
        if isinstance(self._period, Rolling):
            return None
        day = now.astimezone(self._zone).date()
        if self._period == "month":
            day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        else:
            day += timedelta(days=7 - day.weekday() if self._period == "week" else 1)
        return datetime(day.year, day.month, day.day, tzinfo=self._zone).astimezone(UTC)

    def stands(self, now: datetime, subject: str | None = None) -> BudgetLimit:
        """What it allows at a moment."""
        period, since = self.period(now)
        return BudgetLimit(
            budget=self.name,
            subject=subject,
            per=self.per,
            period=period,
            since=since,
            limit=self.limit,
            hard=self.hard,
            resets_at=self.resets(now),
        )


def _rolling(now: datetime, hours: int) -> tuple[str, str]:
    """The present twelfth, and the twelve before it: what is older than the window and one step no longer counts."""
    step = hours * 3600 // BUCKETS
    begins = int(now.timestamp()) // step * step
    first, since = (datetime.fromtimestamp(at, UTC) for at in (begins, begins - BUCKETS * step))
    return first.strftime("%Y-%m-%dT%H:%M"), since.strftime("%Y-%m-%dT%H:%M")


def _values(by: By, call: Call) -> tuple[str, ...]:
    caller = call.caller
    if by == "tag":
        return tuple(_text(tag) for tag in dict.fromkeys(caller.tags)) or ("",)
    found = {
        "caller": caller.name,
        "end_user": call.end_user,
        "key": caller.key_id,
        "team": caller.team,
        "model": call.model,
        "route": call.route,
    }
    return (_text(found[by] or ""),)


def subject(*values: str) -> str:
    """Whose share it is, as the ledger has it."""
    return msgspec.json.encode([_text(value) for value in values]).decode()


def _text(value: str) -> str:
    """Fit for UTF-8: header values may hold surrogates, which no database takes."""
    return value[:256].encode("utf-8", "replace").decode()


def _nano(budget: Budget) -> int:
    try:
        return nano_usd(budget.amount_usd)
    except ValueError as error:
        raise ValueError(f"budgets.{budget.name}.amount_usd: {error}") from error


def _zone(budget: Budget) -> tzinfo:
    try:
        return time_zone(budget.timezone)
    except ValueError as error:
        raise ValueError(f"budgets.{budget.name}.timezone: {error}") from error


def allowed(budgets: Iterable[BudgetAllowance], by: By) -> tuple[Ready, ...]:
    """The budgets that a key or a token brings, counted `by` key, or by caller where it has no id.

    Their names are told from those of the config by the colon, and from each other by all that there can be one of: the
    ledger counts by name, subject and period.
    """
    return tuple(Ready(_allowed(budget, by)) for budget in budgets)


def _allowed(budget: BudgetAllowance, by: By) -> Budget:
    zone = () if budget.timezone == "UTC" else (budget.timezone,)
    return Budget(
        name=":".join((by, budget.period, *zone, *(() if budget.hard else ("soft",)))),
        amount_usd=budget.amount_usd,
        per=(by,),
        period=budget.period,
        timezone=budget.timezone,
        hard=budget.hard,
    )
