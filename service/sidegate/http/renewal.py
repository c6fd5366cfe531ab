"""Renewal: the certificates of a listener while it runs. What cannot be used changes nothing, and is said."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

from sidegate.http.expiry import expires
from sidegate.http.tls import server_context
from sidegate.settings.listeners import Tls

Stamp = tuple[tuple[int, int, int] | None, ...]


class Told(Protocol):
    """Who hears what becomes of certificates: `listener` is `listen` or `admin`."""

    def in_use(self, listener: str, expires: float | None) -> None:
        """From the start or from now on. `expires`: seconds of the epoch, where that can be read."""

    def renewed(self, listener: str) -> None:
        """New ones have taken the place of the old."""

    def refused(self, listener: str, error: Exception) -> None:
        """They were to, and could not."""


class Renewal:
    """Certificate, key and authorities, as they are in use: `context`."""

    def __init__(self, tls: Tls, listener: str, told: Told | None = None) -> None:
        """Loads them. Raises `ConfigError`."""
        self.every = tls.reload
        """Seconds between looks; 0 for none."""
        self._tls = tls
        self._listener = listener
        self._told = told
        self._files = [name for name in (tls.certificate, tls.key, tls.client_ca) if name]
        self._seen: Stamp = ()
        self._wrong: str | None = None
        self._until: float | None = None
        self.context = self._loaded()
        self._say()

    def changed(self) -> bool:
        """Whether they are to be loaded: a file is another than the last time, or something was wrong then, which need
        not have been in the files."""
        return self._wrong is not None or self._stamp() != self._seen

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """Inside, `context` is made of the files as they are now. Raises `ConfigError` where they cannot be used; then,
        and where what is done inside fails, the old one stays."""
        before = self.context
        try:
            # The files may be anywhere, and slow to read.
            self.context = await asyncio.to_thread(self._loaded)
            yield
        except BaseException as error:
            self.context = before
            if isinstance(error, Exception):
                self._refuse(error)
            raise
        self._wrong = None
        self._say()
        if self._told is not None:
            self._told.renewed(self._listener)

    def _refuse(self, error: Exception) -> None:
        """What is still wrong at the next look is not said again."""
        before, self._wrong = self._wrong, str(error)
        if self._told is not None and self._wrong != before:
            self._told.refused(self._listener, error)

    def _loaded(self) -> ssl.SSLContext:
        # First: what is written from here on is seen at the next look.
        self._seen = self._stamp()
        context = server_context(self._tls, f"{self._listener}.tls")
        self._until = None
        with suppress(OSError, ValueError):
            self._until = expires(Path(self._tls.certificate).read_text("ascii", "replace"))
        return context

    def _say(self) -> None:
        if self._told is not None:
            self._told.in_use(self._listener, self._until)

    def _stamp(self) -> Stamp:
        return tuple(_of(name) for name in self._files)


def _of(name: str) -> tuple[int, int, int] | None:
    """Where links lead: secrets of Kubernetes are swapped by one."""
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
