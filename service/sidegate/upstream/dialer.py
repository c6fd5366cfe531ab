"""Dialling: names are resolved and remembered for a moment, addresses tried side by side, certificates verified.

No proxy of the environment is used: whoever set it did not mean keys and prompts.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aiohappyeyeballs import start_connection

from sidegate.errors import ConnectError
from sidegate.upstream.destination import Origin

REMEMBERED_SECONDS = 10.0
MOST_NAMES = 1024
NEXT_ADDRESS_SECONDS = 0.25
"""Until the next address is tried beside the one that does not answer, RFC 8305 section 5."""

_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))

Address = tuple[int, int, int, str, Any]
P = TypeVar("P", bound=asyncio.Protocol)


def trusted() -> ssl.SSLContext:
    """What a provider must show: a valid certificate for its name, by an authority that the system trusts
    (or `SSL_CERT_FILE`)."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Opens connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context: ssl.SSLContext | None = None
        self._names: dict[tuple[str, int], tuple[float, Sequence[Address]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Task[Sequence[Address]]] = {}

    async def open(self, origin: Origin, make: Callable[[], P]) -> P:
        """A connection that stands, TLS included. Raises `ConnectError`."""
        try:
            sock = await start_connection(
                await self._addresses(origin), happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, loop=self._loop
            )
            _prepare(sock)
            _, protocol = await self._loop.create_connection(
                make,
                sock=sock,
                ssl=await self._tls() if origin.secure else None,
                server_hostname=origin.host if origin.secure else None,
            )
            return protocol
        except (OSError, ValueError, RuntimeError) as error:
            self._names.pop(origin[1:], None)
            raise ConnectError("The provider cannot be reached.") from error

    def stop(self) -> None:
        for task in self._asked.values():
            task.cancel()

    async def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            # Reads the system's certificates: tens of milliseconds.
            self._context = await asyncio.to_thread(trusted)
        return self._context

    async def _addresses(self, origin: Origin) -> Sequence[Address]:
        host, port = name = origin.host, origin.port
        known = self._names.get(name)
        if known is not None and self._loop.time() < known[0]:
            return known[1]
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = self._loop.create_task(self._resolve(host, port))
            task.add_done_callback(lambda done: self._resolved(name, done))
        # Shared by all calls that wait for it: one that leaves does not stop it.
        return await asyncio.shield(task)

    async def _resolve(self, host: str, port: int) -> Sequence[Address]:
        return await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)

    def _resolved(self, name: tuple[str, int], task: asyncio.Task[Sequence[Address]]) -> None:
        del self._asked[name]
        if task.cancelled() or task.exception() is not None or not task.result():
            return
        if len(self._names) >= MOST_NAMES:
            self._names.clear()
        self._names[name] = self._loop.time() + REMEMBERED_SECONDS, task.result()


def _prepare(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
