"""Interpolation: `${NAME}` in the strings of a config becomes what the environment says.

Done after parsing and on values only, so a variable can never change the shape of the config. `${NAME:-default}` where
the variable may be missing or empty, `$$` for a `$`; a `$` before anything else is just that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from sidegate.config.document import kind
from sidegate.config.masking import Interpolated, is_secret_name
from sidegate.config.mistakes import Mistakes, Path
from sidegate.errors import ConfigError

_PATTERN = re.compile(r"\$\$|\$\{(?P<inside>[^}]*)\}|\$\{")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-.*)?", re.DOTALL)
_DEEPEST = 64
_MOST = 200_000


class Interpolation:
    """One pass over a parsed config: fills variables in, and refuses what no config says."""

    def __init__(self, environ: Mapping[str, str], mistakes: Mistakes) -> None:
        self._environ = environ
        self._mistakes = mistakes
        self._left = _MOST

    def value(self, value: Any, path: Path = ()) -> Any:
        """`value` with its variables filled in. Mistakes are gathered; an endless one raises `ConfigError`."""
        self._left -= 1
        if self._left < 0 or len(path) > _DEEPEST:
            raise ConfigError("", "the config is too large or nested too deeply")
        if isinstance(value, dict):
            return self._mapping(value, path)
        if isinstance(value, list):
            return [self.value(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, float) and not math.isfinite(value):
            self._mistakes.add(path, "a number must be finite")
        return value

    def _mapping(self, value: dict[Any, Any], path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in value.items():
            if isinstance(key, str):
                found[key] = self.value(item, (*path, key))
            else:
                self._mistakes.add(path, f"keys must be text, got {kind(key)} (`{key}`): quote it")
        return found

    def _text(self, text: str, path: Path) -> str:
        if "$" not in text:
            return text
        secrets: set[str] = set()
        used = False

        def fill(match: re.Match[str]) -> str:
            nonlocal used
            if match.group() == "$$":
                return "$"
            used = True
            return self._variable(match, path, secrets)

        filled = _PATTERN.sub(fill, text)
        if not used:
            return filled
        return Interpolated(filled, _PATTERN.fullmatch(text) is not None, frozenset(secrets))

    def _variable(self, match: re.Match[str], path: Path, secrets: set[str]) -> str:
        inside = _INSIDE.fullmatch(match.group("inside") or "")
        if inside is None:
            self._mistakes.add(
                path, "`${` needs a name and a `}`, as in `${NAME}`; write `$${` for the characters", final=True
            )
            return ""
        name, default = inside.group("name", "default")
        text = self._environ.get(name)
        if default is not None:
            text = text or default[2:]
        elif text is None:
            self._mistakes.add(path, f"the environment variable {name} is not set", final=True)
            return ""
        if text and is_secret_name(name):
            secrets.add(text)
        return text or ""
