"""Moulds: what is the same in every event of a stream that says one more piece of text.

Between one token and the next, most providers change nothing but the text. An event that has the bytes of the one
before it around its text, and in the text neither a quote nor a backslash nor anything but printable ASCII, is the same
JSON with another string in its place: it need not be decoded to know what it says. Everything else is.
"""

from __future__ import annotations

import re

from sidegate.wire import sse
from sidegate.wire.body import UNREADABLE
from sidegate.wire.openai_chat_reply import EVENT

_PLAIN = re.compile(rb"[ !#-\[\]-~]+")
_KEY = b'"content":"'
_PROBE = "sidegate probe"
"""Put in the place of the text, to see whether it is the place."""


class Mould:
    """What stands around the text of one event."""

    __slots__ = ("_after", "_around", "_before", "_tail")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after
        self._tail = len(after)
        self._around = len(before) + len(after)

    def size(self, event: bytes) -> int:
        """Bytes of its text, where an event differs from the one of the mould in nothing else; else 0."""
        if not event.startswith(self._before) or not event.endswith(self._after):
            return 0
        if _PLAIN.fullmatch(event, len(self._before), len(event) - self._tail) is None:
            return 0
        return len(event) - self._around


def is_plain(text: str) -> bool:
    """Whether an event that says it can be told by a mould."""
    return text.isascii() and _PLAIN.fullmatch(text.encode()) is not None


def cast(event: bytes, text: str) -> Mould | None:
    """A mould of an event whose only choice says `text`; `None` where it does not stand in one place and no other."""
    said = _KEY + text.encode() + b'"'
    at = event.find(said)
    if at < 0 or event.find(said, at + 1) >= 0:
        return None
    before, after = event[: at + len(_KEY)], event[at + len(said) - 1 :]
    try:
        probed = EVENT.decode(sse.data(before + _PROBE.encode() + after) or b"")
    except UNREADABLE:
        return None
    choices = probed.choices or ()
    delta = choices[0].delta if len(choices) == 1 else None
    return Mould(before, after) if delta is not None and delta.content == _PROBE else None
