"""Health and metrics. Probes never ask a provider or a database: they say what it knows of itself."""

from __future__ import annotations

from aiohttp import web
from prometheus_async.aio.web import server_stats
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from sidegate.http.admin_keys import add_keys
from sidegate.http.admin_reload import add_reload
from sidegate.http.administration import add_administration
from sidegate.http.console import add_console
from sidegate.http.guard import guard
from sidegate.http.openapi_route import add_openapi
from sidegate.http.outermost import outermost
from sidegate.http.playground import add_playground
from sidegate.http.server import SERVER
from sidegate.http.usage import add_usage
from sidegate.service import Service

_EOF = b"# EOF\n"


def add_health(app: web.Application, service: Service) -> None:
    """`/livez`: the process runs. `/readyz`: it takes calls; 503 while it starts or drains. `/healthz` is the same."""

    async def live(request: web.Request) -> web.Response:
        return _say(True, "live")

    async def ready(request: web.Request) -> web.Response:
        text = "ready" if service.ready else "not ready"
        if "verbose" in request.query:
            text += "".join(f"\n{trouble}" for trouble in _troubles(service))
        return _say(service.ready, text)

    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/healthz", ready)


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


def _troubles(service: Service) -> list[str]:
    """What is not as it should be, and keeps nobody from calling."""
    troubles = [] if service.counters.trouble is None else [service.counters.trouble]
    reloads = service.ground.reloads
    if reloads.error is not None:
        troubles.append(f"the last reload failed, config {reloads.generation} is in force: {reloads.error}")
    return troubles


def _say(well: bool, text: str) -> web.Response:
    return web.Response(status=200 if well else 503, text=text + "\n", headers={"Server": SERVER})
