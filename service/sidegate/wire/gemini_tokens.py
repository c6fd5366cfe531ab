"""How many tokens a request has, asked without an answer: Gemini's `countTokens`.

Source: https://ai.google.dev/api/tokens. Only the provider's own count is told: no other provider is asked for it in
its place, and nothing is estimated. It costs nothing, and that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from sidegate.contract.meaning import End, Part, Report, Request, Start, Usage
from sidegate.errors import ReplyError
from sidegate.wire.body import UNREADABLE, encode, value
from sidegate.wire.dialect import Envelope, Fields, Meter, Sign
from sidegate.wire.gemini import GeminiGenerate, InPath
from sidegate.wire.gemini_embeddings import EmbeddingsEncoder
from sidegate.wire.gemini_error import error_inside
from sidegate.wire.gemini_path import resource

_GENERATE = GeminiGenerate()
_INNER = "generateContentRequest"


class _Counted(Struct, rename="camel"):
    total_tokens: Any = None
    cached_content_token_count: Any = None
    error: Any = None


_COUNTED = msgspec.json.Decoder(_Counted)
_ENCODE = msgspec.json.Encoder().encode


class CountMeter:
    """A `Meter`: the reply tells tokens and uses none."""

    reader = None

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish: Any = None
        self.model: str | None = None
        self.id: str | None = None
        self.output_bytes = 0
        self.started = False
        self.finished = False

    def event(self, raw: bytes) -> Sign:
        raise _none()

    def whole(self, raw: bytes) -> None:
        _read(raw)
        self.usage = Usage(0, 0)
        self.started = self.finished = True
        self.finish = "stop"


class CountAssembler:
    """An `Assembler`: the count is the input of the usage that is reported."""

    def __init__(self) -> None:
        self._usage = Usage()

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, Report):
                self._usage = self._usage.merge(part.usage)

    def body(self, base: bytes | None = None) -> bytes:
        told: dict[str, Any] = {} if base is None else msgspec.json.decode(base, type=dict[str, Any])
        return _ENCODE({**told, "totalTokens": self._usage.input_tokens or 0})


class GeminiCountTokens(InPath):
    """The `Dialect` of `countTokens`, whose request may hold a whole one for `generateContent`."""

    name = "gemini.count_tokens"
    operation = "count_tokens"
    method = "countTokens"

    def read_request(self, fields: Fields) -> Request:
        inner = value(fields, _INNER, dict[str, Raw])
        if inner is None:
            return _GENERATE.read_request(fields)
        return _GENERATE.read_request(_GENERATE.place(inner, model=value(fields, "model", str) or "", stream=False))

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        written = {name: encode(each) for name, each in _GENERATE.write_request(request, dropped).items()}
        inner = _GENERATE.adapt(written, model=request.model, stream=False)
        return {"model": request.model, _INNER: {**inner, "model": resource(request.model)}}

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        """A whole request within names its model too, and does not go with its contents outside."""
        adapted = super().adapt(fields, model=model, stream=stream)
        inner = value(adapted, _INNER, dict[str, Raw])
        if inner is not None:
            adapted.pop("contents", None)
            adapted[_INNER] = encode({**inner, "model": resource(model)})
        return adapted

    def meter(self) -> Meter:
        return CountMeter()

    def read_event(self, raw: bytes) -> tuple[Part, ...]:
        raise _none()

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        total = _read(raw)
        return (Start(), Report(Usage(total, 0)), End())

    def encoder(self, envelope: Envelope) -> EmbeddingsEncoder:
        return EmbeddingsEncoder()

    def assembler(self, envelope: Envelope) -> CountAssembler:
        return CountAssembler()


def _read(raw: bytes) -> int:
    try:
        counted = _COUNTED.decode(raw)
    except UNREADABLE as error:
        raise _none() from error
    if counted.error is not None:
        raise error_inside(raw)
    # Proto3 leaves out a 0.
    total = 0 if counted.total_tokens is None else counted.total_tokens
    if type(total) is not int or total < 0:
        raise _none()
    return total


def _none() -> ReplyError:
    return ReplyError("The provider sent something that is no reply of its dialect.")
