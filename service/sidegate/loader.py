"""Loader: the `use` of a config becomes a plugin. Resolve, check, convert the settings, construct; start, stop.

An entry point of the group `sidegate.plugins` or an import path `package.module:Class`; folders are never scanned, and
what no config names is never imported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET

from sidegate.config.conversion import convert_settings
from sidegate.config.masking import secrets_in
from sidegate.config.mistakes import Mistakes, one_line, render
from sidegate.contract.allowance import Allowance, unenforced
from sidegate.contract.host import Host
from sidegate.contract.plugin import Plugin
from sidegate.errors import FAULTS, ConfigError
from sidegate.finder import Finder, FindError
from sidegate.settings import Pipeline, Settings, Use

AnyPlugin: TypeAlias = Plugin[Any]

_SERVED = frozenset({"buffered", "stream"})
"""The deliveries that every route has."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin with the name it goes by and its place in the config."""

    name: str
    place: str
    plugin: AnyPlugin


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """The plugins of a pipeline, outermost first, and those of every attempt."""

    name: str
    plugins: tuple[LoadedPlugin, ...] = ()
    attempt: tuple[LoadedPlugin, ...] = ()


Plugins: TypeAlias = Mapping[str, LoadedPipeline]
"""The pipelines by name, in the order of the config."""


def load(settings: Settings, host: Host, base: Path | None = None, finder: Finder | None = None) -> Plugins:
    """Make the plugins of every pipeline; nothing is started.

    `base` is the folder to which files named in settings belong; `finder` has looked for the classes before, where that
    must not take time now. Raises `ConfigErrors` with every mistake.
    """
    mistakes = Mistakes()
    loading = _Loading(settings, host, base or Path(), mistakes, finder or Finder(settings.plugin_prefixes))
    loaded = {name: loading.pipeline(name, pipeline) for name, pipeline in settings.pipelines.items()}
    mistakes.raise_any()
    return loaded


def _nobody(place: str) -> None:
    """Nobody asks where it is."""


async def start(plugins: Plugins, at: Callable[[str], None] = _nobody) -> None:
    """Start every plugin in the order of the config. Where one fails, those before it are stopped again.

    `at` is told the place of each before it starts. Raises `ConfigError` with the place of the one that failed.
    """
    started: list[LoadedPlugin] = []
    try:
        for loaded in _in_order(plugins):
            at(loaded.place)
            await _start(loaded)
            started.append(loaded)
    except BaseException:
        await _stop(started)
        raise


async def stop(plugins: Plugins) -> None:
    """Stop every plugin in reverse. One that fails is logged and keeps no other from being stopped."""
    await _stop(list(_in_order(plugins)))


def inherit(plugins: Plugins, before: Plugins) -> None:
    """Show each plugin the one whose place it takes in a reload: in the same pipeline and list, by name and class.

    Raises `ConfigError` with the place of the one that cannot go on from there.
    """
    for name, pipeline in plugins.items():
        if (old := before.get(name)) is None:
            continue
        for new_list, old_list in ((pipeline.plugins, old.plugins), (pipeline.attempt, old.attempt)):
            known = {loaded.name: loaded.plugin for loaded in old_list}
            for loaded in new_list:
                plugin = known.get(loaded.name)
                if plugin is not None and type(plugin) is type(loaded.plugin):
                    _inherit(loaded, plugin)


def _inherit(loaded: LoadedPlugin, before: AnyPlugin) -> None:
    try:
        loaded.plugin.inherit(before)
    except FAULTS as error:
        mistakes = Mistakes()
        mistakes.secrets |= secrets_in(_builtins(loaded.plugin.settings))
        mistakes.add(loaded.place, f"cannot take the place of the one before: {_said(error)}")
        raise mistakes.errors()[0] from error


async def _start(loaded: LoadedPlugin) -> None:
    try:
        await loaded.plugin.start()
    except FAULTS as error:
        secrets = secrets_in(_builtins(loaded.plugin.settings))
        mistakes = Mistakes()
        mistakes.secrets |= secrets
        mistakes.add(loaded.place, f"cannot start: {_said(error)}")
        raise mistakes.errors()[0] from error


async def _stop(started: Sequence[LoadedPlugin]) -> None:
    cancelled: asyncio.CancelledError | None = None
    for loaded in reversed(started):
        try:
            await loaded.plugin.stop()
        except asyncio.CancelledError as error:
            cancelled = error  # the others still have a right to their stop
        except FAULTS:
            _logger.exception("plugin %s could not be stopped", loaded.place)
    if cancelled is not None:
        raise cancelled


def _in_order(plugins: Plugins) -> Iterable[LoadedPlugin]:
    for pipeline in plugins.values():
        yield from pipeline.plugins
        yield from pipeline.attempt


@dataclass(slots=True)
class _Loading:
    """One load: what all pipelines share."""

    settings: Settings
    host: Host
    base: Path
    mistakes: Mistakes
    finder: Finder
    _names: set[str] = field(default_factory=set)

    def pipeline(self, name: str, pipeline: Pipeline) -> LoadedPipeline:
        self._names = set()
        accounting = 0
        lists: dict[str, tuple[LoadedPlugin, ...]] = {}
        for kind, uses in (("plugins", pipeline.plugins), ("attempt", pipeline.attempt)):
            loaded = []
            outside: list[tuple[Use, type[AnyPlugin]]] = []
            for index, use in enumerate(uses):
                path = ("pipelines", name, kind, index)
                host = self._host(kind, uses[index + 1 :] if kind == "plugins" else ())
                plugin = self._plugin(use, host, path)
                if (cls := self._class(use)) is not None:
                    accounting += cls.accounts
                    self._check_order(use, cls, kind, outside, accounting, render(path))
                    outside.append((use, cls))
                if plugin is not None:
                    loaded.append(LoadedPlugin(self._name(use, plugin), render(path), plugin))
            lists[kind] = tuple(loaded)
        return LoadedPipeline(name, lists["plugins"], lists["attempt"])

    def _host(self, kind: str, further_in: Iterable[Use]) -> Host:
        """The host of one plugin: it knows in which list it is, and what those further in enforce. One that is not
        found is told in its turn."""
        enforced: set[str] = set()
        for use in further_in:
            if (cls := self._class(use)) is not None:
                enforced |= cls.enforces
        return replace(self.host, enforced=frozenset(enforced), per_attempt=kind == "attempt")

    def _plugin(self, use: Use, host: Host, path: tuple[str | int, ...]) -> AnyPlugin | None:
        place = render(path)
        self.mistakes.secrets |= secrets_in(use.settings)
        try:
            cls = self.finder.find(use.use)
        except FindError as error:
            self.mistakes.add(f"{place}.use", str(error))
            return None
        served = _SERVED if self.settings.jobs is None else _SERVED | {"job"}
        if missing := served.difference(cls.deliveries):
            self.mistakes.add(
                place, f"{use.use} does not act on every delivery of a route: {', '.join(sorted(missing))}"
            )
            return None
        if "socket" not in cls.deliveries and not cls.fails_open and (route := self._realtime(path[1])):
            problem = f"{use.use} guards no Realtime sessions, and route `{route}` serves them here"
            self.mistakes.add(place, f"{problem}: give those a pipeline without it")
            return None
        settings_type = cls.settings_type()
        if settings_type is None and use.settings:
            self.mistakes.add(render((*path, "settings")), f"{use.use} has no settings")
            return None
        settings = None
        if settings_type is not None:
            where = render((*path, "settings"))
            settings = convert_settings(use.settings, settings_type, where, self.mistakes, self.base)
            if settings is None:
                return None
        return self._made(cls, settings, host, place)

    def _realtime(self, pipeline: str | int) -> str | None:
        """The first route that serves Realtime by this pipeline."""
        serving = (r.name for r in self.settings.routes if r.pipeline == pipeline and "realtime" in r.operations)
        return next(serving, None)

    def _made(self, cls: type[AnyPlugin], settings: Any, host: Host, place: str) -> AnyPlugin | None:
        try:
            return cls(settings, host)
        except FAULTS as error:
            self.mistakes.add(place, _said(error))
            return None

    def _name(self, use: Use, plugin: AnyPlugin) -> str:
        wanted = use.name if use.name is not UNSET else use.use if ":" not in use.use else type(plugin).__name__
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}#{number}"
        self._names.add(name)
        return name

    def _class(self, use: Use) -> type[AnyPlugin] | None:
        """`None` where there is none: that is told where it is made."""
        with suppress(FindError):
            return self.finder.find(use.use)
        return None

    def _check_order(
        self,
        use: Use,
        cls: type[AnyPlugin],
        kind: str,
        outside: Sequence[tuple[Use, type[AnyPlugin]]],
        accounting: int,
        place: str,
    ) -> None:
        """Says what cannot stand where it does, by what the classes say of themselves."""
        name = use.use
        wrong = self.mistakes.add
        reruns = next((outer.use for outer, each in outside if each.reruns), "")
        replays = next((outer.use for outer, each in outside if each.replays), "")
        others = next((outer.use for outer, each in outside if each.replays == "others"), "")
        if kind == "attempt" and cls.accounts:
            wrong(place, f"{name} belongs into the list `plugins`: it prices every attempt by itself")
        elif kind == "attempt" and cls.reruns:
            wrong(place, f"{name} belongs into the list `plugins`: each of its runs is an attempt")
        elif kind == "attempt" and cls.replays:
            wrong(place, f"{name} belongs into the list `plugins`: what it tells again is no attempt")
        elif cls.accounts and accounting > 1:
            wrong(place, f"{name} stands in this pipeline twice: calls would be reserved twice")
        elif cls.accounts and reruns:
            wrong(place, f"{name} must stand before {reruns}, which may run a call several times")
        elif cls.accounts and others:
            wrong(place, f"{name} must stand before {others}, which may answer without it")
        elif cls.names_callers and replays:
            wrong(place, f"{name} must stand before {replays}, which would answer without knowing who calls")
        elif "models" in cls.enforces and replays:
            wrong(place, f"{name} must stand before {replays}, which would answer for models that a caller may not use")


def lets_in(plugins: Plugins, allowance: Allowance | None) -> tuple[str, ...]:
    """What whoever issues a key with this allowance should know: that no pipeline lets issued keys in, or which ones
    would refuse this one. By the setting `issued` of what asks `host.keys`."""
    asking = [
        (pipeline.name, loaded.plugin)
        for pipeline in plugins.values()
        for loaded in pipeline.plugins
        if getattr(loaded.plugin.settings, "issued", False) is True
    ]
    if not asking:
        return ("no pipeline of the config lets issued keys in: set `issued: true` in the settings of api_key",)
    missing = [(name, unenforced(allowance, plugin.host.enforced)) for name, plugin in asking]
    return tuple(f"pipeline {name} refuses this key: it does not enforce {what}" for name, what in missing if what)


def _said(error: Exception | SystemExit) -> str:
    """What an exception says in one line; a `ValueError` and the gateway's own errors speak for themselves."""
    text = error.problem if isinstance(error, ConfigError) else one_line(str(error))
    return text if isinstance(error, ValueError | ConfigError) and text else f"{type(error).__name__}: {text}"


def _builtins(settings: Any) -> Any:
    """Settings as plain data, as far as they can be."""
    try:
        return msgspec.to_builtins(settings)
    except (TypeError, ValueError, RecursionError):
        return {}
