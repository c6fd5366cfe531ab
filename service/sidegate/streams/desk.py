"""Desk: the streams of a gateway that may be read again. Whose they are is asked each time; another's is not there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.errors import Refusal
from sidegate.jobs.frames import Position
from sidegate.live import OnDisconnect
from sidegate.settings.streams import Streams as StreamSettings
from sidegate.streams.reading import Reading, trimmed
from sidegate.streams.stream import Stream

if TYPE_CHECKING:
    from sidegate.streams.copies import Copies

TEND_SECONDS = 0.5


class Streams:
    """Opens streams, finds them again, and forgets them in time. Nothing runs while there are none."""

    def __init__(self, bounds: Callable[[], StreamSettings], clock: Clock, copies: Copies | None) -> None:
        self._bounds = bounds
        self._clock = clock
        self._copies = copies
        self._streams: dict[str, Stream] = {}
        self._chats: dict[str, str] = {}
        self._size = 0
        self._tending: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self._size

    async def stop(self) -> None:
        """After the drain: what has ended is told to the store, for those who come back elsewhere."""
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait([self._tending])
        if self._copies is not None:
            await self._copies.stop()

    # --- the call's own side ------------------------------------------------------------------------------------------

    def open(self, call: Call, on_disconnect: OnDisconnect) -> Stream | None:
        """One for this call; `None` where there is no memory for more."""
        if self._size >= self._bounds().max_total_bytes:
            self._make_room()
            if self._size >= self._bounds().max_total_bytes:
                return None
        id = secrets.token_hex(16)
        stream = Stream(id, call, on_disconnect, self._bounds().max_bytes, self._clock, self._kept)
        self._streams[id] = stream
        if self._tending is None or self._tending.done():
            self._tending = asyncio.get_running_loop().create_task(self._tend(), name="streams")
        if self._copies is not None:
            self._copies.add(stream)
        return stream

    def drop(self, stream: Stream) -> None:
        """Nothing was said: there is nothing to come back to."""
        if self._streams.pop(stream.id, None) is not None:
            self._size -= stream.log.size
        if self._copies is not None:
            self._copies.drop(stream)
        if stream.chat is not None and self._chats.get(stream.chat) == stream.id:
            del self._chats[stream.chat]

    def name(self, call: Call, stream: Stream, chat: str) -> None:
        """The chat's present reply is this stream, for whoever loads its page anew."""
        stream.chat = _digest(call, chat)
        self._chats[stream.chat] = stream.id
        if self._copies is not None:
            self._copies.name(stream.chat, stream.id)

    # --- who comes back -----------------------------------------------------------------------------------------------

    async def find(self, call: Call, id: str, seen: Position | None, *, plain: bool = False) -> Reading:
        """The caller's own, from where it was. Raises `Refusal` 404, 410 or 503."""
        stream = self._streams.get(id)
        if stream is not None:
            if stream.caller != call.caller.name:
                raise not_found()
            return Reading(stream.id, _Here(stream), seen, plain=plain)
        if self._copies is None:
            raise not_found()
        there = await self._copies.find(id, call.caller.name)
        return Reading(id, there, seen, plain=plain)

    async def of_chat(self, call: Call, chat: str) -> Reading | None:
        """What the caller's chat is being answered; `None` where nothing runs."""
        digest = _digest(call, chat)
        id = self._chats.get(digest)
        if self._copies is not None:
            # Another gateway may have begun a later one.
            id = await self._copies.named(digest)
        if id is None:
            return None
        try:
            reading = await self.find(call, id, (0, 0), plain=True)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise
        return None if reading.source.ended is not None else reading

    # --- in time ------------------------------------------------------------------------------------------------------

    def _kept(self, grown: int) -> None:
        self._size += grown
        if grown > 0 and self._size > self._bounds().max_total_bytes:
            self._make_room()

    def _make_room(self) -> None:
        """Those that ended longest ago go first, then what the others have said so far."""
        for stream in list(self._streams.values()):
            if stream.log.ended is not None:
                self.drop(stream)
                if self._size <= self._bounds().max_total_bytes * 9 // 10:
                    return
        if self._size > self._bounds().max_total_bytes:
            largest = max(self._streams.values(), key=lambda stream: stream.log.size)
            self._size -= largest.log.size
            largest.log.forget()

    async def _tend(self) -> None:
        while self._streams:
            await asyncio.sleep(TEND_SECONDS)
            now = self._clock.monotonic()
            for stream in list(self._streams.values()):
                if stream.ended_at is not None:
                    if now - stream.ended_at > self._bounds().keep:
                        self.drop(stream)
                elif stream.quiet_since is not None and now - self._last_read(stream) > self._bounds().grace:
                    stream.give_up()

    def _last_read(self, stream: Stream) -> float:
        assert stream.quiet_since is not None
        elsewhere = None if self._copies is None else self._copies.read_at(stream)
        return stream.quiet_since if elsewhere is None else max(stream.quiet_since, elsewhere)


class _Here:
    """A `Source`: the log itself."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._log = stream.log

    @property
    def dialect(self) -> str:
        return self._stream.dialect

    @property
    def last(self) -> int:
        return self._log.last

    @property
    def trimmed(self) -> int:
        return self._log.trimmed

    @property
    def ended(self) -> str | None:
        return self._log.ended

    async def pieces(self, number: int) -> AsyncIterator[tuple[bytes, int]]:
        self._stream.arrives()
        try:
            with self._log.following() as news:
                while True:
                    news.clear()
                    while number < self._log.last:
                        if number < self._log.trimmed:
                            raise trimmed()
                        data, number = self._log.since(number)
                        yield data, number
                    if self._log.ended is not None:
                        return
                    await news.wait()
        finally:
            self._stream.leaves()


def not_found() -> Refusal:
    return Refusal(404, "stream_not_found", "There is no such stream.")


def _digest(call: Call, chat: str) -> str:
    digest = sha256()
    for word in (call.caller.name, call.end_user or "", chat):
        data = word.encode("utf-8", "surrogatepass")
        digest.update(b"%d\n" % len(data))
        digest.update(data)
    return digest.hexdigest()
