"""Embeddings: vectors come out in the encoding that was asked for."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract.meaning import Embedding, End, Report, Request, Start, Usage
from sidegate.errors import BadRequest, ProviderError, ReplyError
from sidegate.wire.body import read_fields, write_fields
from sidegate.wire.dialect import Dialect, Envelope
from sidegate.wire.openai_embeddings import OpenAIEmbeddings

embeddings: Dialect = OpenAIEmbeddings()

floats = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8)


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def body(*vectors: Any, **more: Any) -> bytes:
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return json.dumps({"object": "list", "data": data, "model": "m", "usage": usage, **more}).encode()


def envelope(encoding: str | None) -> Envelope:
    return Envelope(id="1", model="asked", created=7, encoding_format=encoding)


def read(**request: Any) -> Request:
    return embeddings.read_request(read_fields(json.dumps({"model": "m", **request}).encode()))


def test_vectors_are_read_from_numbers_and_from_base64_alike() -> None:
    parts = (Start(None, "m"), Embedding((0.5, -2.0)), Embedding((1.0,), 1), Report(Usage(3, 0)), End())
    assert embeddings.read_whole(body([0.5, -2], [1])) == parts
    assert embeddings.read_whole(body(packed(0.5, -2), packed(1))) == parts


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
@given(st.lists(floats, max_size=3))
def test_vectors_come_back_exactly_in_either_encoding(encoding: str | None, vectors: list[list[float]]) -> None:
    assembler = embeddings.assembler(envelope(encoding))
    parts = [Embedding(tuple(vector), at) for at, vector in enumerate(vectors)]
    assembler.add([Start(None, "m"), *parts, Report(Usage(3, 0)), End()])
    raw = assembler.body()
    assert [part for part in embeddings.read_whole(raw) if isinstance(part, Embedding)] == parts
    for item in json.loads(raw)["data"]:
        assert isinstance(item["embedding"], str if encoding == "base64" else list)
    assert json.loads(raw)["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_a_body_keeps_its_unknown_fields() -> None:
    base = body([1.0], x=1)
    assembler = embeddings.assembler(envelope("base64"))
    assembler.add(embeddings.read_whole(base))
    found = json.loads(assembler.body(base))
    assert found["x"] == 1
    assert found["data"] == [{"object": "embedding", "index": 0, "embedding": packed(1)}]


def test_a_body_is_measured_without_output() -> None:
    meter = embeddings.meter()
    meter.whole(body([1.0]).replace(b'"data": [', b'"data" :  ['))
    assert (meter.usage, meter.model, meter.started, meter.finished) == (Usage(3, 0), "m", True, True)


def test_usage_that_was_not_told_is_unknown() -> None:
    meter = embeddings.meter()
    meter.whole(body([1.0], usage=None))
    assert meter.usage is None


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"data": null}', b'{"data": {}}', b"<html>", b"[" * 100_000])
def test_what_is_no_body_is_a_bad_reply(raw: bytes) -> None:
    with pytest.raises(ReplyError):
        embeddings.meter().whole(raw)


@pytest.mark.parametrize("vector", ["!", "AA==", "AAA", 3, {}, ["a"]])
def test_a_vector_that_cannot_be_read_is_a_bad_reply(vector: Any) -> None:
    with pytest.raises(ReplyError):
        embeddings.read_whole(body(vector))


def test_an_error_in_a_200_is_raised() -> None:
    with pytest.raises(ProviderError) as raised:
        embeddings.meter().whole(b'{"error": {"message": "m", "code": 429}}')
    assert raised.value.status == 429


def test_there_are_no_streams() -> None:
    with pytest.raises(ReplyError):
        embeddings.meter().event(b"data: {}\n\n")
    assert embeddings.encoder(envelope(None)).encode([Embedding((1.0,))]) == b""


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("one", ("one",)),
        (["one", "two"], ("one", "two")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_inputs_are_read_and_written_again(asked: Any, found: Any) -> None:
    request = read(input=asked, dimensions=8, encoding_format="base64", user="u", x=1)
    assert request.input == found
    assert (request.dimensions, request.encoding_format, request.extra) == (8, "base64", {"x": 1})
    dropped: list[str] = []
    assert json.loads(json.dumps(embeddings.write_request(request, dropped))) == {
        "model": "m",
        "input": asked,
        "dimensions": 8,
        "encoding_format": "base64",
        "user": "u",
    }
    assert dropped == ["x"]


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "model": ""}, "model"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(request_: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(**request_)
    assert raised.value.param == param


def test_only_the_model_is_adapted() -> None:
    fields = read_fields(b'{"model": "m", "input": "x", "encoding_format": "base64"}')
    assert json.loads(write_fields(embeddings.adapt(fields, model="real", stream=False))) == {
        "model": "real",
        "input": "x",
        "encoding_format": "base64",
    }
