"""The application: which paths lead where, and what the rest is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from sidegate.http.accepting import accepting
from sidegate.http.calls import CallEndpoint
from sidegate.http.gemini import VERSIONS, gemini_calls
from sidegate.http.health import add_health
from sidegate.http.openapi.route import add_openapi
from sidegate.http.outermost import expectation, outermost
from sidegate.http.paths import CALLS, OPERATIONS
from sidegate.http.records import RecordEndpoint
from sidegate.http.responses import response_routes
from sidegate.http.server import SHORTCUTS
from sidegate.http.ui import ui_calls
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.wire.own import Own
from sidegate.wire.registry import DIALECTS

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(service: Service) -> web.Application:
    """The call routes of a service."""
    app = web.Application(middlewares=[outermost], client_max_size=0)
    if service.settings.listen.cors is not None:
        from sidegate.http.cors import add_cors

        add_cors(app, service.settings.listen.cors)
    expect = expectation(service.settings.server.max_body_bytes)
    taken: set[tuple[str, str]] = set()
    shortcuts: dict[str, Endpoint] = {}
    for route in service.settings.routes:
        for path, endpoint, method in _endpoints(service, route):
            if (path, method) not in taken:
                taken.add((path, method))
                app.router.add_route(method, path, endpoint, expect_handler=expect)
                if method == "POST" and "{" not in path:
                    shortcuts[path] = partial(outermost, handler=endpoint)
    if service.settings.listen.cors is None:
        app[SHORTCUTS] = shortcuts
    add_health(app, service)
    if service.settings.listen.openapi:
        add_openapi(app, service, admin=False)
    return app


def _endpoints(service: Service, route: Route) -> list[tuple[str, Endpoint, str]]:
    handler = service.handlers[route.pipeline]
    served = route.operations or OPERATIONS
    found: list[tuple[str, Endpoint, str]] = [
        (
            route.prefix + path,
            accepting(service, route, CallEndpoint(service, route, handler, DIALECTS[name])).answer,
            "POST",
        )
        for path, name in CALLS.items()
        if DIALECTS[name].operation in served
    ]
    found += gemini_calls(service, route, handler, served)
    found += ui_calls(service, route, handler, served)
    if "models" in served:
        vendors = ("openai.chat", "anthropic.messages", "gemini.generate")
        each = [RecordEndpoint(service, route, handler, "models", DIALECTS[name]).answer for name in vendors]
        for version in VERSIONS:
            models = _by_vendor(*each) if version == "v1" else each[-1]
            path = f"{route.prefix}/{version}/models"
            found += [(path, models, "GET"), (path + "/{id:.+}", models, "GET")]
    if "calls" in served:
        calls = RecordEndpoint(service, route, handler, "calls", Own()).answer
        cancel = RecordEndpoint(service, route, handler, "cancel", Own()).answer
        one = route.prefix + "/v1/calls/{id:[0-9a-f]{32}}"
        found += [(route.prefix + "/v1/calls", calls, "GET"), (one, calls, "GET"), (one, cancel, "DELETE")]
    if "jobs" in served and service.jobs is not None:
        found += _jobs(service, route)
    if route.resumable:
        from sidegate.http.resumable import StreamEvents

        found.append(
            (route.prefix + "/v1/streams/{id:[0-9a-f]{32}}/events", StreamEvents(service, route).events, "GET")
        )
    if "socket" in route.deliveries and "chat" in served:
        from sidegate.http.chat_socket import PATH, ChatSocket

        socket = ChatSocket(service, route)
        found.append((route.prefix + PATH, socket.answer, "GET"))
        found.append((route.prefix + PATH + "/ticket", socket.ticket, "POST"))
    if "responses" in served:
        found += response_routes(service, route, handler)
    if "realtime" in served:
        # Only where the config names it.
        from sidegate.http.realtime import realtime_routes

        found += realtime_routes(service, route)
    if "usage" in served:
        usage = RecordEndpoint(service, route, handler, "usage", Own()).answer
        found.append((route.prefix + "/v1/usage", usage, "GET"))
    return found


def _jobs(service: Service, route: Route) -> list[tuple[str, Endpoint, str]]:
    # Only where the config accepts jobs.
    from sidegate.http.job_events import JobEvents
    from sidegate.http.job_records import JobRecords

    records = JobRecords(service, route)
    one = route.prefix + "/v1/jobs/{id:[0-9a-f]{32}}"
    return [
        (route.prefix + "/v1/jobs", records.list, "GET"),
        (one, records.one, "GET"),
        (one, records.cancel, "DELETE"),
        (one + "/result", records.result, "GET"),
        (one + "/ticket", records.ticket, "POST"),
        (one + "/events", JobEvents(service, route).answer, "GET"),
    ]


def _by_vendor(openai: Endpoint, anthropic: Endpoint, gemini: Endpoint) -> Endpoint:
    """Three vendors ask for models at one path; only Anthropic's clients name an API version, and Google's say who they
    are by headers of their own."""

    async def models(request: web.Request) -> web.StreamResponse:
        headers = request.headers
        if "anthropic-version" in headers:
            return await anthropic(request)
        if "x-goog-api-key" in headers or "x-goog-api-client" in headers or "key" in request.query:
            return await gemini(request)
        return await openai(request)

    return models
