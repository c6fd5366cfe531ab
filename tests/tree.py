"""The repository as data: its modules, what they import, what setup.cfg says of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {"sidegate": ROOT / "service" / "sidegate", "sidegate_plugins": ROOT / "plugins" / "sidegate_plugins"}
"""The packages that are shipped, and their folders."""


def python_files(*folders: str) -> list[Path]:
    """Every module below folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def modules() -> dict[str, Path]:
    """Every shipped module by its name."""
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> set[str]:
    """What a module imports, at any depth: `from a import b` gives `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@cache
def setup() -> ConfigParser:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    return config


def listed(section: str, option: str) -> list[str]:
    """The lines of an option of setup.cfg."""
    return [line.strip() for line in setup()[section][option].splitlines() if line.strip()]


def entry_points() -> dict[str, str]:
    """The plugins by name, `module:Class`, as setup.cfg has them, installed or not."""
    pairs = (re.split(r"\s*=\s*", line) for line in listed("options.entry_points", "sidegate.plugins"))
    return dict(pairs)


def structs(kind: Any) -> Iterator[type[Struct]]:
    """The type and the Structs in its fields."""
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        for argument in get_args(kind):
            yield from structs(argument)
        return
    yield kind
    for field in msgspec.structs.fields(kind):
        yield from structs(field.type)
