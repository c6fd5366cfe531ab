"""Cuts what a Gemini provider sends into events: SSE with `alt=sse`, else the elements of a JSON array.

Which of the two shows by the first byte, as providers are known to answer with the other one.
"""

from __future__ import annotations

import re

from sidegate.errors import ReplyError
from sidegate.wire.sse import MAX_EVENT_BYTES, Splitter, data, frame

_MARK = re.compile(rb'["\\{}\[\]]')
_BETWEEN = b" \t\r\n,"
_LINE_ENDS = b"\r\n"


class GeminiSplitter:
    """An `Events`: elements of an array come out as SSE events."""

    __slots__ = ("_array", "_begun", "_sse")

    def __init__(self) -> None:
        self._begun = False
        self._sse = Splitter()
        self._array: ArraySplitter | None = None

    def feed(self, piece: bytes) -> list[bytes]:
        if self._array is not None:
            return self._array.feed(piece)
        if not self._begun and (first := piece.lstrip()[:1]):
            self._begun = True
            if first in (b"[", b"{"):
                self._array = ArraySplitter()
                return self._array.feed(piece)
        return [each if each.startswith(b"data: ") else _plain(each) for each in self._sse.feed(piece)]

    def close(self) -> bytes | None:
        return self._sse.close() if self._array is None else self._array.close()


def _plain(event: bytes) -> bytes:
    """The event with its data alone: Google's clients take a line of any other field for a reply that is none."""
    said = data(event)
    return event if said is None else frame(said)


class ArraySplitter:
    """JSON values one after another, in an array or not, into events, however the bytes are cut."""

    __slots__ = ("_depth", "_max", "_rest", "_scanned", "_text")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._rest = bytearray()
        self._scanned = 0
        self._depth = 0
        self._text = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The elements that `piece` completes. Raises `ReplyError` (`event_too_large`) for one beyond the bound."""
        self._rest += piece
        events: list[bytes] = []
        while (end := self._end()) >= 0:
            events.append(b"data: " + bytes(self._rest[:end]).translate(None, _LINE_ENDS) + b"\n\n")
            del self._rest[:end]
            self._scanned = 0
        if len(self._rest) > self._max:
            raise ReplyError(f"The provider sent an event of more than {self._max} bytes.", code="event_too_large")
        return events

    def close(self) -> bytes | None:
        """What is left of an element that never ended."""
        rest = bytes(self._rest).strip(_BETWEEN + b"]")
        self._rest.clear()
        return b"data: " + rest.translate(None, _LINE_ENDS) if rest else None

    def _end(self) -> int:
        """Where the element ends that the rest begins with; -1 where it has not come yet."""
        if not self._depth and not self._scanned:
            self._skip()
        for found in _MARK.finditer(self._rest, self._scanned):
            at = found.start()
            if at < self._scanned:
                continue
            mark = found[0]
            if mark == b"\\":
                if not self._text:
                    continue
                if at + 1 >= len(self._rest):
                    self._scanned = at
                    return -1
                self._scanned = at + 2
                continue
            self._scanned = at + 1
            if mark == b'"':
                self._text = not self._text
            elif self._text:
                continue
            elif mark in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 0:
                    self._depth = 0
                    return at + 1
        self._scanned = max(self._scanned, len(self._rest))
        return -1

    def _skip(self) -> None:
        """Past what stands between elements, and past the brackets of the array itself."""
        rest = bytes(self._rest)
        kept = rest.lstrip(_BETWEEN + b"[]")
        if len(kept) < len(rest):
            del self._rest[: len(rest) - len(kept)]
