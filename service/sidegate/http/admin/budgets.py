"""Budgets with what is left of them, by HTTP. Plugins say what they allow, the ledger what was spent and is held."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import msgspec
from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from sidegate.contract.caller import Caller
from sidegate.contract.reservations import BudgetLimit
from sidegate.errors import BadRequest, SidegateError
from sidegate.http.admin.answers import Page, asked, rows_asked, said
from sidegate.keys.key import Shown
from sidegate.ledger.records import Spent, Subject
from sidegate.service import Service

PARAMETERS = ("budget", "after", "limit")
MOST_ROWS = 500


class ShownBudget(Struct, frozen=True, kw_only=True):
    """A budget of one subject in its present period. Money is integer nano-USD."""

    budget: str
    pipeline: str | None
    """Null where no plugin in force knows the budget: it was in a config before, or its key is not known here."""
    subject: tuple[str, ...] | None
    """Whose share it is, by what `per` names; null where nobody has spent of it yet."""
    per: tuple[str, ...] | None
    key_id: str | None
    """The issued key that brings it."""
    period: str
    since: str
    """The first period that counts: another than `period` where it rolls."""
    limit_nano_usd: int | None
    spent_nano_usd: int
    held_nano_usd: int
    """By calls in flight, and by those whose cost nobody knows."""
    left_nano_usd: int | None
    overshoot_nano_usd: int
    """What calls have cost beyond what they held; a part of what is spent."""
    hard: bool | None
    resets_at: datetime | None
    """Null where it rolls."""


class _Known(NamedTuple):
    """A limit, and the pipeline whose plugin told it."""

    limit: BudgetLimit
    pipeline: str
    key_id: str | None = None


def add_budgets(app: web.Application, current: Callable[[], Service]) -> None:
    """`GET /admin/budgets`."""

    async def budgets(request: web.Request) -> web.Response:
        found = asked(request, PARAMETERS)
        limit = rows_asked(found, default=100, most=MOST_ROWS)
        return said(await page(current(), _cursor(found.get("after")), limit, found.get("budget")))

    app.router.add_get("/admin/budgets", budgets, allow_head=False)


async def page(service: Service, after: tuple[str, str], limit: int, budget: str | None) -> Page[ShownBudget]:
    """Subjects that have spent in the present period, by budget; first those budgets nobody has spent of."""
    now = service.clock.now()
    declared = _declared(service, now)
    found = await service.ground.books.subjects(after, limit + 1, budget)
    more, found = len(found) > limit, found[:limit]
    known = [_known(declared, each) or await _of_key(service, each, now) for each in found]
    places = [
        (each.budget, each.subject, each.last if limits is None else limits.limit.since)
        for each, limits in zip(found, known, strict=True)
    ]
    spent = await service.ground.books.spent(places)
    rows = [
        _row(each, limits, sums)
        for each, limits, sums in zip(found, known, spent, strict=True)
        if limits is None or each.last >= limits.limit.since
    ]
    if after == ("", ""):
        rows = await _untouched(service, declared, budget) + rows
    last = found[-1] if found else None
    return Page(data=rows, next=_named(last) if more and last is not None else None)


def _declared(service: Service, now: datetime) -> dict[tuple[str, str | None], _Known]:
    """Those that plugins know of, by name and subject; `None`: of each subject."""
    return {
        (limit.budget, limit.subject): _Known(limit, name)
        for name, pipeline in service.plugins.items()
        for loaded in pipeline.plugins
        for limit in loaded.plugin.budgets(now)
    }


def _known(declared: dict[tuple[str, str | None], _Known], found: Subject) -> _Known | None:
    return declared.get((found.budget, found.subject)) or declared.get((found.budget, None))


async def _of_key(service: Service, found: Subject, now: datetime) -> _Known | None:
    """The limit that an issued key brings, which has not called since the start."""
    names = _names(found.subject)
    if len(names) != 1:
        return None
    try:
        key: Shown = await service.desk.show(names[0])
    except SidegateError:
        return None
    caller = Caller(key.name, key_id=key.id, allowance=key.allowance)
    for name, pipeline in service.plugins.items():
        for loaded in pipeline.plugins:
            for limit in loaded.plugin.budgets(now, caller):
                if (limit.budget, limit.subject) == (found.budget, found.subject):
                    return _Known(limit, name, key.id)
    return None


def _row(found: Subject, known: _Known | None, spent: Spent) -> ShownBudget:
    limit = None if known is None else known.limit
    return ShownBudget(
        budget=found.budget,
        pipeline=None if known is None else known.pipeline,
        subject=_names(found.subject),
        per=None if limit is None else limit.per,
        key_id=_key_id(found, known),
        period=found.last if limit is None else limit.period,
        since=found.last if limit is None else limit.since,
        limit_nano_usd=None if limit is None else limit.limit,
        spent_nano_usd=spent.spent,
        held_nano_usd=spent.held,
        left_nano_usd=None if limit is None else max(0, limit.limit - spent.spent - spent.held),
        overshoot_nano_usd=spent.overshoot,
        hard=None if limit is None else limit.hard,
        resets_at=None if limit is None else limit.resets_at,
    )


async def _untouched(
    service: Service, declared: dict[tuple[str, str | None], _Known], budget: str | None
) -> list[ShownBudget]:
    """Those of the config that nobody has spent of in their present period."""
    every = [each for each in declared.values() if each.limit.subject is None and budget in (None, each.limit.budget)]
    touched = await service.ground.books.touched([(each.limit.budget, each.limit.since) for each in every])
    return [
        replace(_row(Subject(known.limit.budget, "[]", known.limit.period), known, Spent()), subject=None)
        for known, some in zip(every, touched, strict=True)
        if not some
    ]


def _key_id(found: Subject, known: _Known | None) -> str | None:
    if known is None or known.key_id is not None or known.limit.per != ("key",):
        return None if known is None else known.key_id
    names = _names(found.subject)
    return names[0] if names else None


def _names(subject: str) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(subject, type=tuple[str, ...])
    except msgspec.MsgspecError:
        return (subject,)


# --- pages ------------------------------------------------------------------------------------------------------------


def _named(last: Subject) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((last.budget, last.subject))).decode().rstrip("=")


def _cursor(text: str | None) -> tuple[str, str]:
    if text is None:
        return "", ""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(data, type=tuple[str, str])
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise BadRequest("`after` is what `next` of the page before said.", param="after") from error
