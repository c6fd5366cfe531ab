"""`GET /openapi.json`. What makes the document is imported when somebody asks for it."""

from __future__ import annotations

import asyncio

from aiohttp import web

from sidegate.http.admin.answers import HEADERS, no_parameters
from sidegate.service import Service


def add_openapi(app: web.Application, service: Service, *, admin: bool) -> None:
    """Where a listener describes itself. Made once."""
    made: list[bytes] = []

    async def openapi(request: web.Request) -> web.Response:
        no_parameters(request)
        if not made:
            # It takes a moment, and streams must not wait for it.
            made.append(await asyncio.get_running_loop().run_in_executor(None, _made, service, app, admin))
        return web.Response(body=made[0], content_type="application/json", headers=HEADERS)

    app.router.add_get("/openapi.json", openapi, allow_head=False)


def _made(service: Service, app: web.Application, admin: bool) -> bytes:
    from sidegate.http.openapi.document import encoded

    return encoded(service, app, admin=admin)
