"""Vectors in the encoding that was asked for, whatever the provider answers in."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.errors import ReplyError
from sidegate.wire.openai_embeddings import EmbeddingsMeter, in_format
from tests.wire.recordings import Case, parameters

USED = {"prompt_tokens": 3, "total_tokens": 3}


def packed(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def body(*vectors: Any, **more: Any) -> bytes:
    data = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    return msgspec.json.encode({"object": "list", "model": "m", "data": data, "usage": USED, **more})


def vectors(made: bytes) -> list[Any]:
    return [item["embedding"] for item in msgspec.json.decode(made)["data"]]


async def test_numbers_are_packed_for_whom_asked_base64() -> None:
    made = await in_format(body([0.5, -0.25, 3], [0.1]), "base64")
    assert vectors(made) == [packed([0.5, -0.25, 3]), packed([0.1])]


@pytest.mark.parametrize("asked", ["float", None])
async def test_base64_is_unpacked_for_whom_asked_numbers(asked: str | None) -> None:
    made = await in_format(body(packed([0.5, -0.25]), packed([2])), asked)
    assert vectors(made) == [[0.5, -0.25], [2.0]]


@pytest.mark.parametrize(
    ("vector", "asked"), [("AAAAPw==", "base64"), ([0.5], "float"), ([0.5], None), ([1, -1], "float")]
)
async def test_what_is_as_asked_is_not_touched(vector: Any, asked: str | None) -> None:
    answer = body(vector)
    assert await in_format(answer, asked) is answer


@pytest.mark.parametrize("asked", ["base64", "float"])
@pytest.mark.parametrize(
    "answer", [b"", b"{}", b'{"data": []}', b'{"error": {"message": "no"}}', b"<html>", body(None)]
)
async def test_a_body_without_vectors_is_left_to_the_reader(answer: bytes, asked: str) -> None:
    assert await in_format(answer, asked) is answer


async def test_everything_else_of_the_body_stays() -> None:
    made = msgspec.json.decode(await in_format(body([0.5], a_field_of_tomorrow={"x": [1, 2.50]}), "base64"))
    before = msgspec.json.decode(body(packed([0.5]), a_field_of_tomorrow={"x": [1, 2.50]}))
    assert made == before


async def test_a_vector_that_is_missing_among_others_stays_missing() -> None:
    assert vectors(await in_format(body([0.5], None), "base64")) == [packed([0.5]), None]


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (body("not base64!"), "float"),
        (body("AAAA"), "float"),
        (body(["x"]), "base64"),
        (body([[0.5]]), "base64"),
        (body([0.5]) + b"}", "base64"),
        (b'{"data": {"embedding": [0.5]}}', "base64"),
        (b'{"embedding": [0.5]', "base64"),
    ],
)
async def test_what_cannot_be_read_is_a_bad_reply(answer: bytes, asked: str) -> None:
    with pytest.raises(ReplyError):
        await in_format(answer, asked)


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20), min_size=1))
def test_there_and_back_gives_the_same_numbers(numbers: list[list[float]]) -> None:
    there = asyncio.run(in_format(body(*numbers), "base64"))
    assert vectors(asyncio.run(in_format(there, "float"))) == numbers


async def test_others_get_a_turn_while_a_large_body_is_converted() -> None:
    answer = body(*([0.123456789] * 1536 for _ in range(200)))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    made = await in_format(answer, "base64")
    counting.cancel()
    assert turns >= 5
    assert len(vectors(made)) == 200


@pytest.mark.parametrize("total", [{"total_tokens": 5}, {"prompt_tokens": None, "total_tokens": 5}])
def test_the_total_alone_is_the_input(total: dict[str, Any]) -> None:
    meter = EmbeddingsMeter()
    meter.whole(msgspec.json.encode({"data": [], "model": "m", "usage": total}))
    assert meter.usage is not None
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (5, 0)


EMBEDDED = parameters("openai/", only=lambda case: case.dialect == "embed" and case.status == 200)


@pytest.mark.parametrize("case", EMBEDDED)
async def test_recorded_vectors_go_there_and_back(case: Case) -> None:
    there = await in_format(case.body, "base64")
    assert all(isinstance(vector, str) for vector in vectors(there))
    back = await in_format(there, "float")
    for before, after in zip(vectors(await in_format(case.body, "float")), vectors(back), strict=True):
        assert after == pytest.approx(before, rel=1e-6)
