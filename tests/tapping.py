"""Plugins that tests name by import path."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from sidegate.contract import Call, Chunk, Ending, Handler, Host, Observer, Plugin, Reply, Usage
from sidegate.contract.stages import Chunks


class Tapping(Observer[None]):
    """Keeps the text of each call, and the usage it saw."""

    def __init__(self, settings: None, host: Host) -> None:
        super().__init__(settings, host)
        self.texts: list[str] = []
        self.usages: list[Usage] = []

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        pieces: list[str] = []

        def see(chunk: Chunk) -> None:
            pieces.append(chunk.text)
            if chunk.usage is not None:
                self.usages.append(chunk.usage)

        call.tap(see)
        reply = await handler(call)
        self.texts.append("".join(pieces))
        return reply


class Shouting(Plugin[None]):
    """Says everything in capitals."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.change(_Capitals())
        return await handler(call)


class _Capitals:
    def see(self, chunk: Chunk) -> Chunks:
        return [chunk.with_text(str.upper)]

    def end(self, ending: Ending) -> Chunks:
        return []


_kept: ContextVar[str] = ContextVar("kept", default="nothing")


class Remembering(Plugin[None]):
    """Its edit looks for what the plugin has put in the context, and puts something there while it waits."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        _kept.set("of the plugin")
        call.change(_Memory())
        return await handler(call)


class RememberingApart(Remembering):
    """The same, and lets what is further in run in a task of its own, as `asyncio.wait_for` does."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        return await super().__call__(call, lambda call: asyncio.wait_for(handler(call), 10))


class _Memory:
    async def see(self, chunk: Chunk) -> list[Chunk]:
        said = _kept.get()
        token = _kept.set("of the edit")
        await asyncio.sleep(0)
        _kept.reset(token)
        return [chunk.with_text(lambda text: f"{text} {said}. " if text else text)]

    def end(self, ending: Ending) -> Chunks:
        return []
