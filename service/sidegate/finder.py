"""Finder: a name becomes the class of a plugin; and which names there are."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

import msgspec

from sidegate.config.mistakes import nearest, one_line
from sidegate.contract.plugin import CONTRACT, Plugin
from sidegate.errors import FAULTS

GROUP = "sidegate.plugins"
_IMPORT_PATH = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")


class FindError(Exception):
    """There is no such plugin, or it cannot be used; says why in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Available:
    """A plugin that a config may use."""

    name: str
    path: str
    """`module:Class`."""
    summary: str = ""
    """The first line of its docstring."""
    schema: dict[str, Any] | None = None
    """JSON Schema (2020-12) of its settings; `None` where it has none."""
    fails_open: bool = False
    deliveries: tuple[str, ...] = ()
    contract: int = CONTRACT
    """The version of the contract it is written for."""
    error: str | None = None
    """Why it cannot be used."""


class Finder:
    """Finds the classes of one config, each once: to look through all that is installed takes milliseconds."""

    def __init__(self, prefixes: tuple[str, ...] | None) -> None:
        """`prefixes`: below which import paths may lie; anywhere if left out."""
        self._prefixes = prefixes
        self._points: EntryPoints | None = None
        self._found: dict[str, type[Plugin[Any]] | FindError] = {}

    def find(self, use: str) -> type[Plugin[Any]]:
        """The class that `use` names: an entry point, or an import path. Raises `FindError`."""
        known = self._found.get(use)
        if known is None:
            known = self._found[use] = self._looked_for(use)
        if isinstance(known, FindError):
            raise known
        return known

    def _looked_for(self, use: str) -> type[Plugin[Any]] | FindError:
        if ":" not in use and self._points is None:
            self._points = _points()
        try:
            return _find(use, self._prefixes, self._points)
        except FindError as error:
            return error


def _find(use: str, prefixes: tuple[str, ...] | None, points: EntryPoints | None) -> type[Plugin[Any]]:
    if ":" not in use:
        return _checked(use, _load(_entry_point(use, points or _points())))
    match = _IMPORT_PATH.fullmatch(use)
    if match is None:
        raise FindError("expected the name of a plugin or an import path `package.module:Class`")
    module, name = match.group("module", "name")
    if prefixes is not None and not any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes):
        raise FindError(f"{module} is not below any of the plugin_prefixes")
    return _checked(use, _attribute(_imported(module), module, name))


def available() -> list[Available]:
    """Every plugin of the group, by name. One that is broken says so, and hides no other."""
    points = _points()
    return [_describe(name, points) for name in sorted({point.name for point in points})]


def _points() -> EntryPoints:
    return entry_points(group=GROUP)


def _entry_point(name: str, points: EntryPoints) -> EntryPoint:
    found = {point.value: point for point in points.select(name=name)}
    if not found:
        raise FindError(f"no plugin `{name}` is installed{nearest(name, {point.name for point in points})}")
    if len(found) > 1:
        raise FindError(f"several packages offer a plugin `{name}`: {', '.join(sorted(found))}")
    return next(iter(found.values()))


def _load(point: EntryPoint) -> object:
    return _attribute(_imported(point.module), point.module, point.attr)


def _imported(module: str) -> object:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        hint = " (is it installed, or on PYTHONPATH?)" if error.name and module.startswith(error.name) else ""
        raise FindError(f"cannot import {module}: {one_line(str(error))}{hint}") from error
    except FAULTS as error:  # anything may stand at the top of a module
        raise FindError(f"cannot import {module}: {type(error).__name__}: {one_line(str(error))}") from error


def _attribute(module: object, path: str, name: str) -> object:
    found = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise FindError(f"{path} has no {name}{nearest(name, vars(module))}") from None
    return found


def _checked(use: str, found: object) -> type[Plugin[Any]]:
    if not isinstance(found, type) or not issubclass(found, Plugin):
        raise FindError(f"{use} is no Plugin")
    if type(found.contract) is not int or found.contract < 1:
        raise FindError(f"{use} needs a contract of plugins that is none: `contract` is a whole number")
    if found.contract > CONTRACT:
        raise FindError(f"{use} needs contract {found.contract} of plugins, and this gateway has {CONTRACT}")
    try:
        msgspec.json.Decoder(found.settings_type() or Any)
    except (TypeError, NameError) as error:
        raise FindError(f"the settings of {use} have types that cannot be: {one_line(str(error))}") from error
    return found


def _describe(name: str, points: EntryPoints) -> Available:
    path = ", ".join(sorted({point.value for point in points.select(name=name)}))
    try:
        cls = _find(name, None, points)
        schema = _schema(cls)
    except FindError as error:
        return Available(name=name, path=path, error=str(error))
    return Available(
        name=name,
        path=path,
        summary=_summary(cls),
        schema=schema,
        fails_open=cls.fails_open,
        deliveries=tuple(sorted(cls.deliveries)),
        contract=cls.contract,
    )


def _summary(cls: type[Plugin[Any]]) -> str:
    text = cls.__doc__ or getattr(sys.modules.get(cls.__module__), "__doc__", None) or ""
    return text.strip().partition("\n")[0]


def _schema(cls: type[Plugin[Any]]) -> dict[str, Any] | None:
    settings = cls.settings_type()
    if settings is None:
        return None
    try:
        return msgspec.json.schema(settings)
    except TypeError as error:  # a type of its own, which a decoder may know and a schema does not
        raise FindError(f"its settings have no schema: {one_line(str(error))}") from error
