"""Parts into a stream of Anthropic Messages.

One block is open at a time, and indexes count up in the order in which blocks are opened. A tool call stays open until
it ends; what comes for other blocks meanwhile waits, since pieces of blocks must not interleave here. The closing
`message_delta` is held until the end: usage may be reported after the finish, and an edit may still add text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import (
    BlockEnd,
    Citation,
    Comment,
    End,
    Finish,
    Opaque,
    Reasoning,
    RefusalText,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.wire import custom_calls, sse
from sidegate.wire.anthropic.block import MESSAGES, Key, Keys, gather_fields, is_delta, own, write_citation
from sidegate.wire.anthropic.usage import stop_fields, write_usage
from sidegate.wire.seals import ANTHROPIC, marked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidegate.contract.meaning import Part
    from sidegate.wire.dialect import Envelope

_DELTA = b"event: content_block_delta\ndata: "

_json = JsonEncoder().encode


class AnthropicEncoder:
    """An `Encoder` for one reply. Only choice 0 can be said."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._start = Start()
        self._begun = False
        self._opened = False
        self._ended = False
        self._usage = Usage()
        self._fields: dict[str, dict[str, Any]] = {}
        self._of_call: dict[int, dict[str, Any]] = {}
        self._finish: Finish | None = None
        self._open: Key | None = None
        self._custom = False
        """What is open is the call of a custom tool."""
        self._next = 0
        self._keys = Keys(self._is_begun)
        self._waiting: dict[Key, list[Part]] = {}
        self._cited: list[Citation] = []
        self._out: list[bytes] = []

    def encode(self, parts: Iterable[Part]) -> bytes:
        """The events that say `parts`. Nothing follows an `End`."""
        for part in parts:
            if not self._ended:
                self._take(part)
        if self._begun and not self._opened:
            self._open_message()
        events = b"".join(self._out)
        self._out.clear()
        return events

    def _take(self, part: Part) -> None:
        if type(part) is Text and part.choice == 0:
            # Nearly every part: past the long way below.
            self._begun = True
            self._content(part)
            return
        if isinstance(part, Comment):
            self._out.append(sse.comment(part.text))
            return
        self._begun = True
        match part:
            case Start():
                self._start = part
            case Report():
                self._usage = self._usage.merge(part.usage)
            case Opaque(block=None) | Opaque(kind="block"):
                self._aside(part)
            case Finish(choice=0):
                self._finish = part
                self._close_all()
            case End():
                self._end()
            case BlockEnd(choice=0):
                self._end_block(part)
            case Reasoning(choice=0) | RefusalText(choice=0) | ToolCall(choice=0) | Opaque(choice=0):
                self._content(part)
            case Citation(choice=0) if part.origin == MESSAGES or part not in self._cited:
                # Gemini tells its sources again and again.
                self._cited.append(part)
                self._content(part)
            case _:
                return

    def _aside(self, part: Opaque) -> None:
        """Fields of the message or the call to come, or an event that goes on as it is."""
        if not own(part):
            return
        if part.kind == "message":
            gather_fields(part, self._fields)
        elif part.block is not None:
            self._of_call[part.block] = {key: value for key, value in part.data.items() if key != "type"}
        else:
            self._event(part.kind, part.data)

    def _content(self, part: Part) -> None:
        key = self._keys.of(part)
        if key is None:
            return
        if self._open is not None and self._open.kind == "tool" and self._open != key:
            self._waiting.setdefault(key, []).append(part)
            return
        self._place(key, part)

    def _is_begun(self, key: Key) -> bool:
        return key == self._open or key in self._waiting

    def _place(self, key: Key, part: Part) -> None:
        if self._open != key:
            start = self._block_of(part)
            if start is None:
                return
            self._close()
            self._event("content_block_start", {"index": self._next, "content_block": start})
            self._open = key
            self._custom = isinstance(part, ToolCall) and part.custom
            if self._custom:
                self._delta(_given(custom_calls.BEGUN))
        for delta in _deltas(part):
            self._delta(delta)

    def _delta(self, delta: dict[str, Any]) -> None:
        said = {"type": "content_block_delta", "index": self._next, "delta": delta}
        self._out.append(_DELTA + _json(said) + b"\n\n")

    def _block_of(self, part: Part) -> dict[str, Any] | None:
        """How a block begins that begins with `part`; `None` where it brings nothing, or no call can begin so."""
        match part:
            case Text() | RefusalText():
                return {"type": "text", "text": ""} if part.text else None
            case Citation():
                return {"type": "text", "text": "", "citations": []} if write_citation(part) is not None else None
            case Reasoning(redacted=str(data)):
                return {"type": "redacted_thinking", "data": data}
            case Reasoning():
                said = part.text or part.signature
                return {"type": "thinking", "thinking": "", "signature": ""} if said else None
            case ToolCall(name=str(name)):
                made = f"toolu_{self._envelope.id}_{self._next}"
                fields = self._of_call.pop(part.block, {})
                return {"type": "tool_use", "id": part.id or made, "name": name, "input": {}, **fields}
            case Opaque() if not is_delta(part):
                return dict(part.data)
        return None

    def _end_block(self, end: BlockEnd) -> None:
        for key, parts in self._waiting.items():
            if key.source == end.block:
                parts.append(end)
        if self._open is not None and self._open.source == end.block:
            self._close()
            self._drain()

    def _drain(self) -> None:
        """Writes what waited, block by block, until a tool call is open again that has not ended."""
        while self._waiting and (self._open is None or self._open.kind != "tool"):
            key = next(iter(self._waiting))
            for part in self._waiting.pop(key):
                if isinstance(part, BlockEnd):
                    self._close()
                else:
                    self._place(key, part)

    def _close(self) -> None:
        if self._open is None:
            return
        if self._custom:
            self._delta(_given(custom_calls.ENDED))
            self._custom = False
        self._event("content_block_stop", {"index": self._next})
        self._open = None
        self._next += 1

    def _close_all(self) -> None:
        self._close()
        while self._waiting:
            self._drain()
            self._close()

    def _open_message(self) -> None:
        self._opened = True
        message = {
            "id": self._start.id or f"msg_{self._envelope.id}",
            "type": "message",
            "role": "assistant",
            "model": self._start.model or self._envelope.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            **self._fields.pop("delta", {}),
            "usage": {**write_usage(self._usage, output=False), **self._fields.pop("usage", {})},
        }
        self._event("message_start", {"message": message})

    def _end(self) -> None:
        self._ended = True
        self._close_all()
        stop = stop_fields(self._finish, self._fields)
        usage = {**write_usage(self._usage), **self._fields.get("usage", {})}
        if self._usage.input_tokens is None:
            del usage["input_tokens"]
        self._event("message_delta", {"delta": stop, "usage": usage, **self._fields.get("event", {})})
        self._event("message_stop", {})

    def _event(self, kind: str, fields: dict[str, Any]) -> None:
        if not self._opened:
            self._open_message()
        self._out.append(sse.frame(_json({"type": kind, **fields}), kind))


def _given(arguments: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": arguments}


def _deltas(part: Part) -> list[dict[str, Any]]:
    match part:
        case Text(text=str(text)) | RefusalText(text=str(text)) if text:
            return [{"type": "text_delta", "text": text}]
        case ToolCall(arguments=str(arguments)) if arguments:
            return [_given(custom_calls.inside(arguments) if part.custom else arguments)]
        case Reasoning(redacted=None):
            thinking = [{"type": "thinking_delta", "thinking": part.text}] if part.text else []
            signature = marked(ANTHROPIC, part.vendor, part.signature)
            signed = [{"type": "signature_delta", "signature": signature}] if signature else []
            return thinking + signed
        case Opaque() if is_delta(part):
            return [dict(part.data)]
        case Citation() if (citation := write_citation(part)) is not None:
            return [{"type": "citations_delta", "citation": citation}]
    return []
