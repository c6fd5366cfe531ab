"""A plugin that keeps its own life: when it was started and stopped, and with how many calls in it."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Literal

from msgspec import Struct

from sidegate.contract import Call, Handler, Host, Plugin, Reply


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    of: str
    """Which test it belongs to."""
    fails: Literal["", "made", "start", "hang", "deaf", "inherit"] = ""
    says: str = ""
    labels: tuple[str, ...] = ("who",)


class Mortal(Plugin[Settings]):
    """Every one that was made, of all tests, oldest first."""

    lives: ClassVar[list[Mortal]] = []

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if settings.fails == "made":
            raise ValueError("these settings cannot work")
        self.counter = host.metrics.counter("mortal", "Calls.", settings.labels)
        self.events: list[str] = []
        self.inside = 0
        self.at_stop: int | None = None
        self.calls = 0
        self.before: Mortal | None = None
        self.lives.append(self)

    def inherit(self, before: Mortal) -> None:
        if self.settings.fails == "inherit":
            raise ValueError("nothing to go on from")
        self.before = before

    async def start(self) -> None:
        self.events.append("start")
        if self.settings.fails == "start":
            raise ValueError("the key sk-not-to-be-told-anywhere is refused")
        if self.settings.fails == "hang":
            await asyncio.Event().wait()
        if self.settings.fails == "deaf":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.events.append("deaf")

    async def stop(self) -> None:
        self.events.append("stop")
        self.at_stop = self.inside

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        self.counter.add(who=self.settings.of)
        self.calls += 1
        self.inside += 1
        call.reply_headers["x-said"] = self.settings.says
        try:
            return await handler(call)
        finally:
            self.inside -= 1
            if "stop" in self.events:
                self.events.append("used after stop")


def lives(of: str) -> list[Mortal]:
    """Those of one test."""
    return [each for each in Mortal.lives if each.settings.of == of]
