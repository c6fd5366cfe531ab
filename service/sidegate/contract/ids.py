"""Ids of calls."""

from __future__ import annotations

from datetime import datetime
from ssl import RAND_bytes

_BYTES = 10
_VARIANTS = "89ab"
_PADDED = 1 << 48
"""With it, a time in hexadecimal has all its twelve digits behind `0x1`; a third of what a format takes."""


class CallIds:
    """Gives ids of calls, drawn so many at a time.

    OpenSSL's generator is much code, which a processor that has done other things since has no longer at hand: drawing
    64 at once takes it out of nearly all calls.
    """

    def __init__(self, ahead: int = 1) -> None:
        self._ahead = ahead
        self._drawn: list[str] = []

    def new(self, now: datetime) -> str:
        """A UUID of version 7 (RFC 9562 section 5.7) in 32 hexadecimal digits: milliseconds of `now`, and 74 random
        bits.

        Nobody guesses one; and rows of calls that came after one another stand beside one another, so that a ledger of
        millions is written at its end and not all over. Measured on SQLite: half of what ids without an order cost.
        """
        if not self._drawn:
            self._drawn = _draw(self._ahead)
        return f"{hex(int(now.timestamp() * 1000) | _PADDED)[3:]}{self._drawn.pop()}"


def new_call_id(now: datetime) -> str:
    """One by itself, as `CallIds` gives them."""
    return CallIds().new(now)


def _draw(count: int) -> list[str]:
    """What comes behind the time."""
    # `os.urandom` would let go of the interpreter; a call would wait until the ledger's thread gives it back.
    digits = RAND_bytes(_BYTES * count).hex()
    return [_marked(digits[at : at + 2 * _BYTES]) for at in range(0, len(digits), 2 * _BYTES)]


def _marked(digits: str) -> str:
    """With version and variant, for which six bits are given up."""
    return f"7{digits[1:4]}{_VARIANTS[int(digits[4], 16) & 3]}{digits[5:]}"
