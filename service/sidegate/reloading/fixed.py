"""Fixed: what of a config cannot change while the gateway runs, and what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import fields

from sidegate.config import ConfigErrors
from sidegate.errors import ConfigError
from sidegate.settings import Settings

LOOSE = frozenset(
    {
        "admin.key",
        "admin.key_file",
        "admin.names",
        "admin.without_key",
        "conversations",
        "listen.cors",
        "models",
        "pipelines",
        "plugin_prefixes",
        "providers",
        "routes",
        "server",
        "sockets",
        "streams",
        "translation",
    }
)
"""What a reload may change. All else is what listeners, stores and processes were opened with, and a setting that
nobody has thought of here is among that."""

RESTART = "cannot change while the gateway runs: restart it"


def check_fixed(before: Settings, after: Settings) -> None:
    """Raises `ConfigErrors` that names each setting which asks for a restart."""
    differing = list(_differing(before, after))
    if "state" in differing and "ledger.url" in differing:
        differing.remove("ledger.url")  # where it is left out it lies in the state folder
    found = [ConfigError(place, RESTART) for place in differing]
    if found:
        raise ConfigErrors(found)


def changes(before: Settings, after: Settings) -> tuple[str, ...]:
    """What differs: `server`, `providers.openai`. Names only: values may be secrets."""
    found: list[str] = []
    for each in fields(Settings):
        old, new = getattr(before, each.name), getattr(after, each.name)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            names = [*old, *(name for name in new if name not in old)]
            differing = [f"{each.name}.{name}" for name in names if old.get(name) != new.get(name)]
            found += differing or [each.name]
        else:
            found.append(each.name)
    return tuple(found)


def said(error: ConfigError) -> str:
    """All of its mistakes in one line."""
    found = error.errors if isinstance(error, ConfigErrors) else (error,)
    return "; ".join(str(each) for each in found)


def needs_restart(error: ConfigError) -> bool:
    """Whether the config is right, but for a running gateway."""
    return isinstance(error, ConfigErrors) and any(each.problem == RESTART for each in error.errors)


def _differing(before: object, after: object, place: str = "") -> Iterator[str]:
    if before == after or place in LOOSE:
        return
    if not (isinstance(before, Struct) and type(before) is type(after)):
        yield place
        return
    for each in fields(before):
        name = f"{place}.{each.name}" if place else each.name
        yield from _differing(getattr(before, each.name), getattr(after, each.name), name)
