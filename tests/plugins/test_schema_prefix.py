"""What is said of a JSON text before it is whole: never a word against one that fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry

from sidegate_plugins._json_prefix import GaveUp, Kind, Malformed, Prefix
from sidegate_plugins._schema_prefix import MOST_STEPS, Mismatch, SchemaPrefix
from sidegate_plugins._schema_rules import ANY, Rules
from sidegate_plugins._schema_worker import check

SUITE = Path(__file__).parent / "json_schema_suite"


def first_mismatch(schema: Any, *pieces: str) -> Mismatch | None:
    prefix = SchemaPrefix(Rules(schema))
    return next((mismatch for piece in pieces if (mismatch := prefix.feed(piece)) is not None), None)


def refused(schema: Any, text: str, message: str = "", pointer: str = "") -> str:
    """How much of the text has come when it is refused, letter by letter, at that place with that message."""
    prefix = SchemaPrefix(Rules(schema))
    for at, letter in enumerate(text):
        if (mismatch := prefix.feed(letter)) is not None:
            assert message in mismatch.message
            assert mismatch.pointer == pointer
            return text[: at + 1]
    raise AssertionError(f"{text} is not refused")


def fits(schema: Any, text: str) -> bool:
    """Whether no beginning of the text is refused, by letters, by threes and at once."""
    cuts = (1, 3, max(1, len(text)))
    return not any(first_mismatch(schema, *(text[n : n + cut] for n in range(0, len(text), cut))) for cut in cuts)


# --- the test suite of JSON Schema ------------------------------------------------------------------------------------


def suite(draft: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for keyword, cases in json.loads((SUITE / f"{draft}.json").read_bytes()).items():
        for case in cases:
            yield keyword, case


def named(schema: Any, draft: str) -> Any:
    """The schema with the name of its draft, where it says none."""
    if draft == "draft7" and isinstance(schema, dict) and "$schema" not in schema:
        return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
    return schema


WRITTEN: tuple[dict[str, Any], ...] = ({}, {"ensure_ascii": False, "indent": 1}, {"separators": (",", ":")})


@pytest.mark.parametrize("draft", ["draft2020-12", "draft7"])
def test_no_beginning_of_a_valid_instance_is_refused(draft: str) -> None:
    seen = 0
    for keyword, case in suite(draft):
        for told, instance, valid in case["tests"]:
            if valid:
                seen += 1
                for written in WRITTEN:
                    text = json.dumps(instance, **written)
                    assert fits(named(case["schema"], draft), text), (keyword, case["description"], told)
    assert seen > 350


LOOKED_AT = {"anyOf", "boolean_schema", "const", "enum", "type", "required", "default", "prefixItems"}
LOOKED_AT |= {f"{bound}{of}" for bound in ("min", "max") for of in ("Items", "Length", "Properties", "imum")}
LOOKED_AT |= {"exclusiveMinimum", "exclusiveMaximum", "infinite-loop-detection"}


@pytest.mark.parametrize("draft", ["draft2020-12", "draft7"])
def test_an_invalid_instance_is_refused_by_its_end(draft: str) -> None:
    """By the whole check, and already on the way where the schema has no other keywords than those looked at."""
    seen = 0
    for keyword, case in suite(draft):
        schema = named(case["schema"], draft)
        for told, instance, valid in case["tests"]:
            found = check(json.dumps(schema).encode(), json.dumps(instance).encode())
            if "unsupported" in found:
                assert "leads nowhere" in found["unsupported"]
                continue
            place = (keyword, case["description"], told)
            assert valid is (not found["errors"]), place
            if not valid:
                seen += 1
                if keyword in LOOKED_AT and "format" not in case["description"]:
                    assert not fits(schema, json.dumps(instance) + "\n"), place
    assert seen > 200


# --- any schema of the stated keywords, any instance, any cut ---------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "é", 'q"', "🦊"])
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.floats(-3, 3, allow_nan=False).map(lambda number: round(number, 1)),
    st.text('ab"\\\n é🦊\ud83d', max_size=4),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["object", "array", "string", "number", "integer", "boolean", "null"])
SMALL = st.integers(0, 3)


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
            "enum": st.lists(VALUES, min_size=1, max_size=4),
            "const": VALUES,
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "additionalProperties": inner,
            "minProperties": SMALL,
            "maxProperties": SMALL,
            "items": inner,
            "prefixItems": some,
            "minItems": SMALL,
            "maxItems": SMALL,
            "minLength": SMALL,
            "maxLength": SMALL,
            "minimum": st.integers(-2, 5),
            "maximum": st.integers(0, 10),
            "exclusiveMinimum": st.integers(-2, 5),
            "exclusiveMaximum": st.integers(0, 10),
            "anyOf": some,
            "oneOf": some,
            "allOf": some,
            "not": inner,
            "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b", "#/properties/a"]),
        },
    )


SCHEMAS: st.SearchStrategy[Any] = st.recursive(st.booleans() | st.just({}), keywords, max_leaves=12)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    root: dict[str, Any] = draw(keywords(SCHEMAS))
    return {**root, "$defs": {"a": draw(SCHEMAS), "b": draw(SCHEMAS)}}


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """One of the ways to write it: blanks, escapes, exponents."""
    if isinstance(value, dict | list):
        blank = draw(st.sampled_from(["", " ", "\n\t"]))
        if isinstance(value, list):
            inner = [draw(written(each)) for each in value]
            return f"[{blank}{f'{blank},'.join(inner)}{blank}]"
        inner = [f"{draw(written(key))}{blank}:{draw(written(each))}" for key, each in value.items()]
        return "{" + blank + f",{blank}".join(inner) + blank + "}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii="\ud83d" in value or draw(st.booleans()))
    if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value) != 0:
        return draw(st.sampled_from([f"{int(value)}", f"{int(value)}.0", f"{int(value)}e0", f"{int(value)}00E-2"]))
    return json.dumps(value)


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_fits_passes_however_it_is_written_and_cut(data: st.DataObject) -> None:
    schema, value = data.draw(documents()), data.draw(VALUES)
    text = data.draw(written(value))
    pieces = data.draw(cut(text))
    try:
        valid = Draft202012Validator(schema, registry=Registry()).is_valid(json.loads(text))
    except Exception:
        return  # references without end, or to nowhere: what fits them is not defined
    mismatch = first_mismatch(schema, *pieces)
    if valid:
        assert mismatch is None
    assert (mismatch is None) is fits(schema, text), "it depends on the cut"


@settings(max_examples=400, deadline=None)
@given(st.text('{}[]",:0123.eE+-truefalsnl\\uDd8 \n', max_size=14))
def test_what_is_json_is_what_json_says(text: str) -> None:
    class Nobody:
        def spend(self) -> None: ...
        def begin(self, kind: Kind, negative: bool) -> None: ...
        def text(self, piece: str) -> None: ...
        def end_string(self) -> None: ...
        def number(self, text: str) -> None: ...
        def end_word(self) -> None: ...
        def key(self, name: str) -> None: ...
        def close(self) -> None: ...

    prefix = Prefix(Nobody())
    try:
        for letter in text + " ":
            prefix.feed(letter)
        whole = prefix.done
    except Malformed:
        whole = False
    try:
        json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    except ValueError:
        assert not whole
    else:
        assert whole


# --- where a text is refused ------------------------------------------------------------------------------------------


def test_a_value_of_another_type_is_refused_by_its_first_letter() -> None:
    schema = {"properties": {"n": {"type": ["integer", "null"]}, "s": {"type": "string"}}}
    assert refused(schema, '{"n": "x"}', "string is not allowed here, but null, number", "/n") == '{"n": "'
    assert refused(schema, '{"s": true}', "true is not allowed", "/s") == '{"s": t'
    assert refused(schema, '{"n": 1.5}', "is not an integer", "/n") == '{"n": 1.5}'
    assert fits(schema, '{"n": 1.50e1}')


def test_a_string_is_refused_where_no_allowed_one_begins_like_it() -> None:
    schema = {"enum": ["north", "north-east", "south"]}
    assert refused(schema, '"nort!"', "'nort!' begins none") == '"nort!'
    assert refused(schema, '"nor"', "'nor' is none") == '"nor"'
    assert fits(schema, '"\\u006eorth-e\\u0061st"')
    assert fits({"const": "🦊é"}, '"\\ud83e\\udd8a\\u00e9"')
    assert refused({"const": "🦊"}, '"\\ud83e\\udd8b"', "begins none") == '"\\ud83e\\udd8b'


def test_a_string_is_as_long_as_it_has_code_points() -> None:
    assert fits({"maxLength": 2}, '"\\ud83e\\udd8a🦊"')
    assert refused({"maxLength": 2}, '"abc"', "longer than 2") == '"abc'
    assert refused({"minLength": 2}, '"🦊"', "shorter than 2") == '"🦊"'


def test_a_number_is_judged_when_it_is_whole() -> None:
    assert fits({"items": {"maximum": 10}}, "[1, 1200e-3]")
    assert refused({"items": {"maximum": 10}}, "[12]", "greater than 10", "/0") == "[12]"
    assert refused({"items": {"minimum": 1}}, "[-2]", "negative", "/0") == "[-"
    assert fits({"items": {"minimum": 0}}, "[-0, -0.0, -1e-999]")
    assert refused({"items": {"exclusiveMaximum": 0}}, "[0]", "not negative", "/0") == "[0"


def test_an_object_is_refused_by_a_name_or_by_its_end() -> None:
    closed = {"properties": {"a": {}}, "additionalProperties": False, "required": ["a"]}
    assert refused(closed, '{"b": 1}', "'b' is not allowed") == '{"b"'
    assert refused(closed, "{}", "'a' is missing") == "{}"
    assert refused({"maxProperties": 1}, '{"a":1,"b":2}', "more than 1") == '{"a":1,"b"'
    assert refused({}, '{"a":1,"\\u0061":2}', "twice") == '{"a":1,"\\u0061"'
    assert fits({**closed, "patternProperties": {"^b": {}}}, '{"a": 1, "b": 1}')


def test_an_array_is_refused_by_an_item_or_by_its_end() -> None:
    assert refused({"items": {"type": "null"}, "maxItems": 2}, "[null, null, null]", "more than 2") == "[null, null, n"
    assert refused({"prefixItems": [{}, False]}, "[1, 2]", "item 1 is not allowed") == "[1, 2"
    assert refused({"minItems": 2}, "[1]", "fewer than 2") == "[1]"
    deep = {"items": {"properties": {"x/y": {"items": {"type": "string"}}}}}
    assert refused(deep, '[{}, {"x/y": ["a", 1]}]', "number", "/1/x~1y/1") == '[{}, {"x/y": ["a", 1'


def test_a_union_is_broken_when_its_last_alternative_is() -> None:
    cat = {"properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]}
    dog = {"properties": {"kind": {"const": "dog"}, "tricks": {"items": {"type": "string"}}}, "required": ["kind"]}
    for union in ("anyOf", "oneOf"):
        schema = {union: [cat, dog]}
        assert fits(schema, '{"kind": "dog", "tricks": ["sit"], "lives": "one"}')
        told = '{"kind": "dog", "tricks": [1'
        assert refused(schema, told + "]}", "nor does it fit the other of 2", "/tricks/0") == told
        assert refused(schema, '{"lives": "x", "tricks": {"a": 1}, "kind": "cat"}', "", "/kind").endswith('"kind": "c')


@pytest.mark.parametrize("text", ["[1,]", '{"a" 1}', "{a: 1}", "01 ", "1.e5", "nul!", '"\t"', '"\\x"', "[1] x", "'a'"])
def test_what_is_not_json_is_refused(text: str) -> None:
    found = first_mismatch({}, *text)
    assert found is not None
    assert found.malformed
    assert "at character" in found.message


def test_a_mismatch_is_told_once() -> None:
    prefix = SchemaPrefix(Rules({"type": "object"}))
    assert prefix.feed("1") is not None
    assert prefix.feed("2") is None


# --- what cannot be understood, and what would cost too much ----------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": "http://json-schema.org/draft-04/schema#", "const": 1},
        {"$schema": "https://example.com/mine", "const": 1},
        {"properties": {"a": {"$id": "https://example.com/", "$ref": "#/x"}}, "x": False},
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"type": "string"}]},
        {"$ref": "#/nowhere"},
        {"type": "strange", "enum": 7, "properties": [], "required": 1, "minLength": "x", "items": 3, "allOf": {}},
        {"allOf": [{"$ref": "#/$defs/x"}] * 2, "$defs": {"x": {"allOf": [{"$ref": "#"}] * 2}}},
        7,
        None,
    ],
)
def test_what_is_not_understood_is_not_held_to(schema: Any) -> None:
    assert fits(schema, '{"a": [1, "x", {"b": null}]}')


def test_a_doubling_schema_is_followed_within_bounds() -> None:
    unions = {f"x{n}": {"anyOf": [{"$ref": f"#/$defs/x{n + 1}"}] * 2} for n in range(40)}
    every = {f"x{n}": {"allOf": [{"$ref": f"#/$defs/x{n + 1}"}] * 2} for n in range(40)}
    end = {"x40": {"type": "string"}}
    assert Rules({"$ref": "#/$defs/x0", "$defs": {**unions, **end}}).whole is ANY
    assert first_mismatch({"$ref": "#/$defs/x0", "$defs": {**every, **end}}, "1") is not None


def test_a_piece_that_costs_too_much_is_let_go_on() -> None:
    """And so is what comes after it: the whole text is checked at its end."""
    prefix = SchemaPrefix(Rules({"items": {"type": "integer"}}))
    assert prefix.feed("[" + "1," * MOST_STEPS) is None
    assert prefix.feed('"x"]') is None
    small = SchemaPrefix(Rules({"items": {"type": "integer"}}))
    for _ in range(MOST_STEPS // 10):
        assert small.feed("[" if not _ else "1," * 20) is None
    assert small.feed('"x"') is not None


def test_depth_and_long_numbers_are_let_go_on() -> None:
    deep: dict[str, Any] = {"items": {"$ref": "#"}, "type": "array"}
    assert fits(deep, "[" * 600 + "1" + "]" * 600)
    assert fits({"maximum": 1}, "1" * 5000 + " ")
    with pytest.raises(GaveUp):
        Prefix(_Counting(3)).feed("[1,2,3,4]")


class _Counting:
    def __init__(self, left: int) -> None:
        self._left = left

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise GaveUp

    def begin(self, kind: Kind, negative: bool) -> None: ...
    def text(self, piece: str) -> None: ...
    def end_string(self) -> None: ...
    def number(self, text: str) -> None: ...
    def end_word(self) -> None: ...
    def key(self, name: str) -> None: ...
    def close(self) -> None: ...
