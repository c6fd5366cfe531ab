"""The meter of Anthropic Messages: what the gateway must know of every reply, decoded once per event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidegate.errors import SidegateError
from sidegate.wire.anthropic.event import Event, payload, read_event, read_loose_block, read_whole
from sidegate.wire.anthropic.usage import Counts, read_stop
from sidegate.wire.dialect import Sign
from sidegate.wire.mould import MOST_CASTS, Mould, Moulded, cast, is_plain

if TYPE_CHECKING:
    from sidegate.contract.meaning import FinishReason, Usage


_KEY = b'"text":"'


class AnthropicMeter(Moulded):
    """A `Meter` for one reply. Anthropic has one choice, so its finish is the reply's."""

    reader = None
    __slots__ = ("_casts", "_counts", "_mould", "finish", "finished", "id", "model", "output_bytes", "started", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish: FinishReason | None = None
        self.model: str | None = None
        self.id: str | None = None
        self.output_bytes = 0
        self.started = False
        self.finished = False
        self._counts = Counts()
        self._mould: Mould | None = None
        self._casts = 0

    def event(self, raw: bytes) -> Sign:
        if self._mould is not None and (size := self._mould.size(raw)):
            self.output_bytes += size
            return Sign.CONTENT
        data = payload(raw)
        if data is None:
            return Sign.NOTHING
        event = read_event(data)
        match event.type:
            case "content_block_delta":
                return self._delta(event, raw)
            case "content_block_start":
                return self._block(event)
            case "message_start":
                return self._start(event)
            case "message_delta":
                return self._end_of_turn(event)
            case "message_stop":
                return Sign.END
            case "ping":
                return Sign.NOTHING
            case _:
                return self._aside()

    def whole(self, raw: bytes) -> None:
        message = read_whole(raw)
        self.id, self.model = message.id, message.model
        for raw_block in message.content:
            block = read_loose_block(raw_block)
            arguments = bytes(block.input)
            self._count(block.text, block.thinking, block.data)
            self.output_bytes += len(arguments)
        self._report(message.usage)
        if message.stop_reason is not None:
            self.finish = read_stop(message.stop_reason)
        self.started = self.finished = True

    def _delta(self, event: Event, raw: bytes) -> Sign:
        delta = event.delta
        if delta is not None:
            text = delta.text or delta.partial_json or delta.thinking
            if text:
                self.output_bytes += len(text) if text.isascii() else len(text.encode())
            if delta.text and self._casts < MOST_CASTS and is_plain(delta.text):
                self._casts += 1
                self._mould = cast(raw, _KEY, delta.text, _text_of)
        self.started = True
        return Sign.CONTENT

    def _block(self, event: Event) -> Sign:
        """A text or thinking block mostly begins with nothing in it; any other start tells something already."""
        block = event.content_block
        if block is None or (block.type in ("text", "thinking") and not block.text and not block.thinking):
            return self._aside()
        arguments = bytes(block.input)
        self._count(block.text, block.thinking, block.data)
        self.output_bytes += len(arguments) if arguments != b"{}" else 0
        self.started = True
        return Sign.CONTENT

    def _start(self, event: Event) -> Sign:
        head = event.message
        if head is not None:
            self.id, self.model = head.id, head.model
            self._report(head.usage.without_output() if head.usage is not None else None)
        return Sign.LEAD_IN

    def _end_of_turn(self, event: Event) -> Sign:
        self._report(event.usage)
        stop_reason = event.delta.stop_reason if event.delta is not None else None
        if stop_reason is None:
            return self._aside()
        self.finish = self.finish or read_stop(stop_reason)
        self.started = self.finished = True
        return Sign.CONTENT

    def _report(self, counts: Counts | None) -> None:
        """The kinds are merged as Anthropic counts them, since its input tokens alone leave out the cached ones."""
        if counts is None:
            return
        self._counts = self._counts.merge(counts)
        self.usage = self._counts.usage()

    def _count(self, *texts: object) -> None:
        self.output_bytes += sum(len(text.encode()) for text in texts if isinstance(text, str))

    def _aside(self) -> Sign:
        return Sign.OTHER if self.started else Sign.LEAD_IN


def _text_of(raw: bytes) -> str | None:
    """What an event says that is one more piece of text."""
    try:
        event = read_event(payload(raw) or b"")
    except SidegateError:
        return None
    delta = event.delta if event.type == "content_block_delta" else None
    return delta.text if delta is not None and not delta.partial_json and not delta.thinking else None
