"""The gate: what an attempt says is kept back until it has begun to answer, so that another can take its place."""

from __future__ import annotations

from collections.abc import Callable

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.reply import Attempt

Shortcut = Callable[[], Callable[[bytes], bool]]
"""Of an outlet: what its `raw_now` comes to from here on, for a stream that has begun."""

MAX_LEAD_IN_CHUNKS = 64
MAX_LEAD_IN_BYTES = 256 * 1024


def never(*data: bytes) -> bool:
    """Of an outlet that has no shorter way for raw bytes."""
    return False


class Gate:
    """The outlet of an attempt: keeps its lead-in until something meaningful commits it.

    Until then the client has seen nothing of it, so another attempt can take its place. What is kept is bounded by
    64 pieces and 256 KiB; beyond that the attempt is committed as it is. `began` is told of that moment.
    """

    __slots__ = ("_attempt", "_began", "_chunks", "_parent", "_raw", "_raw_now", "_shortcut", "_size")

    def __init__(self, parent: Call, attempt: Attempt, began: Callable[[], None] | None = None) -> None:
        self._parent = parent
        self._attempt = attempt
        self._began = began
        self._chunks: list[Chunk] = []
        self._raw: list[bytes] = []
        self._size = 0
        # The contract has no word for them: whatever else an outlet is, it may do without.
        self._raw_now: Callable[[bytes], bool] = getattr(parent._outlet, "raw_now", never)
        self._shortcut: Shortcut | None = getattr(parent._outlet, "shortcut", None)

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return self._parent.takes_raw(dialect, whole)

    async def raw(self, data: bytes, meaningful: bool) -> None:
        if not self._attempt.committed:
            self._raw.append(data)
            self._size += len(data)
            if not meaningful and self._fits(len(self._raw)):
                return
            self._commit()
            data = b"".join(self._raw)
            self._raw.clear()
        await self._parent.send_raw(data, meaningful)

    def raw_now(self, data: bytes) -> bool:
        """As `raw`, once the attempt is committed, where the reader has room; else false, and nothing is done."""
        return self._attempt.committed and self._raw_now(data)

    def shortcut(self) -> Callable[[bytes], bool]:
        """What `raw_now` comes to from here on."""
        return self._shortcut() if self._shortcut is not None and self._attempt.committed else self.raw_now

    def together(self) -> bool:
        """Whether bytes may also go by `chunks`, with the last event: then all leaves in one write."""
        return self._raw_now is not never

    async def chunks(self, chunks: list[Chunk]) -> None:
        if not self._attempt.committed:
            self._chunks += chunks
            self._size += sum(len(chunk.raw or b"") for chunk in chunks)
            wanted = any(chunk.meaningful or chunk.closing for chunk in chunks)
            if not wanted and self._fits(len(self._chunks)):
                return
            self._commit()
            chunks, self._chunks = self._chunks, []
            if self._raw:
                await self._parent.send_raw(b"".join(self._raw), meaningful=False)
                self._raw.clear()
        await self._parent.emit(chunks)

    def _commit(self) -> None:
        self._attempt.committed = True
        if self._began is not None:
            self._began()

    def _fits(self, count: int) -> bool:
        return count < MAX_LEAD_IN_CHUNKS and self._size < MAX_LEAD_IN_BYTES
