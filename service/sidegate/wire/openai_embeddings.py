"""OpenAI embeddings (`POST /v1/embeddings`): texts or tokens in, vectors out, as numbers or base64 float32.

SDKs ask for base64 by default, and some read nothing else. The dialect has no streams.
"""

from __future__ import annotations

import asyncio
import re
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from sidegate.contract.meaning import Embedding, End, Part, Report, Request, Start, Usage
from sidegate.errors import BadRequest
from sidegate.wire import openai, openai_request
from sidegate.wire.body import UNREADABLE, convert, encode, names_of, others
from sidegate.wire.dialect import Envelope, Fields, Sign
from sidegate.wire.openai_chat.meter import Tally, no_reply
from sidegate.wire.openai_chat.reply import start_of
from sidegate.wire.openai_writer import Head


class EmbeddingRequest(Struct):
    """What is understood; other fields are the request's `extra`."""

    model: openai_request.Name
    input: str | list[Any]
    dimensions: Annotated[int, Meta(ge=1, lt=2**31)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


class Item(Struct, gc=False):
    embedding: str | list[float] | None = None
    index: int | None = None


class Whole(Struct, gc=False):
    data: list[Item] | None = None
    model: Any = None
    usage: Any = None


class Measured(Struct, gc=False):
    """For the meter, which does not look at the vectors."""

    data: Raw = Raw()
    model: Any = None
    usage: Any = None
    error: Any = None


_REQUEST = msgspec.json.Decoder(EmbeddingRequest)
_KNOWN = names_of(EmbeddingRequest)
_WHOLE = msgspec.json.Decoder(Whole)
_MEASURED = msgspec.json.Decoder(Measured)
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_ITEMS = msgspec.json.Decoder(list[dict[str, Raw]])
_EMBEDDING = msgspec.json.Decoder(str | list[float] | None)
_VECTOR = re.compile(rb'"embedding"\s*:\s*(["\[])')
"""How the first vector of a body begins: a text, or an array of numbers."""
_AT_A_TIME = 2**18
"""Bytes of vectors that are converted before others get a turn: about a millisecond."""


class EmbeddingsMeter(Tally):
    """`Meter` of embeddings: usage alone. Every event is a failure, since there are no streams."""

    def event(self, raw: bytes) -> Sign:
        raise openai.bad_event()

    def whole(self, raw: bytes) -> None:
        try:
            whole = _MEASURED.decode(raw)
        except UNREADABLE as error:
            raise openai.bad_event(error) from error
        if whole.error is not None:
            raise openai.failed(whole.error, raw)
        if bytes(memoryview(whole.data)[:1]) != b"[":
            raise no_reply(raw)
        self.name(None, whole.model)
        self.usage = read_usage(whole.usage)
        self.started = self.finished = True
        self.finish = "stop"


def read_usage(usage: Any) -> Usage | None:
    """Usage of embeddings. That they have no output is known without being told; some hosts tell the total alone."""
    if isinstance(usage, dict) and usage.get("prompt_tokens") is None:
        usage = {**usage, "prompt_tokens": usage.get("total_tokens")}
    found = openai.read_usage(usage)
    return None if found is None or found.input_tokens is None else msgspec.structs.replace(found, output_tokens=0)


def read_whole(raw: bytes) -> tuple[Part, ...]:
    """The vectors of a body. Raises `ReplyError` where it is none, or a vector cannot be read."""
    try:
        whole = _WHOLE.decode(raw)
        return tuple(_parts(whole))
    except (*UNREADABLE, ValueError) as error:
        raise openai.bad_event(error) from error


def _parts(whole: Whole) -> Iterator[Part]:
    yield start_of(None, whole.model, None)
    for place, item in enumerate(whole.data or []):
        yield Embedding(read_vector(item.embedding), place if item.index is None else item.index)
    usage = read_usage(whole.usage)
    if usage is not None:
        yield Report(usage)
    yield End()


def read_vector(embedding: str | list[float] | None) -> tuple[float, ...]:
    """A vector from numbers, or from base64 of little-endian float32. Raises `ValueError`."""
    if embedding is None:
        return ()
    if not isinstance(embedding, str):
        return tuple(embedding)
    numbers = array("f")
    numbers.frombytes(b64decode(embedding, validate=True))
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)


async def in_format(body: bytes, encoding_format: str | None) -> bytes:
    """A provider's body with its vectors in the format that was asked for; the body itself where they are.

    Not every host knows `encoding_format`, and clients read only what they asked for: one of Node reads an empty vector
    out of numbers. Vectors are converted one by one, and the loop turns between them: a body may be of many megabytes.
    Raises `ReplyError` where it cannot be read.
    """
    packed = encoding_format == "base64"
    first = _VECTOR.search(body)
    if first is None or (first[1] == b'"') is packed:
        return body
    try:
        whole = _FIELDS.decode(body)
        items = _ITEMS.decode(whole.get("data", Raw(b"[]")))
        since = 0
        for item in items:
            if "embedding" in item:
                since += len(bytes(item["embedding"]))
                item["embedding"] = _converted(item["embedding"], packed)
            if since > _AT_A_TIME:
                since = 0
                await asyncio.sleep(0)
    except (*UNREADABLE, ValueError, OverflowError) as error:
        raise openai.bad_event(error) from error
    return openai.ENCODER.encode({**whole, "data": items})


def _converted(vector: Raw, packed: bool) -> Raw:
    numbers = _EMBEDDING.decode(vector)
    if numbers is None:
        return vector
    return Raw(openai.ENCODER.encode(write_vector(read_vector(numbers), "base64" if packed else None)))


def write_vector(vector: Iterable[float], encoding_format: str | None) -> str | list[float]:
    """A vector as its client wants it: `base64` is of 32-bit floats, little-endian."""
    if encoding_format != "base64":
        return list(vector)
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()


class EmbeddingsAssembler:
    """`Assembler` of embeddings, in the encoding that the client asked for."""

    def __init__(self, envelope: Envelope) -> None:
        self._head = Head(envelope, "")
        self._format = envelope.encoding_format
        self._usage: Usage | None = None
        self._vectors: dict[int, tuple[float, ...]] = {}

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, Start):
                self._head.take(part)
            elif isinstance(part, Embedding):
                self._vectors[part.index] = part.vector
            elif isinstance(part, Report):
                self._usage = openai.merged(self._usage, part.usage)

    def body(self, base: bytes | None = None) -> bytes:
        whole: dict[str, Any] = {"object": "list", "data": [], "model": self._head.model}
        if base is not None:
            whole = _decode(base)
        elif self._usage is not None and self._usage.input_tokens is not None:
            tokens = self._usage.input_tokens
            whole["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        items = {item.get("index", place): item for place, item in enumerate(whole["data"]) if isinstance(item, dict)}
        whole["data"] = [self._item(index, items.get(index, {})) for index in sorted(self._vectors)]
        return openai.ENCODER.encode(whole)

    def _item(self, index: int, before: dict[str, Any]) -> dict[str, Any]:
        vector = write_vector(self._vectors[index], self._format)
        return {"object": "embedding", **before, "index": index, "embedding": vector}


def _decode(base: bytes) -> dict[str, Any]:
    try:
        whole = msgspec.json.decode(base, type=dict[str, Any])
    except UNREADABLE as error:
        raise openai.bad_event(error) from error
    if not isinstance(whole.get("data"), list):
        raise openai.bad_event()
    return whole


class EmbeddingsWriter:
    """`Encoder` of embeddings: there is nothing to stream."""

    def encode(self, parts: Iterable[Part]) -> bytes:
        return b""


EMBEDDINGS = "openai.embeddings"


class OpenAIEmbeddings(openai.Errors):
    """The `Dialect`."""

    name = EMBEDDINGS
    operation = "embeddings"
    comments = True
    terminator = b""
    path = "/embeddings"

    def read_request(self, fields: Fields) -> Request:
        asked = convert({name: raw for name, raw in fields.items() if name in _KNOWN}, _REQUEST)
        texts = openai_request.texts_or_tokens(asked.input, "input")
        if "" in texts:
            raise BadRequest("input: An empty text cannot be embedded.", param="input")
        return Request(
            model=asked.model,
            input=texts,
            dimensions=asked.dimensions,
            encoding_format=asked.encoding_format,
            user=asked.user,
            extra=others(fields, _KNOWN),
        )

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        body = {
            "model": request.model,
            "input": request.input[0] if len(request.input) == 1 else list(request.input),
            "dimensions": request.dimensions,
            "encoding_format": request.encoding_format,
            "user": request.user,
        }
        dropped.extend(name for name in request.extra if name not in dropped)
        return {name: value for name, value in body.items() if value is not None}

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        return {**fields, "model": encode(model)}

    def meter(self) -> EmbeddingsMeter:
        return EmbeddingsMeter()

    def read_event(self, raw: bytes) -> tuple[Part, ...]:
        raise openai.bad_event()

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        return read_whole(raw)

    def encoder(self, envelope: Envelope) -> EmbeddingsWriter:
        return EmbeddingsWriter()

    def assembler(self, envelope: Envelope) -> EmbeddingsAssembler:
        return EmbeddingsAssembler(envelope)
