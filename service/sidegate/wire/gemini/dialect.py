"""The dialect of the Gemini API: https://ai.google.dev/api/generate-content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sidegate.contract.meaning import Part, Request
from sidegate.errors import BadRequest, ProviderError, SidegateError
from sidegate.wire.body import encode
from sidegate.wire.dialect import Assembler, Encoder, Envelope, Events, Fields, Meter
from sidegate.wire.gemini import errors, outgoing, path, reply, request
from sidegate.wire.gemini.body import GeminiAssembler
from sidegate.wire.gemini.fields import one_case
from sidegate.wire.gemini.meter import GeminiMeter
from sidegate.wire.gemini.splitter import GeminiSplitter
from sidegate.wire.gemini.stream import GeminiEncoder


class InPath:
    """What all dialects of Gemini share: the model and the method stand in the path, errors are `google.rpc.Status`.

    SDKs take any comment in a stream for a reply that is none, so there are none.
    """

    comments = False
    terminator = b""
    in_path: ClassVar[bool] = True
    path = ""
    method = ""

    def splitter(self) -> Events:
        return GeminiSplitter()

    def place(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        placed = one_case(fields)
        placed["model"] = encode(model)
        placed.pop("stream", None)
        if stream:
            placed["stream"] = encode(True)
        return placed

    def locate(self, model: str, stream: bool) -> str:
        return path.located(model, self.method)

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        return {name: raw for name, raw in fields.items() if name not in ("model", "stream")}

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return errors.read_error(status, headers, body)

    def write_error(self, error: SidegateError, request_id: str) -> bytes:
        return errors.write_error(error, request_id)

    def write_error_event(self, error: SidegateError, request_id: str) -> bytes:
        return errors.write_error_event(error, request_id)


class GeminiGenerate(InPath):
    """The `Dialect` of `generateContent` and `streamGenerateContent`."""

    name = "gemini.generate"
    operation = "chat"
    method = "generateContent"

    def locate(self, model: str, stream: bool) -> str:
        return path.located(model, "streamGenerateContent" if stream else self.method) + "?alt=sse" * stream

    def read_request(self, fields: Fields) -> Request:
        try:
            return request.read_request(fields)
        except RecursionError as error:
            raise BadRequest("The body is nested too deeply.") from error

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        return outgoing.write_request(request, dropped)

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        """Usage needs no wish: Gemini always tells it."""
        return outgoing.folded(super().adapt(fields, model=model, stream=stream))

    def meter(self) -> Meter:
        return GeminiMeter()

    def read_event(self, raw: bytes) -> tuple[Part, ...]:
        return reply.read_event(raw)

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        return reply.read_whole(raw)

    def encoder(self, envelope: Envelope) -> Encoder:
        return GeminiEncoder(envelope)

    def assembler(self, envelope: Envelope) -> Assembler:
        return GeminiAssembler(envelope)
