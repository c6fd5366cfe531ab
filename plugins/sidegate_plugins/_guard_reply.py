"""How `guard` reads along with a reply: what has not been judged is held, and passes in its order, as it came."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from sidegate.contract import BlockEnd, Chunk, Citation, Ending, Finish, Opaque, Reasoning, RefusalText, Text, ToolCall
from sidegate.errors import Refusal
from sidegate_plugins._redact_request import looks_like_json, texts
from sidegate_plugins._text_window import JsonWindow, Patterns, Replaced, Rewriter, Window, rewritten

Judge: TypeAlias = Callable[[list[str]], Awaitable[None]]
"""Raises `Refusal` for texts that may not pass."""

_Key: TypeAlias = tuple[int, int | None, type]
"""A choice, a block, and the kind of what is said there."""

_CONTEXT = 200
"""Characters before a text that are judged with it."""
_MOST_CHUNKS = 1000
_ENDS = (".", "!", "?", "\n", "。", "…")


@dataclass(slots=True)
class Pace:
    """When the held text of a stream is judged: after `every` characters at the end of a sentence, or at `window`."""

    every: int
    window: int


@dataclass(slots=True)
class _Said:
    """One text of the reply: of a choice, a block and a kind."""

    window: Rewriter | None
    moderated: bool
    came: int = 0
    judged: int = 0
    closed: bool = False
    context: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def cleared(self) -> int:
        """Characters that may pass."""
        decided = self.came if self.window is None or self.closed else self.came - self.window.held
        return min(decided, self.judged) if self.moderated else decided

    def clears(self, end: int) -> bool:
        """Whether what ends there may pass. What says nothing yet waits for the first words: it would begin a reply."""
        cleared = self.cleared
        return end <= cleared and (cleared > 0 or (self.closed and not self.came))


class Reading:
    """The edit of one reply. `judge` is asked only for what no pattern denies."""

    def __init__(
        self, patterns: Patterns | None, denied: Replaced, judge: Judge | None, pace: Pace | None, limit: int
    ) -> None:
        self._patterns = patterns
        self._denied = denied
        self._judge = judge
        self._pace = pace
        self._limit = limit
        self._said: dict[_Key, _Said] = {}
        self._beside: list[str] = []
        """Texts of what is no text of a block: judged with the next."""
        self._queue: deque[tuple[Chunk, _Said | None, int]] = deque()
        self._held = 0
        self._over = False

    def see(self, chunk: Chunk) -> Iterable[Chunk] | Awaitable[Iterable[Chunk]]:
        said, size, text = None, 0, ""
        for part in chunk.parts:
            match part:
                case Text() | Reasoning() | RefusalText() | ToolCall():
                    text = part.arguments if isinstance(part, ToolCall) else part.text
                    is_json = isinstance(part, ToolCall) and not part.custom
                    said = self._feed((part.choice, part.block, type(part)), text, is_json=is_json)
                    size += len(text)
                case Opaque() if part.said:
                    text = part.said
                    said = self._feed((part.choice, part.block, Opaque), text, is_json=looks_like_json(text))
                    size += len(text)
                    self._look(list(texts(part.saying("").data)))
                case BlockEnd():
                    self._close(part.choice, part.block)
                case Finish():
                    self._close(part.choice)
                case Citation():
                    self._look([one for one in (part.title, part.quote, part.url) if one])
                case Opaque():
                    if part.block is not None:
                        self._close(part.choice, part.block, Opaque)
                    self._look(list(texts(part.data)))
                case _:
                    continue
        self._queue.append((chunk, said, 0 if said is None else said.came))
        self._held += size
        if self._held > self._limit:
            raise Refusal(502, "reply_too_large", "The reply is larger than may be held back.")
        return self._judged() if self._is_due(text) else self._cleared()

    def end(self, ending: Ending) -> Iterable[Chunk] | Awaitable[Iterable[Chunk]]:
        for said in self._said.values():
            self._shut(said)
        self._over = self._judge is None
        return self._cleared() if self._judge is None else self._last()

    async def _last(self) -> Iterable[Chunk]:
        passed = list(await self._judged())
        self._over = True
        return [*passed, *self._cleared()]

    # --- what patterns deny -------------------------------------------------------------------------------------------

    def _feed(self, key: _Key, text: str, *, is_json: bool) -> _Said:
        said = self._said.get(key)
        if said is None:
            kind = JsonWindow if is_json else Window
            window = None if self._patterns is None else kind(self._patterns, self._denied)
            said = self._said[key] = _Said(window, self._judge is not None)
        said.came += len(text)
        said.closed = said.closed and not text
        if said.window is not None:
            said.window.feed(text)
        if said.moderated and text:
            said.pieces.append(text)
        return said

    def _look(self, beside: list[str]) -> None:
        if self._patterns is not None:
            for text in beside:
                rewritten(text, self._patterns, self._denied)
        if self._judge is not None:
            self._beside += beside

    def _close(self, choice: int, block: int | None = None, kind: type | None = None) -> None:
        """No more of it comes."""
        for key, said in self._said.items():
            if key[0] == choice and block in (None, key[1]) and kind in (None, key[2]):
                self._shut(said)

    def _shut(self, said: _Said) -> None:
        if said.window is not None:
            said.window.flush()
        said.closed = True

    # --- what the endpoint denies -------------------------------------------------------------------------------------

    def _is_due(self, text: str) -> bool:
        if self._judge is None or self._pace is None:
            return False
        waiting = sum(said.came - said.judged for said in self._said.values())
        if waiting >= self._pace.window or len(self._queue) >= _MOST_CHUNKS:
            return True
        return waiting >= self._pace.every and text.rstrip(" ").endswith(_ENDS)

    async def _judged(self) -> Iterable[Chunk]:
        assert self._judge is not None
        waiting = [said for said in self._said.values() if said.pieces]
        found = [said.context + "".join(said.pieces) for said in waiting]
        beside, self._beside = self._beside, []
        if found or beside:
            await self._judge([*found, *beside])
        for said, text in zip(waiting, found, strict=True):
            said.judged, said.pieces, said.context = said.came, [], text[-_CONTEXT:]
        return self._cleared()

    # --- what may pass ------------------------------------------------------------------------------------------------

    def _cleared(self) -> list[Chunk]:
        """From the front: as far as all is judged."""
        passed: list[Chunk] = []
        queue = self._queue
        while queue and not (queue[0][1] is None and self._beside):
            chunk, said, end = queue[0]
            if said is not None and not (self._over or said.clears(end)):
                break
            queue.popleft()
            passed.append(chunk)
        if not queue:
            self._held = 0
        return passed
