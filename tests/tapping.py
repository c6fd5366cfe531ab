"""Plugins that tests name by import path."""

from __future__ import annotations

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
