"""Usage by HTTP: what its URLs say, and the report of all callers on the admin listener."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from aiohttp import web
from msgspec import Raw

from sidegate.errors import BadRequest
from sidegate.http.server import SERVER
from sidegate.ledger.report_query import read_query
from sidegate.ledger.report_text import as_csv, as_json
from sidegate.service import Service

_OFFSET = re.compile(r"(:[0-9]{2}(?:\.[0-9]+)?) ([0-9]{2}:?[0-9]{2})$")


def parameters(request: web.Request) -> dict[str, list[str]]:
    """What the URL asks for, each name with all its values, in order."""
    found: dict[str, list[str]] = {}
    for name, value in request.query.items():
        # In a query `+` is a space, but who writes 10:00+01:00 by hand means what stands there.
        text = _OFFSET.sub(r"\1+\2", value) if name in ("since", "until") else value
        found.setdefault(name, []).append(text)
    return found


def fields(request: web.Request) -> Mapping[str, Raw]:
    """The same as the fields of a call."""
    return {name: Raw(msgspec.json.encode(values)) for name, values in parameters(request).items()}


def add_usage(app: web.Application, service: Service) -> None:
    """`GET /admin/usage`: all callers' usage, as JSON or CSV."""

    async def usage(request: web.Request) -> web.Response:
        asked = parameters(request)
        form = asked.pop("format", ["json"])
        if form not in (["json"], ["csv"]):
            raise BadRequest("`format` is json or csv.", param="format")
        report = await service.reports.report(read_query(asked, service.clock.now()))
        headers = {"Server": SERVER, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        if form == ["json"]:
            return web.Response(body=as_json(report), content_type="application/json", headers=headers)
        headers["Content-Disposition"] = 'attachment; filename="usage.csv"'
        return web.Response(text=as_csv(report), content_type="text/csv", charset="utf-8", headers=headers)

    app.router.add_get("/admin/usage", usage, allow_head=False)
