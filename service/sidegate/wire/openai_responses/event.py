"""Events and bodies of OpenAI's Responses, decoded narrowly, and how its content is numbered in blocks.

Source: https://platform.openai.com/docs/api-reference/responses-streaming. New kinds of events and items are part of
the format, so what is not known here is never an error.

An output item has 2**20 blocks: its content parts from 0 (a message's texts and refusals, the raw reasoning of a
reasoning item, a call's arguments), and the summary of its reasoning as one block, 2**19.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Raw, Struct
from msgspec.json import Decoder

from sidegate.errors import ProviderError, ReplyError
from sidegate.wire import faults, sse
from sidegate.wire.body import UNREADABLE

T = TypeVar("T")

WIDTH = 2**20
"""Blocks of one output item."""
SUMMARY = 2**19
"""The block of a reasoning item's summary, counted from its first."""
MOST_ITEMS = 2**20

CUSTOM = "custom_tool_call"
CALLS = ("function_call", CUSTOM)
"""Items that are calls which the client answers."""

ITEM = "responses.item"
"""Kind of the `Opaque` that begins an output item: the item, less what is said by parts."""
ITEM_DONE = "responses.item_done"
"""Ends an item: the fields it has at last."""
SUMMARY_PART = "responses.summary_part"
"""Begins a part of a summary; `data` is its index."""
RESPONSE = "responses.response"
"""Fields of the response itself."""
EVENT = "responses.event"
"""An event, or a whole item's event, that goes on as it is."""

# An error inside a stream has no HTTP status, and OpenAI's codes are words of its own.
_STATUSES = {
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_prompt": 400,
    "vector_store_timeout": 504,
    "model_not_found": 404,
}


class Said(Struct, gc=False):
    """A content part, a summary's part."""

    type: Any = None
    text: Any = None
    refusal: Any = None


class Item(Struct, gc=False):
    """An output item: the leaves are `Any`, for a server's odd value must not cost the event."""

    type: Any = None
    call_id: Any = None
    id: Any = None
    name: Any = None
    arguments: Any = None
    content: Any = None
    summary: Any = None
    encrypted_content: Any = None
    input: Any = None

    @property
    def calls(self) -> bool:
        """Whether it is a call that the client answers."""
        return self.type in CALLS

    @property
    def given(self) -> str:
        """What a tool is given: JSON text, or the words of a custom one."""
        given = self.input if self.type == CUSTOM else self.arguments
        return given if isinstance(given, str) else ""


class Event(Struct, gc=False):
    """One event of a stream."""

    type: str
    delta: Any = None
    output_index: Any = 0
    content_index: Any = 0
    summary_index: Any = 0
    item: Raw = Raw(b"")
    part: Raw = Raw(b"")
    response: Raw = Raw(b"")


class Response(Struct, gc=False):
    """The response object, less its output."""

    id: Any = None
    model: Any = None
    created_at: Any = None
    status: Any = None
    incomplete_details: Any = None
    usage: Any = None
    error: Any = None
    object: Any = None


class Whole(Struct, gc=False):
    """A whole response; its items stay as they came, since one of an unknown kind may look like anything."""

    output: list[Raw]


_event = Decoder(Event).decode
_item = Decoder(Item).decode
_response = Decoder(Response).decode
_whole = Decoder(Whole).decode
_object = Decoder(dict[str, Any]).decode


def payload(raw: bytes) -> bytes | None:
    """The data of an SSE event; `None` for a comment, and for a `[DONE]`, which some servers add."""
    # Nearly every event is a line `event: ...`, a line `data: {...}` and a blank one. JSON holds no line end.
    at = raw.find(b"\n")
    if raw.startswith(b"\ndata: ", at) and raw.find(b"\n", at + 1) == len(raw) - 2 and raw.startswith(b"event:"):
        return raw[at + 7 : -2] if sse.CR not in raw else sse.data(raw)
    data = sse.data(raw)
    return None if data is not None and data.strip() == b"[DONE]" else data


def read_event(data: bytes) -> Event:
    """One event. Raises `ProviderError` for one that reports a failure, and `ReplyError` for what is no event."""
    try:
        event = _event(data)
    except UNREADABLE as error:
        # Servers of other dialects' habits send an error without a type.
        if faults.error_object(data).message:
            raise error_inside(data) from error
        raise bad_event(error) from error
    if event.type == "error":
        raise error_inside(data)
    return event


def read_item(data: Raw) -> Item:
    """An output item."""
    return _decoded(_item, data)


def read_response(data: Raw | bytes) -> Response:
    """The response object, narrowly."""
    return _decoded(_response, data)


def read_object(data: Raw | bytes) -> dict[str, Any]:
    """All of an object, for what is passed on without being understood."""
    return _decoded(_object, data)


def read_whole(data: bytes) -> tuple[Response, list[Item], list[Raw]]:
    """A whole response: itself, its items, and the bytes of each.

    Raises `ProviderError` where it has failed, and `ReplyError` where it is none.
    """
    response = read_response(data)
    if response.status == "failed" or (response.error is not None and response.status is None):
        raise error_inside(data)
    try:
        items = _whole(data).output
    except UNREADABLE as error:
        if faults.error_object(data).message:
            raise error_inside(data) from error
        raise bad_event(error) from error
    return response, [read_item(item) for item in items], items


def block_of(event: Event, within: int | None = None) -> int:
    """The number of the block that an event belongs to; `within` its item, where the event's index does not say it."""
    item, place = event.output_index, event.content_index if within is None else within
    if type(item) is not int or not 0 <= item < MOST_ITEMS or type(place) is not int or not 0 <= place < WIDTH:
        raise bad_event()
    return item * WIDTH + place


def texts(pieces: Any) -> list[str]:
    """The texts of a list of parts, empty ones among them."""
    found = [piece.get("text") for piece in pieces if isinstance(piece, dict)] if isinstance(pieces, list) else []
    return [text for text in found if isinstance(text, str)]


def error_inside(data: bytes | Raw) -> ProviderError:
    """The error for a failure told inside a 200: an `error` event, flat or nested, or a failed response."""
    fault = faults.error_object(bytes(data))
    status = fault.status or _STATUSES.get(fault.code or "") or _STATUSES.get(fault.type or "")
    if status is None:
        return faults.fault_error(fault)
    return faults.provider_error(status, {}, message=fault.message, code=fault.code, param=fault.param)


def bad_event(error: Exception | None = None) -> ReplyError:
    """For bytes that are no event, or no body, of the dialect."""
    failure = ReplyError("The provider sent something that is not a reply of its dialect.")
    failure.__cause__ = error
    return failure


def _decoded(decode: Callable[[Raw | bytes], T], data: Raw | bytes) -> T:
    try:
        return decode(data)
    except UNREADABLE as error:
        raise bad_event(error) from error
