"""Reading: from a file to `Settings` in one go; every mistake at once, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as dataclass_replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from sidegate.config.checks import Checks, Declared
from sidegate.config.completion import complete
from sidegate.config.conversion import Conversion, fields_of, read_secret
from sidegate.config.document import read_document
from sidegate.config.interpolation import Interpolation
from sidegate.config.masking import secrets_in
from sidegate.config.mistakes import ConfigErrors, Mistakes
from sidegate.config.presetting import with_presets
from sidegate.config.stamp import Stamp, stamp
from sidegate.errors import ConfigError
from sidegate.settings import Choice, Pipeline, Provider, Route, Settings, Target

_BLOCKS: dict[str, Any] = {
    "providers": Provider,
    "models": Choice | tuple[Target, ...],
    "pipelines": Pipeline,
}


NOTHING: Mapping[str, Any] = MappingProxyType({})

_KEY_PLACES = ("api_key", "api_key_file", "api_keys", "api_keys_file")
_KEY_FILES = frozenset({"api_key_file", "api_keys_file"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A config that can be used."""

    settings: Settings = field(repr=False)
    path: Path
    """The file; where there was none, the folder that stands in for its own."""
    base: Path
    """The folder to which the config's relative paths belong."""
    secrets: frozenset[str] = field(repr=False)
    """Every secret value the config holds, to be kept out of whatever is printed."""
    warnings: tuple[str, ...] = ()
    """What works but may not be meant, one line each."""
    stamp: Stamp = None
    """The file as it was right before it was read."""
    instead: Mapping[str, Any] | None = field(default=None, repr=False)
    """What the command line said in place of the file; `None` where there is no file."""

    def again(self) -> Loaded:
        """The same config, as its file, the files it names and the environment are now. Raises `ConfigErrors`."""
        if self.instead is None:
            raise ConfigErrors([ConfigError("", "the config did not come from a file: it cannot be read again")])
        return read_config(self.path, os.environ, self.instead)


def read_config(path: Path, environ: Mapping[str, str], instead: Mapping[str, Any] = NOTHING) -> Loaded:
    """The config at `path`, with some of its top fields `instead` of what stands there.

    Raises `ConfigErrors` with all that is wrong; no message holds a secret.
    """
    seen = stamp(path)
    try:
        data = read_document(path)
    except ConfigError as error:
        raise ConfigErrors([error]) from error.__cause__
    loaded = _read({**data, **instead}, environ, path, path.absolute().parent)
    return dataclass_replace(loaded, instead=dict(instead), stamp=seen)


def read_mapping(data: Mapping[str, Any], environ: Mapping[str, str], base: Path) -> Loaded:
    """The same from data in memory. `base` stands for the folder of the file."""
    return _read(dict(data), environ, base, base.absolute())


def _read(data: dict[str, Any], environ: Mapping[str, str], path: Path, base: Path) -> Loaded:
    mistakes = Mistakes()
    try:
        filled = Interpolation(environ, mistakes).value(data)
    except ConfigError as error:
        raise ConfigErrors([error]) from None
    mistakes.secrets |= secrets_in(filled)
    filled = with_presets(filled, mistakes)
    Conversion(mistakes).convert(filled, Settings)
    draft, declared = _sound(filled)
    draft = _with_admin_key(_with_keys(draft, base, mistakes), base, mistakes)
    checks = Checks(draft, declared, mistakes)
    checks.all()
    mistakes.raise_any()
    settings = complete(draft, base, checks.warnings)
    return Loaded(
        settings=settings,
        path=path,
        base=base,
        secrets=frozenset(mistakes.secrets),
        warnings=tuple(checks.warnings),
    )


def _sound(filled: dict[str, Any]) -> tuple[Settings, Declared]:
    """The parts of a config that are right by themselves, and the names of all parts in the file.

    So that a mistake in one provider does not hide that a route is never reached.
    """
    blocks = {name: value if isinstance(value := filled.get(name), dict) else {} for name in _BLOCKS}
    listed = filled.get("routes")
    routes = _sound_items(dict(enumerate(listed)) if isinstance(listed, list) else {}, Route)
    kept: dict[str, Any] = {name: _sound_items(block, _BLOCKS[name]) for name, block in blocks.items()}
    for known in fields_of(Settings).values():
        if known.name in filled and known.name != "routes" and known.name not in _BLOCKS:
            kept |= _sound_items({known.name: filled[known.name]}, known.type)
    pipelines = tuple(blocks["pipelines"]) if isinstance(filled.get("pipelines"), dict) else None
    declared = Declared(tuple(blocks["providers"]), pipelines, tuple(routes), bool(listed))
    return Settings(**kept, routes=tuple(routes.values())), declared


def _sound_items(block: Mapping[Any, Any], wanted: Any) -> dict[Any, Any]:
    found = {}
    for key, value in block.items():
        mistakes = Mistakes()
        made = Conversion(mistakes).convert(value, wanted)
        if not mistakes.found:
            found[key] = made
    return found


def _with_keys(settings: Settings, base: Path, mistakes: Mistakes) -> Settings:
    """Keys in files become keys. An optional provider whose file is not there has no key."""
    providers = dict(settings.providers)
    for name, provider in providers.items():
        path = ("providers", name)
        places = [place for place in _KEY_PLACES if getattr(provider, place)]
        if len(places) > 1:
            mistakes.add(path, f"{' and '.join(f'`{place}`' for place in places)} exclude each other")
        elif places and places[0] in _KEY_FILES:
            providers[name] = _with_file(provider, places[0], (*path, places[0]), base, mistakes)
    return replace(settings, providers=providers)


def _with_admin_key(settings: Settings, base: Path, mistakes: Mistakes) -> Settings:
    admin = settings.admin
    if admin is None or not admin.key_file:
        return settings
    if admin.key:
        mistakes.add("admin", "`key` and `key_file` exclude each other")
        return settings
    key = read_secret(admin.key_file, base, ("admin", "key_file"), mistakes)
    if key is None:
        return replace(settings, admin=None)  # said once is enough
    return replace(settings, admin=replace(admin, key=key))


def _with_file(provider: Provider, place: str, path: tuple[str, ...], base: Path, mistakes: Mistakes) -> Provider:
    file: str = getattr(provider, place)
    if provider.optional and not _exists(base, file):
        return provider
    text = read_secret(file, base, path, mistakes) or ""
    if place == "api_key_file":
        return replace(provider, api_key=text)
    keys = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
    mistakes.secrets |= set(keys)
    if text and not keys:
        mistakes.add(path, "the file holds no key")
    return replace(provider, api_keys=keys)


def _exists(base: Path, name: str) -> bool:
    try:
        return (base / name).exists()
    except (OSError, ValueError):
        return True
