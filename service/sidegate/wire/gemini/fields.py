"""Names of Gemini's requests. The API takes each in camelCase and in snake_case; here there is one of the two."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from sidegate.errors import BadRequest
from sidegate.wire.body import UNREADABLE, wrong_type

S = TypeVar("S", bound=Struct)

CONFIG = "generationConfig."
"""Before the name of a field of `generationConfig` that stands by itself, so that one can be changed without others."""

_HUMP = re.compile(r"(?<!^)([A-Z])")
_TOP = (
    "systemInstruction",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "cachedContent",
    "serviceTier",
    "generateContentRequest",
    "taskType",
    "outputDimensionality",
)


def snake(name: str) -> str:
    """`maxOutputTokens` as `max_output_tokens`."""
    return _HUMP.sub(lambda found: f"_{found[1].lower()}", name)


_SNAKES = {snake(name): name for name in _TOP}


def one_case(fields: Mapping[str, Raw]) -> dict[str, Raw]:
    """The top-level fields by their camelCase names. Raises `BadRequest` for one that stands in both."""
    if _SNAKES.keys().isdisjoint(fields):
        return dict(fields)
    found: dict[str, Raw] = {}
    for name, raw in fields.items():
        key = _SNAKES.get(name, name)
        if key != name and key in fields:
            raise BadRequest(f"{name}: {key} says it too.", param=name)
        found[key] = raw
    return found


@cache
def _renames(type: type[Struct]) -> Mapping[str, str]:
    """The snake_case names of a Struct's fields, and their own."""
    return {snake(name): name for name in type.__struct_encode_fields__ if snake(name) != name}


def renamed(value: Mapping[str, Any], type: type[Struct]) -> dict[str, Any]:
    """An object with the fields of `type` by their camelCase names; others stay. Raises `BadRequest` for one in both:
    the gateway would read one value, and the provider perhaps the other."""
    names = _renames(type)
    found = {names.get(name, name): each for name, each in value.items()}
    if len(found) < len(value):
        twice = next(name for name in value if name in names and names[name] in value)
        raise BadRequest(f"{twice}: {names[twice]} says it too.", param=twice)
    return found


def read_as(value: Any, type: type[S], place: str) -> S:
    """A decoded value as `type`. Raises `BadRequest` with the place."""
    if isinstance(value, dict):
        value = renamed(value, type)
    try:
        return msgspec.convert(value, type, strict=False)
    except UNREADABLE as error:
        raise wrong_type(error, place) from error


def several(value: Any, place: str) -> list[Any]:
    """A repeated field: a list, or one object by itself, as Gemini's own examples write it."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise BadRequest(f"{place}: Expected `array`", param=place)
    return value
