"""`GET /admin/usage`: what all callers have used."""

from __future__ import annotations

from aiohttp import web

from sidegate.errors import BadRequest
from sidegate.http.parameters import parameters
from sidegate.http.server import SERVER
from sidegate.ledger.report_query import read_query
from sidegate.ledger.report_text import as_csv, as_json
from sidegate.service import Service


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
