"""The dialect of Anthropic's Messages API: https://platform.claude.com/docs/en/api/messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import Part, Request
from sidegate.errors import BadRequest, ProviderError, SidegateError
from sidegate.wire import body, faults, sse
from sidegate.wire.anthropic import reply, request
from sidegate.wire.anthropic.body import AnthropicAssembler
from sidegate.wire.anthropic.meter import AnthropicMeter
from sidegate.wire.anthropic.outgoing import TRANSLATED_VERSION, write_request
from sidegate.wire.anthropic.stream import AnthropicEncoder
from sidegate.wire.dialect import Assembler, Encoder, Envelope, Fields, InBody, Meter

__all__ = ["TRANSLATED_VERSION", "AnthropicMessages"]

# https://platform.claude.com/docs/en/api/errors; SDKs tell overload by the type, whatever the status.
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_json = JsonEncoder().encode


class AnthropicMessages(InBody):
    """A `Dialect`. The API version is a header and no part of it: see `TRANSLATED_VERSION`."""

    name = "anthropic.messages"
    operation = "chat"
    comments = True
    terminator = sse.frame(_json({"type": "message_stop"}), "message_stop")
    path = "/v1/messages"

    def read_request(self, fields: Fields) -> Request:
        try:
            return request.read_request(fields)
        except RecursionError as error:
            raise BadRequest("The body is nested too deeply.") from error

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        return write_request(request, dropped)

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        """Usage needs no wish: Anthropic always tells it."""
        adapted = {name: raw for name, raw in fields.items() if name != "stream"}
        adapted["model"] = body.encode(model)
        if stream:
            adapted["stream"] = body.encode(True)
        return adapted

    def meter(self) -> Meter:
        return AnthropicMeter()

    def read_event(self, raw: bytes) -> tuple[Part, ...]:
        return reply.read_event(raw)

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        return reply.read_whole(raw)

    def encoder(self, envelope: Envelope) -> Encoder:
        return AnthropicEncoder(envelope)

    def assembler(self, envelope: Envelope) -> Assembler:
        return AnthropicAssembler(envelope)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        fault = faults.error_object(body)
        error = faults.provider_error(
            status, headers, message=fault.message, code=fault.code, type=fault.type, param=fault.param
        )
        if error.status == status < 500:
            # The client's own mistake, in the provider's words: SDKs act on the code that stands there.
            error.details = faults.error_details(body)
        return error

    def write_error(self, error: SidegateError, request_id: str) -> bytes:
        return _json(_error(error, request_id))

    def write_error_event(self, error: SidegateError, request_id: str) -> bytes:
        return sse.frame(_json(_error(error, request_id)), "error")


def _error(error: SidegateError, request_id: str) -> dict[str, Any]:
    kind = _TYPES.get(error.status) or ("invalid_request_error" if error.status < 500 else "api_error")
    told: dict[str, Any] = {"type": kind, "message": error.message}
    if error.details:
        told["details"] = error.details
    return {"type": "error", "error": told, "request_id": request_id}
