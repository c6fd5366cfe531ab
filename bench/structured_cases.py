"""What `bench.structured` tells: schemas as services have them, instances of them, and ways of going wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

_WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "of",
    "a",
    "lazy",
    "dog",
    "jumps",
    "over",
    "invoices,",
    "notes",
    "and",
    "tickets",
)
_TEXT = {"type": "string", "maxLength": 400}

SCHEMAS: dict[str, dict[str, Any]] = {
    "a label and a score": {
        "type": "object",
        "properties": {
            "label": {"enum": ["positive", "neutral", "negative"]},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "required": ["label", "score"],
        "additionalProperties": False,
    },
    "a person, with text": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "biography": _TEXT,
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 8},
        },
        "required": ["name", "age", "biography"],
        "additionalProperties": False,
    },
    "an invoice of twenty lines": {
        "type": "object",
        "properties": {
            "number": {"type": "string"},
            "currency": {"enum": ["EUR", "USD", "GBP"]},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 20, "maxItems": 20},
            "total": {"type": "number", "minimum": 0},
        },
        "required": ["number", "currency", "lines", "total"],
        "additionalProperties": False,
        "$defs": {
            "line": {
                "type": "object",
                "properties": {
                    "what": {"type": "string"},
                    "quantity": {"type": "integer", "minimum": 1},
                    "price": {"type": "number", "minimum": 0},
                },
                "required": ["what", "quantity", "price"],
                "additionalProperties": False,
            }
        },
    },
    "steps, of two kinds": {
        "type": "object",
        "properties": {
            "steps": {
                "type": "array",
                "items": {
                    "anyOf": [
                        {
                            "type": "object",
                            "properties": {"kind": {"const": "say"}, "text": _TEXT},
                            "required": ["kind", "text"],
                            "additionalProperties": False,
                        },
                        {
                            "type": "object",
                            "properties": {"kind": {"const": "wait"}, "seconds": {"type": "integer", "minimum": 0}},
                            "required": ["kind", "seconds"],
                            "additionalProperties": False,
                        },
                    ]
                },
                "minItems": 6,
                "maxItems": 12,
            }
        },
        "required": ["steps"],
        "additionalProperties": False,
    },
}


def instance(schema: dict[str, Any], draw: Random, root: dict[str, Any] | None = None) -> Any:
    """One that fits."""
    root = schema if root is None else root
    if "$ref" in schema:
        return instance(root["$defs"][schema["$ref"].rpartition("/")[2]], draw, root)
    if "anyOf" in schema:
        return instance(draw.choice(schema["anyOf"]), draw, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw.choice(schema["enum"])
    match schema["type"]:
        case "object":
            return {name: instance(each, draw, root) for name, each in schema["properties"].items()}
        case "array":
            count = draw.randint(schema.get("minItems", 1), schema.get("maxItems", 5))
            return [instance(schema["items"], draw, root) for _ in range(count)]
        case "integer":
            return draw.randint(schema.get("minimum", 0), schema.get("maximum", 100))
        case "number":
            return round(draw.uniform(0, schema.get("maximum", 999)), 2)
        case _:
            return " ".join(draw.choices(_WORDS, k=40 if "maxLength" in schema else 3))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(each, dict | list):
            yield from _places(each)


Mutate = Callable[[dict[str, Any], Any, Random], str | None]


def _changed(change: Callable[[Any, Any, Random], bool]) -> Mutate:
    """One place of the value changed; `None` where there is none that can be."""

    def mutate(schema: dict[str, Any], value: Any, draw: Random) -> str | None:
        copy = json.loads(json.dumps(value))
        places = list(_places(copy))
        draw.shuffle(places)
        for inside, key in places:
            if change(inside, key, draw):
                return json.dumps(copy)
        return None

    return mutate


def _other_type(inside: Any, key: Any, draw: Random) -> bool:
    inside[key] = 7 if isinstance(inside[key], str) else "seven"
    return True


def _out_of_bounds(inside: Any, key: Any, draw: Random) -> bool:
    if isinstance(inside[key], str):
        return False
    if isinstance(inside[key], int | float):
        inside[key] = -1 - inside[key]
        return True
    return False


def _unknown_name(inside: Any, key: Any, draw: Random) -> bool:
    if not isinstance(inside, dict):
        return False
    pairs = list(inside.items())
    pairs.insert(draw.randint(0, len(pairs)), ("comment", "as you wish"))
    inside.clear()
    inside.update(pairs)
    return True


def _missing(inside: Any, key: Any, draw: Random) -> bool:
    if not isinstance(inside, dict) or key in ("tags",):
        return False
    del inside[key]
    return True


def _no_such_word(inside: Any, key: Any, draw: Random) -> bool:
    if not isinstance(inside, dict) or key not in ("label", "currency", "kind"):
        return False
    inside[key] = "other"
    return True


def _prose_before(schema: dict[str, Any], value: Any, draw: Random) -> str:
    return f"Here is the JSON you asked for:\n\n{json.dumps(value)}"


def _prose_after(schema: dict[str, Any], value: Any, draw: Random) -> str:
    return f"{json.dumps(value)}\n\nLet me know whether this is what you had in mind, or if there is more to add."


MUTATIONS: dict[str, Mutate] = {
    "a value of another type": _changed(_other_type),
    "a number out of bounds": _changed(_out_of_bounds),
    "a property that is not allowed": _changed(_unknown_name),
    "a word that is not of the enumeration": _changed(_no_such_word),
    "a property that is missing": _changed(_missing),
    "words before the JSON": _prose_before,
    "words after the JSON": _prose_after,
}
