"""The dialects of the AI SDK's UI hooks, `useChat` and `useCompletion`. Only clients speak them: no provider does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import Part, Request
from sidegate.errors import BadRequest, Ending, ProviderError, SidegateError
from sidegate.wire import sse
from sidegate.wire.body import encode
from sidegate.wire.dialect import Assembler, Encoder, Envelope, Fields, InBody, Meter
from sidegate.wire.ui import request
from sidegate.wire.ui.body import UIAssembler
from sidegate.wire.ui.stream import DONE, TextEncoder, UIEncoder

CHAT = "ai_sdk.ui_messages"
COMPLETION = "ai_sdk.ui_completion"

_NOT_GIVEN = (b"null", b'""')
_json = JsonEncoder().encode


class _OfClients(InBody):
    """What a provider would be asked and heard by: none is."""

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        raise NotImplementedError

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        raise NotImplementedError

    def meter(self) -> Meter:
        raise NotImplementedError

    def read_event(self, raw: bytes) -> tuple[Part, ...]:
        raise NotImplementedError

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        raise NotImplementedError

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        raise NotImplementedError


class UIMessages(_OfClients):
    """The `Dialect` of `useChat`."""

    name = CHAT
    operation = "chat"
    comments = True
    terminator = DONE

    def __init__(self, message_id: str | None = None) -> None:
        """`message_id` is that of the message which the reply goes on with, as it does after results of tools."""
        self._message_id = message_id

    def place(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        """The fields with a model among them: an app need not name one. Raises `BadRequest` where nobody has."""
        asked = fields.get("model")
        if asked is not None and bytes(asked) not in _NOT_GIVEN:
            return fields
        if not model:
            raise BadRequest("model: missing", param="model")
        return {**fields, "model": encode(model)}

    def read_request(self, fields: Fields) -> Request:
        try:
            return request.read_chat(fields)
        except RecursionError as error:
            raise BadRequest("The body is nested too deeply.") from error

    def encoder(self, envelope: Envelope) -> Encoder:
        return UIEncoder(envelope, self._message_id)

    def assembler(self, envelope: Envelope) -> Assembler:
        return UIAssembler(envelope, self._message_id)

    def write_error(self, error: SidegateError, request_id: str) -> bytes:
        """The message alone: clients take the whole body for it, and show it."""
        return error.message.encode("utf-8", "replace")

    def write_error_event(self, error: SidegateError, request_id: str) -> bytes:
        """`abort` where somebody stopped the call on purpose; else an error, without which a client sees none."""
        if error.ending is Ending.CANCELLED:
            return sse.frame(_json({"type": "abort", "reason": error.message}))
        return sse.frame(_json({"type": "error", "errorText": error.message}))


class UICompletion(UIMessages):
    """The `Dialect` of `useCompletion`, which sends a prompt and reads the same."""

    name = COMPLETION

    def read_request(self, fields: Fields) -> Request:
        return request.read_completion(fields)


class UIText(UIMessages):
    """The text protocol of either: nothing but the words, and no mark of an end but the body's own."""

    comments = False
    terminator = b""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def encoder(self, envelope: Envelope) -> Encoder:
        return TextEncoder(envelope)
