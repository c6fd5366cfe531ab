"""Server-sent events as bytes: cut a stream into whole events, read one, write one (WHATWG HTML, section 9.2).

A line ends with LF, CR or CRLF and nothing else: U+2028 and U+0085 are text, so `str.splitlines` has no place here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from sidegate.errors import ReplyError

MAX_EVENT_BYTES = 8 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_CLOSING = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_BLANK = re.compile(rb"[\r\n]+")
_NEWLINES = re.compile(rb"\n+")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LF = 10

CR = 13
"""To be looked for in bytes as a number: `in` takes whatever it is given for one first, and makes an error of bytes."""

Row = Callable[[bytes, int], int]
"""Where the row of events ends that begins at a place of some bytes: at that place itself, where there is none."""


class Splitter:
    """Upstream pieces in, whole events out, each with its closing blank line; however the bytes are cut.

    The events joined are the stream as it was sent, less a leading byte order mark and stray blank lines. An event
    that closes with a CR is given out at once and closed with CRLF, since the LF that may follow cannot be waited for:
    the meaning is the same, and so are the bytes for each way of cutting.
    """

    __slots__ = ("_begun", "_failed", "_max", "_rest", "_returns", "_scanned")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._rest = bytearray()
        self._scanned = 0
        self._begun = False
        self._returns = False
        self._failed = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises `ReplyError` (`event_too_large`) once those before are given out."""
        if self._failed:
            raise self._too_large()
        if not self._begun:
            data = self._begin(data)
            if not self._begun:
                return []
        if not self._returns and CR in data:
            self._returns = True
        rest = self._rest
        if not rest:
            if self._is_one_of_crlf(data) if self._returns else self._is_one(data):
                return [data]
            return self._take(data, 0)
        rest += data
        if not self._closes(rest):
            self._scanned = len(rest)
            return self._keep([])
        whole = bytes(rest)
        scanned = max(self._scanned - 3, 0)
        rest.clear()
        return self._take(whole, scanned)

    def straight(self, data: bytes) -> bool:
        """Whether `data` may be nothing but whole events, and nothing is lost where `feed` never has it."""
        return (
            self._begun
            and not self._rest
            and not self._returns
            and not self._failed
            and len(data) <= self._max
            and data.endswith(b"\n\n")
        )

    def around(self, data: bytes, row: Row, rows: list[bytes]) -> Iterator[bytes]:
        """The events that `data` completes, as `feed` gives them, but for those that `row` knows: they are put in
        `rows` uncut, each row when the event before it has been taken."""
        if data.rfind(b"\n\n") >= 0 and self._is_plain(data):
            if self._rest:
                data = bytes(self._rest) + data
                self._rest.clear()
                self._scanned = 0
            start, last = 0, data.rfind(b"\n\n")
            while start <= last and not self._rest and not self._returns:
                end = row(data, start)
                if end > start:
                    rows.append(data[start:end])
                elif data[start] == _LF:
                    end = _skip(data, start, _NEWLINES)
                else:
                    end = data.find(b"\n\n", start) + 2
                    event = data[start:end]
                    if event[0] > CR and CR not in event:
                        yield event
                    else:
                        yield from self.feed(event)
                start = end
            data = data[start:]
        if data:
            yield from self.feed(data)

    def _is_plain(self, data: bytes) -> bool:
        """Whether rows may be looked for in what is here with `data`, in which events end: by LF alone."""
        if self._failed or self._returns or len(self._rest) + len(data) > self._max:
            return False
        if not self._begun:
            self._begun = not self._rest and data[0] != _BOM[0]
        return self._begun

    def close(self) -> bytes | None:
        """What is left without a closing blank line, or `None`. Some providers end so; the caller decides."""
        if self._failed:
            raise self._too_large()
        rest = bytes(self._rest)
        self._rest.clear()
        return rest or None

    def _begin(self, data: bytes) -> bytes:
        """Drops the byte order mark, which may come in pieces."""
        data = bytes(self._rest) + data
        self._rest.clear()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._rest += data
            return b""
        self._begun = True
        return data.removeprefix(_BOM)

    def _is_one(self, data: bytes) -> bool:
        """Whether a piece is just one event, as it mostly is while a model speaks."""
        return 2 < len(data) <= self._max and data[0] != _LF and data.find(b"\n\n") == len(data) - 2

    def _is_one_of_crlf(self, data: bytes) -> bool:
        """The same of an event of one line that ends with CRLF, as Google's do."""
        last = len(data) - 4
        if not 0 < last <= self._max - 4 or data[0] <= CR:
            return False
        return data.find(b"\n") == last + 1 and data.find(b"\r") == last and data.endswith(b"\r\n\r\n")

    def _closes(self, rest: bytearray) -> bool:
        start = max(self._scanned - 3, 0)
        if self._returns:
            return _CLOSING.search(rest, start) is not None
        return rest.find(b"\n\n", start) >= 0

    def _take(self, data: bytes, scanned: int) -> list[bytes]:
        """Cuts `data` into events and keeps what is left; no closing line ends before `scanned`."""
        events: list[bytes] = []
        size = len(data)
        start = _skip(data, 0)
        scanned = max(scanned, start)
        while (end := self._end(data, scanned)) >= 0:
            event = data[start:end]
            if event[-1] == CR:
                event += b"\n"
            if len(event) > self._max:
                self._failed = True
                return self._given(events)
            events.append(event)
            start = scanned = _skip(data, end) if end < size and data[end] <= CR else end
        if start < size:
            self._rest += data[start:] if start else data
        self._scanned = len(self._rest)
        return self._keep(events)

    def _end(self, data: bytes, start: int) -> int:
        if self._returns:
            found = _CLOSING.search(data, start)
            return found.end() if found else -1
        at = data.find(b"\n\n", start)
        return at + 2 if at >= 0 else -1

    def _keep(self, events: list[bytes]) -> list[bytes]:
        if len(self._rest) > self._max:
            self._failed = True
            return self._given(events)
        return events

    def _given(self, events: list[bytes]) -> list[bytes]:
        self._rest.clear()
        if not events:
            raise self._too_large()
        return events

    def _too_large(self) -> ReplyError:
        return ReplyError(f"The provider sent an event of more than {self._max} bytes.", code="event_too_large")


def _skip(data: bytes, start: int, blank: re.Pattern[bytes] = _BLANK) -> int:
    """Past the blank lines between events, and past the LF of a CRLF whose event was given out at the CR."""
    found = blank.match(data, start)
    return start if found is None else found.end()


def data(event: bytes) -> bytes | None:
    """The data of an event, its lines joined by LF; `None` where it has no data field, as a comment or a ping."""
    # Nearly every event is one line `data: {...}` and a blank one.
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and event[-1] == _LF and CR not in event:
        return event[6:-2]
    lines = [line[5:] for line in _LINE_END.split(event) if line.startswith(b"data:") or line == b"data"]
    return b"\n".join([line.removeprefix(b" ") for line in lines]) if lines else None


def kind(event: bytes) -> str:
    """The `event:` field, or an empty string."""
    found = b""
    for line in _LINE_END.split(event):
        if line.startswith(b"event:"):
            found = line[6:].removeprefix(b" ")
    return found.decode("utf-8", "replace")


def frame(data: bytes, event: str | None = None) -> bytes:
    """One event that says `data`, with LF as line end."""
    head = f"event: {_one_line(event)}\n".encode() if event else b""
    if _LF in data or CR in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    return head + b"data: " + data + b"\n\n"


def comment(text: str) -> bytes:
    """A comment, kept on one line."""
    return f": {_one_line(text)}\n\n".encode("utf-8", "replace")


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
