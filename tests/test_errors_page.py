"""The page of errors has every code that the gateway gives, and none that it does not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sidegate.errors import PhaseTimeout
from tests.tree import ROOT

PAGE = (ROOT / "docs" / "errors.md").read_text()
LISTED = {
    code for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for code in re.findall(r"`([a-z][a-z0-9_]*)`", row)
}
MADE = {
    *(PhaseTimeout(phase, 1).code for phase in ("connect", "first_token", "idle", "total")),
    *(f"{word}_{what}" for word in ("usage", "records") for what in ("busy", "too_slow")),
    *("key_revoked", "key_expired"),
}
"""Codes that are put together."""
NO_ERRORS = {"config_error"}
"""Told on the terminal, and to no client."""


def sources() -> Iterator[ast.AST]:
    for path in sorted([*(ROOT / "service").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]):
        if "testing" not in path.parts and not path.name.startswith("demo"):
            yield from ast.walk(ast.parse(path.read_text()))


def words(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def codes(node: ast.AST) -> Iterator[str]:
    """The codes that a piece of source gives, where it says them by themselves."""
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg == "code" and isinstance(keyword.value, ast.Constant | ast.IfExp | ast.BoolOp):
                yield from words(keyword.value)
        if getattr(node.func, "id", "") == "Refusal" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            yield from words(node.args[1])
    elif isinstance(node, ast.ClassDef):
        for line in node.body:
            if isinstance(line, ast.Assign) and [getattr(name, "id", "") for name in line.targets] == ["code"]:
                yield from words(line.value)


def test_every_code_of_an_error_stands_on_the_page() -> None:
    given = {code for node in sources() for code in codes(node) if re.fullmatch(r"[a-z][a-z0-9_]+", code)}
    assert len(given) > 100
    assert given - LISTED - NO_ERRORS == set()


def test_every_code_on_the_page_is_given() -> None:
    said = {word for node in sources() for word in words(node)}
    assert LISTED - said - MADE == set()


def test_the_page_is_found() -> None:
    assert "docs/errors.md" in (ROOT / "README.md").read_text()
    assert Path(ROOT / "docs" / "errors.md").stat().st_size < 16_000
