"""What one schema object says of a value by itself, as far as a text that grows can be held to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from sidegate_plugins._json_prefix import Kind

Node: TypeAlias = Any
"""A schema inside a schema: an object or a boolean."""

Amount: TypeAlias = "int | float | None"

_KINDS: Final[dict[str, tuple[Kind, ...]]] = {
    "object": ("object",),
    "array": ("array",),
    "string": ("string",),
    "number": ("number",),
    "integer": ("number",),
    "boolean": ("true", "false"),
    "null": ("null",),
}
_WORDS: Final[dict[Any, Kind]] = {True: "true", False: "false", None: "null"}


@dataclass(slots=True, eq=False, kw_only=True)
class Rule:
    """What one schema object says of a value by itself. `None`: nothing."""

    kinds: frozenset[Kind] | None = None
    integer: bool = False
    strings: tuple[str, ...] | None = None
    """The only strings allowed, sorted."""
    numbers: tuple[int | float, ...] | None = None
    """The only numbers allowed."""
    minimum: Amount = None
    maximum: Amount = None
    above: Amount = None
    below: Amount = None
    min_length: Amount = None
    max_length: Amount = None
    properties: dict[str, Node] = field(default_factory=dict)
    additional: Node = None
    required: tuple[str, ...] = ()
    min_properties: Amount = None
    max_properties: Amount = None
    prefix: tuple[Node, ...] = ()
    items: Node = None
    min_items: Amount = None
    max_items: Amount = None

    @property
    def reads_text(self) -> bool:
        return self.strings is not None or self.min_length is not None or self.max_length is not None

    def property(self, name: str) -> Node:
        return self.properties.get(name, self.additional)

    def item(self, index: int) -> Node:
        return self.prefix[index] if index < len(self.prefix) else self.items


def rule_of(node: dict[str, Any], draft: int) -> Rule | None:
    """The rule of a schema object, by its draft's words; `None` where it has none."""
    rule = Rule(
        minimum=_amount(node, "minimum"),
        maximum=_amount(node, "maximum"),
        above=_amount(node, "exclusiveMinimum"),
        below=_amount(node, "exclusiveMaximum"),
        min_length=_amount(node, "minLength"),
        max_length=_amount(node, "maxLength"),
        min_properties=_amount(node, "minProperties"),
        max_properties=_amount(node, "maxProperties"),
        min_items=_amount(node, "minItems"),
        max_items=_amount(node, "maxItems"),
    )
    _add_type(rule, node.get("type"))
    _add_object(rule, node)
    _add_items(rule, node, draft)
    return rule if any(getattr(rule, name) != getattr(_NOTHING, name) for name in Rule.__slots__) else None


def literals(allowed: list[Any]) -> tuple[Rule | None, list[Rule]]:
    """`enum` and `const`: a rule of the plain values, where there are any, and one for each object and array."""
    plain = [value for value in allowed if not isinstance(value, dict | list)]
    strings = tuple(sorted({value for value in plain if isinstance(value, str)}))
    words = [value for value in plain if value is None or isinstance(value, bool)]
    numbers = tuple(value for value in plain if isinstance(value, int | float) and not isinstance(value, bool))
    kinds: set[Kind] = {_WORDS[value] for value in words}
    kinds |= {"string"} if strings else set()
    kinds |= {"number"} if numbers else set()
    rule = Rule(kinds=frozenset(kinds), strings=strings, numbers=numbers)
    containers = [_container(value) for value in allowed if isinstance(value, dict | list)]
    return (rule if plain or not containers else None), containers


def schemas(value: Any) -> list[Node]:
    return [each for each in value if isinstance(each, dict | bool)] if isinstance(value, list) else []


def _amount(node: dict[str, Any], name: str) -> Amount:
    value = node.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _add_type(rule: Rule, types: Any) -> None:
    names = [types] if isinstance(types, str) else types
    if not isinstance(names, list) or not all(isinstance(name, str) and name in _KINDS for name in names):
        return
    rule.kinds = frozenset(kind for name in names for kind in _KINDS[name])
    rule.integer = "integer" in names and "number" not in names


def _add_object(rule: Rule, node: dict[str, Any]) -> None:
    properties, required = node.get("properties"), node.get("required")
    if isinstance(properties, dict):
        rule.properties = properties
    if isinstance(additional := node.get("additionalProperties"), dict | bool) and "patternProperties" not in node:
        rule.additional = additional
    if isinstance(required, list):
        rule.required = tuple(name for name in required if isinstance(name, str))


def _add_items(rule: Rule, node: dict[str, Any], draft: int) -> None:
    items = node.get("items")
    if draft >= 2020:
        rule.prefix = tuple(schemas(node.get("prefixItems")))
        rule.items = items if isinstance(items, dict | bool) else None
    elif isinstance(items, list):
        rule.prefix = tuple(schemas(items))
    elif isinstance(items, dict | bool):
        rule.items = items


def _container(value: dict[str, Any] | list[Any]) -> Rule:
    if isinstance(value, list):
        constants = tuple({"const": each} for each in value)
        return Rule(kinds=frozenset(("array",)), prefix=constants, items=False, min_items=len(value))
    properties = {name: {"const": each} for name, each in value.items()}
    return Rule(kinds=frozenset(("object",)), properties=properties, additional=False, required=tuple(properties))


_NOTHING: Final = Rule()
