"""The store that replicas share: one connection, kept by one task, and a breaker that spares calls a store that fails.

Calls never make a connection and never wait longer than `timeout`. When a round trip fails, everybody who waits is told
at once, and until a probe in the background has written to the store again, nobody asks it. An outage is one log line
at its begin and one at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from sidegate.contract.host import Log
from sidegate.shared.address import CONNECT_SECONDS, check_url, connect, shown
from sidegate.shared.line import Entry, Late, Line, StoreDown, fail, within
from sidegate.shared.script import Order, Script, exchange

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between probes; they double."""

STEADY_SECONDS, LONGEST_REST = 5.0, 30.0
"""A store that takes probes and fails again sooner than this gets a rest, which doubles: it may refuse for ever what it
is asked then, as where a permission is missing."""

IDLE_SECONDS = 10.0
"""After so long without a word the connection is tried: servers close idle ones, networks drop them in silence, and no
call should be the one that finds out."""

FLUSH_SECONDS = 1.0
"""How long a gateway that stops waits for the store to hear the rest."""

_PROBE = Script("return redis.call('SET', KEYS[1], '1', 'PX', 1000)")
"""Writes: a replica that is read only, and a store without memory, answer a PING well."""

_OF_ONE_KEY = ("WRONGTYPE",)
"""Errors that say nothing about the store."""


class Watch(Protocol):
    """Who counts how the store does."""

    def store_failed(self, operation: str) -> None: ...
    def store_took(self, seconds: float) -> None: ...


class Store:
    """What counters and signals reach the shared store by. `url` may be that of Redis or Valkey."""

    def __init__(self, url: str, prefix: str, timeout: float, log: Log, watch: Watch) -> None:
        check_url(url)
        self.url = url
        self.tag = f"{prefix}:{{counters}}:"
        """What all keys of scripts begin with. One hash tag, so that a script's keys are in one slot of a cluster."""
        self.timeout = timeout
        self.up = False
        """Whether the last that was heard of it was well."""
        self.came_up: list[Callable[[], None]] = []
        """Called when it is there, at first and again, before anybody else asks it."""
        self._probe = Order(_PROBE, [f"{self.tag}probe"], [])
        self._log = log
        self._watch = watch
        self._line = Line(timeout)
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._said_down = False

    def client(self) -> Redis:
        """Another client, of the caller's own to use and to close; it waits for ever: see `connect`."""
        return connect(self.url)

    @property
    def gather(self) -> list[Callable[[], Any]]:
        """Who gives further orders when something is sent: see `Line.gather`."""
        return self._line.gather

    async def start(self) -> None:
        """Reach for the store, and go on without where it is not there. Raises `ConfigError` without the driver."""
        await connect(self.url).aclose()
        self._task = asyncio.get_running_loop().create_task(self._live(), name="store")
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._tried.wait()

    async def stop(self) -> None:
        """Send what is queued, for a second at most, and leave."""
        if self._task is None:
            return
        if self.up:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._line.flushed()
        while not self._task.done():
            # Again, should somebody on the way have kept the first to himself.
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1)
        self.up = False

    async def ask(self, operation: str, order: Order, late: Late | None = None) -> Any:
        """What the script returns. Raises `StoreDown` at once while the store is away, else after `timeout`.

        An answer that comes when nobody waits for it any more is given to `late`.
        """
        if not self.up:
            self._watch.store_failed(operation)
            raise StoreDown("away")
        try:
            return await self._line.ask(order, late)
        except StoreDown:
            self._watch.store_failed(operation)
            raise

    def post(self, order: Order) -> None:
        """Run it when there is a chance; nobody waits, and it may be lost with the store."""
        self._line.post(order)

    def nudge(self) -> None:
        """There is something to `gather`."""
        self._line.nudge()

    async def _live(self) -> None:
        rest = FIRST_PAUSE
        while True:
            client = await self._reached()
            began = perf_counter()
            try:
                connection = await _connection(client)
                self._went_up()
                await self._serve(connection)
            except StoreDown as error:
                self._went_down(str(error))
            except Exception as error:
                self._went_down(type(error).__name__)
            finally:
                self.up = False
                self._line.refuse(StoreDown("away"))
                await _closed(client)
            rest = FIRST_PAUSE if perf_counter() - began > STEADY_SECONDS else min(2 * rest, LONGEST_REST)
            await asyncio.sleep(rest)

    async def _reached(self) -> Redis:
        """Probes until the store takes a write, in time."""
        pause = FIRST_PAUSE
        while True:
            client = connect(self.url)
            try:
                async with asyncio.timeout(2 * CONNECT_SECONDS):
                    connection = await _connection(client)
                    await self._probed(connection)
                    await client.connection_pool.release(connection)
                return client
            except asyncio.CancelledError:
                await _closed(client)
                raise
            except Exception as error:
                self._went_down(str(error) if isinstance(error, StoreDown) else type(error).__name__)
            await _closed(client)
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _probed(self, connection: AbstractConnection) -> None:
        async with asyncio.timeout(self.timeout * 2):
            # The first of a connection may have to bring the script along.
            await exchange(connection, [self._probe])
        async with within(self.timeout):
            (reply,) = await exchange(connection, [self._probe])
        if isinstance(reply, Exception):
            raise StoreDown(type(reply).__name__)

    async def _serve(self, connection: AbstractConnection) -> None:
        """Sends what is asked, as it comes. Raises where a round trip fails."""
        while True:
            batch = await self._batch()
            began = perf_counter()
            try:
                async with within(self.timeout):
                    replies = await exchange(connection, [entry.order for entry in batch])
            except BaseException:
                for entry in batch:
                    if entry.answer is not None:
                        fail(entry.answer, StoreDown("away"))
                raise
            self._watch.store_took(perf_counter() - began)
            self._told(batch, replies)

    async def _batch(self) -> list[Entry]:
        """What there is to send; after a time without anything, a probe."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                return await self._line.batch()
        except TimeoutError:
            return [Entry(self._probe)]

    def _told(self, batch: list[Entry], replies: list[Any]) -> None:
        broken: Exception | None = None
        for entry, reply in zip(batch, replies, strict=True):
            if isinstance(reply, Exception):
                if not str(reply).startswith(_OF_ONE_KEY):
                    broken = reply
                if entry.answer is not None:
                    fail(entry.answer, StoreDown(type(reply).__name__))
            elif entry.answer is not None and not entry.answer.done():
                entry.answer.set_result(reply)
            elif entry.late is not None:
                entry.late(reply)
        if broken is not None:
            raise StoreDown(type(broken).__name__)

    def _went_up(self) -> None:
        for call in self.came_up:
            call()
        self.up = True
        self._tried.set()
        if self._said_down:
            self._said_down = False
            self._log.write("counter_store_back", {"store": shown(self.url)})

    def _went_down(self, why: str) -> None:
        self.up = False
        if not self._said_down:
            self._said_down = True
            self._watch.store_failed("connection")
            self._log.write("counter_store_down", {"store": shown(self.url), "error": why})


async def _connection(client: Redis) -> AbstractConnection:
    """One of its pool, made where there is none."""
    connection: AbstractConnection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
    return connection


async def _closed(client: Redis) -> None:
    """Close it, whatever state it is in."""
    with suppress(Exception):
        async with asyncio.timeout(1):
            await client.aclose()
