"""CORS: lets pages of other origins call, by a list of them. Loaded where the config has one.

A preflight is answered here: it bears no key, and is no call. All other replies, errors and streams too, are marked
when their head leaves. Who is not on the list gets no mark, and the browser keeps the reply from the page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping

from aiohttp import web

from sidegate.cors import Cors, Origins
from sidegate.http.server import SERVER

METHODS = "GET, POST, DELETE"

SENDS = frozenset(
    (
        *("accept", "accept-language", "authorization", "api-key", "content-language", "content-type"),
        *(
            "cache-control",
            "idempotency-key",
            "last-event-id",
            "prefer",
            "priority",
            "traceparent",
            "tracestate",
            "user-agent",
            "x-api-key",
            "x-request-id",
        ),
        *("x-server-timeout",),
    )
)
"""Request headers, in lower case, that the vendors' SDKs send and the gateway reads."""
SENDS_BEGINNING = ("anthropic-", "openai-", "x-goog-", "x-sidegate-", "x-stainless-")
READS = frozenset(
    (
        *("location", "preference-applied", "ratelimit", "ratelimit-policy", "request-id", "retry-after"),
        *("age", "cache-status", "content-location", "retry-after-ms"),
    )
)
READS_BEGINNING = ("anthropic-ratelimit-", "x-ratelimit-", "x-request-id", "x-should-retry", "x-sidegate-", "x-vercel-")
"""Reply headers that SDKs act on, and the gateway's own."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_cors(app: web.Application, cors: Cors) -> None:
    """Before the application starts."""
    made = _Cors(cors)
    app.middlewares.append(made.preflight)
    app.on_response_prepare.append(made.mark)


class _Cors:
    def __init__(self, cors: Cors) -> None:
        self._origins = Origins(cors.origins)
        self._credentials = cors.credentials
        self._sends = SENDS | {name.lower() for name in cors.headers}
        self._reads = READS | {name.lower() for name in cors.expose}
        self._max_age = str(cors.max_age)

    async def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """Say who may read it. That it depends on the origin is said to caches also where there is none."""
        headers = response.headers
        if not self._origins.all:
            _vary(headers, "Origin")
        origin = self._allowed(request)
        if origin is None:
            return
        headers["Access-Control-Allow-Origin"] = "*" if self._origins.all else origin
        if self._credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        exposed = dict.fromkeys(name.lower() for name in headers if self._may_read(name.lower()))
        if exposed:
            headers["Access-Control-Expose-Headers"] = ", ".join(exposed)

    @web.middleware
    async def preflight(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.headers
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in asked:
            return await handler(request)
        if self._allowed(request) is None:
            # As without CORS: the path has no such method.
            return await handler(request)
        headers = {
            "Server": SERVER,
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Max-Age": self._max_age,
            "Vary": "Access-Control-Request-Headers",
        }
        wanted = ",".join(asked.getall("Access-Control-Request-Headers", ())).split(",")
        allowed = [name for name in (each.strip().lower() for each in wanted) if self._may_send(name)]
        if allowed:
            headers["Access-Control-Allow-Headers"] = ", ".join(dict.fromkeys(allowed))
        if asked.get("Access-Control-Request-Private-Network") == "true" and not self._origins.all:
            # A page of the web may reach this machine or its network, but only one that is named.
            headers["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=headers)

    def _allowed(self, request: web.Request) -> str | None:
        """The page's origin, where it is on the list."""
        origins = request.headers.getall("Origin", ())
        return origins[0] if len(origins) == 1 and self._origins.allow(origins[0]) else None

    def _may_send(self, name: str) -> bool:
        return name in self._sends or name.startswith(SENDS_BEGINNING)

    def _may_read(self, name: str) -> bool:
        return name in self._reads or name.startswith(READS_BEGINNING)


def _vary(headers: MutableMapping[str, str], name: str) -> None:
    before = headers.get("Vary")
    headers["Vary"] = name if before is None else f"{before}, {name}"
