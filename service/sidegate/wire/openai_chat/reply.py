"""Chat Completions replies, read: one event or a whole body into parts.

Blocks are numbered alike in every event, so that an event can be read without those before it: reasoning is block 0,
text 1, refusal 2, and tool call `i` is block 3 + i. A legacy `function_call` is tool call 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from sidegate.contract.meaning import (
    End,
    Finish,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Report,
    Start,
    Text,
    ToolCall,
)
from sidegate.wire import openai, sse
from sidegate.wire.body import UNREADABLE

REASONING = 0
TEXT = 1
REFUSAL = 2
FIRST_TOOL = 3

CHOICES_LIMIT = 1024
"""A choice index at or above it is no index, but an attempt to fill memory."""

CHAT = "openai.chat"
OPAQUE = "openai."
"""Before the key of a delta or message that has no part of its own."""

# Leaves are `Any`: a provider's odd value must not cost the event, and decoding one is no dearer.


class Function(Struct, gc=False):
    name: Any = None
    arguments: Any = None


class Custom(Struct, gc=False):
    """Of a tool that takes words of any form."""

    name: Any = None
    input: Any = None


class Call(Struct, gc=False):
    function: Function | None = None
    custom: Custom | None = None
    index: Any = None
    id: Any = None


class Said(Struct, gc=False):
    """A `delta` or a `message`."""

    content: Any = None
    role: Any = None
    tool_calls: list[Call] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    function_call: Function | None = None
    audio: Any = None
    annotations: Any = None
    executed_tools: Any = None
    reasoning_details: Any = None


class StreamChoice(Struct, gc=False):
    delta: Said | None = None
    finish_reason: Any = None
    index: Any = 0
    usage: Any = None
    """Moonshot reports here."""


class Event(Struct, gc=False):
    choices: list[StreamChoice] | None = None
    usage: Any = None
    error: Any = None
    id: Any = None
    model: Any = None
    created: Any = None
    object: Any = None
    x_groq: Any = None


class WholeChoice(Struct, gc=False):
    message: Said | None = None
    finish_reason: Any = None
    index: Any = None


class Whole(Struct, gc=False):
    choices: list[WholeChoice] | None = None
    usage: Any = None
    error: Any = None
    id: Any = None
    model: Any = None
    created: Any = None
    x_groq: Any = None


class Counted(Whole, gc=False):
    """One whose usage is as it should be: read at once."""

    usage: openai.Counted | None = None


EVENT = msgspec.json.Decoder(Event)
WHOLE = msgspec.json.Decoder(Whole)
COUNTED = msgspec.json.Decoder(Counted)


def read_event(raw: bytes) -> tuple[Part, ...]:
    """The parts of one event. Raises `ReplyError` where it is none."""
    data = sse.data(raw)
    if data is None:
        return ()
    if data.strip() == openai.DONE_DATA:
        return (End(),)
    try:
        event = EVENT.decode(data)
    except UNREADABLE as error:
        raise openai.bad_event(error) from error
    return tuple(_event_parts(event))


def read_whole(raw: bytes) -> tuple[Part, ...]:
    """The parts of a whole body, from `Start` to `End`. Raises `ReplyError` where it is none."""
    try:
        whole = WHOLE.decode(raw)
    except UNREADABLE as error:
        raise openai.bad_event(error) from error
    return tuple(_whole_parts(whole))


def choice_index(index: Any, place: int = 0) -> int:
    """The index of a choice, its place where it bears none. Raises `ReplyError` where it cannot be one."""
    if index is None:
        return place
    if type(index) is not int or not 0 <= index < CHOICES_LIMIT:
        raise openai.bad_event()
    return index


def content_pieces(content: Any) -> Iterator[tuple[bool, str]]:
    """The pieces of a `content` that is text or, as Mistral's may be, a list: whether it is thinking, and the text."""
    if type(content) is str:
        yield False, content
        return
    for piece in content if isinstance(content, list) else ():
        if isinstance(piece, str):
            yield False, piece
        elif isinstance(piece, dict):
            thinking = piece.get("thinking")
            yield thinking is not None, openai.joined(piece.get("text") if thinking is None else thinking)


def reasoning_text(said: Said) -> str:
    """Reasoning under either of its names; a provider that sends both sends it twice."""
    text = said.reasoning_content or said.reasoning
    return text if type(text) is str else ""


def arguments_text(arguments: Any) -> str:
    """Arguments as JSON text; some servers send the object itself."""
    if type(arguments) is str:
        return arguments
    return "" if arguments is None else openai.ENCODER.encode(arguments).decode()


def given_text(call: Call) -> str:
    """What a tool is given: JSON text, or the words of a custom one."""
    if call.custom is not None:
        return arguments_text(call.custom.input)
    return "" if call.function is None else arguments_text(call.function.arguments)


def _event_parts(event: Event) -> Iterator[Part]:
    choices = event.choices or []
    if any(choice.delta is not None and choice.delta.role is not None for choice in choices):
        yield start_of(event.id, event.model, event.created)
    for choice in choices:
        index = choice_index(choice.index)
        if choice.delta is not None:
            yield from _said(choice.delta, index)
        reason = openai.read_finish(choice.finish_reason)
        if reason is not None:
            yield Finish(reason, index)
    reports = [openai.read_usage(event.usage, event.x_groq), *(openai.read_usage(one.usage) for one in choices)]
    yield from (Report(usage) for usage in reports if usage is not None)


def _whole_parts(whole: Whole) -> Iterator[Part]:
    yield start_of(whole.id, whole.model, whole.created)
    for place, choice in enumerate(whole.choices or []):
        index = choice_index(choice.index, place)
        if choice.message is not None:
            yield from _said(choice.message, index)
        yield Finish(openai.read_finish(choice.finish_reason) or "other", index)
    usage = openai.read_usage(whole.usage, whole.x_groq)
    if usage is not None:
        yield Report(usage)
    yield End()


def start_of(id: Any, model: Any, created: Any) -> Start:
    return Start(
        id=id if isinstance(id, str) and id else None,
        model=model if isinstance(model, str) and model else None,
        created=int(created) if isinstance(created, int | float) and 0 < created < 2**53 else None,
    )


def _said(said: Said, choice: int) -> Iterator[Part]:
    reasoning = reasoning_text(said)
    if reasoning:
        yield Reasoning(reasoning, choice, REASONING)
    for thinking, text in content_pieces(said.content):
        if text:
            yield Reasoning(text, choice, REASONING) if thinking else Text(text, choice, TEXT)
    if said.refusal and isinstance(said.refusal, str):
        yield RefusalText(said.refusal, choice, REFUSAL)
    for place, call in enumerate(said.tool_calls or []):
        yield _call(call, choice, place)
    if said.function_call is not None:
        yield _call(Call(said.function_call), choice, 0)
    yield from _opaque(said, choice)


def _call(call: Call, choice: int, place: int) -> ToolCall:
    custom = call.custom
    named = custom or call.function or Function()
    index = place if call.index is None else choice_index(call.index)
    return ToolCall(
        arguments=given_text(call),
        id=call.id if isinstance(call.id, str) and call.id else None,
        name=named.name if isinstance(named.name, str) and named.name else None,
        choice=choice,
        block=FIRST_TOOL + index,
        custom=custom is not None,
    )


def _opaque(said: Said, choice: int) -> Iterator[Part]:
    if said.audio:
        spoken = isinstance(said.audio, dict) and isinstance(said.audio.get("transcript"), str)
        yield Opaque(OPAQUE + "audio", choice, None, said.audio, "transcript" if spoken else None)
    if said.annotations:
        yield from _annotations(said.annotations, choice)
    if said.executed_tools:
        yield Opaque(OPAQUE + "executed_tools", choice, None, said.executed_tools)
    sealed = sealed_details(said.reasoning_details)
    if sealed:
        yield Opaque(OPAQUE + "reasoning_details", choice, None, sealed)


def _annotations(annotations: Any, choice: int) -> Iterator[Part]:
    """What is cited; annotations of other kinds stay as they are."""
    rest: list[Any] = []
    for one in annotations if isinstance(annotations, list) else [annotations]:
        cited = one.get("url_citation") if isinstance(one, dict) else None
        if isinstance(cited, dict) and isinstance(cited.get("url"), str):
            yield openai.read_citation(cited, choice, TEXT, CHAT, one)
        else:
            rest.append(one)
    if rest:
        yield Opaque(OPAQUE + "annotations", choice, None, rest)


def sealed_details(details: Any) -> list[Any]:
    """OpenRouter's `reasoning_details` less those that repeat the reasoning: an edit of it would miss the copy."""
    if not isinstance(details, list):
        return []
    return [one for one in details if isinstance(one, dict) and not one.get("text") and not one.get("summary")]
