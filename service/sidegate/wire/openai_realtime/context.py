"""Context: how many tokens a Realtime session holds by now, and may get, before its provider says so.

A conversation is sent to the model anew with every response: what was in it before, and what has come since. Audio of
a user is a token for 100 ms, of an assistant one for 50 ms (https://platform.openai.com/docs/guides/realtime-costs).
"""

from __future__ import annotations

from typing import Final

from sidegate.contract.meaning import Usage
from sidegate.wire.openai_realtime.events import APPEND, AUDIO

LONGEST: Final = 131_072
"""Tokens: no context of these models is longer."""
OUTPUT: Final = 4096
"""Tokens of the longest answer, where nobody says less."""

_FRAME: Final = 64
_PCM_INPUT: Final = 6400
"""Base64 characters of 100 ms: 16 bits, 24 kHz."""
_LEAST_INPUT: Final = 1066
"""The same in G.711, of which a second is the shortest: what the most tokens are reckoned from."""
_PCM_OUTPUT: Final = 3200
"""Base64 characters of 50 ms."""


Said = tuple[int, int]
"""Tokens of what a client has said, at most and about."""


class Context:
    """One session's."""

    __slots__ = ("_known", "_likely", "_most", "_reported", "most_output", "transcription_model")

    def __init__(self) -> None:
        self._known = 0
        """Tokens by the last response's report."""
        self._most = 0
        """Of all that the client has ever said, at most and about."""
        self._likely = 0
        self._reported: Said = 0, 0
        """How much of that was in the last report."""
        self.most_output: int | None = None
        self.transcription_model: str | None = None

    def said(self, kind: str, size: int) -> None:
        """The client has sent so many bytes."""
        if kind == APPEND:
            self._most += size // _LEAST_INPUT + 1
            self._likely += size // _PCM_INPUT
        else:
            self._most += size
            self._likely += -(-size // 4)

    @property
    def so_far(self) -> Said:
        """What a response that begins now may have in it."""
        return self._most, self._likely

    def used(self, usage: Usage, said: Said) -> None:
        """A response of the conversation has told what went in and came out; what came is in the context from now on.
        `said` is what it had begun with: what the client has said since then was in no report."""
        if usage.input_tokens is not None:
            self._known = usage.input_tokens + (usage.output_tokens or 0)
            self._reported = said

    @property
    def most(self) -> int:
        """Input tokens that the next response can take at most."""
        return min(LONGEST, self._known + _FRAME + self._most - self._reported[0])

    @property
    def likely(self) -> int:
        """Those it is likely to take."""
        return min(LONGEST, self._known + _FRAME + self._likely - self._reported[1])


def piece_bytes(kind: str, size: int) -> int:
    """A piece of an answer as bytes of text of as many tokens: what an estimate is made from."""
    return size * 4 // _PCM_OUTPUT if kind in AUDIO else max(0, size - 200)
