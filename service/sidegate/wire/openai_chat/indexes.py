"""Chat Completions whose tool calls are counted otherwise than from 0 without gaps, put right on the provider's edge.

Anthropic's and Google's endpoints of this dialect count content blocks, or leave the index out; older servers send
parallel calls under one index, each with an id of its own. Clients' helpers demand 0, 1, 2 (openai's `.stream()` raises
`IndexError`), and whoever translates must know which piece belongs to which call.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from sidegate.contract.meaning import Finish, Part, ToolCall
from sidegate.wire import openai, sse
from sidegate.wire.body import UNREADABLE
from sidegate.wire.openai_chat.dialect import OpenAIChat
from sidegate.wire.openai_chat.writer import Calls
from sidegate.wire.sse import Splitter

_KEY = b'"tool_calls"'
_STOPPED = b'"stop"'


class Renumbering(Splitter):
    """A `Splitter` that gives out the same events, their tool calls counted as they should be.

    With `finishing`, a choice that has called tools and says `stop` finishes with `tool_calls`: older servers say it,
    and OpenAI where a tool is forced; clients of other dialects would not look for the calls.
    """

    __slots__ = ("_calls", "_finishing")

    def __init__(self, finishing: bool) -> None:
        super().__init__()
        self._finishing = finishing
        self._calls: dict[Any, Calls] = {}

    def feed(self, data: bytes) -> list[bytes]:
        return [self._mended(event) if self._concerns(event) else event for event in super().feed(data)]

    def close(self) -> bytes | None:
        rest = super().close()
        return self._mended(rest).rstrip(b"\n") if rest and self._concerns(rest) else rest

    def _concerns(self, event: bytes) -> bool:
        return event.find(_KEY) >= 0 or (self._finishing and bool(self._calls) and event.find(_STOPPED) >= 0)

    def _mended(self, event: bytes) -> bytes:
        """What cannot be read is left to whoever reads it next."""
        data = sse.data(event)
        try:
            said = msgspec.json.decode(data) if data else None
        except UNREADABLE:
            return event
        choices = said.get("choices") if isinstance(said, dict) else None
        if not isinstance(choices, list):
            return event
        changed = [self._mend(choice) for choice in choices if isinstance(choice, dict)]
        return sse.frame(openai.ENCODER.encode(said)) if any(changed) else event

    def _mend(self, choice: dict[str, Any]) -> bool:
        """Counts the calls of a choice, in place; whether anything was otherwise."""
        delta, key = choice.get("delta"), choice.get("index", 0)
        pieces = delta.get("tool_calls") if isinstance(delta, dict) else None
        changed = False
        if isinstance(pieces, list) and isinstance(key, int):
            calls = self._calls.setdefault(key, Calls())
            for place, piece in enumerate(pieces):
                changed = (isinstance(piece, dict) and _renumber(piece, place, calls)) or changed
        if self._finishing and isinstance(key, int) and key in self._calls and choice.get("finish_reason") == "stop":
            choice["finish_reason"] = "tool_calls"
            changed = True
        return changed


def _renumber(piece: dict[str, Any], place: int, calls: Calls) -> bool:
    index = piece.get("index")
    if index is not None and not isinstance(index, int):
        return False
    id, function = piece.get("id"), piece.get("function") or piece.get("custom")
    name = function.get("name") if isinstance(function, dict) else None
    found = calls.place(
        ToolCall(
            id=id if isinstance(id, str) and id else None,
            name=name if isinstance(name, str) and name else None,
            block=place if index is None else index,
        )
    )
    if found is None or found[0] == index:
        return False
    piece["index"] = found[0]
    return True


class RenumberedChat(OpenAIChat):
    """The `Dialect`, for readers that cannot do with other numbers."""

    def __init__(self, finishing: bool) -> None:
        self._finishing = finishing

    def splitter(self) -> Splitter:
        return Renumbering(self._finishing)

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        parts = super().read_whole(raw)
        calling = {part.choice for part in parts if isinstance(part, ToolCall)} if self._finishing else ()
        return tuple(_finished(part) if isinstance(part, Finish) and part.choice in calling else part for part in parts)


def _finished(finish: Finish) -> Finish:
    return replace(finish, reason="tool_calls") if finish.reason == "stop" else finish


FOR_HELPERS = RenumberedChat(finishing=False)
"""For clients of the same dialect."""
FOR_TRANSLATION = RenumberedChat(finishing=True)
"""For clients of others."""
CHAT = OpenAIChat.name
HELPER = "x-stainless-helper-method"
"""Header by which OpenAI's libraries say that a helper reads the stream, and not the caller."""
