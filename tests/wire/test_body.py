"""Request bodies: hostile ones are a 400 that names the field, good ones keep their bytes."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from sidegate.errors import BadRequest
from sidegate.wire import body


class Inner(msgspec.Struct):
    role: str


class Outer(msgspec.Struct):
    messages: list[Inner]
    n: Annotated[int, Meta(ge=1)] = 1


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b'"text"',
    b"null",
    b"1",
    b'{"a": NaN}',
    b'{"a": 01}',
    b'{"a": tru}',
    b'{"a": 1,}',
    b'{"a": 1} x',
    b'{"a": "\x00"}',
    b'{"a": "\xff"}',
    b'{"a": {"b": ["\xed\xa0\x80"]}}',
    b'{"\xff": 1}',
    b'{"a": "\\ud800"}',
    b'\xef\xbb\xbf{"a": 1}',
    '{"a": 1}'.encode("utf-16"),
    b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"a": ' + b'{"a":' * 100_000,
]


@pytest.mark.parametrize("raw", MALFORMED, ids=lambda raw: repr(raw[:20]))
def test_what_is_no_json_object_is_a_400(raw: bytes) -> None:
    with pytest.raises(BadRequest) as raised:
        body.read_fields(raw)
    assert (raised.value.status, raised.value.code) == (400, "invalid_json")


def test_untouched_values_keep_their_bytes() -> None:
    raw = b'{"a":  {"x" : 1.50}, "b":"\\u00e9", "c":12345678901234567890123}'
    fields = body.read_fields(raw)
    fields["b"] = body.encode("new")
    assert body.write_fields(fields) == b'{"a":{"x" : 1.50},"b":"new","c":12345678901234567890123}'


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_fields_written_again_say_the_same(fields: dict[str, Any]) -> None:
    raw = json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert json.loads(body.write_fields(body.read_fields(raw))) == json.loads(raw)


def test_a_value_is_strictly_of_its_type() -> None:
    fields = body.read_fields(b'{"n": 3, "s": "3", "t": true, "null": null, "big": 1e999}')
    assert body.value(fields, "n", int) == 3
    assert body.value(fields, "missing", int) is None
    assert body.value(fields, "null", int) is None
    for name, type in (("s", int), ("n", str), ("n", bool), ("big", float), ("t", int)):
        with pytest.raises(BadRequest) as raised:
            body.value(fields, name, type)
        assert raised.value.param == name
        assert raised.value.status == 400


def test_a_wrong_value_inside_is_named_by_its_place() -> None:
    decoder = msgspec.json.Decoder(Outer)
    for raw, param in (
        (b'{"messages": [{"role": 1}]}', "messages[0].role"),
        (b'{"messages": [{}]}', "messages[0].role"),
        (b'{"messages": [], "n": 0}', "n"),
        (b"{}", "messages"),
    ):
        with pytest.raises(BadRequest) as raised:
            body.convert(body.read_fields(raw), decoder)
        assert raised.value.param == param


def test_a_deep_value_is_a_400_and_no_crash() -> None:
    fields = {"a": msgspec.Raw(b"[" * 100_000)}
    with pytest.raises(BadRequest):
        body.value(fields, "a", list[Any])


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": [{"x": {}}, {"b": [{"c": 1, "d": 2, "c": 3}]}]}',
    ],
)
def test_a_key_that_repeats_is_refused_at_any_depth(raw: bytes) -> None:
    with pytest.raises(BadRequest) as raised:
        body.check_duplicates(raw)
    assert raised.value.code == "duplicate_key"


def test_the_same_key_in_two_objects_is_no_duplicate() -> None:
    body.check_duplicates(b'{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}')


@pytest.mark.parametrize("raw", [b"[" * 100_000, b"{", b"\xff", b'{"a": 1' + b"0" * 5000 + b"}"])
def test_the_check_for_duplicates_survives_hostile_bodies(raw: bytes) -> None:
    with pytest.raises(BadRequest) as raised:
        body.check_duplicates(raw)
    assert raised.value.code == "invalid_json"
