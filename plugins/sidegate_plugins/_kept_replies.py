"""The replies that `idempotency` and `cache` keep: under way and complete, bounded in number, bytes and time.

Nothing here is awaited, so no bound is ever passed and no two calls ever open the same key.
"""

from __future__ import annotations

import asyncio
from asyncio import Event
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from sys import getsizeof
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from sidegate.contract import Call, Chunk, Clock, Comment, Embedding, Naming, Part, Reply
from sidegate.errors import Refusal, SidegateError

Scope: TypeAlias = tuple[str, str | None, str]
"""Caller, its end user, and the key."""

ENTRY_BYTES = 2048
"""Memory of one entry without its reply: names, key, digest, event, and its places in the tables."""

CHUNK_BYTES = 256
"""Memory of one chunk without its bytes and parts."""

BATCH = 32
"""Chunks that are told at a time, so that a reader sees room and bounds between them."""


class KeptReply:
    """One reply: under way, complete, failed, or too large to be kept. Made by `KeptReplies.open`."""

    __slots__ = (
        "changed",
        "chunks",
        "digest",
        "edited",
        "error",
        "expires",
        "naming",
        "readers",
        "reply",
        "scope",
        "since",
        "size",
        "state",
    )

    def __init__(self, scope: Scope, digest: bytes, naming: Naming) -> None:
        self.scope = scope
        self.digest = digest
        """Of what was asked: another one under the same key is a mistake of the client's."""
        self.naming = naming
        self.state: Literal["open", "complete", "failed", "too_large"] = "open"
        self.chunks: list[Chunk] = []
        """Copies, as they left this plugin's inner neighbours; whoever tells one tells a copy of it again."""
        self.edited = False
        """The reply was written anew from its meaning, so it is when it is told again."""
        self.size = ENTRY_BYTES
        self.readers = 0
        self.expires = 0.0
        """Monotonic seconds."""
        self.since = 0.0
        """Monotonic seconds of when it was complete."""
        self.reply: Reply | None = None
        self.error: SidegateError | None = None
        self.changed = Event()

    @property
    def closed(self) -> bool:
        return bool(self.chunks) and self.chunks[-1].closing

    def wake(self) -> None:
        """Whoever waits now looks again."""
        self.changed.set()
        self.changed.clear()


class Bounds(NamedTuple):
    """What replies may take, in all."""

    keep: float
    """Seconds that a complete one is kept."""
    max_entries: int
    max_bytes: int
    max_reply_bytes: int


class KeptReplies:
    """All of them. `size` is the memory they take, those that are still read included; it never exceeds `max_bytes`."""

    def __init__(self, clock: Clock, bounds: Bounds) -> None:
        self._clock = clock
        self._bounds = bounds
        self._all: dict[Scope, KeptReply] = {}
        self._idle: OrderedDict[Scope, KeptReply] = OrderedDict()
        """Complete, and read by nobody: what can be evicted, the least recently used first."""
        self._aging: OrderedDict[Scope, KeptReply] = OrderedDict()
        """Complete, the oldest first."""
        self.size = 0

    def __len__(self) -> int:
        return len(self._all)

    def bound(self, bounds: Bounds) -> None:
        """Other bounds, for what comes from now on."""
        self._bounds = bounds

    def find(self, scope: Scope) -> KeptReply | None:
        """What is kept for the key and not too old."""
        now = self._clock.monotonic()
        while self._aging and (oldest := next(iter(self._aging.values()))).expires <= now:
            self._forget(oldest)
        return self._all.get(scope)

    def open(self, scope: Scope, digest: bytes, naming: Naming) -> KeptReply:
        """Begin a reply under a key that is free. Raises `Refusal` 503 where calls under way take all the room."""
        if len(self._all) >= self._bounds.max_entries and self._idle:
            self._forget(next(iter(self._idle.values())))
        if len(self._all) >= self._bounds.max_entries or not self._makes_room(ENTRY_BYTES):
            raise Refusal(503, "idempotency_full", "Too many calls with an Idempotency-Key.", retry_after=1)
        kept = self._all[scope] = KeptReply(scope, digest, naming)
        self.size += ENTRY_BYTES
        return kept

    def add(self, kept: KeptReply, chunk: Chunk) -> bool:
        """Keep what has come; `False` where the reply has just become too large. Comments are not part of a reply."""
        if kept.state != "open" or _is_comment(chunk):
            return True
        copied = chunk.copy()
        size = memory(copied)
        if kept.size + size > self._bounds.max_reply_bytes or not self._makes_room(size):
            kept.state = "too_large"
            self._empty(kept, ENTRY_BYTES)
            kept.wake()
            return False
        kept.chunks.append(copied)
        kept.size += size
        self.size += size
        kept.wake()
        return True

    def complete(self, kept: KeptReply, reply: Reply, age: float = 0.0) -> None:
        """The call has ended well: keep its reply, unless it is too large. `age`: so many seconds ago."""
        if kept.state == "too_large":
            self._forget(kept)
            return
        kept.state, kept.reply = "complete", reply
        kept.since = self._clock.monotonic() - age
        kept.expires = kept.since + self._bounds.keep
        self._aging[kept.scope] = kept
        if not kept.readers:
            self._idle[kept.scope] = kept
        kept.wake()

    def fail(self, kept: KeptReply, error: SidegateError) -> None:
        """The call has ended otherwise: the key is free again. Those who read learn of it."""
        if kept.state == "open":
            kept.state = "failed"
        kept.error = error
        self._forget(kept)
        kept.wake()

    def drop(self, kept: KeptReply) -> None:
        """Forget it before its time; those who read it read on."""
        if self._all.get(kept.scope) is kept:
            self._forget(kept)

    @contextmanager
    def reading(self, kept: KeptReply) -> Iterator[None]:
        """While it is read, a reply is not evicted, and counts."""
        kept.readers += 1
        self._idle.pop(kept.scope, None)
        try:
            yield
        finally:
            kept.readers -= 1
            if not kept.readers:
                self._left(kept)

    def _left(self, kept: KeptReply) -> None:
        if self._all.get(kept.scope) is not kept:
            self._empty(kept, 0)
        elif kept.state == "complete":
            self._idle[kept.scope] = kept

    def _makes_room(self, size: int) -> bool:
        while self.size + size > self._bounds.max_bytes and self._idle:
            self._forget(next(iter(self._idle.values())))
        return self.size + size <= self._bounds.max_bytes

    def _forget(self, kept: KeptReply) -> None:
        """The key is free; the memory too, unless somebody still reads."""
        del self._all[kept.scope]
        self._idle.pop(kept.scope, None)
        self._aging.pop(kept.scope, None)
        if not kept.readers:
            self._empty(kept, 0)

    def _empty(self, kept: KeptReply, rest: int) -> None:
        self.size -= kept.size - rest
        kept.size = rest
        kept.chunks = []


async def tell(call: Call, kept: KeptReply, chunks: Sequence[Chunk]) -> None:
    """Tell another call some of it, as the first was told it: as edited or not, and with the same ids."""
    call.naming = kept.naming
    call.notes.edited = call.notes.edited or kept.edited
    await call.emit([chunk.copy() for chunk in chunks])
    # A reader with room for everything does not make the loop's other calls wait for it.
    await asyncio.sleep(0)


def memory(chunk: Chunk) -> int:
    """Bytes of memory that a copied chunk takes, rather more than less."""
    if chunk.raw is not None:
        return CHUNK_BYTES + getsizeof(chunk.raw)
    base = 0 if chunk.base is None else getsizeof(chunk.base[1])
    return CHUNK_BYTES + base + sum(map(_part_memory, chunk.parts))


def _part_memory(part: Part) -> int:
    if type(part) is Embedding:
        return 128 + 32 * len(part.vector)
    total, waiting = 0, [part]
    while waiting:
        value = waiting.pop()
        total += getsizeof(value) + 16
        if isinstance(value, Struct):
            waiting += [getattr(value, name) for name in value.__struct_fields__]
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
    return total


def _is_comment(chunk: Chunk) -> bool:
    return chunk.raw is None and bool(chunk.parts) and all(type(part) is Comment for part in chunk.parts)
