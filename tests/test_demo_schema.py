"""The instances that the demo provider makes of JSON Schemas."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sidegate.upstream.demo_pattern import text_for
from sidegate.upstream.demo_schema import instance

Schemas = st.SearchStrategy[dict[str, Any]]

small = st.integers(0, 6)
names = st.sampled_from(["a", "b", "city", "unit_price", "~/odd %"])
numbers = st.integers(-50, 50)


def strings() -> Schemas:
    lengths: Schemas = st.tuples(small, small).map(lambda pair: {"minLength": min(pair), "maxLength": sum(pair) + 1})
    shaped: Schemas = st.sampled_from(
        [
            {},
            {"format": "date-time"},
            {"format": "email"},
            {"format": "uuid"},
            {"format": "ipv4"},
            {"pattern": "^[a-z]{3}-\\d+$"},
            {"pattern": "^(?:foo|bar)\\.[^a-z]{2,4}$", "minLength": 5},
            {"enum": ["x", "y"]},
            {"const": "é"},
            {"default": "given"},
            {"examples": ["shown"]},
        ]
    )
    return st.one_of(lengths, shaped).map(lambda extra: {"type": "string"} | extra)


def numeric() -> Schemas:
    ranges = st.tuples(numbers, small).map(lambda pair: {"minimum": pair[0], "maximum": pair[0] + pair[1]})
    open_ranges = st.tuples(numbers, small).map(
        lambda pair: {"exclusiveMinimum": pair[0], "exclusiveMaximum": pair[0] + pair[1] + 2}
    )
    halves = st.tuples(numbers, st.sampled_from([1, 3, 7, 0.5, 0.25])).map(
        lambda pair: {"minimum": pair[0], "multipleOf": pair[1]}
    )
    one_sided = numbers.map(lambda bound: {"maximum": bound})
    kinds = st.sampled_from(["integer", "number"])
    return st.tuples(kinds, st.one_of(ranges, open_ranges, halves, one_sided)).map(
        lambda pair: {"type": pair[0]} | pair[1]
    )


def scalars() -> Schemas:
    plain = st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {}, {"type": ["null", "integer"]}, {"enum": [None, 3]}]
    )
    return st.one_of(strings(), numeric(), plain)


def arrays(inner: Schemas) -> Schemas:
    usual = st.tuples(inner, small).map(lambda pair: {"type": "array", "items": pair[0], "minItems": pair[1]})
    tuples = st.lists(inner, min_size=1, max_size=3).map(
        lambda items: {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    )
    unique = small.map(
        lambda size: {"type": "array", "items": {"type": "integer"}, "minItems": size, "uniqueItems": True}
    )
    return st.one_of(usual, tuples, unique)


def objects(inner: Schemas) -> Schemas:
    closed = st.dictionaries(names, inner, max_size=4).map(
        lambda known: {"type": "object", "properties": known, "required": list(known), "additionalProperties": False}
    )
    maps = st.tuples(inner, small).map(
        lambda pair: {"type": "object", "additionalProperties": pair[0], "minProperties": pair[1]}
    )
    merged = st.tuples(inner, inner).map(
        lambda pair: {"allOf": [{"properties": {"a": pair[0]}, "required": ["a"]}, {"properties": {"b": pair[1]}}]}
    )
    return st.one_of(closed, maps, merged)


def nested(inner: Schemas) -> Schemas:
    either = st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches})
    return st.one_of(arrays(inner), objects(inner), either)


schemas = st.recursive(scalars(), nested, max_leaves=12)
TREE: dict[str, Any] = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "left", "children"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


@given(schemas)
@settings(max_examples=200, deadline=None)
def test_an_instance_fits_its_schema(schema: dict[str, Any]) -> None:
    made = instance(schema)
    Draft202012Validator(schema).validate(made)


@pytest.mark.parametrize(
    "schema",
    [
        TREE,
        {"$defs": {"a/b": {"const": 5}}, "$ref": "#/$defs/a~1b"},
        {"$ref": "#/definitions/x", "definitions": {"x": {"type": "integer", "minimum": 3}}},
        {"type": "integer", "minimum": 2**60 + 1, "multipleOf": 2},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-300},
        {"type": "integer", "multipleOf": 0.5, "minimum": 2.5},
        {"allOf": [{"type": "number"}, {"type": "integer", "minimum": 4}, {"maximum": 4}]},
        {"type": "object", "properties": {"a": {}}, "allOf": [{"properties": {"a": {"type": "null"}}}]},
        {"type": "string", "enum": [None, 4, "fits"]},
        {"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 3, "uniqueItems": True},
        {"type": "object", "properties": {"a": {"type": "object", "default": {}, "required": ["b"]}}},
        {"oneOf": [False, {"type": "null"}, {"type": "array", "items": {"type": "string", "minLength": 3}}]},
        {"properties": {"a": {"default": None, "anyOf": [{"type": "string"}, {"type": "null"}]}}},
        True,
        {},
    ],
)
def test_what_schemas_of_libraries_say_is_understood(schema: Any) -> None:
    Draft202012Validator(schema).validate(instance(schema))


def test_all_properties_are_given_not_only_the_required() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]}
    assert set(instance(schema)) == {"a", "b"}


def _fan(depth: int) -> dict[str, Any]:
    """2^depth leaves in a few lines."""
    levels = {f"l{n}": {"type": "object", "properties": {key: {"$ref": f"#/$defs/l{n + 1}"} for key in "ab"},
                        "required": ["a", "b"]} for n in range(depth)}  # fmt: skip
    return {"$defs": levels, "$ref": "#/$defs/l0"}


def _often(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 5000}


def _deep(depth: int) -> dict[str, Any]:
    return reduce(lambda inner, _: {"type": "array", "items": inner, "minItems": 1}, range(depth), {})


HOSTILE: dict[str, Any] = {
    "a loop of references": {"$ref": "#"},
    "two that refer to each other": {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    },
    "recursion that is required": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "exponential": _fan(40),
    "allOf of itself": {"allOf": [{"$ref": "#"}] * 1000},
    "many branches": {"anyOf": [{"anyOf": [{"$ref": "#"}] * 1000}] * 1000},
    "a long array": {"type": "array", "items": {"type": "array", "minItems": 10**9}, "minItems": 10**9},
    "many unique numbers": {"type": "array", "items": {"type": "number"}, "minItems": 9999, "uniqueItems": True},
    "a long text": _often({"type": "string", "minLength": 10**9}),
    "a large constant": _often({"const": ["x" * 1000] * 1000}),
    "a large enum": _often({"enum": ["x" * 100_000] * 50}),
    "many properties": {
        "$defs": {"p": {"properties": {f"p{n}": {"$ref": "#/$defs/p"} for n in range(20_000)}}},
        "allOf": [{"$ref": "#/$defs/p"}] * 50,
    },
    "many required": _often({"type": "object", "required": ["x"] * 50_000}),
    "long names": {"type": "object", "properties": {"x" * 1_000_000: {"$ref": "#"}}},
    "a long pattern": _often({"type": "string", "pattern": "a" * 1000}),
    "a pattern that explodes": {"type": "string", "pattern": "(((a{900}){900}){900}){900}"},
    "a long reference": _often({"$ref": "#" + "/x" * 100_000}),
    "keywords of wrong types": {
        "type": {"a": 1},
        "properties": [1],
        "required": {"a": {}},
        "allOf": 3,
        "anyOf": {"a": 1},
        "enum": 7,
        "pattern": 5,
        "minLength": "x",
        "maximum": [],
        "items": 4,
        "format": {},
        "$ref": 9,
        "multipleOf": 0,
    },
    "wrong types inside": {
        "type": "object",
        "required": [{}, [], 4],
        "properties": {"a": 5, "b": [1]},
        "minProperties": 9,
    },
    "bounds of wrong types, twice": {"allOf": [{"minimum": "a", "type": "number"}, {"minimum": []}, {"type": [{}]}]},
    "numbers without end": {"type": "integer", "minimum": 10**400, "maximum": 10**401, "multipleOf": 10**399},
    "numbers out of step": {"type": "number", "minimum": 1e300, "multipleOf": 1e-300},
    "no number": {"type": "integer", "minimum": 5, "maximum": 4},
    "a text of less than nothing": {"type": "string", "minLength": -5, "maxLength": -9},
    "deep": _deep(900),
}


def in_steps(most: int, work: Callable[[], Any]) -> Any:
    """Do it in at most so many lines, calls and returns of Python: a count is the same on every machine."""
    left = most

    def step(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        left -= 1
        assert left, f"more than {most} steps"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        return work()
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_costs_little(name: str) -> None:
    made = in_steps(3_000_000, lambda: instance(HOSTILE[name]))  # the most is 1.2 million: a long pattern, 20 ms
    assert len(msgspec.json.encode(made)) < 500_000


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^[A-Z]{2}-[0-9]+$", "AA-0"),
        ("(foo|bar)baz", "foobaz"),
        ("^a?b*c+?$", "c"),
        ("[^a-zA-Z]", "0"),
        ("\\w\\s\\D\\.", "a a."),
        ("[a\\-z\\]]x", "ax"),
        ("^(?:x{2,3}|y)$", "xx"),
    ],
)
def test_a_simple_pattern_is_met(pattern: str, text: str) -> None:
    assert text_for(pattern) == text


def test_a_pattern_grows_to_the_length_asked() -> None:
    assert text_for("^a+b{2,3}$", 6) == "aaaabb"


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", "(a)\\1", "(?P<x>a)", "\\p{L}", "[a", "(a", "a)", "*", "a{5,2}", "\\", "a^b"]
)
def test_what_is_not_understood_is_given_up(pattern: str) -> None:
    assert text_for(pattern) is None


@given(st.text(alphabet="ab()[]{}|^$*+?\\,-.0123456789dwsn", max_size=40))
def test_no_pattern_breaks_the_reader(pattern: str) -> None:
    made = text_for(pattern)
    assert made is None or len(made) <= 1000
