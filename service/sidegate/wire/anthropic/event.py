"""Events and bodies of Anthropic Messages, decoded narrowly: only the fields that mean something to the gateway.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming. New kinds of events, blocks and deltas are part
of the format ("handle unknown event types gracefully"), so what is not known here is never an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from msgspec import Raw, Struct
from msgspec.json import Decoder

from sidegate.errors import ReplyError
from sidegate.wire import faults, sse
from sidegate.wire.anthropic.usage import Counts
from sidegate.wire.body import UNREADABLE

if TYPE_CHECKING:
    from sidegate.errors import ProviderError

EVENTS = frozenset(
    (
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    )
)
BLOCKS = frozenset(("text", "thinking", "redacted_thinking", "tool_use"))
DELTAS = frozenset(("text_delta", "thinking_delta", "signature_delta", "input_json_delta"))

# By the `type` of an error inside a stream, where no HTTP status says it: https://platform.claude.com/docs/en/api/errors
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class Delta(Struct):
    """Of a `content_block_delta` or a `message_delta`."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class Block(Struct):
    """A content block, whole or at its start."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"{}")


class Head(Struct):
    """The message of a `message_start`."""

    id: str | None = None
    model: str | None = None
    usage: Counts | None = None


class Event(Struct):
    """One event of a stream."""

    type: str
    index: int = 0
    delta: Delta | None = None
    content_block: Block | None = None
    message: Head | None = None
    usage: Counts | None = None


class LooseBlock(Struct):
    """A block of any kind: only what is said of all of them."""

    type: str
    text: Any = None
    thinking: Any = None
    data: Any = None
    input: Raw = Raw(b"")


class Whole(Struct):
    """A whole message. Its blocks stay as they came, since one of an unknown kind may look like anything."""

    content: list[Raw]
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Counts | None = None


class _Kind(Struct):
    type: str = ""


class _Loose(Struct):
    type: str
    delta: Any = None
    content_block: Any = None
    error: Any = None


_event = Decoder(Event).decode
_loose = Decoder(_Loose).decode
_whole = Decoder(Whole).decode
_kind = Decoder(_Kind).decode
_block = Decoder(Block).decode
_loose_block = Decoder(LooseBlock).decode
_object = Decoder(dict[str, Any]).decode


def payload(raw: bytes) -> bytes | None:
    """The data of an SSE event; `None` for a comment."""
    # Nearly every event is a line `event: ...`, a line `data: {...}` and a blank one. JSON holds no line end: 0.6 µs.
    at = raw.find(b"\n")
    if raw.startswith(b"\ndata: ", at) and raw.find(b"\n", at + 1) == len(raw) - 2 and raw.startswith(b"event:"):
        return raw[at + 7 : -2] if sse.CR not in raw else sse.data(raw)
    return sse.data(raw)


def read_event(data: bytes) -> Event:
    """One event. Raises `ProviderError` for an `error` event and `ReplyError` for what is no event."""
    try:
        event = _event(data)
    except UNREADABLE:
        return _read_loosely(data)
    if event.type == "error":
        raise error_inside(data)
    return event


def _read_loosely(data: bytes) -> Event:
    """An event that is not shaped as expected: allowed to what is unknown, and to nothing else."""
    try:
        event = _loose(data)
    except UNREADABLE as error:
        raise ReplyError("The provider sent an event that is not JSON.") from error
    if event.type == "error":
        raise error_inside(data)
    if event.type not in EVENTS:
        return Event(event.type)
    inner, known = (event.content_block, BLOCKS) if event.type == "content_block_start" else (event.delta, DELTAS)
    kind = inner.get("type") if isinstance(inner, dict) else None
    if not event.type.startswith("content_block_") or not isinstance(kind, str) or kind in known:
        raise ReplyError("The provider sent an event of the wrong shape.")
    index = read_object(data).get("index")
    if type(index) is not int:
        raise ReplyError("The provider sent an event of the wrong shape.")
    if event.type == "content_block_start":
        return Event(event.type, index, content_block=Block(kind))
    return Event(event.type, index, delta=Delta(kind))


def error_inside(data: bytes) -> ProviderError:
    """The error for an error object inside a 200."""
    fault = faults.error_object(data)
    status = _STATUSES.get(fault.type or "")
    if status is None:
        return faults.fault_error(fault)
    return faults.provider_error(status, {}, message=fault.message, code=fault.code, type=fault.type)


def read_whole(data: bytes) -> Whole:
    """A whole message. Raises `ProviderError` where it is an error object, and `ReplyError` where it is no message."""
    try:
        return _whole(data)
    except UNREADABLE as error:
        _refuse_whole(data, error)


def _refuse_whole(data: bytes, error: Exception) -> NoReturn:
    try:
        kind = _kind(data).type
    except UNREADABLE:
        raise ReplyError("The provider's reply is not a JSON object.") from error
    if kind == "error":
        raise error_inside(data) from None
    raise ReplyError("The provider's reply is no message.") from error


def read_block(data: Raw) -> Block:
    """A block of a whole message: of a kind in `BLOCKS` with its fields, of another with its `type` alone."""
    try:
        return _block(data)
    except UNREADABLE as error:
        kind = read_loose_block(data).type
        if kind in BLOCKS:
            raise ReplyError("The provider sent a content block of the wrong shape.") from error
        return Block(kind)


def read_loose_block(data: Raw) -> LooseBlock:
    """A block of any kind."""
    try:
        return _loose_block(data)
    except UNREADABLE as error:
        raise ReplyError("The provider sent a content block that is none.") from error


def read_object(data: bytes | Raw) -> dict[str, Any]:
    """All of an object, for what is passed on without being understood."""
    try:
        return _object(data)
    except UNREADABLE as error:
        raise ReplyError("The provider sent JSON that cannot be read.") from error
