"""The listening sockets of several workers, TCP and Unix: bound once, by the process that looks after them, and
inherited.

One queue of new connections for all: whoever is idle takes the next, and what waits there survives a worker that dies.
With a socket for each (SO_REUSEPORT) the kernel resets what waits in the queue of one that ends.
"""

from __future__ import annotations

import socket
from typing import Any

from sidegate.errors import ConfigError
from sidegate.http.unix import UnixListening
from sidegate.http.unix import bind as bind_unix
from sidegate.settings import Listener

BACKLOG = 1024


class Sockets:
    """Those of a listener."""

    def __init__(self, listener: Listener, place: str) -> None:
        """Bind them. Raises `ConfigError`."""
        self.all = bind(listener, place) if listener.tcp is not None else []
        self._file: UnixListening | None = None
        if listener.unix is not None:
            try:
                self._file = bind_unix(listener.unix, f"{place}.unix")
            except BaseException:
                self.close()
                raise
            self.all.append(self._file.socket)

    def close(self) -> None:
        """Leave them to the workers, which have them too; new clients no longer find a Unix socket."""
        if self._file is not None:
            self._file.remove()
        for made in self.all:
            made.close()


def bind(listener: Listener, place: str) -> list[socket.socket]:
    """A TCP socket for each address of the host. Raises `ConfigError` where one cannot be bound."""
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(listener.host, listener.tcp, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            bound.append(_bound(family, address))
    except OSError as error:
        for made in bound:
            made.close()
        reason = error.strerror or "cannot bind"
        raise ConfigError(place, f"cannot listen on {listener.host}:{listener.tcp}: {reason}") from error
    return bound


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made
