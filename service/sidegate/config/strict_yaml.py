"""YAML, read strictly: the core schema of YAML 1.2, no tags, no duplicate keys."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from sidegate.errors import ConfigError

_PLAIN = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
"""What a plain scalar may be besides text: kind, pattern, first letters."""


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for name, pattern, first in _PLAIN:
        for letter in first:
            found.setdefault(letter, []).append((f"tag:yaml.org,2002:{name}", re.compile(rf"(?:{pattern})\Z")))
    return found


class _Loader(yaml.SafeLoader):
    """A safe loader that takes words for what they are: `no`, `1:30` and `2024-10-21` are text."""

    yaml_implicit_resolvers = _resolvers()

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise ConfigError(_line(event.start_mark), "tags are not allowed: quote text that starts with `!`")
        if isinstance(event, yaml.AliasEvent) and event.anchor not in self.anchors:
            raise ConfigError(_line(event.start_mark), "an alias leads nowhere: quote text that starts with `*`")
        node: Node | None = super().compose_node(parent, index)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node: MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise ConfigError(_line(key.start_mark), "a key must be text")
            if key.value in seen:
                raise ConfigError(_line(key.start_mark), f"the key {key.value!r} stands twice in one mapping")
            seen.add(key.value)
        return node


def parse(text: str) -> Any:
    """The one document in `text`. Raises `ConfigError` with the line; never quotes what stands there."""
    try:
        return _document(text)
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"character {error.position}", "a control character is not allowed") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(_line(mark), _quoteless(error.problem or error.context or "is no YAML")) from None
    except ValueError:
        raise ConfigError("", "a number makes no sense") from None


def _document(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _line(mark: Any) -> str:
    return f"line {mark.line + 1}" if mark is not None else ""


def _quoteless(problem: str) -> str:
    """PyYAML's own words without what it quotes from the file, but for single characters."""
    return re.sub(r"('\\?.')|'[^']*'|\"[^\"]*\"", lambda match: match.group(1) or "text", problem)
