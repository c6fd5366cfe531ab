"""Replies of Anthropic Messages into parts: one event, or a whole message. A part's block is Anthropic's content index.

What has no word of its own becomes `Opaque`, so that nothing is lost where the reply is written in Anthropic's dialect
again: a content block of another kind (`kind` is its type, `data` the block), a delta of another kind (`kind` ends with
`_delta`), an unknown event (no block), fields of the message (`message`: see `_fields`) and of a call (`block`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidegate.contract.meaning import BlockEnd, End, Finish, Opaque, Reasoning, Report, Start, Text, ToolCall
from sidegate.wire.anthropic import event as wire
from sidegate.wire.anthropic.block import read_citation
from sidegate.wire.anthropic.usage import COUNTS, lossy, read_stop
from sidegate.wire.seals import ANTHROPIC, unmarked

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidegate.contract.meaning import Part

_SAID = frozenset(("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"))
"""The keys of a message that parts have words for."""
_CALL = frozenset(("type", "id", "name", "input"))


def read_event(raw: bytes) -> tuple[Part, ...]:
    """The parts of one event. Raises as `event.read_event` does."""
    data = wire.payload(raw)
    if data is None:
        return ()
    event = wire.read_event(data)
    reader = _EVENTS.get(event.type)
    if reader is None:
        return (Opaque(event.type, data=wire.read_object(data)),)
    return reader(event, data)


def read_whole(raw: bytes) -> tuple[Part, ...]:
    """The parts of a whole message. Raises as `event.read_whole` does."""
    message = wire.read_whole(raw)
    said = wire.read_object(raw)
    parts: list[Part] = [Start(message.id, message.model)]
    for index, raw_block in enumerate(message.content):
        parts += _whole_block(wire.read_block(raw_block), index, said["content"][index])
    parts += _fields({}, said, said)
    if message.stop_reason is not None:
        parts.append(Finish(read_stop(message.stop_reason), stop_sequence=message.stop_sequence))
    if message.usage is not None:
        parts.append(Report(message.usage.usage()))
    parts.append(End())
    return tuple(parts)


def _message_start(event: wire.Event, data: bytes) -> tuple[Part, ...]:
    head = event.message
    if head is None:
        return (Start(),)
    start = Start(head.id, head.model)
    if head.usage is None:
        return (start,)
    message = wire.read_object(data)["message"]
    return (start, *_fields({}, message, message), Report(head.usage.without_output().usage()))


def _block_start(event: wire.Event, data: bytes) -> tuple[Part, ...]:
    block = event.content_block
    if block is None:
        return ()
    index = event.index
    match block.type:
        case "text":
            return (Text(block.text, block=index),) if block.text else ()
        case "thinking" if block.thinking or block.signature:
            return (_thought(block.thinking, block.signature, index),)
        case "thinking":
            return ()
        case "redacted_thinking":
            return (Reasoning(block=index, redacted=block.data or "", vendor=ANTHROPIC),)
        case "tool_use":
            # Mostly empty here and told by deltas; calls made from inside a code tool come whole.
            arguments = bytes(block.input).decode()
            call = ToolCall("" if arguments == "{}" else arguments, block.id, block.name, block=index)
            return (*_call_fields(wire.read_object(data)["content_block"], index), call)
        case kind:
            return (Opaque(kind, block=index, data=wire.read_object(data)["content_block"]),)


def _block_delta(event: wire.Event, data: bytes) -> tuple[Part, ...]:
    """A piece of a block. By the event alone, input of a server's own tool cannot be told from that of a `tool_use`:
    both are pieces of a `ToolCall`, and where its block never said `id` and `name`, it is no call of the client's.
    """
    delta = event.delta
    if delta is None:
        return ()
    match delta.type:
        case "text_delta":
            return (Text(delta.text or "", block=event.index),)
        case "input_json_delta":
            return (ToolCall(delta.partial_json or "", block=event.index),)
        case "thinking_delta":
            return (Reasoning(delta.thinking or "", block=event.index),)
        case "signature_delta":
            return (_thought(None, delta.signature, event.index),)
        case "citations_delta":
            return (read_citation(wire.read_object(data)["delta"].get("citation"), event.index),)
        case kind:
            said = wire.read_object(data)["delta"]
            return (Opaque(_delta_kind(kind), 0, event.index, said, _piece_of(said)),)


def _block_stop(event: wire.Event, data: bytes) -> tuple[Part, ...]:
    return (BlockEnd(block=event.index),)


def _message_delta(event: wire.Event, data: bytes) -> tuple[Part, ...]:
    said = wire.read_object(data)
    parts: list[Part] = _fields(said, said.get("delta"), said)
    delta = event.delta
    if delta is not None and delta.stop_reason is not None:
        parts.append(Finish(read_stop(delta.stop_reason), stop_sequence=delta.stop_sequence))
    if event.usage is not None:
        parts.append(Report(event.usage.usage()))
    return tuple(parts)


def _message_stop(event: wire.Event, data: bytes) -> tuple[Part, ...]:
    return (End(),)


def _ping(event: wire.Event, data: bytes) -> tuple[Part, ...]:
    return ()


def _whole_block(block: wire.Block, index: int, said: dict[str, Any]) -> list[Part]:
    match block.type:
        case "text":
            cited = said.get("citations")
            citations = cited if isinstance(cited, list) else []
            return [Text(block.text or "", block=index), *(read_citation(citation, index) for citation in citations)]
        case "thinking":
            return [_thought(block.thinking, block.signature, index)]
        case "redacted_thinking":
            return [Reasoning(block=index, redacted=block.data or "", vendor=ANTHROPIC)]
        case "tool_use":
            call = ToolCall(bytes(block.input).decode(), block.id, block.name, block=index)
            return [*_call_fields(said, index), call]
        case kind:
            return [Opaque(kind, block=index, data=said)]


def _thought(thinking: str | None, signature: str | None, index: int) -> Reasoning:
    if not signature:
        return Reasoning(thinking or "", block=index)
    vendor, signature, redacted = unmarked(ANTHROPIC, signature)
    return Reasoning(thinking or "", 0, index, signature, redacted, vendor)


def _call_fields(said: dict[str, Any], index: int) -> list[Part]:
    """Fields of a call without a word, such as `caller`: a part of kind `block`, before the call itself."""
    fields = {key: value for key, value in said.items() if key not in _CALL and value is not None}
    return [Opaque("block", block=index, data={**fields, "type": "block"})] if fields else []


def _fields(event: dict[str, Any], message: Any, holder: dict[str, Any]) -> list[Part]:
    """Fields without a word (`container`, `stop_details`, `service_tier`), and a stop reason that would change.

    `data` holds them by where they stand: `event` beside the delta, `delta` in it or in the message, `usage`."""
    found: dict[str, Any] = {
        "event": {key: value for key, value in event.items() if key not in ("type", "delta", "usage")},
        "delta": {},
        "usage": {},
    }
    if isinstance(message, dict):
        found["delta"] = {key: value for key, value in message.items() if key not in _SAID and value is not None}
        stop_reason = message.get("stop_reason")
        if isinstance(stop_reason, str) and lossy(stop_reason):
            found["delta"]["stop_reason"] = stop_reason
    usage = holder.get("usage")
    if isinstance(usage, dict):
        found["usage"] = {key: value for key, value in usage.items() if key not in COUNTS and value is not None}
    data = {place: fields for place, fields in found.items() if fields}
    return [Opaque("message", data={"type": "message", **data})] if data else []


def _piece_of(delta: dict[str, Any]) -> str | None:
    """The field with the text of a delta that has no word here: the only one, beside its type."""
    found = [name for name, value in delta.items() if name != "type" and isinstance(value, str)]
    return found[0] if len(found) == 1 else None


def _delta_kind(kind: str) -> str:
    return kind if kind.endswith("_delta") else f"{kind}_delta"


_EVENTS: dict[str, Callable[[wire.Event, bytes], tuple[Part, ...]]] = {
    "message_start": _message_start,
    "content_block_start": _block_start,
    "content_block_delta": _block_delta,
    "content_block_stop": _block_stop,
    "message_delta": _message_delta,
    "message_stop": _message_stop,
    "ping": _ping,
}
