"""The listening sockets of several workers: bound once, by the process that looks after them, and inherited.

One queue of new connections for all: whoever is idle takes the next, and what waits there survives a worker that dies.
With a socket for each (SO_REUSEPORT) the kernel resets what waits in the queue of one that ends.
"""

from __future__ import annotations

import socket
from typing import Any

from sidegate.errors import ConfigError
from sidegate.settings import Listener

BACKLOG = 1024


def bind(listener: Listener, place: str) -> list[socket.socket]:
    """A socket for each address of the host. Raises `ConfigError` where one cannot be bound."""
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            bound.append(_bound(family, address))
    except OSError as error:
        for made in bound:
            made.close()
        reason = error.strerror or "cannot bind"
        raise ConfigError(place, f"cannot listen on {listener.host}:{listener.port}: {reason}") from error
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
