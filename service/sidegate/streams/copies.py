"""Copies: streams in the store that gateways share, as Redis Streams, for readers that come back at another gateway.

The copy follows the log and holds up nobody: a word is told first, and copied a moment later. What the store has not
taken is sent again; what it has lost, with all it had, is sent anew, as long as the log has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from sidegate.contract.host import Clock, Log
from sidegate.errors import Ending, Refusal, SidegateError
from sidegate.jobs import frames
from sidegate.settings.streams import Streams as StreamSettings
from sidegate.shared.line import StoreDown
from sidegate.shared.script import Order, Script
from sidegate.shared.store import Store, Watch
from sidegate.streams import scripts
from sidegate.streams.reading import trimmed
from sidegate.streams.stream import Stream

LEASE_SECONDS = 10.0
"""How long a copy is there after the last word of its gateway: then it was killed."""
BEAT_SECONDS = 2.0
BATCH_SECONDS = 0.02
"""How long what is said waits for more before it is copied."""
BATCH_BYTES = 64 * 1024
POLL_SECONDS = 0.05
"""Between two looks of a reader at what another gateway has copied."""
READ_ENTRIES = 64
FLUSH_SECONDS = 2.0
NAMED_SECONDS = 86_400
"""How long it is known what a chat was last answered by."""
TIMEOUT_SECONDS = 1.0
"""The least that an answer is waited for: no call waits for a copy."""


class StreamLost(SidegateError):
    """The gateway that gave the stream was killed, or the store has lost what it had of it."""

    status = 503
    code = "stream_lost"
    ending = Ending.CUT

    def __init__(self) -> None:
        super().__init__("The stream's gateway was lost, and what it has not said yet with it.")


class _Copy:
    """How far one is."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.tip = 0
        self.beat_at = 0.0
        self.read_at: float | None = None
        self.done = False


class Copies:
    """Keeps copies of this gateway's streams, and finds those of others."""

    def __init__(
        self,
        bounds: Callable[[], StreamSettings],
        clock: Clock,
        log: Log,
        watch: Watch,
        draining: Callable[[], bool],
        *,
        url: str,
        prefix: str,
        timeout: float,
    ) -> None:
        self._bounds = bounds
        self._clock = clock
        # A line of its own: what is copied is much, and limits must not wait behind it.
        self._store = Store(url, prefix, max(timeout, TIMEOUT_SECONDS), _OwnWords(log), watch)
        self._prefix = prefix
        self._draining = draining
        self._copies: dict[str, _Copy] = {}
        self._task: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Bring to the store what has ended, for two seconds at most."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=FLUSH_SECONDS if self._store.up else 0)
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._starting is not None:
            await asyncio.wait([self._starting])
            await self._store.stop()

    # --- of this gateway's own ----------------------------------------------------------------------------------------

    def _reached(self) -> asyncio.Task[None]:
        """The store is reached for when it is first needed."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._store.start(), name="streams store")
        return self._starting

    def add(self, stream: Stream) -> None:
        _ = self._reached()
        self._copies[stream.id] = _Copy(stream)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._copy(), name="streams copied")

    def drop(self, stream: Stream) -> None:
        """Gone from here before its time: then from the store, too."""
        copy = self._copies.pop(stream.id, None)
        if copy is not None and copy.tip:
            self._store.post(Order(scripts.DROP, self._keys(stream.id), []))

    def read_at(self, stream: Stream) -> float | None:
        """When somebody has last read it elsewhere, as far as is known; monotonic seconds."""
        copy = self._copies.get(stream.id)
        return None if copy is None else copy.read_at

    def name(self, chat: str, id: str) -> None:
        """The chat is answered by this stream now; as long as anybody would wait for it."""
        self._store.post(Order(scripts.NAME, [self._chat(chat)], [id, NAMED_SECONDS * 1000]))

    async def _copy(self) -> None:
        """All that is not done, each a batch at a time."""
        await self._reached()
        while any(not copy.done for copy in self._copies.values()):
            await asyncio.sleep(BATCH_SECONDS)
            if not self._store.up:
                continue
            now = self._clock.monotonic()
            orders = [(copy, order) for copy in self._copies.values() if (order := self._next(copy, now)) is not None]
            if orders:
                await asyncio.gather(*(self._sent(copy, order) for copy, order in orders))
            for id in [id for id, copy in self._copies.items() if copy.done]:
                del self._copies[id]

    def _next(self, copy: _Copy, now: float) -> Order | None:
        stream, log = copy.stream, copy.stream.log
        keys, lease = self._keys(stream.id), int(LEASE_SECONDS * 1000)
        if copy.tip < log.last:
            # What was missed may not be kept any more: then the copy is of what is.
            since = max(copy.tip, log.trimmed)
            data, last = log.since(since, BATCH_BYTES)
            if not data:
                copy.done = True
                return Order(scripts.DROP, keys, [])
            bounds = (self._bounds().max_bytes, lease, stream.caller, stream.dialect, int(since > copy.tip))
            words = (since + 1, last, data, *bounds)
            copy.beat_at = now
            return Order(scripts.APPEND, keys, words)
        if log.ended is not None:
            if not log.last:
                copy.done = True
                return None
            return Order(scripts.END, keys, [log.last, log.ended, int(self._bounds().keep * 1000)])
        if copy.tip and now - copy.beat_at >= BEAT_SECONDS:
            copy.beat_at = now
            return Order(scripts.KEEP, keys, [lease])
        return None

    async def _sent(self, copy: _Copy, order: Order) -> None:
        try:
            answer = await self._store.ask("stream", order)
        except StoreDown:
            return
        if copy.done:
            return
        tip, age = answer
        copy.done = order.script is scripts.END and tip == copy.stream.log.last
        copy.tip = tip
        if age >= 0:
            copy.read_at = self._clock.monotonic() - age / 1000

    # --- of others ----------------------------------------------------------------------------------------------------

    async def named(self, chat: str) -> str | None:
        """The stream that was last begun for this chat."""
        found = await self._asked(scripts.NAMED, [self._chat(chat)], [])
        return None if found is None else found.decode()

    async def find(self, id: str, caller: str) -> There:
        """A caller's own. Raises `Refusal` 404, or 503 where nobody can say."""
        there = There(lambda number: self._read(id, caller, number), self._draining)
        if not await there.look(0):
            raise Refusal(404, "stream_not_found", "There is no such stream.")
        return there

    async def _read(self, id: str, caller: str, number: int) -> list[Any]:
        found: list[Any] = await self._asked(scripts.READ, self._keys(id), [caller, number, READ_ENTRIES])
        return found

    async def _asked(self, script: Script, keys: list[str], words: list[str | int]) -> Any:
        await asyncio.shield(self._reached())
        try:
            return await self._store.ask("stream", Order(script, keys, words))
        except StoreDown:
            message = "The store of streams does not answer, so nobody here knows how it goes on."
            raise Refusal(503, "streams_unreachable", message, retry_after=1) from None

    def _keys(self, id: str) -> list[str]:
        return [f"{self._prefix}:{{stream:{id}}}:said", f"{self._prefix}:{{stream:{id}}}:about"]

    def _chat(self, digest: str) -> str:
        return f"{self._prefix}:{{stream:{digest}}}:chat"


class There:
    """A `Source`: the copy that another gateway keeps."""

    def __init__(self, read: Callable[[int], Awaitable[list[Any]]], draining: Callable[[], bool]) -> None:
        self._read = read
        self._draining = draining
        self.dialect = ""
        self.last = 0
        self.trimmed = 0
        self.ended: str | None = None
        self._said: list[bytes] = []

    async def look(self, number: int) -> bool:
        """See how far it is. Gives whether it is there."""
        found = await self._read(number)
        if not found:
            return False
        dialect, self.last, self.trimmed, ended, self._said = found
        self.dialect, self.ended = dialect.decode(), ended.decode() or None
        return True

    async def pieces(self, number: int) -> AsyncIterator[tuple[bytes, int]]:
        while True:
            if not await self.look(number):
                raise StreamLost()
            if number < self.trimmed:
                raise trimmed()
            said = self._said
            for first, last, data in zip(said[::3], said[1::3], said[2::3], strict=True):
                if int(first) > number + 1:
                    raise StreamLost()
                fresh = frames.after(bytes(data), int(first), number)
                number = int(last)
                yield fresh, number
            if self.ended is not None and number >= self.last:
                return
            if not said:
                if self._draining():
                    return
                await asyncio.sleep(POLL_SECONDS)


class _OwnWords:
    """The log, where the store of streams is told from that of limits."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        self._log.write(event.replace("counter_store", "stream_store"), fields)
