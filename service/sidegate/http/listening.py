"""Listening: TCP with or without TLS, a Unix socket, or both, of one listener; and new certificates while it runs.

A new certificate comes with a second server on the same queue of connections. Whoever connects from then on meets it,
who is connected stays, and no TLS session that the old authorities let in is taken up again: it belongs to the context
that made it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiohttp import web

from sidegate.errors import ConfigError
from sidegate.http import unix
from sidegate.http.renewal import Renewal
from sidegate.http.renewal import Told as Told
from sidegate.http.server import Runner
from sidegate.settings import Listener, Server

BACKLOG = unix.BACKLOG
"""Connections that may wait to be accepted."""

_KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""The file of a Unix socket may be other workers' too: event loops are not to remove it."""


class _Queue(socket.socket):
    """A queue that others take from too. Event loops take as many connections at a time as they let wait: here one,
    so that the next goes to whoever is idle, and many may wait all the same."""

    def listen(self, backlog: int = BACKLOG, /) -> None:
        super().listen(BACKLOG)


class Site(web.BaseSite):
    """One listener. TLS is agreed on within the time that headers have."""

    __slots__ = (
        "_changing",
        "_files",
        "_given",
        "_handshake",
        "_listener",
        "_local",
        "_lock",
        "_place",
        "_renewal",
        "_tcp",
        "_watch",
        "urls",
    )

    def __init__(
        self,
        runner: Runner,
        listener: Listener,
        server: Server,
        place: str,
        given: Sequence[socket.socket],
        told: Told | None,
    ) -> None:
        super().__init__(runner)
        self.urls: list[str] = []
        """Where it is reached, TCP first: `http://127.0.0.1:8080`, `unix:/run/sidegate.sock`."""
        self._listener = listener
        self._place = place
        self._given = given
        self._handshake = server.keepalive_timeout
        self._renewal = None if listener.tls is None else Renewal(listener.tls, place, told)
        self._tcp: list[asyncio.Server] = []
        self._local: list[asyncio.Server] = []
        self._files: list[unix.UnixListening] = []
        self._watch: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        """Held by a renewal, from the reading of its files on."""
        self._changing = asyncio.Lock()
        """Held while servers are replaced or ended."""

    @property
    def name(self) -> str:
        return ", ".join(self.urls)

    async def start(self) -> None:
        await super().start()
        if self._given:
            for each in self._given:
                take = self._take_local if each.family == socket.AF_UNIX else self._take
                await take(_Queue(fileno=each.detach()))
        else:
            await self._open()
        self.urls = [*(self._url(server) for server in self._tcp[-1:]), *map(_path, self._local)]
        if self._renewal is not None and self._renewal.every:
            self._watch = asyncio.create_task(self._renewed(self._renewal))

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for file in self._files:
            file.remove()
        # Files that are slow to read are not waited for; half of the servers replaced are.
        async with self._changing:
            servers, self._tcp, self._local = [*self._tcp, *self._local], [], []
            await _close(*servers)
        await super().stop()

    async def renew(self) -> None:
        """Load the certificates anew, for connections from now on. Raises `ConfigError`, and then nothing changes."""
        if self._renewal is None:
            return
        async with self._lock, self._renewal.renewed():
            await self._replace()

    async def _replace(self) -> None:
        """A new server for each queue, then an end to the old ones."""
        async with self._changing:
            old, self._tcp = self._tcp, []
            kind = _Queue if self._given else socket.socket
            try:
                for queue in [queue for server in old for queue in server.sockets]:
                    await self._take(kind(fileno=os.dup(queue.fileno())))
            except BaseException:
                old, self._tcp = self._tcp, old
                raise
            finally:
                await _close(*old)

    async def _renewed(self, renewal: Renewal) -> None:
        while True:
            await asyncio.sleep(renewal.every)
            if await asyncio.to_thread(renewal.changed):
                # It has been said, and is tried again at the next look.
                with suppress(ConfigError, OSError):
                    await self.renew()

    # --- opening ------------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        listener = self._listener
        if listener.tcp is not None:
            try:
                await self._serve_tcp(host=listener.host, port=listener.tcp, backlog=BACKLOG)
            except OSError as error:
                reason = error.strerror or "cannot bind"
                problem = f"cannot listen on {listener.host}:{listener.tcp}: {reason}"
                raise ConfigError(self._place, problem) from error
        if listener.unix is not None:
            self._files.append(unix.bind(listener.unix, f"{self._place}.unix"))
            await self._take_local(self._files[-1].socket)

    async def _take(self, queue: socket.socket) -> None:
        """Accept from a TCP socket that is bound."""
        await self._serve_tcp(sock=queue, backlog=1 if isinstance(queue, _Queue) else BACKLOG)
        queue.listen(BACKLOG)

    async def _serve_tcp(self, **bound: Any) -> None:
        loop = asyncio.get_running_loop()
        made = await loop.create_server(self._factory(), start_serving=False, **bound, **self._secured())
        await _serve(self._tcp, made)

    async def _take_local(self, queue: socket.socket) -> None:
        """The same of a Unix socket."""
        backlog = 1 if isinstance(queue, _Queue) else BACKLOG
        loop = asyncio.get_running_loop()
        factory = self._runner.local  # type: ignore[attr-defined]
        made = await loop.create_unix_server(factory, sock=queue, backlog=backlog, start_serving=False, **_KEEP_FILE)
        await _serve(self._local, made)
        queue.listen(BACKLOG)

    def _factory(self) -> Any:
        server = self._runner.server
        assert server is not None
        return server

    def _secured(self) -> dict[str, Any]:
        context: ssl.SSLContext | None = None if self._renewal is None else self._renewal.context
        if context is None:
            return {}
        return {"ssl": context, "ssl_handshake_timeout": self._handshake, "ssl_shutdown_timeout": 1.0}

    def _url(self, server: asyncio.Server) -> str:
        host, port = server.sockets[-1].getsockname()[:2]
        scheme = "http" if self._listener.tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def _serve(servers: list[asyncio.Server], made: asyncio.Server) -> None:
    """Among those to be closed before it accepts: whoever is cancelled here leaves nothing that listens."""
    servers.append(made)
    await made.start_serving()


async def _close(*servers: asyncio.Server) -> None:
    """asyncio forgets connections it has accepted and not yet handed on when their server is closed, and their clients
    wait for ever: so it accepts no more first, and has a turn for those it has."""
    loop = asyncio.get_running_loop()
    for server in servers:
        for each in server.sockets:
            loop.remove_reader(each.fileno())
    try:
        await asyncio.sleep(0)
    finally:
        for server in servers:
            server.close()


def _path(server: asyncio.Server) -> str:
    return f"unix:{server.sockets[0].getsockname()}"


async def listen(
    runner: Runner,
    listener: Listener,
    server: Server,
    place: str,
    sockets: Sequence[socket.socket] = (),
    told: Told | None = None,
) -> list[str]:
    """Bind, or take over sockets that are bound, and give where it is reached: TCP first."""
    site = Site(runner, listener, server, place, sockets, told)
    await site.start()
    return site.urls


async def renew(runner: Runner) -> list[ConfigError]:
    """Load the certificates of its listeners anew. Gives what could not be used: those listeners go on as they were."""
    wrong = []
    for site in runner.sites:
        if isinstance(site, Site):
            try:
                await site.renew()
            except ConfigError as error:
                wrong.append(error)
            except OSError as error:
                wrong.append(ConfigError("", f"certificates cannot be put to use: {error.strerror}"))
    return wrong
