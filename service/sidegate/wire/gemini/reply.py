"""Replies of Gemini into parts: one event, or a whole body.

Blocks are numbered alike in every event: reasoning is 0, text 1, a signature that stands at something else than
thinking is 2, and the calls follow. What has no word of its own becomes `Opaque`, so that nothing is lost where the
reply is written in this dialect again: a part (`gemini.part`), fields of a candidate (`gemini.candidate`), of the reply
(`gemini.reply`), and counts (`gemini.usage`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from sidegate.contract.meaning import (
    BlockEnd,
    End,
    Finish,
    Opaque,
    Part,
    Reasoning,
    Report,
    Start,
    Text,
    ToolCall,
)
from sidegate.errors import ReplyError
from sidegate.wire.body import UNREADABLE
from sidegate.wire.gemini.calls import Calls, Turn
from sidegate.wire.gemini.citations import read_citations
from sidegate.wire.gemini.event import FunctionCall, choice_index, payload, read_objects
from sidegate.wire.gemini.usage import COUNTS, Counts, finish_name, lossy, read_finish
from sidegate.wire.seals import decoded

REASONING = 0
TEXT = 1
SIGNATURE = 2

PART = "gemini.part"
CANDIDATE = "gemini.candidate"
REPLY = "gemini.reply"
USAGE = "gemini.usage"

_COUNTS = msgspec.json.Decoder(Counts)
_ENCODE = msgspec.json.Encoder().encode

Turns = tuple[Turn | None, ...]

_SAID = frozenset(("candidates", "usageMetadata", "modelVersion", "responseId"))
_OF_CANDIDATE = frozenset(("content", "finishReason", "index"))
_CITES = frozenset(("groundingMetadata", "citationMetadata"))
_WORDS = frozenset(("text", "thought", "thoughtSignature", "functionCall"))


def read_event(raw: bytes, turns: Turns | None = None, called: frozenset[int] = frozenset()) -> tuple[Part, ...]:
    """The parts of one event. `turns` says what its calls are after those before it, and `called` who has called.

    Without them each call is the first of its place. Raises `ReplyError` where it is no event.
    """
    data = payload(raw)
    if data is None:
        return ()
    reading = _Reading(turns, called)
    return tuple(part for said in read_objects(data) for part in reading.parts(said, whole=False))


def read_whole(raw: bytes) -> tuple[Part, ...]:
    """The parts of a whole body, or of all that an array holds, from `Start` to `End`. Raises `ReplyError`."""
    reading = _Reading(None, frozenset())
    said = read_objects(raw)
    parts = [part for one in said for part in reading.parts(one, whole=len(said) == 1)]
    return (*parts, End())


class _Reading:
    """Events in a row, each in the light of those before."""

    def __init__(self, turns: Turns | None, called: frozenset[int]) -> None:
        self._turns = None if turns is None else iter(turns)
        self._calls = Calls()
        self._called = called

    def parts(self, said: dict[str, Any], *, whole: bool) -> Iterator[Part]:
        yield Start(_word(said.get("responseId")), _word(said.get("modelVersion")))
        over = whole
        for place, candidate in enumerate(_dicts(said.get("candidates"))):
            choice = choice_index(candidate.get("index"), place)
            content = candidate.get("content")
            parts = [
                said
                for part in (_dicts(content.get("parts")) if isinstance(content, dict) else ())
                for said in self._part(part, choice)
            ]
            yield from _with_citations(parts, candidate, choice, whole=whole) if _CITES & candidate.keys() else parts
            yield from _fields(candidate, choice)
            name = finish_name(candidate.get("finishReason"))
            over = over or name is not None
            if name is not None:
                yield Finish(read_finish(name, called=self._has_called(choice)), choice)
            elif whole:
                yield Finish("other", choice)
        yield from _of_reply(said)
        blocked = _is_blocked(said)
        if blocked:
            yield Finish("content_filter")
        yield from _usage(said.get("usageMetadata"), over or blocked)

    def _has_called(self, choice: int) -> bool:
        return choice in self._called or choice in self._calls.choices

    def _part(self, part: dict[str, Any], choice: int) -> Iterator[Part]:
        signature = _word(part.get("thoughtSignature"))
        call = part.get("functionCall")
        if isinstance(call, dict):
            if signature:
                yield _signed("", choice, SIGNATURE, signature)
            yield from self._call(call, choice)
            return
        if part.keys() - _WORDS:
            yield Opaque(PART, choice, None, part)
            return
        text = part.get("text")
        text = text if isinstance(text, str) else ""
        if part.get("thought") is True:
            if text or signature:
                yield _signed(text, choice, REASONING, signature)
            return
        if text:
            yield Text(text, choice, TEXT)
        if signature:
            yield _signed("", choice, SIGNATURE, signature)

    def _call(self, said: dict[str, Any], choice: int) -> Iterator[Part]:
        turn = self._turn(said, choice)
        if turn is None:
            return
        id, name = (_word(said.get("id")), _word(said.get("name"))) if turn.opens else (None, None)
        if turn.opens or turn.arguments:
            yield ToolCall(turn.arguments or "", id, name, choice, turn.block)
        if turn.arguments is not None:
            yield BlockEnd(choice, turn.block)

    def _turn(self, said: dict[str, Any], choice: int) -> Turn | None:
        if self._turns is not None:
            return next(self._turns, None)
        try:
            call = msgspec.json.decode(msgspec.json.encode(said), type=FunctionCall)
        except UNREADABLE as error:
            raise ReplyError("The provider sent a function call that is none.") from error
        return self._calls.take(choice, call)


def _with_citations(parts: list[Part], candidate: dict[str, Any], choice: int, *, whole: bool) -> list[Part]:
    """With what is cited right behind the text: what follows may close its block."""
    text = "".join(part.text for part in parts if type(part) is Text) if whole else None
    at = max((place + 1 for place, part in enumerate(parts) if type(part) is Text), default=0)
    return [*parts[:at], *read_citations(candidate, choice, TEXT, text), *parts[at:]]


def _signed(text: str, choice: int, block: int, written: str | None) -> Reasoning:
    if written is None:
        return Reasoning(text, choice, block)
    vendor, signature, redacted = decoded(written)
    return Reasoning(text, choice, block, signature, redacted, vendor)


def _fields(candidate: dict[str, Any], choice: int) -> Iterator[Part]:
    """Fields of a candidate without a word: grounding, citations, ratings, log probabilities; a lossy reason."""
    found = {key: value for key, value in candidate.items() if key not in _OF_CANDIDATE and value is not None}
    reason = candidate.get("finishReason")
    if isinstance(reason, str) and finish_name(reason) is not None and lossy(reason):
        found["finishReason"] = reason
    if found:
        yield Opaque(CANDIDATE, choice, None, found)


def _of_reply(said: dict[str, Any]) -> Iterator[Part]:
    found = {key: value for key, value in said.items() if key not in _SAID and value is not None}
    if found:
        yield Opaque(REPLY, 0, None, found)


def _is_blocked(said: dict[str, Any]) -> bool:
    """Whether it is the prompt that was refused: nothing is generated then."""
    feedback = said.get("promptFeedback")
    return isinstance(feedback, dict) and bool(feedback.get("blockReason"))


def _usage(said: Any, over: bool) -> Iterator[Part]:
    if not isinstance(said, dict):
        return
    more = {key: value for key, value in said.items() if key not in COUNTS and value is not None}
    if more:
        yield Opaque(USAGE, 0, None, more)
    usage = _COUNTS.decode(_ENCODE(said)).usage(over=over)
    if usage is not None:
        yield Report(usage)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
