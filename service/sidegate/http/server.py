"""The HTTP server: every setting of aiohttp's that a gateway must not leave at its default, in one place.

`tests/test_server_settings.py` fails without each of them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast
from weakref import WeakSet

from aiohttp import web
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.web_app import _cached_build_middleware
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from sidegate import __version__
from sidegate.contract.peer import Peer
from sidegate.errors import ConfigError
from sidegate.http.peer import read_peer
from sidegate.http.process import read_process
from sidegate.settings import Server
from sidegate.wire import own

SERVER = f"sidegate/{__version__}"

Answer = Callable[[Any], Awaitable[web.StreamResponse]]

SHORTCUTS: web.AppKey[dict[str, Answer]] = web.AppKey("shortcuts", dict)
"""Of an application: paths that are posted to often, with what answers there. They stand in its router too."""

_NOT_HTTP = ("The request is not valid HTTP.", "invalid_http")

_logger = logging.getLogger("sidegate.http")


class Connection(RequestHandler):
    """Answers what is no HTTP request in JSON, and keeps the bytes out of the log: they may hold a key.

    And cuts a reader that stands still: aiohttp waits for one for ever, also after the call has ended.
    """

    __slots__ = ("_cutting", "_send_timeout", "full", "peer")

    def __init__(self, manager: web.Server, *, send_timeout: float, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._send_timeout = send_timeout
        self._cutting: asyncio.TimerHandle | None = None
        self.full = False
        """What was written waits for the reader."""
        self.peer: Peer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        # From the first byte that the kernel does not take, `pause_writing` is called: until it has taken all.
        # asyncio's TLS takes `high=0` for "pause while there is nothing", and would not resume.
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=0 if connection is None else 1)
        if connection is not None and connection.context.verify_mode is not ssl.CERT_NONE:
            self.peer = read_peer(connection)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._spare()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.full = True
        # `live` cuts the calls it knows a little earlier, and has the word for it.
        self._cutting = self._loop.call_later(self._send_timeout + 1, self._cut)

    def resume_writing(self) -> None:
        self._spare()
        self.full = False
        super().resume_writing()

    def _spare(self) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
            self._cutting = None

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages and type(self._messages[-1][0]) is _ErrInfo:
            self._break_off()

    def _break_off(self) -> None:
        """Tell whoever reads a body that the rest of it is no HTTP; aiohttp lets it wait for ever."""
        request = self._current_request
        body = self._messages[-2][1] if len(self._messages) > 1 else request.content if request is not None else None
        if body is not None and not body.is_eof():
            body.set_exception(web.RequestPayloadError("malformed"))
            body.feed_eof()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the reply has begun, so it cannot become an error")
        if status >= 500:
            _logger.error("a request failed outside of any call: %s", type(exc).__name__)
        detail, code = ("The gateway failed.", "internal_error") if status >= 500 else _NOT_HTTP
        request_id = secrets.token_hex(16)
        body = own.problem(status, detail, code=code, request_id=request_id)
        response = web.Response(body=body, content_type=own.CONTENT_TYPE, status=status)
        response.headers.update({"Server": SERVER, "x-request-id": request_id})
        response.force_close()
        return response


class LocalConnection(Connection):
    """Through a Unix socket: the kernel says who is at the other end."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = read_process(transport.get_extra_info("socket"))


class _Server(web.Server):
    send_timeout = 60.0

    def __call__(self) -> RequestHandler:
        return Connection(self, send_timeout=self.send_timeout, loop=self._loop, **self._kwargs)

    def local(self) -> RequestHandler:
        """The same for a Unix socket."""
        return LocalConnection(self, send_timeout=self.send_timeout, loop=self._loop, **self._kwargs)


class Face:
    """What answers requests: an application and its shortcuts. It counts the requests it has in hand."""

    __slots__ = ("__weakref__", "_left", "app", "handle", "leaving", "requests", "shortcuts")

    def __init__(self, app: web.Application) -> None:
        self.app = app
        self.handle: Answer = app._handle
        self.shortcuts = app.get(SHORTCUTS, {})
        self.requests = 0
        self.leaving = False
        self._left = asyncio.Event()

    def leave(self) -> None:
        """Of requests that come from now on it gets none."""
        self.leaving = True
        self.ended()

    def ended(self) -> None:
        if not self.requests:
            self._left.set()

    async def left(self) -> None:
        """Returns when the last request it had in hand has been answered."""
        await self._left.wait()


class Runner(web.AppRunner):
    """An application with the gateway's settings. `show` puts another in its place."""

    __slots__ = ("_faces", "_send_timeout", "face")

    def __init__(self, app: web.Application, server: Server) -> None:
        super().__init__(
            # It makes requests and answers none: what it holds it holds for good.
            web.Application(client_max_size=app._client_max_size),
            # A client that leaves cancels its handler at once, also while the provider is silent.
            handler_cancellation=True,
            # Also the bound on reading headers: 75 s by default.
            keepalive_timeout=server.keepalive_timeout,
            # A refused body is neither inflated nor read for 10 s.
            auto_decompress=False,
            lingering_time=1,
            # One line per call is the log plugin's; this one would know no endings.
            access_log=None,
            # `live` drains; what is left when the runner closes has had its time.
            shutdown_timeout=1,
        )
        self._send_timeout = server.send_timeout
        self.face = make_face(app)
        self._faces = WeakSet([self.face])
        """Also those that have requests in hand and get no more."""

    @property
    def app(self) -> web.Application:
        """What answers."""
        return self.face.app

    async def shutdown(self) -> None:
        """Tell all applications that have something in hand to end it."""
        for face in tuple(self._faces):
            await face.app.shutdown()

    def show(self, face: Face, server: Server) -> Face:
        """From the next request on, on open connections too, `face` answers; bounds are those of new connections.
        Gives the face before, which has yet to answer what it has in hand."""
        before, self.face = self.face, face
        self._faces.add(face)
        made = cast("_Server", self.server)
        made.send_timeout = server.send_timeout
        made._kwargs["keepalive_timeout"] = server.keepalive_timeout
        # It remembers, for good, what stood round the handlers of the application before.
        _cached_build_middleware.cache_clear()
        before.leave()
        return before

    def local(self) -> RequestHandler:
        """Makes what answers a connection through a Unix socket."""
        return cast("_Server", self.server).local()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        kwargs: dict[str, Any] = dict(made._kwargs)
        server = _Server(
            self._answer,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=asyncio.get_running_loop(),
            **kwargs,
        )
        server.send_timeout = self._send_timeout
        return server

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """By what is shown. What is posted to exactly one of the shortcuts does not take aiohttp's way from a path to
        its handler, which costs a tenth of what the whole relay of a call does."""
        face = self.face
        face.requests += 1
        try:
            endpoint = face.shortcuts.get(request._message.path)
            if endpoint is None or request.method != "POST" or "Expect" in request.headers:
                return await face.handle(request)
            return await endpoint(request)
        finally:
            face.requests -= 1
            if face.leaving:
                face.ended()


def make_face(app: web.Application) -> Face:
    """Of an application. Of its signals there are two: when a reply begins, and when the gateway stops."""
    app.freeze()
    return Face(app)


def check_parser() -> None:
    """The C parser, or none: most advisories on request smuggling concern the one in Python."""
    if HttpRequestParser is HttpRequestParserPy:
        raise ConfigError(
            "", "aiohttp's C parser is not available (AIOHTTP_NO_EXTENSIONS?): the gateway will not start"
        )


def connection_of(request: web.BaseRequest) -> Connection:
    """That it came by."""
    return cast("Connection", request.protocol)


def peer_of(request: web.Request) -> Peer | None:
    """Who is at the other end, by a certificate or a Unix socket; `None` on a plain connection."""
    return connection_of(request).peer


def through_unix(request: web.BaseRequest) -> bool:
    """Whether it came through a Unix socket: only programs on this machine can, by the rights of a file."""
    return isinstance(request.protocol, LocalConnection)
