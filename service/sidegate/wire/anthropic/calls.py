"""Ids of tool calls in a request, as Anthropic takes them: of its characters, and each once in a conversation.

Other servers give the same to several calls (Kimi numbers those of a function, a legacy function call has only its
name), and Gemini's and Kimi's have dots and colons.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from msgspec.structs import replace

from sidegate.contract.meaning import Content, Message, ToolResult, ToolUse

_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")


def with_own_ids(messages: Iterable[Message]) -> list[Message]:
    """The turns, their calls and results renamed where they must be."""
    ids = _Ids()
    return [replace(message, content=ids.of_turn(message.content)) for message in messages]


class _Ids:
    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._unanswered: dict[str, deque[str]] = {}
        self._last: dict[str, str] = {}

    def of_turn(self, content: tuple[Content, ...]) -> tuple[Content, ...]:
        # A result answers a call of the turn before it, and of several with one id the first that has none.
        for id in {piece.id for piece in content if isinstance(piece, ToolUse)}:
            self._unanswered[id] = deque()
        return tuple(self._renamed(piece) for piece in content)

    def _renamed(self, piece: Content) -> Content:
        if isinstance(piece, ToolUse):
            id = self._last[piece.id] = self._new(piece.id)
            self._unanswered[piece.id].append(id)
            return piece if id == piece.id else replace(piece, id=id)
        if isinstance(piece, ToolResult):
            id = self._answered(piece.id)
            return piece if id == piece.id else replace(piece, id=id)
        return piece

    def _new(self, id: str) -> str:
        kept = free = _own(id)
        while free in self._taken:
            # Counted on from the last: thousands of calls may have one id.
            self._numbers[kept] = number = self._numbers.get(kept, 1) + 1
            free = f"{kept}_{number}"
        self._taken.add(free)
        return free

    def _answered(self, id: str) -> str:
        waiting = self._unanswered.get(id)
        return waiting.popleft() if waiting else self._last.get(id, _own(id))


def _own(id: str) -> str:
    return _NOT_IN_ID.sub("_", id) or "_"
