"""The playground's entry: a call that the console makes, answered as on the clients' listener.

It is handed to the same application that clients meet, so it passes the whole pipeline, with all its limits, and is
recorded. That application is made when the first such call comes.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from sidegate.http.app import make_app
from sidegate.service import Service

PATH: Final = "/admin/playground"

CLIENT_AUTHORIZATION: Final = "x-sidegate-client-authorization"
"""Request header: the call's own `Authorization`, where the admin's key stands in that one."""

_OF_THE_PAGE: Final = ("authorization", "cookie", "origin", "referer", CLIENT_AUTHORIZATION)
"""What a browser says of the console's page, and no client says."""


def add_playground(app: web.Application, service: Service) -> None:
    """`POST /admin/playground/...`: below it the paths of the clients' listener."""
    made: list[web.Application] = []

    async def call(request: web.Request) -> web.StreamResponse:
        if not made:
            clients = make_app(service)
            clients.freeze()
            made.append(clients)
        return await made[0]._handle(as_client(request))

    app.router.add_post(PATH + "/{path:.+}", call)


def as_client(request: web.Request) -> web.Request:
    """The request as a client would have sent it. Raises 404 for what is no path."""
    headers = CIMultiDict(request.headers)
    given = headers.getall(CLIENT_AUTHORIZATION, [])
    for name in {name for name in headers if name.lower().startswith("sec-fetch-")}.union(_OF_THE_PAGE):
        headers.popall(name, None)
    for value in given:
        headers.add("Authorization", value)
    path = request.rel_url.raw_path.removeprefix(PATH)
    if path.startswith("//"):
        # Would be read as the name of a host.
        raise web.HTTPNotFound
    target = f"{path}?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else path
    return request.clone(rel_url=target, headers=headers)
