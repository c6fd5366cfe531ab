"""Parts into a stream of OpenAI's Responses: events with a number each, the last of which bears the whole response."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import Comment, Part
from sidegate.wire import sse
from sidegate.wire.dialect import Envelope
from sidegate.wire.openai_responses.writer import ResponsesWriter

_json = JsonEncoder().encode


class ResponsesEncoder(ResponsesWriter):
    """An `Encoder` for one reply."""

    def __init__(self, envelope: Envelope) -> None:
        super().__init__(envelope)
        self.number = 0
        """Of the next event."""
        self._begun = False
        self._out: list[bytes] = []

    def encode(self, parts: Iterable[Part]) -> bytes:
        """The events that say `parts`. Nothing follows an `End`."""
        for part in parts:
            if not self._ended:
                self._begun = self._begun or type(part) is not Comment
                self._take(part)
        if self._begun and not self._opened:
            self._open()
        events = b"".join(self._out)
        self._out.clear()
        return events

    def say(self, kind: str, fields: dict[str, Any]) -> None:
        if not self._opened:
            self._open()
        said = {"type": kind, "sequence_number": self.number, **fields}
        self.number += 1
        self._out.append(b"event: " + kind.encode() + b"\ndata: " + _json(said) + b"\n\n")

    def comment(self, text: str) -> None:
        self._out.append(sse.comment(text))

    def _open(self) -> None:
        self._opened = True
        now = {"response": self.response("in_progress")}
        self.say("response.created", now)
        self.say("response.in_progress", now)
