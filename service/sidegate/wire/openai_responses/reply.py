"""Replies of OpenAI's Responses into parts: one event, or a whole response.

Events that repeat what was said (`*.done`, the final response) are no parts: whoever writes the dialect makes them
anew. What has no word of its own becomes `Opaque`, of the kinds that `event` lists, so that nothing is
lost where the reply is written in this dialect again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Raw, Struct

from sidegate.contract.meaning import (
    BlockEnd,
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
from sidegate.wire.openai import read_citation
from sidegate.wire.openai_responses import event as wire
from sidegate.wire.openai_responses.usage import KNOWN, read_finish, read_usage
from sidegate.wire.seals import OPENAI, unmarked

RESPONSES = "openai.responses"
CUSTOM_INPUT = "response.custom_tool_call_input.delta"

_SAID = frozenset(
    ("id", "object", "created_at", "model", "output", "status", "error", "incomplete_details", "usage"),
)
"""The keys of a response that parts have words for."""
_OF_ITEM = {
    "message": frozenset(("content",)),
    "reasoning": frozenset(("content", "summary", "encrypted_content")),
    "function_call": frozenset(("arguments", "name", "call_id")),
    wire.CUSTOM: frozenset(("input", "name", "call_id")),
}


class Before(Struct, frozen=True):
    """What the events before have said, as far as an event's meaning hangs on it."""

    heard: frozenset[int] | None = None
    """Blocks of which pieces came; `None` where that is not known, and all is taken to have come."""
    begun: bool = True
    """The item that ends was begun."""
    called: bool = False
    refused: bool = False
    told: bool = True
    """Items came; else the final response is all that says them."""


_UNKNOWN = Before()
_NOTHING = Before(frozenset(), begun=False)


def read_event(raw: bytes, before: Before = _UNKNOWN) -> tuple[Part, ...]:
    """The parts of one event. Raises as `event.read_event` does."""
    data = wire.payload(raw)
    if data is None:
        return ()
    event = wire.read_event(data)
    read = _EVENTS.get(event.type)
    if read is not None:
        return tuple(read(event, before))
    return () if event.type in _REPEATS else (_other(event, data),)


def _other(event: wire.Event, data: bytes) -> Opaque:
    """An event without a word. Of what its item says piece by piece, it may be one more piece."""
    place = event.output_index
    block = place * wire.WIDTH if type(place) is int and 0 <= place < wire.MOST_ITEMS else None
    piece = "delta" if event.type.endswith(".delta") and isinstance(event.delta, str) else None
    return Opaque(wire.EVENT, 0, block, wire.read_object(data), piece)


def read_whole(raw: bytes) -> tuple[Part, ...]:
    """The parts of a whole response. Raises as `event.read_whole` does."""
    response, items, said = wire.read_whole(raw)
    parts: list[Part] = [start_of(response), *_fields(raw, ended=True)]
    for place, (item, data) in enumerate(zip(items, said, strict=True)):
        parts += _ended(item, data, place * wire.WIDTH, _NOTHING)
    parts.append(Finish(finish_of(response, items)))
    usage = read_usage(response.usage)
    return (*parts, End()) if usage is None else (*parts, Report(usage), End())


def start_of(response: wire.Response) -> Start:
    created = response.created_at
    return Start(
        id=response.id if isinstance(response.id, str) and response.id else None,
        model=response.model if isinstance(response.model, str) and response.model else None,
        created=int(created) if isinstance(created, int | float) and 0 < created < 2**53 else None,
    )


def finish_of(response: wire.Response, items: list[wire.Item], before: Before = _UNKNOWN) -> Any:
    """Why the response ended, by its status and by what is in it."""
    called = before.called or any(item.calls for item in items)
    refused = before.refused or any(piece.get("refusal") for item in items for piece in pieces(item.content))
    return read_finish(response.status, response.incomplete_details, called=called, refused=refused)


def pieces(content: Any) -> list[dict[str, Any]]:
    """The parts of a content or a summary."""
    return [piece for piece in content if isinstance(piece, dict)] if isinstance(content, list) else []


def _created(event: wire.Event, before: Before) -> Iterator[Part]:
    yield start_of(wire.read_response(event.response))
    yield from _fields(event.response)


def _item_added(event: wire.Event, before: Before) -> Iterator[Part]:
    yield from _begun(wire.read_item(event.item), event.item, wire.block_of(event, 0))


def _item_done(event: wire.Event, before: Before) -> Iterator[Part]:
    yield from _ended(wire.read_item(event.item), event.item, wire.block_of(event, 0), before)


def _text(event: wire.Event, before: Before) -> Iterator[Part]:
    if event.delta and isinstance(event.delta, str):
        yield Text(event.delta, block=wire.block_of(event))


def _refusal(event: wire.Event, before: Before) -> Iterator[Part]:
    if event.delta and isinstance(event.delta, str):
        yield RefusalText(event.delta, block=wire.block_of(event))


def _reasoning(event: wire.Event, before: Before) -> Iterator[Part]:
    if event.delta and isinstance(event.delta, str):
        yield Reasoning(event.delta, block=wire.block_of(event, 0))


def _summary(event: wire.Event, before: Before) -> Iterator[Part]:
    if event.delta and isinstance(event.delta, str):
        yield Reasoning(event.delta, block=wire.block_of(event, wire.SUMMARY))


def _summary_part(event: wire.Event, before: Before) -> Iterator[Part]:
    yield Opaque(wire.SUMMARY_PART, block=wire.block_of(event, wire.SUMMARY), data=event.summary_index)


def _arguments(event: wire.Event, before: Before) -> Iterator[Part]:
    if event.delta and isinstance(event.delta, str):
        yield ToolCall(event.delta, block=wire.block_of(event, 0), custom=event.type == CUSTOM_INPUT)


def _completed(event: wire.Event, before: Before) -> Iterator[Part]:
    response = wire.read_response(event.response)
    items: list[wire.Item] = []
    said: list[Raw] = []
    if wire.read_object(event.response).get("output"):
        response, items, said = wire.read_whole(bytes(event.response))
    if not before.told:
        for place, (item, data) in enumerate(zip(items, said, strict=True)):
            yield from _ended(item, data, place * wire.WIDTH, _NOTHING)
    yield from _fields(event.response, ended=True)
    yield Finish(finish_of(response, items, before))
    usage = read_usage(response.usage)
    if usage is not None:
        yield Report(usage)
    yield End()


def _failed(event: wire.Event, before: Before) -> Iterator[Part]:
    raise wire.error_inside(event.response)


def _begun(item: wire.Item, data: Raw, block: int) -> Iterator[Part]:
    said = wire.read_object(data)
    yield Opaque(wire.ITEM, block=block, data=_less(said, _OF_ITEM.get(str(item.type), frozenset())))
    if item.calls:
        id, name = _word(item.call_id), _word(item.name)
        yield ToolCall(item.given, id, name, block=block, custom=item.type == wire.CUSTOM)


def _ended(item: wire.Item, data: Raw, block: int, before: Before) -> Iterator[Part]:
    """What an item ends with, and of its content what has not been heard."""
    if not before.begun:
        yield from _begun(item, data, block)
    if item.type == "message":
        yield from _message(item, block, before)
    elif item.type == "reasoning":
        yield from _thought(item, block, before)
    elif item.calls:
        if before.begun and _unheard(block, before) and item.given:
            yield ToolCall(item.given, block=block, custom=item.type == wire.CUSTOM)
        yield BlockEnd(block=block)
    last = _less(wire.read_object(data), _OF_ITEM.get(str(item.type), frozenset()))
    yield Opaque(wire.ITEM_DONE, block=block, data=last)


def _message(item: wire.Item, block: int, before: Before) -> Iterator[Part]:
    for place, piece in enumerate(pieces(item.content)[: wire.SUMMARY]):
        text, refusal, own = piece.get("text"), piece.get("refusal"), block + place
        if _unheard(own, before):
            if text and isinstance(text, str):
                yield Text(text, block=own)
            if refusal and isinstance(refusal, str):
                yield RefusalText(refusal, block=own)
        for told in pieces(piece.get("annotations")):
            yield read_citation(told, 0, own, RESPONSES, told)
        yield BlockEnd(block=own)


def _thought(item: wire.Item, block: int, before: Before) -> Iterator[Part]:
    thought, summary = wire.texts(item.content), wire.texts(item.summary)
    own = block + wire.SUMMARY
    if _unheard(block, before) and any(thought):
        yield Reasoning("".join(thought), block=block)
    if _unheard(own, before):
        for place, text in enumerate(summary):
            yield Opaque(wire.SUMMARY_PART, block=own, data=place)
            if text:
                yield Reasoning(text, block=own)
    last = own if any(summary) and not any(thought) else block
    sealed = item.encrypted_content
    if isinstance(sealed, str) and sealed:
        yield seal(sealed, last)
    if any(thought) and any(summary):
        yield BlockEnd(block=own)
    yield BlockEnd(block=last)


def seal(sealed: str, block: int) -> Reasoning:
    """What binds a reasoning, or stands for it."""
    vendor, signature, redacted = unmarked(OPENAI, sealed)
    return Reasoning("", 0, block, signature, redacted, vendor)


def _unheard(block: int, before: Before) -> bool:
    return before.heard is not None and block not in before.heard


def _fields(data: Raw | bytes, *, ended: bool = False) -> list[Part]:
    """The fields of a response without a word; `ended`: how it ended, which our words tell less exactly."""
    said = wire.read_object(data)
    found: dict[str, Any] = {"fields": _less(said, _SAID)}
    usage = said.get("usage")
    if isinstance(usage, dict) and (more := _less(usage, KNOWN)):
        found["usage"] = more
    if ended:
        found["ended"] = {name: said.get(name) for name in ("status", "incomplete_details")}
    return [Opaque(wire.RESPONSE, data=found)]


def _less(said: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name not in names}


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


_REPEATS = frozenset(
    (
        "response.in_progress",
        "response.queued",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.done",
        "response.output_text.annotation.added",
        "response.refusal.done",
        "response.reasoning_text.done",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.function_call_arguments.done",
        "response.custom_tool_call_input.done",
    )
)
_EVENTS: dict[str, Callable[[wire.Event, Before], Iterator[Part]]] = {
    "response.created": _created,
    "response.output_item.added": _item_added,
    "response.output_item.done": _item_done,
    "response.output_text.delta": _text,
    "response.refusal.delta": _refusal,
    "response.reasoning_text.delta": _reasoning,
    "response.reasoning_summary_text.delta": _summary,
    "response.reasoning_summary_part.added": _summary_part,
    "response.function_call_arguments.delta": _arguments,
    CUSTOM_INPUT: _arguments,
    "response.completed": _completed,
    "response.incomplete": _completed,
    "response.failed": _failed,
}
