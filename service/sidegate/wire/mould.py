"""Moulds: what is the same in every event of a stream that says one more piece of text.

Between one token and the next, most providers change nothing but the text. An event that has the bytes of the one
before it around its text, and in the text neither a quote nor a backslash nor anything but printable ASCII, is the same
JSON with another string in its place: it need not be decoded to know what it says. Everything else is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_PLAIN = re.compile(rb"[ !#-\[\]-~]+")
_PADDING = re.compile(rb"[ !#-\[\]-~]*")
_PADDED = re.compile(rb'"(?:obfuscation|p)":"([ !#-\[\]-~]*)"')
"""Keys by which OpenAI and Mistral hide how long a token is; nobody reads what they say."""
MOST_CASTS = 4
"""After so many moulds that did not fit, the provider is one that changes more than the text."""

WINDOW = 4096
"""Bytes that are looked at together: where other events are among those of a row, not all is searched for each."""

_PROBE = "sidegate probe"
"""Put in the place of the text, to see whether it is the place."""


class Mould:
    """What stands around the text of one event; `middle` where padding of any length follows it, up to `after`."""

    __slots__ = ("_after", "_before", "_middle", "_start")

    def __init__(self, before: bytes, middle: bytes, after: bytes) -> None:
        self._before = before
        self._middle = middle
        self._after = after
        self._start = len(before)

    def size(self, event: bytes) -> int:
        """Bytes of its text, where an event differs from the one of the mould in nothing else; else 0."""
        if not event.startswith(self._before) or not event.endswith(self._after):
            return 0
        end = len(event) - len(self._after)
        if self._middle:
            end = self._end(event, end)
        return end - self._start if _PLAIN.fullmatch(event, self._start, end) is not None else 0

    def row(self, data: bytes) -> int:
        """Bytes of all texts, where `data` is event after event of this mould; else 0."""
        if not data.startswith(self._before) or not data.endswith(self._after):
            return 0
        end = len(data) - len(self._after)
        if not self._middle and _PLAIN.fullmatch(data, self._start, end) is not None:
            return end - self._start  # a row of one
        # What stands between has quotes, so it is in no text.
        return self._texts(data[self._start : end].split(self._after + self._before))

    def front(self, data: bytes, start: int) -> tuple[int, int]:
        """Where the row of events of this mould ends that begins at `start`, and bytes of its texts."""
        end = start
        total = 0
        while data.startswith(self._before, end):
            texts = data[end + self._start : end + WINDOW].split(self._after + self._before)
            last, closed, _ = texts.pop().partition(self._after)
            if closed:
                texts.append(last)
            row, size = self._plain(texts)
            if not row:
                break
            end += len(b"".join(row)) + len(row) * (self._start + len(self._after))
            total += size
        return end, total

    def _plain(self, texts: list[bytes]) -> tuple[list[bytes], int]:
        """Those before the first that is not plain, and bytes of them."""
        if size := self._texts(texts):
            return texts, size
        row = []
        for text in texts:
            if not (more := self._texts([text])):
                break
            row.append(text)
            size += more
        return row, size

    def _texts(self, texts: list[bytes]) -> int:
        """Bytes of these, where all are plain; else 0."""
        if self._middle:
            padded = [text.partition(self._middle) for text in texts]
            texts = [text for text, middle, _ in padded if middle]
            if len(texts) < len(padded) or _PADDING.fullmatch(b"".join([pad for _, _, pad in padded])) is None:
                return 0
        text = b"".join(texts)
        return len(text) if b"" not in texts and _PLAIN.fullmatch(text) is not None else 0

    def _end(self, event: bytes, padded: int) -> int:
        """Where the text ends that has padding behind it; 0 where there is something else."""
        end = event.find(b'"', self._start)
        if end < 0 or not event.startswith(self._middle, end):
            return 0
        return end if _PADDING.fullmatch(event, end + len(self._middle), padded) is not None else 0


class Moulded:
    """What meters share that count by a mould: whole events at once, where each says one more piece of text."""

    __slots__ = tuple[str, ...]()  # its users' own hold these
    output_bytes: int
    _mould: Mould | None

    def row(self, raw: bytes) -> bool:
        """Count `raw`, where it is nothing but such events. Else false, and nothing is counted."""
        if self._mould is None or not (size := self._mould.row(raw)):
            return False
        self.output_bytes += size
        return True

    def front(self, raw: bytes, start: int) -> int:
        """Count those that stand in `raw` from `start` on; gives where they end."""
        if self._mould is None:
            return start
        end, size = self._mould.front(raw, start)
        self.output_bytes += size
        return end


def is_plain(text: str) -> bool:
    """Whether an event that says it can be told by a mould."""
    return text.isascii() and _PLAIN.fullmatch(text.encode()) is not None


def cast(event: bytes, key: bytes, text: str, read: Callable[[bytes], str | None]) -> Mould | None:
    """A mould of an event that says `text` behind `key`; `None` where it does not stand in one place and no other.

    `read` decodes an event, and gives the text where it says nothing else.
    """
    said = key + text.encode() + b'"'
    at = event.find(said)
    if at < 0 or event.find(said, at + 1) >= 0:
        return None
    before, after = event[: at + len(key)], event[at + len(said) - 1 :]
    if read(before + _PROBE.encode() + after) != _PROBE:
        return None
    padded = _PADDED.search(after)
    if padded is None:
        return Mould(before, b"", after)
    return Mould(before, after[: padded.start(1)], after[padded.end(1) :])
