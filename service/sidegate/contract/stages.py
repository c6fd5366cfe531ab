"""Stages: what plugins asked to happen to chunks on their way out. Made by `Call.tap`, `Call.change`, `Call.hold`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from sidegate.contract.chunk import Chunk
from sidegate.contract.cited import Texts
from sidegate.contract.meaning import Comment, End, Part, Report, Start, Text, ToolCall
from sidegate.contract.signed import Signed
from sidegate.errors import FAULTS, Ending, PluginError, Refusal, SidegateError

if TYPE_CHECKING:
    from sidegate.contract.frame import Frame

See: TypeAlias = Callable[[Chunk], None]
Chunks: TypeAlias = "Iterable[Chunk] | Awaitable[Iterable[Chunk]]"


Push: TypeAlias = Callable[[list[Chunk], int], Awaitable[None]]
"""Passes chunks on outward from a position."""


class Edit(Protocol):
    """Rewrites, drops or holds back. Give back the chunk itself where nothing changes: its bytes then pass as they are.

    `see` gets one content part at a time (a chunk that says several things is taken apart), in order, also for buffered
    replies. `end` runs once, before the closing event, only where the reply is complete; what it gives passes the edits
    further out. On a refusal, an error or a cancel it is not called: held text is dropped. Either may be async (a
    moderation call): the reply then waits, in order, for at most `call.edit_timeout` seconds.
    """

    def see(self, chunk: Chunk) -> Chunks: ...
    def end(self, ending: Ending) -> Chunks: ...


class Stage(Protocol):
    """`sees`: whether every chunk must be built for it. `passes` gives on what goes further out."""

    sees: bool

    async def passes(self, chunks: list[Chunk]) -> list[Chunk]: ...


class Tap:
    """Looks, and changes nothing. What an observer's tap raises is reported once and then it looks no more."""

    sees = True

    def __init__(self, see: See, owner: Frame | None) -> None:
        self._see: See | None = see
        self._owner = owner

    async def passes(self, chunks: list[Chunk]) -> list[Chunk]:
        if self._see is None:
            return chunks
        see: Callable[[Chunk], object] = self._see
        try:
            for chunk in chunks:
                if (given := see(chunk)) is not None:
                    refuse_awaitable(given)
        except FAULTS as error:
            if self._owner is None or not self._owner.watches_only:
                raise _failure(error, self._owner) from error
            self._see = None
            self._owner.reported(error)
        return chunks


class Ender:
    """An edit that only speaks at the end, so that nothing need be built before."""

    sees = False

    def __init__(self, end: Callable[[Ending], Chunks], timeout: float, owner: Frame | None) -> None:
        self._end = end
        self._timeout = timeout
        self._owner = owner

    async def passes(self, chunks: list[Chunk]) -> list[Chunk]:
        if not chunks[-1].closing or chunks[-1].whole:
            return chunks
        try:
            last = await _settle(self._end(Ending.COMPLETE), self._timeout)
            if any(type(part) is not Comment for chunk in last for part in chunk.parts):
                raise TypeError("at_end gives comments; what belongs to the reply is said by an edit's end")
        except FAULTS as error:
            raise _failure(error, self._owner) from error
        return [*chunks[:-1], *last, chunks[-1]]


class Change:
    """Takes chunks apart, shows each part to an edit, and puts together what came out."""

    sees = True

    def __init__(self, edit: Edit, timeout: float, owner: Frame | None) -> None:
        self._edit = edit
        self._owner = owner
        self._timeout = timeout
        self._signed = Signed()
        self._texts = Texts()
        self._begun = False
        """More than a lead-in was given on. The lead-in waits for it: an edit may hold that, and refuse in the end."""
        self._lead: list[Chunk] = []

    async def passes(self, chunks: list[Chunk]) -> list[Chunk]:
        out = await self._given(chunks)
        if self._begun:
            return out
        self._lead += out
        if all(_leads_in(chunk) for chunk in out):
            return []
        self._begun, out, self._lead = True, self._lead, []
        return out

    async def _given(self, chunks: list[Chunk]) -> list[Chunk]:
        out: list[Chunk] = []
        try:
            for chunk in chunks:
                out += await self._one(chunk)
        except FAULTS as error:
            raise _failure(error, self._owner) from error
        return out

    async def _one(self, chunk: Chunk) -> list[Chunk]:
        if chunk.whole:
            seen = await self._seen(chunk)
            return _reassembled(chunk, [*seen, *await self._ended()])
        if not chunk.closing:
            return await self._seen(chunk)
        parts = [part for part in chunk.parts if type(part) is not End]
        before = await self._seen(Chunk.of(*parts)) if parts else []
        last = await self._ended()
        closing = chunk if not parts else Chunk.of(End())
        return [*before, *last, closing]

    async def _ended(self) -> list[Chunk]:
        last = await _settle(self._edit.end(Ending.COMPLETE), self._timeout)
        self._signed.check(_NOTHING, last)
        self._signed.over()
        return last

    async def _seen(self, chunk: Chunk) -> list[Chunk]:
        parts = chunk.parts
        if len(parts) < 2:
            return await self._shown(chunk)
        out: list[Chunk] = []
        untouched = True
        for part in parts:
            piece = Chunk.of(part)
            given = await self._shown(piece)
            untouched = untouched and len(given) == 1 and given[0] is piece
            out += given
        return [chunk] if untouched else out

    async def _shown(self, piece: Chunk) -> list[Chunk]:
        given = await _settle(self._edit.see(piece), self._timeout)
        self._signed.check(piece, given)
        return self._texts.checked(piece, given)


_NOTHING = Chunk.of()
_LEADS_IN = (Start, Report, Comment)


def _leads_in(chunk: Chunk) -> bool:
    """It says nothing yet. What has no parts may still be all there is to say, as the gateway's own replies."""
    if chunk.whole or chunk.closing or chunk.meaningful:
        return False
    return all(type(part) in _LEADS_IN for part in chunk.parts)


class Edited(Protocol):
    """What is told that a reply no longer says what its bytes say."""

    edited: bool


class Hold:
    """Collects what climbs instead of passing it on. Made by `call.hold()`."""

    sees = True

    def __init__(self, push: Push, position: int, limit: int, notes: Edited) -> None:
        self._push = push
        self._position = position
        self._limit = limit
        self._notes = notes
        self._size = 0
        self._came: list[Chunk] = []
        self.released = False
        self.leaked = False
        """Something of it has gone on."""
        self.chunks: list[Chunk] = []
        """What was collected so far, in order. A plugin may put others there before it releases them."""

    @property
    def text(self) -> str:
        """The visible text of the first choice."""
        return self.text_of(0)

    def text_of(self, choice: int) -> str:
        return "".join(p.text for p in self.parts if type(p) is Text and p.choice == choice)

    @property
    def parts(self) -> list[Part]:
        return [part for chunk in self.chunks for part in chunk.parts]

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, each whole."""
        calls: dict[tuple[int, int], ToolCall] = {}
        for part in self.parts:
            if type(part) is ToolCall:
                key = (part.choice, part.block)
                known = calls.get(key, ToolCall(choice=part.choice, block=part.block))
                said, custom = known.arguments + part.arguments, known.custom or part.custom
                calls[key] = ToolCall(said, known.id or part.id, known.name or part.name, *key, custom)
        return tuple(calls.values())

    async def passes(self, chunks: list[Chunk]) -> list[Chunk]:
        if self.released:
            if self.chunks:
                chunks = [*self._let_go(), *chunks]
            self.leaked = self.leaked or bool(chunks)
            return chunks
        for chunk in chunks:
            self._size += _weight(chunk)
            if self._size > self._limit:
                raise Refusal(502, "reply_too_large", "The reply is larger than may be held back.")
            self.chunks.append(chunk)
            self._came.append(chunk)
        return []

    def _let_go(self) -> list[Chunk]:
        chunks, came = self.chunks, self._came
        self.chunks, self._came = [], []
        if len(chunks) != len(came) or any(chunk is not before for chunk, before in zip(chunks, came, strict=True)):
            self._notes.edited = True
        return chunks

    async def release(self) -> None:
        """Let it go on outward, and what follows pass at once."""
        self.released = True
        self.leaked = self.leaked or bool(self.chunks)
        chunks = self._let_go()
        if chunks:
            await self._push(chunks, self._position)

    def open(self) -> None:
        """Let what comes pass, after what was collected. For a tap or an edit further in, which cannot wait."""
        self.released = True

    def close(self) -> None:
        """Collect again, from the piece that is seen now on."""
        self.released = False

    def drop(self) -> None:
        """Forget it, and hold what comes next."""
        self.chunks, self._came = [], []
        self._size = 0


async def _settle(given: Any, timeout: float) -> list[Chunk]:
    if isinstance(given, Awaitable):
        try:
            async with asyncio.timeout(timeout):
                given = await given
        except TimeoutError as error:
            raise Refusal(503, "edit_timeout", "A check of the reply took too long.") from error
    return list(given)


def refuse_awaitable(given: object) -> None:
    """What a tap gave back. One written `async` would never run, and let everything pass: raises `TypeError`."""
    if not isawaitable(given):
        return
    if iscoroutine(given):
        given.close()
    raise TypeError("a tap is a plain function, and not async: nothing waits for it")


def _failure(error: Exception | SystemExit, owner: Frame | None) -> Exception | SystemExit:
    """The error as it goes on: whose stage it was is known only here, for its plugin's own code is not running."""
    if not isinstance(error, SidegateError):
        if owner is None:
            return error
        owner.reported(error)
        error = PluginError(owner.name)
    if error.plugin is None and owner is not None:
        error.plugin = owner.name
    return error


def _weight(chunk: Chunk) -> int:
    """Bytes a held chunk stands for."""
    if chunk.raw is not None:
        return len(chunk.raw)
    return sum(len(getattr(part, "text", "") or getattr(part, "arguments", "")) + 64 for part in chunk.parts)


def _reassembled(chunk: Chunk, given: list[Chunk]) -> list[Chunk]:
    """One whole chunk from the pieces of a whole one; the untouched bytes if the pieces are all it said."""
    if given == [chunk]:
        return given
    parts = [part for piece in given for part in piece.parts if type(part) is not Comment]
    ends = [part for part in parts if type(part) in (Report, End)]
    parts = [part for part in parts if type(part) not in (Report, End)] + ends
    return [chunk] if tuple(parts) == chunk.parts else [chunk.with_parts(parts)]
