"""OpenAI Chat Completions, the dialect most providers speak (`POST /v1/chat/completions`)."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from sidegate.contract.meaning import Part, Request
from sidegate.wire import openai
from sidegate.wire.body import encode, value
from sidegate.wire.dialect import Envelope, Fields
from sidegate.wire.openai_chat import outgoing, reply, request
from sidegate.wire.openai_chat.assembler import ChatAssembler
from sidegate.wire.openai_chat.meter import ChatMeter
from sidegate.wire.openai_chat.writer import ChatWriter

_YES, _NO, _USAGE = Raw(b"true"), Raw(b"false"), Raw(b'{"include_usage":true}')


def adapt(fields: Fields, *, model: str, stream: bool) -> Fields:
    """The model, and on streams the wish for usage. A buffered request bears no `stream_options`: it is an error."""
    adapted = {**fields, "model": encode(model)}
    if stream:
        adapted["stream"] = _YES
        adapted["stream_options"] = _with_usage(fields)
        return adapted
    if "stream" in adapted:
        adapted["stream"] = _NO
    adapted.pop("stream_options", None)
    return adapted


def _with_usage(fields: Fields) -> Raw:
    asked = fields.get("stream_options")
    if asked is None:
        return _USAGE
    if bytes(asked) == bytes(_USAGE):
        return asked
    options = value(fields, "stream_options", dict[str, Any]) or {}
    return encode({**options, "include_usage": True})


class OpenAIChat(openai.Errors):
    """The `Dialect`."""

    name = "openai.chat"
    operation = "chat"
    comments = True
    terminator = openai.DONE
    path = "/chat/completions"

    def read_request(self, fields: Fields) -> Request:
        return request.read_request(fields)

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        return outgoing.write_request(request, dropped)

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        return adapt(fields, model=model, stream=stream)

    def meter(self) -> ChatMeter:
        return ChatMeter()

    def read_event(self, raw: bytes) -> tuple[Part, ...]:
        return reply.read_event(raw)

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        return reply.read_whole(raw)

    def encoder(self, envelope: Envelope) -> ChatWriter:
        return ChatWriter(envelope)

    def assembler(self, envelope: Envelope) -> ChatAssembler:
        return ChatAssembler(envelope)
