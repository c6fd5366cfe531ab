"""What is read again and what is spoken over sockets, in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from sidegate.http.openapi import shapes
from sidegate.http.openapi.calls import CALL, OPENAI
from sidegate.http.openapi.spec import PLAIN, Json, Spec, events, nothing, parameter
from sidegate.http.openapi.words import operation

Maker: TypeAlias = Callable[[Spec], Json]

RECORD = (400, 401, 403, 404, 417, 422, 429, 499, 500, 503, 505)
"""What a plugin of the pipeline, or the gateway, may answer."""

_STREAM_ID = parameter("id", "path", "The call.", {"type": "string", "pattern": "^[0-9a-f]{32}$"})
_TICKET = parameter("ticket", "query", "In place of a key.")
_LAST = parameter("Last-Event-ID", "header", "The last event that was seen.")
_UPGRADE = nothing("The connection is a WebSocket from here on (RFC 6455).")


def _events(spec: Spec) -> Json:
    said: Json = {
        "200": {**spec.said("The events of the reply, from where the reader is."), "content": events("With ids.")},
        "204": nothing("There is nothing to read any more."),
        **spec.errors(PLAIN, (*RECORD, 410)),
    }
    return operation("getStreamEvents", "Streams", "Go on with a stream", said, [_STREAM_ID, _TICKET, _LAST])


def _chat(spec: Spec) -> Json:
    said: Json = {"101": _UPGRADE, **spec.errors(PLAIN, (*RECORD, 426))}
    return operation("openChatSocket", "Sockets", "Chat over a WebSocket", said, [_TICKET])


def _ticket(spec: Spec) -> Json:
    said: Json = {"201": spec.said("The ticket.", shapes.SocketTicket), **spec.errors(PLAIN, RECORD)}
    return operation("makeSocketTicket", "Sockets", "A ticket for a chat's socket", said)


def _realtime(spec: Spec) -> Json:
    said: Json = {"101": _UPGRADE, **spec.errors(OPENAI, (*CALL, 426))}
    model = parameter("model", "query", "A model name of the config.")
    intent = parameter("intent", "query", "What the session is for.", {"type": "string", "enum": ["transcription"]})
    made = operation("openRealtime", "Sockets", "A realtime session, as OpenAI has it", said, [model, intent])
    return {**made, "externalDocs": {"url": "https://platform.openai.com/docs/api-reference/realtime"}}


OPERATIONS: Mapping[tuple[str, str], Maker] = {
    ("GET", "/v1/streams/{id}/events"): _events,
    ("GET", "/v1/chat/ws"): _chat,
    ("POST", "/v1/chat/ws/ticket"): _ticket,
    ("GET", "/v1/realtime"): _realtime,
}
"""By method and path, below a route's prefix."""
