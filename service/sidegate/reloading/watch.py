"""Watch: notices that the config, or a file it names, is another than it was.

By looking at them, which works on every file system and in every container. A path is followed to what it leads to:
Kubernetes exchanges the files of a ConfigMap by making a link point elsewhere. What is being written is left alone
until it has not changed from one look to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from sidegate.config import Loaded
from sidegate.config.document import read_document
from sidegate.config.stamp import Stamp, stamp
from sidegate.errors import ConfigError
from sidegate.settings import Settings

_LONGEST_PATH = 4096


NOTHING_SEEN: Mapping[Path, Stamp] = MappingProxyType({})


class Watch:
    """`run` calls `changed` whenever something has changed, and never ends by itself."""

    def __init__(
        self,
        files: Callable[[], Iterable[Path]],
        changed: Callable[[], Awaitable[None]],
        seconds: float,
        seen: Mapping[Path, Stamp] = NOTHING_SEEN,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`files` are asked for at each look: another config names others. `seconds` between two looks; `seen` is what
        was there when it was read."""
        self._files = files
        self._changed = changed
        self._seconds = seconds
        self._sleep = sleep
        self._seen: dict[Path, Stamp] = dict(seen)
        self._before: dict[Path, Stamp] = {}

    async def run(self) -> None:
        self._before = await self._look()
        self._seen = self._before | self._seen
        while True:
            await self._sleep(self._seconds)
            await self.look()

    async def look(self) -> None:
        """Once. What is wrong with a new config is the business of whoever is told: it is not told again."""
        now = await self._look()
        # What a config names for the first time was read with it.
        self._seen = {path: self._seen.get(path, stamp) for path, stamp in now.items()}
        steady = now == self._before
        self._before = now
        if steady and now != self._seen:
            self._seen = now
            await self._changed()

    async def _look(self) -> dict[Path, Stamp]:
        # A file may be on a disk that does not answer.
        return await asyncio.to_thread(lambda: {path: stamp(path) for path in self._files()})


class Named:
    """The config, and the files it names: keys, secrets, schemas. Those of the config in force, and those of what lies
    on the disk, which may be in force as soon as one of them is there. Certificates are looked after by listeners."""

    def __init__(self, loaded: Callable[[], Loaded]) -> None:
        self._loaded = loaded
        self._of: tuple[Stamp, frozenset[str]] = None, frozenset()

    def __call__(self) -> list[Path]:
        loaded = self._loaded()
        found = {loaded.path: None}
        for name in sorted({*_named(_plain(loaded.settings)), *self._on_disk(loaded.path)}):
            found |= {loaded.base / name: None, Path(loaded.settings.state) / name: None}
        return list(found)

    def _on_disk(self, path: Path) -> frozenset[str]:
        now = stamp(path)
        if now != self._of[0]:
            try:
                self._of = now, frozenset(_named(read_document(path)))
            except ConfigError:
                self._of = now, frozenset()
        return self._of[1]


def _plain(settings: Settings) -> Any:
    return msgspec.to_builtins(settings, str_keys=True, enc_hook=str)


def _named(value: Any, key: str = "") -> Iterator[str]:
    """Every text at a key that ends in `file`, however deep."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _named(each, str(name))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _named(each, key)
    elif isinstance(value, str) and key.endswith("file") and 0 < len(value) < _LONGEST_PATH:
        yield value
