"""The meter of Gemini: what the gateway must know of every reply, decoded once per event."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sidegate.errors import ReplyError
from sidegate.wire.dialect import Sign
from sidegate.wire.gemini.calls import Calls, Turn
from sidegate.wire.gemini.event import Candidate, Event, FunctionCall, Part, choice_index, payload, read_events
from sidegate.wire.gemini.reply import read_event
from sidegate.wire.gemini.usage import finish_name, read_finish

if TYPE_CHECKING:
    from sidegate.contract.chunk import Reader
    from sidegate.contract.meaning import FinishReason, Usage
    from sidegate.wire.gemini.usage import Counts


class GeminiMeter:
    """A `Meter` for one reply. There is no end marker: it is finished when each candidate begun has a reason."""

    __slots__ = (
        "_begun",
        "_calls",
        "_done",
        "_turns",
        "finish",
        "finished",
        "id",
        "model",
        "output_bytes",
        "started",
        "usage",
    )

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish: FinishReason | None = None
        self.model: str | None = None
        self.id: str | None = None
        self.output_bytes = 0
        self.started = False
        self.finished = False
        self._begun: set[int] = set()
        self._done: set[int] = set()
        self._calls: Calls | None = None
        self._turns: list[Turn | None] = []

    @property
    def reader(self) -> Reader | None:
        """Once there was a call, an event is read with the calls before it."""
        if self._calls is None:
            return None
        return partial(read_event, turns=tuple(self._turns), called=self._calls.choices)

    def event(self, raw: bytes) -> Sign:
        data = payload(raw)
        if data is None:
            return Sign.NOTHING
        if self._turns:
            self._turns = []
        content = False
        for event in read_events(data):
            content = self._event(event) or content
        if content:
            self.started = True
            return Sign.CONTENT
        return Sign.OTHER if self.started else Sign.LEAD_IN

    def whole(self, raw: bytes) -> None:
        told = False
        for event in read_events(raw):
            told = self._event(event) or event.candidates is not None or event.usage_metadata is not None or told
        if not told:
            raise ReplyError("The provider's reply is none of its dialect.")
        self.started = self.finished = True

    def _event(self, event: Event) -> bool:
        """Whether it brings what the reader waits for."""
        if self.model is None:
            self._name(event)
        content = False
        for place, candidate in enumerate(event.candidates or ()):
            content = self._candidate(candidate, place) or content
        if event.prompt_feedback is not None and event.prompt_feedback.block_reason:
            self.finish = self.finish or "content_filter"
            self.finished = content = True
        if event.usage_metadata is not None:
            self._report(event.usage_metadata)
        return content

    def _name(self, event: Event) -> None:
        if isinstance(event.model_version, str) and event.model_version:
            self.model = event.model_version
        if self.id is None and isinstance(event.response_id, str) and event.response_id:
            self.id = event.response_id

    def _candidate(self, candidate: Candidate, place: int) -> bool:
        index = choice_index(candidate.index, place)
        if index not in self._begun:
            self._begun.add(index)
            self.finished = False
        content = False
        if candidate.content is not None and candidate.content.parts:
            for part in candidate.content.parts:
                content = self._part(part, index) or content
        name = finish_name(candidate.finish_reason)
        if name is None:
            return content
        self._done.add(index)
        self.finished = len(self._done) == len(self._begun)
        if self.finish is None:
            self.finish = read_finish(name, called=self._calls is not None and index in self._calls.choices)
        return True

    def _part(self, part: Part, choice: int) -> bool:
        if part.function_call is not None:
            return self._call(part.function_call, choice)
        text = part.text
        if text and isinstance(text, str):
            self.output_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            return True
        self._count(part.executable_code, "code")
        return part.executable_code is not None or part.code_execution_result is not None or bool(part.inline_data)

    def _call(self, call: FunctionCall, choice: int) -> bool:
        if self._calls is None:
            self._calls = Calls()
        self._turns.append(self._calls.take(choice, call))
        self.output_bytes += len(bytes(call.args))
        for piece in call.partial_args or ():
            self.output_bytes += len(str(piece.string_value or piece.number_value or "").encode())
        return True

    def _count(self, value: Any, name: str) -> None:
        text = value.get(name) if isinstance(value, dict) else None
        if isinstance(text, str):
            self.output_bytes += len(text.encode("utf-8", "surrogatepass"))

    def _report(self, counts: Counts) -> None:
        found = counts.usage(over=self.finished)
        if found is not None:
            before = self.usage
            self.usage = found if before is None or _covers(found, before) else before.merge(found)


def _covers(found: Usage, before: Usage) -> bool:
    """Whether a report tells all that the one before did, as running totals mostly do."""
    return (
        found.input_tokens is not None
        and found.output_tokens is not None
        and (before.reasoning_tokens is None or found.reasoning_tokens is not None)
        and (before.cache_read_tokens is None or found.cache_read_tokens is not None)
        and before.audio_input_tokens is None
        and before.audio_output_tokens is None
    )
