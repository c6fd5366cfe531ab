"""Schemas of Gemini: a subset of OpenAPI 3.0 with types in capitals, as the JSON Schema that other vendors read.

Source: https://ai.google.dev/api/caching#Schema.
"""

from __future__ import annotations

from typing import Any

from sidegate.errors import BadRequest
from sidegate.wire.gemini.fields import snake

_NUMBERS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_NAMES: dict[Any, str] = {snake(name): name for name in (*_NUMBERS, "anyOf")}
_DROPPED = frozenset(("propertyOrdering", "property_ordering", "nullable", "example"))
_DEEPEST = 100


def json_schema(schema: Any, place: str, depth: int = 0) -> dict[str, Any]:
    """The same as JSON Schema. Raises `BadRequest` where it is none, or nested too deeply."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        raise BadRequest(f"{place}: Expected a schema.", param=place)
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key not in _DROPPED:
            name = _NAMES.get(key, str(key))
            found[name] = _value(name, value, place, depth)
    if schema.get("nullable") is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found


def _value(name: str, value: Any, place: str, depth: int) -> Any:
    if name == "type":
        return value.lower() if isinstance(value, str) else value
    if name in ("items", "additionalProperties") and isinstance(value, dict):
        return json_schema(value, place, depth + 1)
    if name == "anyOf" and isinstance(value, list):
        return [json_schema(one, place, depth + 1) for one in value]
    if name in ("properties", "$defs", "defs") and isinstance(value, dict):
        return {key: json_schema(one, place, depth + 1) for key, one in value.items()}
    if name in _NUMBERS and isinstance(value, str) and value.isdecimal():
        # An int64 of proto3 is a string in JSON.
        return int(value)
    return value
