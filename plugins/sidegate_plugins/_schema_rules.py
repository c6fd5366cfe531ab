"""What of a JSON Schema can be held to while a text still grows, made ready where it is first needed.

A `Template` is what holds of one value: rules, all of which must hold, and groups of templates, of each of which one
must. Whatever is not looked at (`pattern`, `not`, `if`, ...) makes it hold of more, never of less: so what breaks a
template breaks the schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from sidegate_plugins._schema_rule import Node, Rule, literals, rule_of, schemas

MOST_NODES = 256
"""Schemas that one value is held to at a time; where there are more it is not held to any while it grows."""
DEEPEST = 100
MOST_TEMPLATES = 1024
"""Kept of one schema; values for which there are more are not held to any."""

_LATEST = "https://json-schema.org/draft/2020-12/schema"
_DRAFTS: Final = {
    _LATEST: 2020,
    "https://json-schema.org/draft/2019-09/schema": 2019,
    "http://json-schema.org/draft-07/schema": 7,
    "http://json-schema.org/draft-06/schema": 6,
}


@dataclass(slots=True, eq=False)
class Template:
    """What holds of one value."""

    rules: tuple[Rule, ...] = ()
    groups: tuple[tuple[Template, ...], ...] = ()
    never: bool = False
    """No value fits."""
    size: int = 0
    """Rules in it, in its groups too."""

    @property
    def any(self) -> bool:
        return not (self.rules or self.groups or self.never)


ANY: Final = Template()
NEVER: Final = Template(never=True)


class _TooMuch(Exception):
    pass


class Rules:
    """One schema. Raises nothing, whatever it is: what is not understood is not held to."""

    def __init__(self, schema: Node) -> None:
        self._root = schema
        self._draft = _draft(schema)
        self._parsed: dict[int, tuple[Node, _Parsed]] = {}
        self._templates: dict[tuple[int, ...], tuple[tuple[Node, ...], Template]] = {}
        self.looked_at = 0
        """Schemas that were made ready so far: what it has cost."""
        self.whole = self.template((schema,)) if self._draft else ANY

    def template(self, nodes: tuple[Node, ...]) -> Template:
        """What a value is held to that all these schemas are for."""
        key = tuple(map(id, nodes))
        if (known := self._templates.get(key)) is not None:
            return known[1]
        if len(self._templates) >= MOST_TEMPLATES:
            return ANY
        expansion = _Expansion(self)
        try:
            made = expansion.template(nodes, frozenset())
        except _TooMuch:
            made = ANY
        self.looked_at += MOST_NODES - expansion.left
        self._templates[key] = (nodes, made)
        return made

    def parsed(self, node: dict[str, Any]) -> _Parsed:
        if (known := self._parsed.get(id(node))) is not None:
            return known[1]
        made = self._parse(node)
        self._parsed[id(node)] = (node, made)
        return made

    def _parse(self, node: dict[str, Any]) -> _Parsed:
        found = _Parsed()
        if node is not self._root and (isinstance(node.get("$id"), str) or "$schema" in node):
            # A schema of its own, perhaps by another draft: references in it start from there.
            return found
        if isinstance(reference := node.get("$ref"), str):
            found.all.append(self._referred(reference))
            if self._draft < 2019:
                return found
        found.all += schemas(node.get("allOf"))
        found.groups += [group for name in ("anyOf", "oneOf") if (group := schemas(node.get(name)))]
        if (rule := rule_of(node, self._draft)) is not None:
            found.rules.append(rule)
        if "const" in node:
            found.hold_to([node["const"]])
        if isinstance(allowed := node.get("enum"), list):
            found.hold_to(allowed)
        return found

    def _referred(self, reference: str) -> Node:
        """What a pointer inside the document leads to; anything else holds of everything."""
        if reference == "#":
            return self._root
        if not reference.startswith("#/"):
            return True
        node = self._root
        for step in unquote(reference[2:]).split("/"):
            if isinstance(node, dict) and (node is self._root or not isinstance(node.get("$id"), str)):
                node = node.get(step.replace("~1", "/").replace("~0", "~"))
            elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
                node = node[int(step)]
            else:
                return True
        return node if isinstance(node, dict | bool) else True


@dataclass(slots=True)
class _Parsed:
    """One schema object, taken apart."""

    rules: list[Rule] = field(default_factory=list)
    all: list[Node] = field(default_factory=list)
    groups: list[list[Node | Template]] = field(default_factory=list)

    def hold_to(self, allowed: list[Any]) -> None:
        """To these values only."""
        plain, containers = literals(allowed)
        if containers:
            every = containers if plain is None else [plain, *containers]
            self.groups.append([Template((rule,), size=1) for rule in every])
        elif plain is not None:
            self.rules.append(plain)


class _Expansion:
    """One value's schemas, followed through references, `allOf` and unions, within bounds."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.left = MOST_NODES

    def template(self, nodes: Iterable[Node | Template], outer: frozenset[int]) -> Template:
        if len(outer) > DEEPEST:
            return ANY
        rules: list[Rule] = []
        groups: list[tuple[Template, ...]] = []
        seen: dict[int, Node] = {}
        waiting = list(nodes)
        alternatives: list[list[Node | Template]] = []
        while waiting:
            node = waiting.pop()
            if isinstance(node, Template):
                return node
            if node is False:
                return NEVER
            if not isinstance(node, dict) or id(node) in seen or id(node) in outer:
                # Said already, or without end: either way nothing is lost by leaving it out.
                continue
            self._spend()
            seen[id(node)] = node
            parsed = self._rules.parsed(node)
            rules += parsed.rules
            waiting += parsed.all
            alternatives += parsed.groups
        for group in alternatives:
            open_ones = [one for node in group if not (one := self.template((node,), outer | seen.keys())).never]
            if not open_ones:
                return NEVER
            if not any(one.any for one in open_ones):
                groups.append(tuple(open_ones))
        size = len(rules) + sum(one.size for group in groups for one in group)
        return Template(tuple(rules), tuple(groups), size=size) if size else ANY

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _TooMuch


def _draft(schema: Node) -> int:
    """Which draft's words count; 0 for one that is not followed. As `jsonschema` chooses: an unknown name is none."""
    name = schema.get("$schema") if isinstance(schema, dict) else None
    return _DRAFTS.get(name.removesuffix("#"), 0) if isinstance(name, str) else 2020
