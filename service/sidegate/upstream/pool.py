"""The pool: connections that wait for the next request, by origin, the one used last first.

It has no bound of its own: a pool that is full makes calls hang. Each provider's `max_connections` bounds its calls
and with them its connections, and says so at once.
"""

from __future__ import annotations

import asyncio

from sidegate.errors import ConnectError
from sidegate.upstream.connection import Connection
from sidegate.upstream.destination import Origin
from sidegate.upstream.dialer import Dialer

KEPT_SECONDS = 30.0
"""How long a connection waits for the next request."""
CLOSE_SECONDS = 1.0


class Pool:
    """Connections, idle and in use. A `connection.Keeper`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._dialer = Dialer(self._loop)
        self._idle: dict[Origin, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._stopped: asyncio.Future[None] | None = None

    def in_use(self) -> list[Connection]:
        """Those that bear a request."""
        return [connection for connection in self._all if connection.busy]

    def take(self, origin: Origin) -> Connection | None:
        """A kept connection that is still good."""
        kept = self._idle.get(origin)
        while kept:
            connection = kept.pop()
            if connection.is_fresh():
                return connection
            connection.close()
        return None

    async def open(self, origin: Origin) -> Connection:
        """A new connection. Raises `ConnectError`, also where the pool has stopped: nobody would close it."""
        if self._stopped is None:
            connection = await self._dialer.open(origin, lambda: Connection(origin, self, self._loop))
            if self._stopped is None:
                return connection
            connection.close()
        raise ConnectError("The gateway opens no connections any more.")

    def made(self, connection: Connection) -> None:
        self._all.add(connection)

    def give(self, connection: Connection) -> None:
        """It is free for the next request."""
        if self._stopped is not None:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.setdefault(connection.origin, []).append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEPT_SECONDS, self._close_old)

    def lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        kept = self._idle.get(connection.origin, ())
        if connection in kept:
            self._idle[connection.origin].remove(connection)
        if self._stopped is not None and not self._all and not self._stopped.done():
            self._stopped.set_result(None)

    async def stop(self) -> None:
        """Close every connection, also those in use."""
        self._stopped = self._loop.create_future()
        self._dialer.stop()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._all):
            connection.close()
        if self._all:
            await asyncio.wait([self._stopped], timeout=CLOSE_SECONDS)

    def _close_old(self) -> None:
        """Close what has waited too long, and come again when the next one will have."""
        now = self._loop.time()
        oldest = now
        for origin, kept in list(self._idle.items()):
            # The one that has waited longest is first.
            while kept and now - kept[0].idle_since >= KEPT_SECONDS:
                kept.pop(0).close()
            if kept:
                oldest = min(oldest, kept[0].idle_since)
            else:
                del self._idle[origin]
        self._sweep = self._loop.call_at(oldest + KEPT_SECONDS, self._close_old) if self._idle else None
