"""An instance of a JSON Schema (2020-12 and what it shares with draft 7), for the demo provider's tools and formats.

The schema is a caller's, so the work is bounded: about 2,000 nodes, each of small cost, and nothing of it is run. Where
the bound is met, or a schema asks for what is not understood (`not`, `if`, `contains`, `propertyNames`), the instance
is only near the schema. References are followed inside the document only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from sidegate.upstream.demo_scalars import as_bound, fits, number, text, types

NODES = 2000
_DEEPEST = 24
_LAVISH_DEPTH = 5
"""Down to here optional properties are given too; below only what is required, so that recursive schemas end."""
_SCANNED = 20
"""Entries of an `enum` or a list of branches that are looked at."""
_LONGEST_REFERENCE = 500

Schema = Mapping[str, Any]
_MISSING = object()
_HIGHEST = frozenset({"minimum", "minLength", "minItems", "minProperties"})
_LOWEST = frozenset({"maximum", "maxLength", "maxItems", "maxProperties"})


def instance(schema: object, nodes: int = NODES) -> Any:
    """A value that fits the schema, the same each time."""
    return _Maker(schema, nodes).value(schema, 0)


class _Maker:
    """Makes one instance, and keeps count of what may still be spent on it."""

    def __init__(self, root: object, nodes: int) -> None:
        self._root = root
        self._left = nodes

    def value(self, schema: object, depth: int, hint: str = "", turn: int = 0) -> Any:
        """`hint` is the property's name, `turn` the place in an array whose items must differ."""
        if not self._spend() or depth > _DEEPEST:
            return _least(schema)
        plain = self._plain(schema, depth)
        given = self._given(plain, turn)
        if given is not _MISSING:
            return given
        lean = depth > _LAVISH_DEPTH
        self._spend(_length(plain, "pattern") // 16 + turn // 4)
        match _kind(plain, lean):
            case "object":
                return self._object(plain, depth, lean)
            case "array":
                return self._array(plain, depth, lean, hint)
            case "integer" | "number" as kind:
                return number(plain, kind == "integer", turn)
            case "boolean":
                return turn % 2 == 0
            case "null":
                return None
            case _:
                made = text(plain, hint, turn)
                self._left -= len(made) // 64
                return made

    def _spend(self, amount: int = 1) -> bool:
        self._left -= amount
        return self._left >= 0

    # --- one schema out of many ---------------------------------------------------------------------------------------

    def _plain(self, schema: object, depth: int) -> dict[str, Any]:
        """The schema with references, `allOf` and one branch each of `anyOf` and `oneOf` merged into it."""
        plain: dict[str, Any] = {}
        todo: deque[object] = deque([schema])
        while todo and self._left >= 0:
            part = todo.popleft()
            if not isinstance(part, Mapping):
                continue
            self._merge(plain, part)
            more = [self._referenced(part["$ref"])] if "$ref" in part else []
            more += _list(part, "allOf")[: self._left + 1]
            more += [self._branch(part[key], depth) for key in ("anyOf", "oneOf") if key in part]
            self._spend(len(more))
            todo += more
        return plain

    def _merge(self, plain: dict[str, Any], part: Schema) -> None:
        """What two schemas say together, as far as it is plain; else what was said first counts."""
        self._left -= (len(part) + len(_dict(part, "properties")) + len(_list(part, "required"))) // 16
        for key, value in part.items():
            if key not in plain:
                plain[key] = value
            elif key == "properties":
                plain[key] = _both(_dict(plain, key), _dict(part, key))
            elif key == "required":
                plain[key] = [*_list(plain, key), *_list(part, key)]
            elif key == "type":
                plain[key] = _common(types(plain), types(part))
            elif key in _HIGHEST or key in _LOWEST:
                plain[key] = _stricter(plain[key], value, key in _HIGHEST)
            elif key == "additionalProperties" and value is False:
                plain[key] = False

    def _branch(self, branches: object, depth: int) -> object:
        """The first branch that says something; far down, the first that ends the recursion."""
        known = [branch for branch in branches[:_SCANNED] if branch is not False] if isinstance(branches, list) else []
        self._spend(len(known) // 4)
        simple = [branch for branch in known if isinstance(branch, Mapping) and "null" in types(branch)]
        flat = [branch for branch in known if isinstance(branch, Mapping) and _kind(branch, False) not in _NESTING]
        flat = [branch for branch in flat if "$ref" not in branch and "allOf" not in branch]
        telling = [branch for branch in known if not (isinstance(branch, Mapping) and types(branch) == ["null"])]
        order = [*simple, *flat, *telling] if depth > _LAVISH_DEPTH else telling
        return next(iter([*order, *known]), True)

    def _referenced(self, reference: object) -> object:
        """What a JSON pointer in a fragment leads to (RFC 6901); anything where it leads nowhere."""
        if not isinstance(reference, str) or len(reference) > _LONGEST_REFERENCE or not reference.startswith("#"):
            return True
        found = self._root
        for step in filter(None, unquote(reference[1:]).split("/")):
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, Mapping) and key in found:
                found = found[key]
            else:
                return True
        return found

    # --- values -------------------------------------------------------------------------------------------------------

    def _given(self, plain: Schema, turn: int) -> Any:
        """A value the schema itself names, where it is a fitting one and not too large."""
        if "const" in plain:
            return plain["const"] if self._afford(plain["const"]) else None
        named = [plain["default"]] if "default" in plain else []
        named = [
            value for value in [*named, *_list(plain, "examples")[:_SCANNED]] if not isinstance(value, dict | list)
        ]
        if "enum" in plain:
            members = _list(plain, "enum")[:_SCANNED]
            named = members if turn else [*(value for value in named if value in members), *members]
        fitting = [value for value in named if fits(value, plain)]
        value = fitting[turn] if turn < len(fitting) else _MISSING
        return value if self._afford(value) else _MISSING

    def _afford(self, value: object) -> bool:
        """Pays for a value taken as it stands: it may be large, and be referred to often."""
        todo: list[object] = [value]
        while todo:
            item = todo.pop()
            if not self._spend(1 + (len(item) // 64 if isinstance(item, str | list | dict) else 0)):
                return False
            if isinstance(item, list):
                todo += item
            elif isinstance(item, dict):
                todo += [*item, *item.values()]
        return True

    def _object(self, plain: Schema, depth: int, lean: bool) -> dict[str, Any]:
        properties = _dict(plain, "properties")
        made: dict[str, Any] = {}
        for name in self._names(plain, lean):
            if not self._spend(len(name) // 64):
                break
            if name not in made:
                schema = properties.get(name, plain.get("additionalProperties", True))
                made[name] = self.value(schema, depth + 1, name)
        return made

    def _names(self, plain: Schema, lean: bool) -> Iterator[str]:
        """Required ones first, then the others; made-up ones where the schema is a map or asks for more."""
        properties = _dict(plain, "properties")
        yield from (name for name in _list(plain, "required") if isinstance(name, str))
        if not lean:
            yield from (name for name, schema in properties.items() if schema is not False)
        known = len(properties)
        extra = plain.get("additionalProperties", True)
        wanted = as_bound(plain.get("minProperties")) or 0
        if not lean and not properties and isinstance(extra, Mapping):
            wanted = max(wanted, 1)
        if lean and wanted:
            yield from properties
        if extra is not False:
            yield from (f"key{number}" for number in range(1, int(min(wanted - known, NODES)) + 1))

    def _array(self, plain: Schema, depth: int, lean: bool, hint: str) -> list[Any]:
        first = _list(plain, "prefixItems")
        rest = plain.get("items", True)
        if isinstance(rest, list):
            first, rest = rest, plain.get("additionalItems", True)
        least = as_bound(plain.get("minItems")) or 0
        usual = 0 if lean else max(len(first), 0 if rest is False else 1)
        wanted = min(max(least, usual), as_bound(plain.get("maxItems"), NODES), NODES)
        unique = plain.get("uniqueItems") is True
        made: list[Any] = []
        while len(made) < wanted and self._left > 0:
            index = len(made)
            made.append(self.value(first[index] if index < len(first) else rest, depth + 1, hint, index * unique))
        return made


_NESTING = frozenset({"object", "array"})


def _kind(plain: Schema, lean: bool) -> str:
    """The type to make: the one asked for, or the one the other keywords are about."""
    asked = types(plain)
    if lean and "null" in asked:
        return "null"
    for kind in asked:
        if kind != "null":
            return kind
    if asked:
        return "null"
    for kind, keywords in _ABOUT.items():
        if any(keyword in plain for keyword in keywords):
            return kind
    return "string"


_ABOUT = {
    "object": ("properties", "required", "additionalProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def _least(schema: object) -> Any:
    """What is given when nothing more may be spent."""
    kind = _kind(schema, True) if isinstance(schema, Mapping) else "string"
    return {"object": {}, "array": [], "integer": 0, "number": 0, "boolean": True, "null": None}.get(kind, "")


def _common(one: list[str], other: list[str]) -> list[str]:
    shared = [kind for kind in one if kind in other]
    # Every integer is a number.
    return shared or (["integer"] if "integer" in [*one, *other] else one)


def _both(one: Schema, other: Schema) -> dict[str, Any]:
    shared = {name: {"allOf": [one[name], other[name]]} for name in one if name in other}
    return {**one, **other, **shared}


def _stricter(one: object, other: object, highest: bool) -> object:
    bounds = [value for value in (one, other) if as_bound(value) is not None]
    return (max if highest else min)(bounds, key=as_bound, default=None)  # type: ignore[arg-type]


def _dict(schema: Schema, key: str) -> dict[str, Any]:
    value = schema.get(key)
    return value if isinstance(value, dict) else {}


def _list(schema: Schema, key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _length(schema: Schema, key: str) -> int:
    value = schema.get(key)
    return len(value) if isinstance(value, str) else 0
