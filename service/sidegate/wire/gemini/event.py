"""Events and bodies of Gemini, decoded narrowly: only what the gateway must know of each.

Source: https://ai.google.dev/api/generate-content#generatecontentresponse. An event of a stream and a whole body have
one shape. New kinds of parts are part of the format, so what is not known here is never an error.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct
from msgspec.json import Decoder

from sidegate.errors import ReplyError
from sidegate.wire import sse
from sidegate.wire.body import UNREADABLE
from sidegate.wire.gemini.errors import error_inside
from sidegate.wire.gemini.usage import Counts

# Leaves are `Any`: a provider's odd value must not cost the event.


class PartialArg(Struct, gc=False, rename="camel"):
    """A piece of streamed arguments: https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling"""

    json_path: Any = None
    string_value: Any = None
    number_value: Any = None
    bool_value: Any = None
    null_value: Any = None
    will_continue: Any = None


class FunctionCall(Struct, gc=False, rename="camel"):
    name: Any = None
    args: Raw = Raw(b"")
    id: Any = None
    partial_args: list[PartialArg] | None = None
    will_continue: Any = None


class Part(Struct, gc=False, rename="camel"):
    text: Any = None
    function_call: FunctionCall | None = None
    executable_code: Any = None
    code_execution_result: Any = None
    inline_data: Raw = Raw(b"")


class Content(Struct, gc=False):
    parts: list[Part] | None = None


class Candidate(Struct, gc=False, rename="camel"):
    content: Content | None = None
    finish_reason: Any = None
    index: Any = None


class Feedback(Struct, gc=False, rename="camel"):
    block_reason: Any = None


class Event(Struct, gc=False, rename="camel"):
    candidates: list[Candidate] | None = None
    usage_metadata: Counts | None = None
    model_version: Any = None
    response_id: Any = None
    prompt_feedback: Feedback | None = None
    error: Any = None


CHOICES_LIMIT = 1024
"""An index of a candidate at or above it is no index, but an attempt to fill memory."""

_event = Decoder(Event).decode
_several = Decoder(list[Event]).decode
_objects = Decoder(list[dict[str, Any]]).decode
_object = Decoder(dict[str, Any]).decode


def payload(raw: bytes) -> bytes | None:
    """The data of an event; `None` for a comment. JSON that stands bare, as errors do in mid-stream, counts too."""
    # Nearly every event is a line `data: {...}` and a blank one, ended by CRLF. JSON holds no line end.
    if raw.startswith(b"data: ") and raw.endswith(b"\r\n\r\n") and raw.find(b"\n") == len(raw) - 3:
        return raw[6:-4]
    data = sse.data(raw)
    if data is None and raw.lstrip()[:1] in (b"{", b"["):
        return raw.strip()
    return data


def read_events(data: bytes) -> list[Event]:
    """An event, or the several of an array. Raises `ProviderError` for an error, `ReplyError` for what is neither."""
    try:
        found = _several(data) if data.lstrip()[:1] == b"[" else [_event(data)]
    except UNREADABLE as error:
        raise ReplyError("The provider sent something that is not a reply of its dialect.") from error
    for event in found:
        if event.error is not None:
            raise error_inside(data)
    return found


def read_objects(data: bytes) -> list[dict[str, Any]]:
    """All of the events, for those who look. Raises `ReplyError`."""
    try:
        return _objects(data) if data.lstrip()[:1] == b"[" else [_object(data)]
    except UNREADABLE as error:
        raise ReplyError("The provider sent something that is not a reply of its dialect.") from error


def choice_index(index: Any, place: int) -> int:
    """The index of a candidate, its place where it bears none. Raises `ReplyError` where it cannot be one."""
    if index is None:
        return place
    if type(index) is not int or not 0 <= index < CHOICES_LIMIT:
        raise ReplyError("The provider sent a candidate with an index that is none.")
    return index
