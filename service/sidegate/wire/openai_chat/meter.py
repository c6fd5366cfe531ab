"""The measure of a Chat Completions reply: each event decoded once, narrowly, on the provider's edge."""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeAlias

from msgspec import Struct, ValidationError
from msgspec.json import Decoder

from sidegate.contract.meaning import FinishReason, Usage
from sidegate.errors import ProviderError
from sidegate.wire import faults, openai, sse
from sidegate.wire.body import UNREADABLE
from sidegate.wire.dialect import Sign
from sidegate.wire.mould import MOST_CASTS, Mould, Moulded, cast, is_plain
from sidegate.wire.openai_chat.reply import (
    COUNTED,
    EVENT,
    WHOLE,
    Event,
    Said,
    StreamChoice,
    Whole,
    arguments_text,
    choice_index,
    content_pieces,
    given_text,
    reasoning_text,
)
from sidegate.wire.unsaid import is_object, is_said

CONTENT = Sign.CONTENT
OTHER = Sign.OTHER

_KEY = b'"content":"'

SHORT = 64
"""Below it, data may be the closing word with spaces around."""


class _Choices(Struct):
    choices: list[dict[str, Any]] = []


_ANY: Final = Decoder(_Choices)
_UNSAID: Final = frozenset(("index", "role", "usage"))
"""What a choice may have that says nothing."""

Indexes: TypeAlias = "set[int] | frozenset[int]"
_NONE: Final[frozenset[int]] = frozenset()
_FIRST: Final = frozenset({0})


def _with(indexes: Indexes, index: int) -> Indexes:
    """With one more. Nearly every reply has one choice, the first: those share a set."""
    if not index and indexes is _NONE:
        return _FIRST
    grown = indexes if isinstance(indexes, set) else set(indexes)
    grown.add(index)
    return grown


class Tally:
    """What both OpenAI meters keep: usage, finish reasons, open choices, name and id."""

    # What is set here and there, and not all at first, would make a dict of some 500 bytes for each stream.
    __slots__ = ("_begun", "_done", "finish", "finished", "id", "model", "output_bytes", "started", "usage")

    reader = None

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish: FinishReason | None = None
        self.model: str | None = None
        self.id: str | None = None
        self.output_bytes = 0
        self.started = False
        self.finished = False
        self._begun: Indexes = _NONE
        self._done: Indexes = _NONE

    def report(self, usage: Any, x_groq: Any = None) -> bool:
        found = openai.read_usage(usage, x_groq)
        if found is None:
            return False
        self.usage = openai.merged(self.usage, found)
        return True

    def name(self, id: Any, model: Any) -> None:
        if self.id is None and isinstance(id, str) and id:
            self.id = id
        if self.model is None and isinstance(model, str) and model:
            self.model = model

    def choice(self, index: int, finish_reason: Any) -> bool:
        """Notes a choice; whether it finished by this."""
        if index not in self._begun:
            self._begun = _with(self._begun, index)
            self.finished = False
        if finish_reason is None or finish_reason == "":
            return False
        self._done = _with(self._done, index)
        if self.finish is None:
            self.finish = openai.read_finish(finish_reason)
        self.finished = len(self._done) == len(self._begun)
        return True

    def sign(self, data: bytes, *, content: bool, usage: bool, bare: bool) -> Sign:
        """What an event is; `bare` where it has no choice in it."""
        if content:
            self.started = True
            return Sign.CONTENT
        if usage and (bare or (self.started and _is_silent(data))):
            return Sign.USAGE
        return Sign.OTHER if self.started else Sign.LEAD_IN


class ChatMeter(Tally, Moulded):
    """`Meter` of Chat Completions, a `dialect.Meter`."""

    __slots__ = ("_casts", "_mould")

    def __init__(self) -> None:
        super().__init__()
        self._mould: Mould | None = None
        self._casts = 0

    def event(self, raw: bytes) -> Sign:
        if self._mould is not None and (size := self._mould.size(raw)):
            self.output_bytes += size
            return CONTENT
        data = sse.data(raw)
        if data is None:
            return Sign.NOTHING
        if len(data) < SHORT and data.strip() == openai.DONE_DATA:
            return Sign.END
        try:
            event = EVENT.decode(data)
        except UNREADABLE as error:
            raise openai.bad_event(error) from error
        choices = event.choices
        if self.started and choices and len(choices) == 1 and self._is_more(event, choices[0]):
            # Nearly every event: one more piece of the only choice.
            return CONTENT if self._more(choices[0].delta, raw) else OTHER
        return self._event(event, data, raw)

    def _more(self, delta: Said | None, raw: bytes) -> bool:
        before = self.output_bytes
        said = self._said(delta)
        text = delta.content if delta is not None and self._casts < MOST_CASTS else None
        if type(text) is str and is_plain(text) and self.output_bytes - before == len(text):
            self._casts += 1
            self._mould = cast(raw, _KEY, text, _text_of)
        return said

    def _is_more(self, event: Event, choice: StreamChoice) -> bool:
        """Whether an event tells nothing but what a choice begun before goes on to say."""
        return (
            choice.finish_reason is None
            and event.usage is None
            and event.error is None
            and event.x_groq is None
            and choice.usage is None
            and self.model is not None
            and type(choice.index) is int
            and choice.index in self._begun
        )

    def _event(self, event: Event, data: bytes, raw: bytes) -> Sign:
        reported = (event.usage is not None or event.x_groq is not None) and self.report(event.usage, event.x_groq)
        # After the usage: a stream that fails has been paid for all the same.
        if event.error is not None or not event.choices:
            raise_stated(event, data, raw)
        if self.id is None or self.model is None:
            self.name(event.id, event.model)
        content = False
        for choice in event.choices or ():
            if self._choice(choice):
                content = True
            if choice.usage is not None and self.report(choice.usage):
                reported = True
        # A report that cannot be read is still one: a client that did not ask for usage must not get its event.
        return self.sign(data, content=content, usage=reported or event.usage is not None, bare=not event.choices)

    def whole(self, raw: bytes) -> None:
        try:
            whole = _decoded(raw)
        except UNREADABLE as error:
            raise openai.bad_event(error) from error
        self.report(whole.usage, whole.x_groq)
        if whole.error is not None:
            raise openai.failed(whole.error, raw)
        if whole.choices is None:
            raise no_reply(raw)
        self.name(whole.id, whole.model)
        for choice in whole.choices:
            choice_index(choice.index)
            if self.finish is None:
                self.finish = openai.read_finish(choice.finish_reason)
            self._said(choice.message)
        self.started = bool(whole.choices)
        self.finished = True

    def _choice(self, choice: StreamChoice) -> bool:
        content = self._said(choice.delta)
        index = choice.index
        return self.choice(0 if index == 0 else choice_index(index), choice.finish_reason) or content

    def _said(self, said: Said | None) -> bool:
        """Counts what was said; whether it was anything."""
        if said is None:
            return False
        content = said.content
        if content:
            # Nearly every event: text alone.
            if type(content) is str:
                self.output_bytes += openai.text_size(content)
            else:
                self.output_bytes += sum(openai.text_size(text) for _, text in content_pieces(content))
        reasoning = (said.reasoning_content or said.reasoning) and reasoning_text(said)
        if reasoning:
            self.output_bytes += openai.text_size(reasoning)
        if said.refusal and isinstance(said.refusal, str):
            self.output_bytes += openai.text_size(said.refusal)
        for call in said.tool_calls or ():
            self.output_bytes += openai.text_size(given_text(call))
        if said.function_call is not None:
            self.output_bytes += openai.text_size(arguments_text(said.function_call.arguments))
        return bool(
            content or reasoning or said.refusal or said.tool_calls or said.function_call is not None or said.audio
        )


def _decoded(raw: bytes) -> Whole:
    try:
        return COUNTED.decode(raw)
    except ValidationError:
        return WHOLE.decode(raw)


def _is_silent(data: bytes) -> bool:
    """Whether no choice of an event says anything: images, annotations and probabilities come with usage, too."""
    try:
        choices = _ANY.decode(data).choices
    except UNREADABLE:
        return False
    for choice in choices:
        delta = choice.pop("delta", None)
        said = {**choice, **delta} if is_object(delta) else choice
        if any(is_said(value) for name, value in said.items() if name not in _UNSAID):
            return False
    return True


class _Reply(Protocol):
    choices: Any
    usage: Any
    error: Any
    object: Any
    x_groq: Any


def _text_of(raw: bytes) -> str | None:
    """What the only choice of an event says."""
    try:
        choices = EVENT.decode(sse.data(raw) or b"").choices or ()
    except UNREADABLE:
        return None
    delta = choices[0].delta if len(choices) == 1 else None
    return delta.content if delta is not None and isinstance(delta.content, str) else None


def raise_stated(event: _Reply, data: bytes, raw: bytes) -> None:
    """Raises where an event reports a failure: OpenAI's `error`, an event of that name, vLLM's `object: error`."""
    if event.error is not None:
        raise openai.failed(event.error, data)
    if event.choices is not None:
        return
    if event.object == "error" or sse.kind(raw) == "error":
        raise openai.failed(None, data)
    if event.usage is None and event.x_groq is None and faults.error_object(data).message:
        raise openai.failed(None, data)


def no_reply(raw: bytes) -> ProviderError:
    """For a 200 whose body has no choices: the failure it states, or that it states nothing."""
    fault = faults.error_object(raw)
    return faults.fault_error(fault) if fault.message else openai.bad_event()
