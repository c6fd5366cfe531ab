"""`POST /admin/reload`: read the config again. The guard asks for the admin's key."""

from __future__ import annotations

import msgspec
from aiohttp import web

from sidegate.errors import BadRequest
from sidegate.http.server import SERVER
from sidegate.service import Service


def add_reload(app: web.Application, service: Service) -> None:
    """200 with the generation that is in force now and what has changed; 409 and 422 say why nothing has."""

    async def reload(request: web.Request) -> web.Response:
        if request.query or request.can_read_body:
            raise BadRequest("A reload reads the gateway's own files: send neither parameters nor a body.")
        done = await service.ground.reload("admin")
        body = {"object": "reload", "generation": done.generation, "changed": done.changed}
        headers = {"Server": SERVER, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=msgspec.json.encode(body), content_type="application/json", headers=headers)

    app.router.add_post("/admin/reload", reload)
