"""The application of the admin listener: health, metrics, and what only its key may do."""

from __future__ import annotations

from aiohttp import web
from prometheus_async.aio.web import server_stats
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from sidegate.http.admin.console import add_console
from sidegate.http.admin.guard import guard
from sidegate.http.admin.keys import add_keys
from sidegate.http.admin.reload import add_reload
from sidegate.http.admin.routes import add_administration
from sidegate.http.admin.usage import add_usage
from sidegate.http.health import add_health
from sidegate.http.openapi.route import add_openapi
from sidegate.http.outermost import outermost
from sidegate.http.playground import add_playground
from sidegate.http.server import SERVER
from sidegate.service import Service

_EOF = b"# EOF\n"


def make_admin_app(service: Service) -> web.Application:
    """The admin listener: health, metrics, and what only its key may do."""
    assert service.settings.admin is not None
    app = web.Application(middlewares=[outermost, guard(service.settings.admin, service.log)])
    add_health(app, service)

    async def metrics(request: web.Request) -> web.Response:
        """The process's own metrics by prometheus-async, and the gateway's from its registry."""
        response = await server_stats(request)
        registry = service.metrics.registry
        shared = response.body if isinstance(response.body, bytes) else b""
        if response.content_type == "application/openmetrics-text":
            response.body = shared.removesuffix(_EOF) + openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        else:
            response.body = shared + generate_latest(registry)
        response.headers["Server"] = SERVER
        return response

    app.router.add_get("/metrics", metrics)
    add_usage(app, service)
    add_keys(app, service)
    add_administration(app, service)
    add_reload(app, service)
    add_console(app)
    add_playground(app, service)
    add_openapi(app, service, admin=True)
    return app
