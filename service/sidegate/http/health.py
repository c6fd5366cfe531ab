"""Health. Probes never ask a provider or a database: they say what the gateway knows of itself."""

from __future__ import annotations

from aiohttp import web

from sidegate.http.server import SERVER
from sidegate.service import Service


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


def _troubles(service: Service) -> list[str]:
    """What is not as it should be, and keeps nobody from calling."""
    troubles = [] if service.counters.trouble is None else [service.counters.trouble]
    reloads = service.ground.reloads
    if reloads.error is not None:
        troubles.append(f"the last reload failed, config {reloads.generation} is in force: {reloads.error}")
    return troubles


def _say(well: bool, text: str) -> web.Response:
    return web.Response(status=200 if well else 503, text=text + "\n", headers={"Server": SERVER})
