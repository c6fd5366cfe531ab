"""Plugins that fail in every way a plugin can. `where` says in which; a call may ask for it with `x-break`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from sidegate.contract import Call, Chunk, Ending, Handler, Host, Observer, Plugin, Reply

WORDS = "an internal detail 5ecret"


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    where: str = ""


class _Faulty:
    """What guards and observers share."""

    settings: Settings

    def fail(self, place: str, call: Call | None = None) -> None:
        wanted = call.headers.get("x-break", self.settings.where) if call is not None else self.settings.where
        if wanted == place:
            raise RuntimeError(WORDS)

    async def act(self, call: Call, handler: Handler) -> Reply:
        self.fail("before", call)
        call.tap(lambda chunk: self.fail("tap", call))
        if call.headers.get("x-break") == "hang before":
            await asyncio.Event().wait()
        if call.headers.get("x-break") == "block":
            time.sleep(0.4)  # noqa: ASYNC251  # the very fault
        reply = await handler(call)
        if call.headers.get("x-break") == "hang after":
            await asyncio.Event().wait()
        self.fail("after", call)
        return reply


class Guard(_Faulty, Plugin[Settings]):
    """Fails closed."""

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        self.fail("construct")

    async def start(self) -> None:
        self.fail("start")

    async def stop(self) -> None:
        self.fail("stop")

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        return await self.act(call, handler)


class Watcher(_Faulty, Observer[Settings]):
    """Fails open."""

    async def stop(self) -> None:
        self.fail("stop")

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        return await self.act(call, handler)


class Editor(Guard):
    """A guard with an edit that fails."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.headers.get("x-break", "").startswith("edit"):
            call.change(_Edit(self, call))
        return await super().__call__(call, handler)


class _Edit:
    def __init__(self, plugin: Editor, call: Call) -> None:
        self._plugin = plugin
        self._call = call

    def see(self, chunk: Chunk) -> Any:
        self._plugin.fail("edit see", self._call)
        if self._call.headers["x-break"] == "edit hang":
            return _never()
        return [chunk]

    def end(self, ending: Ending) -> Iterable[Chunk]:
        self._plugin.fail("edit end", self._call)
        return []


async def _never() -> list[Chunk]:
    await asyncio.Event().wait()
    return []
