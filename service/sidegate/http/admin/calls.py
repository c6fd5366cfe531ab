"""Calls of all callers, by HTTP: on record, in flight, one with its attempts and its trail; and stopping one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from aiohttp import web
from msgspec import Struct

from sidegate.errors import BadRequest, Refusal
from sidegate.http.admin.answers import CALL, Page, asked, no_parameters, rows_asked, said
from sidegate.in_flight import InFlight
from sidegate.ledger.records import CallsAsked
from sidegate.ledger.report_query import MAX_TEXT, moment
from sidegate.ledger.rows import AttemptRow, CallRow
from sidegate.service import Service
from sidegate.telemetry.trails import Trail

FILTERS: Final = (
    "caller",
    "key_id",
    "team",
    "end_user",
    "model",
    "provider",
    "route",
    "operation",
    "dialect",
    "delivery",
    "ending",
    "error",
)
STATES: Final = ("in_flight", "settled", "unknown", "reserved")
PARAMETERS: Final = ("state", *FILTERS, "since", "until", "after", "limit")

_ID = re.compile(r"[0-9a-f]{32}")


class KnownCall(CallRow, frozen=True, kw_only=True):
    """A call that is over, as the ledger has it, with its attempts."""

    attempts: tuple[AttemptRow, ...] = ()
    trail: Trail | None = None
    """What each plugin did to it, where that is still remembered."""


class FlyingCalls(Page[InFlight], frozen=True, kw_only=True):
    """Calls in flight, oldest first."""

    complete: bool
    """Whether all gateways and workers of the store have been asked, and have answered."""


class StoppedCall(Struct, frozen=True, kw_only=True):
    """What became of a call that was stopped."""

    id: str
    state: Literal["ended", "in_flight"]
    """`in_flight`: it has not ended within 5 seconds."""
    ending: str | None


def add_calls(app: web.Application, current: Callable[[], Service]) -> None:
    """The routes of calls."""
    endpoint = _Calls(current)
    one = f"/admin/calls/{CALL}"
    app.router.add_get("/admin/calls", endpoint.page, allow_head=False)
    app.router.add_get(one, endpoint.one, allow_head=False)
    app.router.add_delete(one, endpoint.stop)
    app.router.add_get(f"{one}/trail", endpoint.trail, allow_head=False)


class _Calls:
    def __init__(self, current: Callable[[], Service]) -> None:
        self._current = current

    async def page(self, request: web.Request) -> web.Response:
        found = asked(request, PARAMETERS)
        limit = rows_asked(found)
        service = self._current()
        state = found.get("state")
        if state is not None and state not in STATES:
            raise BadRequest(f"`state` is one of {', '.join(STATES)}.", param="state")
        where: list[tuple[str, str]] = [(name, _text(found[name], name)) for name in FILTERS if name in found]
        if state == "in_flight":
            rows, complete = await service.calls.everywhere()
            return said(_flying(rows, complete, where, found, limit))
        if state is not None:
            where.append(("state", state))
        now = service.clock.now()
        wanted = CallsAsked(
            where=tuple(where),
            since=_moment(found, "since", now),
            until=_moment(found, "until", now),
            after=_after(found),
            limit=limit,
        )
        calls = await service.ground.books.calls(wanted)
        return said(Page(data=calls[:limit], next=calls[limit - 1].id if len(calls) > limit else None))

    async def one(self, request: web.Request) -> web.Response:
        no_parameters(request)
        service = self._current()
        id = request.match_info["id"]
        found = await service.calls.find_any(id)
        if isinstance(found, InFlight):
            return said(found)
        row, attempts = found
        fields = {name: getattr(row, name) for name in CallRow.__struct_fields__}
        return said(KnownCall(**fields, attempts=attempts, trail=service.ground.trails.find(id)))

    async def stop(self, request: web.Request) -> web.Response:
        no_parameters(request)
        service = self._current()
        id = request.match_info["id"]
        body = await service.calls.stop_any(id)
        service.log.write("call_stopped", {"by": "admin_api", "call": id})
        return said(body)

    async def trail(self, request: web.Request) -> web.Response:
        no_parameters(request)
        trails = self._current().ground.trails
        found = trails.find(request.match_info["id"])
        if found is None:
            message = f"Of this call nothing is remembered here: of the last {trails.most} of this process alone."
            raise Refusal(404, "trail_not_found", message)
        return said(found)


def _flying(
    rows: Sequence[InFlight], complete: bool, where: Sequence[tuple[str, str]], found: dict[str, str], limit: int
) -> FlyingCalls:
    for name in ("since", "until", "ending", "error"):
        if name in found:
            raise BadRequest(f"`{name}` says nothing of calls in flight.", param=name)
    after = _after(found)
    fit = [
        row
        for row in rows
        if all(getattr(row, name) == value for name, value in where) and (after is None or row.id > after)
    ]
    return FlyingCalls(data=fit[:limit], next=fit[limit - 1].id if len(fit) > limit else None, complete=complete)


def _moment(found: dict[str, str], name: str, now: datetime) -> datetime | None:
    return None if name not in found else moment(found[name], name, ZoneInfo("UTC"), now)


def _after(found: dict[str, str]) -> str | None:
    after = found.get("after")
    if after is not None and not _ID.fullmatch(after):
        raise BadRequest("`after` is the id of a call.", param="after")
    return after


def _text(value: str, name: str) -> str:
    if len(value) > MAX_TEXT or "\0" in value or not _is_text(value):
        raise BadRequest(f"`{name}` is text of up to {MAX_TEXT} characters.", param=name)
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
