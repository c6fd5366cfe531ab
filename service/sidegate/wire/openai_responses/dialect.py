"""The dialect of OpenAI's Responses API: https://platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

from typing import Any

from sidegate.contract.meaning import Part, Request
from sidegate.errors import BadRequest, SidegateError
from sidegate.wire import body, openai, sse
from sidegate.wire.dialect import Envelope, Fields
from sidegate.wire.openai_responses import outgoing, reply, request
from sidegate.wire.openai_responses.body import ResponsesAssembler
from sidegate.wire.openai_responses.meter import ResponsesMeter
from sidegate.wire.openai_responses.stream import ResponsesEncoder


class OpenAIResponses(openai.Errors):
    """A `Dialect`. Its streams end with the response, so that nothing is left to be said by a terminator."""

    name = "openai.responses"
    operation = "chat"
    comments = True
    terminator = b""
    path = "/responses"

    def read_request(self, fields: Fields) -> Request:
        try:
            return request.read_request(fields)
        except RecursionError as error:
            raise BadRequest("The body is nested too deeply.") from error

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        return outgoing.write_request(request, dropped)

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        """Usage needs no wish: it is always told. Options of streams are an error where none is asked for."""
        gone = ("stream",) if stream else ("stream", "stream_options")
        adapted = {name: raw for name, raw in fields.items() if name not in gone}
        adapted["model"] = body.encode(model)
        if stream:
            adapted["stream"] = body.encode(True)
        return adapted

    def meter(self) -> ResponsesMeter:
        return ResponsesMeter()

    def read_event(self, raw: bytes) -> tuple[Part, ...]:
        return reply.read_event(raw)

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        return reply.read_whole(raw)

    def encoder(self, envelope: Envelope) -> ResponsesEncoder:
        return ResponsesEncoder(envelope)

    def assembler(self, envelope: Envelope) -> ResponsesAssembler:
        return ResponsesAssembler(envelope)

    def write_error_event(self, error: SidegateError, request_id: str) -> bytes:
        """Flat, as the API has it, and with an `error` in it: SDKs yield the first, and raise by the second."""
        told: dict[str, Any] = {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
            **({"details": error.details} if error.details else {}),
        }
        flat = {"type": "error", "sequence_number": 0, "code": error.code, "message": error.message}
        return sse.frame(openai.ENCODER.encode({**flat, "param": error.param, "error": told}), "error")
