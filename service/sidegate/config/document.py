"""Document: the bytes of a config file as plain data. YAML, TOML and JSON say the same things here.

YAML is read by the core schema of YAML 1.2 (chapter 10.3): `no` is text, `2024-10-21` is text, `010` is text. Duplicate
keys and tags are refused in all formats that have them. Messages never quote the file: what stands there may be a key.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from sidegate.config.mistakes import one_line
from sidegate.errors import ConfigError

_LARGEST = 4 * 2**20


def read_document(path: Path) -> dict[str, Any]:
    """The mapping a file holds. Raises `ConfigError` naming the file, and the line where there is one."""
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise ConfigError(str(path), "expected a file that ends in .yaml, .yml, .toml or .json")
    text = _text(path)
    try:
        data = parse(text)
    except ConfigError as error:
        raise ConfigError(str(path), str(error)) from None
    except RecursionError:
        raise ConfigError(str(path), "is nested too deeply") from None
    if data is None:
        raise ConfigError(str(path), "is empty")
    if not isinstance(data, dict):
        raise ConfigError(str(path), f"expected a mapping at the top, got {kind(data)}")
    return data


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigError(str(path), f"cannot be read: {reason}") from error
    if len(data) > _LARGEST:
        raise ConfigError(str(path), f"is larger than {_LARGEST // 2**20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(str(path), "is not UTF-8 text") from None
    if not text.strip():
        raise ConfigError(str(path), "is empty")
    return text


def kind(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    names = {list: "a list", str: "text", int: "a number", float: "a number", dict: "a mapping", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        raise ConfigError(f"line {error.lineno}", one_line(error.msg)) from None
    except ValueError:
        raise ConfigError("", "a number is too long") from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ConfigError("", f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _parse_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("", one_line(str(error))) from None
    except ValueError:
        raise ConfigError("", "a number or date makes no sense") from None


def _parse_yaml(text: str) -> Any:
    from sidegate.config.strict_yaml import parse  # PyYAML is loaded only where there is YAML

    return parse(text)


_PARSERS: dict[Hashable, Callable[[str], Any]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": _parse_toml,
    ".json": _parse_json,
}
