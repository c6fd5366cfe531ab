"""Closing: the codes by which a WebSocket ends (RFC 6455 section 7.4; https://www.iana.org/assignments/websocket)."""

from __future__ import annotations

from typing import Final, NamedTuple

from sidegate.errors import Ending, SidegateError

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
INVALID_TEXT: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
FAILED: Final = 1011
TRY_AGAIN: Final = 1013
BAD_GATEWAY: Final = 1014
CANCELLED: Final = 4499
"""Of an application's own: stopped on request, by `DELETE /v1/calls/{id}` or whoever administers."""
TIMED_OUT: Final = 4408
"""Idle for too long, or longer than a session may last."""

_SENT: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""Those a close frame may bear; 1005, 1006 and 1015 only stand for that none came."""
_LONGEST_REASON: Final = 123
"""Bytes: a control frame has 125, and the code takes two."""


class Closed(NamedTuple):
    """How a side has ended it."""

    code: int
    reason: str = ""

    @property
    def clean(self) -> bool:
        """It said that it had nothing more to say."""
        return self.code in (NORMAL, GOING_AWAY, NO_STATUS)


def may_be_sent(code: int) -> bool:
    return code in _SENT or 3000 <= code < 5000


def reason_bytes(reason: str) -> bytes:
    """A reason, cut where a close frame ends, between two characters."""
    return reason.encode("utf-8", "replace")[:_LONGEST_REASON].decode("utf-8", "ignore").encode()


def passed_on(closed: Closed) -> Closed:
    """What the client is told when its provider has closed: the same, where a frame can say it.

    A connection that was lost (1006) is a bad gateway's to the client; no code at all is a normal end.
    """
    if closed.code == NO_STATUS:
        return Closed(NORMAL)
    if not may_be_sent(closed.code):
        return Closed(BAD_GATEWAY, "The provider's connection was lost.")
    return closed


def closing_for(error: SidegateError | None) -> Closed:
    """How a call that ended is closed towards its client. The reason is the error's code: programs go by it."""
    if error is None:
        return Closed(NORMAL)
    match error.ending:
        case Ending.STOPPING:
            return Closed(GOING_AWAY, error.code)
        case Ending.CANCELLED:
            return Closed(CANCELLED, error.code)
        case Ending.TIMED_OUT | Ending.STALLED:
            return Closed(TIMED_OUT, error.code)
        case Ending.REFUSED:
            return Closed(TRY_AGAIN if error.status == 503 else POLICY, error.code)
        case Ending.CUT | Ending.PROVIDER_ERROR:
            return Closed(BAD_GATEWAY, error.code)
        case _:
            return Closed(FAILED, error.code)
