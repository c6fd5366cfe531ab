"""Parts into the chunks of a UI message: a stream frames them, a body gathers them.

One text or one thinking is open at a time, calls may be open together. A text stays open until something else is said,
for an edit may have held back the end of it. Only chunks, fields and finish reasons are said that version 6 of the AI
SDK reads as well as version 7: both fail on a `type` they do not know, and on a null.
Source: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from sidegate.contract.meaning import (
    BlockEnd,
    Citation,
    Comment,
    End,
    Finish,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.wire import custom_calls
from sidegate.wire.body import UNREADABLE
from sidegate.wire.dialect import Envelope
from sidegate.wire.openai_chat.writer import Calls
from sidegate.wire.ui.metadata import sealed, signed, write_usage
from sidegate.wire.ui.sources import Sources

UNPARSED = "The arguments of the call are not valid JSON."

_FINISH = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
    "refusal": "content-filter",
    "error": "error",
    "other": "other",
}
_decode = msgspec.json.Decoder().decode

Metadata = dict[str, Any]
"""The field of a chunk that bears a signature."""


class _Spoken(Struct):
    """A text or some thinking that is open. `key` is the block it was read from."""

    kind: str
    key: tuple[str, int]
    id: str
    signed: Metadata | None = None


class _Call(Struct):
    """A call whose pieces are gathered."""

    id: str
    name: str
    block: int
    signed: Metadata
    arguments: list[str]
    open: bool = True
    custom: bool = False


class UIWriter:
    """Takes the parts of one reply. Only choice 0 can be said."""

    def __init__(self, envelope: Envelope, message_id: str | None = None) -> None:
        """`message_id` is that of the message which the reply goes on with, where it does."""
        self._envelope = envelope
        self._message_id = message_id
        self._start = Start()
        self._begun = False
        self._opened = False
        self._ended = False
        self._usage: Usage | None = None
        self._finish = "stop"
        self._texts = 0
        self._spoken: _Spoken | None = None
        self._alone: Metadata | None = None
        """A signature that has not found yet what it stands at."""
        self._places = Calls()
        self._calls: list[_Call] = []
        self._sources = Sources()

    def say(self, kind: str, **fields: Any) -> None:
        """Tells of a chunk."""
        raise NotImplementedError

    def comment(self, text: str) -> None:
        """Tells people something."""

    def take(self, parts: Iterable[Part]) -> None:
        """Nothing follows an `End`."""
        for part in parts:
            if not self._ended:
                self._take(part)
        if self._begun and not self._opened:
            self._open()

    def _take(self, part: Part) -> None:
        if isinstance(part, Comment):
            self.comment(part.text)
            return
        self._begun = True
        match part:
            case Text(text, 0, block):
                self._piece("text", ("text", block), text)
            case RefusalText(text, 0, block):
                self._piece("text", ("refusal", block), text)
            case Reasoning(choice=0):
                self._reason(part)
            case ToolCall(choice=0):
                self._call(part)
            case BlockEnd(0, block):
                self._end_block(block)
            case Opaque(choice=0) | Citation(choice=0):
                self._aside(part)
            case Finish(reason, 0):
                self._finish = _FINISH[reason]
                self._end_calls()
            case Report(usage):
                self._usage = usage if self._usage is None else self._usage.merge(usage)
            case Start():
                self._start = self._start if self._opened else part
            case End():
                self._end()
            case _:
                return

    def _say(self, kind: str, **fields: Any) -> None:
        if not self._opened:
            self._open()
        self.say(kind, **fields)

    def _open(self) -> None:
        self._opened = True
        told = {"callId": self._envelope.id, "model": self._start.model or self._envelope.model}
        self.say("start", messageId=self._message_id or f"msg_{self._envelope.id}", messageMetadata=told)
        self.say("start-step")

    # --- texts and thinking -------------------------------------------------------------------------------------------

    def _piece(self, kind: str, key: tuple[str, int], text: str) -> None:
        if not text:
            return
        spoken = self._spoken
        # What is signed is whole: more of it is another.
        if spoken is None or spoken.key != key or spoken.signed is not None or self._alone is not None:
            self._settle()
            self._close()
            spoken = self._speak(kind, key)
        self._say(f"{kind}-delta", id=spoken.id, delta=text)

    def _speak(self, kind: str, key: tuple[str, int]) -> _Spoken:
        self._texts += 1
        spoken = self._spoken = _Spoken(kind, key, f"{kind}_{self._texts}")
        self._say(f"{kind}-start", id=spoken.id)
        return spoken

    def _close(self) -> None:
        spoken, self._spoken = self._spoken, None
        if spoken is not None:
            self._say(f"{spoken.kind}-end", id=spoken.id, **(spoken.signed or {}))

    def _reason(self, part: Reasoning) -> None:
        key = "reasoning", part.block
        if part.redacted is not None:
            self._settle()
            self._close()
            self._sealed(sealed(part.redacted))
            return
        self._piece("reasoning", key, part.text)
        if not part.signature:
            return
        metadata = signed(part.signature, part.vendor)
        if self._spoken is not None and self._spoken.key == key and self._alone is None:
            self._spoken.signed = metadata
            return
        self._settle()
        self._alone = metadata

    def _settle(self) -> None:
        """A signature that came alone binds the text before it; where there is none, it is thinking without words."""
        metadata, self._alone = self._alone, None
        if metadata is None:
            return
        if self._spoken is not None and self._spoken.kind == "text":
            self._spoken.signed = metadata
            self._close()
        else:
            self._close()
            self._sealed(metadata)

    def _sealed(self, metadata: Metadata) -> None:
        self._texts += 1
        id = f"reasoning_{self._texts}"
        self._say("reasoning-start", id=id)
        self._say("reasoning-end", id=id, **metadata)

    # --- calls --------------------------------------------------------------------------------------------------------

    def _call(self, piece: ToolCall) -> None:
        placed = self._places.place(piece)
        if placed is None:
            return
        place, first = placed
        if first:
            self._begin_call(piece, place)
        call = self._calls[place]
        if piece.arguments and call.open:
            self._give(call, custom_calls.inside(piece.arguments) if call.custom else piece.arguments)

    def _give(self, call: _Call, arguments: str) -> None:
        call.arguments.append(arguments)
        self._say("tool-input-delta", toolCallId=call.id, inputTextDelta=arguments)

    def _begin_call(self, piece: ToolCall, place: int) -> None:
        """Begin one. A signature that came right before is the call's."""
        metadata, self._alone = self._alone or {}, None
        self._close()
        id = piece.id or f"call_{self._envelope.id}_{place}"
        if any(call.id == id for call in self._calls):
            # Clients know calls by their id: some servers give the same to all.
            id = f"{id}_{place}"
        call = _Call(id, piece.name or "", piece.block, metadata, [], custom=piece.custom)
        self._calls.append(call)
        self._say("tool-input-start", toolCallId=id, toolName=call.name, **call.signed)
        if call.custom:
            self._give(call, custom_calls.BEGUN)

    def _end_block(self, block: int) -> None:
        if self._spoken is not None and self._spoken.key == ("reasoning", block):
            self._close()
        self._end_calls(block)

    def _end_calls(self, block: int | None = None) -> None:
        for call in self._calls:
            if call.open and block in (None, call.block):
                call.open = False
                self._end_call(call)

    def _end_call(self, call: _Call) -> None:
        if call.custom:
            self._give(call, custom_calls.ENDED)
        text = "".join(call.arguments)
        told = {"toolCallId": call.id, "toolName": call.name, **call.signed}
        try:
            given = _decode(text) if text.strip() else {}
        except UNREADABLE:
            self._say("tool-input-error", **told, input=text, errorText=UNPARSED)
            return
        self._say("tool-input-available", **told, input=given)

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _aside(self, part: Opaque | Citation) -> None:
        for chunk in self._sources.of(part):
            self._say(**chunk)

    def _end(self) -> None:
        self._settle()
        self._close()
        self._end_calls()
        self._say("finish-step")
        usage = {} if self._usage is None else write_usage(self._usage)
        self._say("finish", finishReason=self._finish, **({"messageMetadata": {"usage": usage}} if usage else {}))
        self._ended = True
