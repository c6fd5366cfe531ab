"""Parts into a stream of UI message chunks, as events; or, in the text protocol, into the text alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import End, Part, RefusalText, Text
from sidegate.wire import sse
from sidegate.wire.dialect import Envelope
from sidegate.wire.ui.writer import UIWriter

DONE = b"data: [DONE]\n\n"

_json = JsonEncoder().encode


class UIEncoder(UIWriter):
    """An `Encoder` for one reply."""

    def __init__(self, envelope: Envelope, message_id: str | None = None) -> None:
        super().__init__(envelope, message_id)
        self._out: list[bytes] = []

    def encode(self, parts: Iterable[Part]) -> bytes:
        """The events that say `parts`."""
        self.take(parts)
        events = b"".join(self._out)
        self._out.clear()
        return events

    def say(self, kind: str, **fields: Any) -> None:
        self._out.append(b"data: " + _json({"type": kind, **fields}) + b"\n\n")
        if kind == "finish":
            self._out.append(DONE)

    def comment(self, text: str) -> None:
        self._out.append(sse.comment(text))


class TextEncoder:
    """An `Encoder` of the text protocol: what the first choice says, in UTF-8, and nothing of the rest."""

    def __init__(self, envelope: Envelope) -> None:
        self._ended = False

    def encode(self, parts: Iterable[Part]) -> bytes:
        said: list[str] = []
        for part in parts:
            self._ended = self._ended or type(part) is End
            if not self._ended and isinstance(part, Text | RefusalText) and part.choice == 0:
                said.append(part.text)
        return "".join(said).encode("utf-8", "replace")
