"""Seals: signatures of thinking, and the vendor that each is good with.

A vendor takes back only what it has sealed itself. A client keeps a seal without reading it, in the place its dialect
has for one, so that a seal of another vendor passes there with a mark before it: `gemini:...`, `redacted:...`. Base64
has no colon. Where the place takes base64 alone (Gemini), the whole is base64 once more.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

ANTHROPIC = "anthropic"
GEMINI = "gemini"
OPENAI = "openai"
VENDORS = (ANTHROPIC, GEMINI, OPENAI)

REDACTED = "redacted:"
"""Before thinking that Anthropic has made unreadable, where a dialect has no word for that."""

_MARKS = tuple(f"{vendor}:" for vendor in VENDORS)
_LONGEST_MARK = max(map(len, (*_MARKS, REDACTED)))


class Seal(NamedTuple):
    """What binds a thought, or, `redacted`, stands for it."""

    vendor: str | None
    """Whose it is; `None` where that is not known, which counts as whoever is asked."""
    signature: str | None = None
    redacted: str | None = None


def is_of(seal_vendor: str | None, vendor: str) -> bool:
    """Whether `vendor` may be given a seal."""
    return seal_vendor is None or seal_vendor == vendor


def marked(own: str, vendor: str | None, signature: str | None, redacted: str | None = None) -> str | None:
    """A seal in the place for those of `own`; `None` where there is none."""
    if redacted is not None:
        return REDACTED + redacted
    if not signature:
        return None
    return signature if is_of(vendor, own) else f"{vendor}:{signature}"


def unmarked(own: str | None, text: str) -> Seal:
    """What was written in a place for seals of `own`."""
    head = text[:_LONGEST_MARK]
    if ":" not in head:
        return Seal(own, text)
    if head.startswith(REDACTED):
        return Seal(ANTHROPIC, None, text.removeprefix(REDACTED))
    mark = next((mark for mark in _MARKS if head.startswith(mark)), None)
    return Seal(own, text) if mark is None else Seal(mark[:-1], text.removeprefix(mark))


def encoded(vendor: str | None, signature: str | None, redacted: str | None = None) -> str | None:
    """A seal in Gemini's place, which takes base64 alone."""
    text = marked(GEMINI, vendor, signature, redacted)
    if text is None or ":" not in text[:_LONGEST_MARK]:
        return text
    return base64.b64encode(text.encode()).decode()


def _stem(mark: str) -> str:
    """How base64 begins of what begins with the mark: each character of it stands for six bits."""
    return base64.b64encode(mark.encode()).decode()[: len(mark) * 8 // 6]


_STEMS = tuple(map(_stem, (*_MARKS, REDACTED)))


def decoded(text: str) -> Seal:
    """What was written in Gemini's place."""
    if not text.startswith(_STEMS):
        return Seal(GEMINI, text)
    try:
        return unmarked(GEMINI, base64.b64decode(text, validate=True).decode())
    except (binascii.Error, ValueError):
        return Seal(GEMINI, text)
