"""Parts into a stream of Gemini: events that are replies of their own, the last with the reasons and the whole usage.

There is no end marker: what ends a stream cleanly is that each candidate has its `finishReason`. So reasons are held
until the end, as usage may be reported after them, and an edit may still add text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import End, Part
from sidegate.wire.dialect import Envelope
from sidegate.wire.gemini.saying import Saying, without_copies

_json = JsonEncoder().encode


class GeminiEncoder:
    """An `Encoder` for one reply: an event for each batch of parts that says something."""

    def __init__(self, envelope: Envelope) -> None:
        self._saying = Saying(envelope)
        self._choices: set[int] = set()
        self._ended = False

    def encode(self, parts: Iterable[Part]) -> bytes:
        """The events that say `parts`. Nothing follows an `End`."""
        saying = self._saying
        events = b""
        for part in parts:
            if self._ended:
                break
            if type(part) is End:
                saying.close()
                events += self._batch() + self._end()
            else:
                saying.take(part)
        if not self._ended:
            saying.settle()
            events += self._batch()
        return events

    def _batch(self) -> bytes:
        saying = self._saying
        choices = sorted(saying.parts.keys() | saying.fields.keys())
        if not choices:
            return b""
        self._choices.update(choices)
        candidates = [self._candidate(choice) for choice in choices]
        saying.parts.clear()
        saying.fields.clear()
        return _event({"candidates": candidates, **saying.head()})

    def _candidate(self, choice: int) -> dict[str, Any]:
        parts = self._saying.parts.get(choice)
        said = {} if parts is None else {"content": {"parts": parts, "role": "model"}}
        return {**said, "index": choice, **without_copies(self._saying.fields.get(choice, {}))}

    def _end(self) -> bytes:
        self._ended = True
        saying = self._saying
        if not self._choices and "promptFeedback" in saying.reply:
            # The prompt was blocked: there are no candidates.
            return _event(saying.head())
        choices = sorted(self._choices | saying.finish.keys()) or [0]
        candidates = [
            {
                "content": {"parts": [{"text": ""}], "role": "model"},
                **saying.finished(choice),
                "index": choice,
                **saying.grounded(choice),
            }
            for choice in choices
        ]
        return _event({"candidates": candidates, **saying.head()})


def _event(said: dict[str, Any]) -> bytes:
    return b"data: " + _json(said) + b"\n\n"
