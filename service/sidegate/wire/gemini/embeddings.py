"""Embeddings of Gemini: `embedContent` for one text, `batchEmbedContents` for several.

Source: https://ai.google.dev/api/embeddings. In the meaning one text and several are the same; so are their replies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from sidegate.contract.meaning import Embedding, End, Part, Report, Request, Start, Usage
from sidegate.errors import BadRequest, ReplyError
from sidegate.wire.body import UNREADABLE, convert, encode, value
from sidegate.wire.dialect import Envelope, Fields, Meter, Sign
from sidegate.wire.gemini.dialect import InPath
from sidegate.wire.gemini.errors import error_inside
from sidegate.wire.gemini.fields import several
from sidegate.wire.gemini.path import resource
from sidegate.wire.gemini.texts import more_of, read_one, request_of, write_all
from sidegate.wire.gemini.usage import Counts
from sidegate.wire.openai_request import Name


class _Asked(Struct):
    model: Name


class _Values(Struct, gc=False):
    values: list[float] | None = None


class _Whole(Struct, gc=False, rename="camel"):
    embedding: _Values | None = None
    embeddings: list[_Values] | None = None
    usage_metadata: Counts | None = None


class _Measured(Struct, gc=False, rename="camel"):
    """For the meter, which does not look at the vectors."""

    embedding: Raw = Raw()
    embeddings: Raw = Raw()
    usage_metadata: Counts | None = None
    error: Any = None


_ASKED = msgspec.json.Decoder(_Asked)
_WHOLE = msgspec.json.Decoder(_Whole)
_MEASURED = msgspec.json.Decoder(_Measured)
_ENCODE = msgspec.json.Encoder().encode


class EmbeddingsMeter:
    """A `Meter`: usage alone, where it is told. Every event is a failure, since there are no streams."""

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
        try:
            whole = _MEASURED.decode(raw)
        except UNREADABLE as error:
            raise _none() from error
        if whole.error is not None:
            raise error_inside(raw)
        if not bytes(whole.embedding) and not bytes(whole.embeddings):
            raise _none()
        self.usage = _usage(whole.usage_metadata)
        self.started = self.finished = True
        self.finish = "stop"


def read_whole(raw: bytes) -> tuple[Part, ...]:
    """The vectors of a body. Raises `ReplyError` where it is none."""
    try:
        return tuple(_parts(_WHOLE.decode(raw)))
    except UNREADABLE as error:
        raise _none() from error


def _parts(whole: _Whole) -> Iterator[Part]:
    yield Start()
    found = [whole.embedding] if whole.embedding is not None else whole.embeddings or []
    for index, embedding in enumerate(found):
        yield Embedding(tuple(embedding.values or ()), index)
    usage = _usage(whole.usage_metadata)
    if usage is not None:
        yield Report(usage)
    yield End()


def _usage(counts: Counts | None) -> Usage | None:
    """That vectors have no output tokens is known without being told."""
    found = None if counts is None else counts.usage(over=True)
    return None if found is None or found.input_tokens is None else replace(found, output_tokens=0)


class EmbeddingsAssembler:
    """An `Assembler`. `single` is whether one text was asked by itself."""

    def __init__(self, *, single: bool) -> None:
        self._single = single
        self._usage: Usage | None = None
        self._vectors: dict[int, tuple[float, ...]] = {}

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, Embedding):
                self._vectors[part.index] = part.vector
            elif isinstance(part, Report):
                self._usage = part.usage if self._usage is None else self._usage.merge(part.usage)

    def body(self, base: bytes | None = None) -> bytes:
        vectors = [{"values": list(self._vectors[index])} for index in sorted(self._vectors)]
        tokens = None if self._usage is None else self._usage.input_tokens
        told = {} if tokens is None else {"usageMetadata": {"promptTokenCount": tokens, "totalTokenCount": tokens}}
        if self._single:
            return _ENCODE({"embedding": vectors[0] if vectors else {"values": []}, **told})
        return _ENCODE({"embeddings": vectors, **told})


class EmbeddingsEncoder:
    """An `Encoder`: there is nothing to stream."""

    def encode(self, parts: Iterable[Part]) -> bytes:
        return b""


class _Embeds(InPath):
    operation = "embeddings"

    def meter(self) -> Meter:
        return EmbeddingsMeter()

    def read_event(self, raw: bytes) -> tuple[Part, ...]:
        raise _none()

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        return read_whole(raw)

    def encoder(self, envelope: Envelope) -> EmbeddingsEncoder:
        return EmbeddingsEncoder()


class GeminiEmbed(_Embeds):
    """The `Dialect` of `embedContent`."""

    name = "gemini.embed"
    method = "embedContent"

    def read_request(self, fields: Fields) -> Request:
        asked = convert({"model": fields["model"]}, _ASKED)
        one = {name: value(fields, name, object) for name in fields if name not in ("model", "stream")}
        return request_of(asked.model, [read_one(one, "")], more_of([one]))

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        if len(request.input) != 1:
            raise BadRequest("input: Expected one text.", param="input")
        return {"model": request.model, **write_all(request, dropped)[0]}

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        return {**super().adapt(fields, model=model, stream=stream), "model": encode(resource(model))}

    def assembler(self, envelope: Envelope) -> EmbeddingsAssembler:
        return EmbeddingsAssembler(single=True)


class GeminiBatchEmbed(_Embeds):
    """The `Dialect` of `batchEmbedContents`."""

    name = "gemini.batch_embed"
    method = "batchEmbedContents"

    def read_request(self, fields: Fields) -> Request:
        asked = convert({"model": fields["model"]}, _ASKED)
        requests = several(value(fields, "requests", object), "requests")
        if not requests:
            raise BadRequest("requests: Expected `array` of length >= 1", param="requests")
        read = [read_one(one, f"requests[{index}]") for index, one in enumerate(requests)]
        return request_of(asked.model, read, more_of(requests))

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        return {"model": request.model, "requests": write_all(request, dropped)}

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        """Each of the requests names the model too, and must name the one in the path."""
        adapted = super().adapt(fields, model=model, stream=stream)
        requests = value(adapted, "requests", list[dict[str, Raw]]) or []
        named = encode(resource(model))
        return {**adapted, "requests": encode([{**one, "model": named} for one in requests])}

    def assembler(self, envelope: Envelope) -> EmbeddingsAssembler:
        return EmbeddingsAssembler(single=False)


def _none() -> ReplyError:
    return ReplyError("The provider sent something that is no reply of its dialect.")
