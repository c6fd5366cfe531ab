"""The application: which paths lead where, and what the rest is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from sidegate.errors import Refusal, SidegateError
from sidegate.http.calls import CallEndpoint
from sidegate.http.health import add_health
from sidegate.http.records import RecordEndpoint
from sidegate.http.replies import Voice
from sidegate.http.server import SERVER
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.wire.own import Own
from sidegate.wire.registry import DIALECTS

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

CALLS = {
    "/v1/chat/completions": "openai.chat",
    "/v1/completions": "openai.completions",
    "/v1/embeddings": "openai.embeddings",
    "/v1/messages": "anthropic.messages",
}
"""Client paths, below a route's prefix, and the dialect spoken there."""


def make_app(service: Service) -> web.Application:
    """The call routes of a service."""
    app = web.Application(middlewares=[_outermost], client_max_size=0)
    taken: set[tuple[str, str]] = set()
    for route in service.settings.routes:
        for path, endpoint, method in _endpoints(service, route):
            if (path, method) not in taken:
                taken.add((path, method))
                app.router.add_route(method, path, endpoint)
    add_health(app, service)
    return app


def _endpoints(service: Service, route: Route) -> list[tuple[str, Endpoint, str]]:
    handler = service.handlers[route.pipeline]
    served = route.operations or ("chat", "text_completion", "embeddings", "models", "calls")
    found: list[tuple[str, Endpoint, str]] = [
        (route.prefix + path, CallEndpoint(service, route, handler, DIALECTS[name]).answer, "POST")
        for path, name in CALLS.items()
        if DIALECTS[name].operation in served
    ]
    if "models" in served:
        models = _by_vendor(
            *(
                RecordEndpoint(service, route, handler, "models", DIALECTS[n]).answer
                for n in ("openai.chat", "anthropic.messages")
            )
        )
        found += [(route.prefix + "/v1/models", models, "GET"), (route.prefix + "/v1/models/{id:.+}", models, "GET")]
    if "calls" in served:
        calls = RecordEndpoint(service, route, handler, "calls", Own()).answer
        found.append((route.prefix + "/v1/calls/{id:[0-9a-f]{32}}", calls, "GET"))
    return found


def _by_vendor(openai: Endpoint, anthropic: Endpoint) -> Endpoint:
    """Two vendors ask for models at one path; only Anthropic's clients name an API version."""

    async def models(request: web.Request) -> web.StreamResponse:
        return await (anthropic if "anthropic-version" in request.headers else openai)(request)

    return models


@web.middleware
async def _outermost(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What no endpoint answered: unknown paths, wrong methods, and faults of the gateway. Always JSON."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method} is not allowed here."
        return _plain(request, Refusal(405, "method_not_allowed", message, headers={"Allow": allowed}))
    except web.HTTPNotFound:
        return _plain(request, Refusal(404, "not_found", "There is nothing at this path."))
    except web.HTTPException as error:
        return _plain(request, Refusal(error.status, "refused", error.reason))


def _plain(request: web.Request, error: SidegateError) -> web.Response:
    voice = _voice(request.path)
    kind = "application/problem+json" if voice.name == "sidegate" else "application/json"
    return web.Response(
        status=error.status,
        body=voice.write_error(error, ""),
        content_type=kind,
        headers={"Server": SERVER, **error.headers},
    )


def _voice(path: str) -> Voice:
    """The words of a path that nobody serves: those of the vendor whose path it most looks like."""
    if "/v1/messages" in path:
        return DIALECTS["anthropic.messages"]
    if "/v1/calls" in path or "/v1/" not in path:
        return Own()
    return DIALECTS["openai.chat"]
