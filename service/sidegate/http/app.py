"""The application: which paths lead where, and what the rest is told."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from sidegate.errors import Refusal, SidegateError
from sidegate.http.calls import CallEndpoint
from sidegate.http.health import add_health
from sidegate.http.intake import check_framing
from sidegate.http.records import RecordEndpoint
from sidegate.http.replies import Voice, reply_headers
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

_logger = logging.getLogger("sidegate.http")


def make_app(service: Service) -> web.Application:
    """The call routes of a service."""
    app = web.Application(middlewares=[_outermost], client_max_size=0)
    expectation = _expectation(service.settings.server.max_body_bytes)
    taken: set[tuple[str, str]] = set()
    for route in service.settings.routes:
        for path, endpoint, method in _endpoints(service, route):
            if (path, method) not in taken:
                taken.add((path, method))
                app.router.add_route(method, path, endpoint, expect_handler=expectation)
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
        cancel = RecordEndpoint(service, route, handler, "cancel", Own()).answer
        one = route.prefix + "/v1/calls/{id:[0-9a-f]{32}}"
        found += [(route.prefix + "/v1/calls", calls, "GET"), (one, calls, "GET"), (one, cancel, "DELETE")]
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
        check_framing(request)
        return await handler(request)
    except SidegateError as error:
        response = _plain(request, error)
        response.force_close()
        return response
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method} is not allowed here."
        return _plain(request, Refusal(405, "method_not_allowed", message, headers={"Allow": allowed}))
    except web.HTTPNotFound:
        return _plain(request, Refusal(404, "not_found", "There is nothing at this path."))
    except web.HTTPException as error:
        return _plain(request, Refusal(error.status, "refused", error.reason))
    except Exception as error:
        if request.writer.output_size > 0:
            raise
        _logger.error("a request failed outside of any call: %s", type(error).__name__)
        return _plain(request, SidegateError("The gateway failed."))


def _expectation(max_body_bytes: int) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
    """`Expect: 100-continue` is met where the body may come: one too large is refused before it is sent."""

    async def expect(request: web.Request) -> web.StreamResponse | None:
        if request.headers["Expect"].lower() != "100-continue":
            return _plain(request, Refusal(417, "expectation_failed", "Only 100-continue can be expected."))
        if request.version >= (1, 1) and (request.content_length or 0) <= max_body_bytes:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # The reply itself has not begun.
            request.writer.output_size = 0
        return None

    return expect


def _plain(request: web.Request, error: SidegateError) -> web.Response:
    voice = _voice(request.path)
    request_id = secrets.token_hex(16)
    kind = "application/problem+json" if voice.name == "sidegate" else "application/json"
    return web.Response(
        status=error.status,
        body=voice.write_error(error, request_id),
        content_type=kind,
        headers=reply_headers(voice, request_id, error.headers),
    )


def _voice(path: str) -> Voice:
    """The words of a path that nobody serves: those of the vendor whose path it most looks like."""
    if "/v1/messages" in path:
        return DIALECTS["anthropic.messages"]
    if "/v1/calls" in path or "/v1/" not in path:
        return Own()
    return DIALECTS["openai.chat"]
