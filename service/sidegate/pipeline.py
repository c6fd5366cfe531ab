"""The pipeline: plugins round a core, each one inside the one before it in the list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from sidegate.contract.call import Call
from sidegate.contract.frame import Frame
from sidegate.contract.host import Clock
from sidegate.contract.plugin import Handler, Plugin
from sidegate.contract.reply import Reply
from sidegate.contract.stages import Hold
from sidegate.errors import PluginError, SidegateError

AnyPlugin = Plugin[object]  # type: ignore[type-var]  # a pipeline does not care for the settings' type


class Named(Protocol):
    """A plugin with the name it goes by."""

    @property
    def name(self) -> str: ...
    @property
    def plugin(self) -> AnyPlugin: ...


Report = Callable[[str, Exception], None]
"""Told of a plugin's failure: its name and what it raised."""


def chain(plugins: Sequence[Named], core: Handler, clock: Clock, report: Report) -> Handler:
    """The onion, built once: the first plugin is the outermost, `core` answers."""
    handler = core
    for named in reversed(plugins):
        layer = _ObserverLayer if named.plugin.fails_open else _GuardLayer
        handler = layer(named.name, named.plugin, handler, clock, report)
    return handler


class PluginFrame:
    """One plugin's stretch of one call: clocks its own time and keeps what became of what is further in.

    Every plugin of every call goes through `handle` and `leave`, so they call nothing that they can do without.
    """

    __slots__ = ("_clock", "call", "failure", "layer", "leaked", "mark", "overdue", "own", "reply", "since")

    def __init__(self, layer: _Layer, call: Call) -> None:
        self.layer = layer
        self.call = call
        self.mark = len(call.stages)
        self.leaked = False
        self.overdue = False
        self.own = 0.0
        self.reply: Reply | None = None
        self.failure: BaseException | None = None
        self._clock = layer.monotonic
        self.since = self._clock()
        call.notes.frame = self

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def watches_only(self) -> bool:
        return self.layer.watches_only

    def reported(self, error: Exception) -> None:
        self.call.notes.marks.append((self.layer.name, "failed"))
        self.layer.reported(error)

    async def handle(self, call: Call) -> Reply:
        """The `handler` that the plugin is given."""
        if self.leaked:
            raise RuntimeError(f"{self.name} awaited handler again after something of the first run was released")
        self.own += self._clock() - self.since
        self.since = 0.0
        before = call.sent
        try:
            reply = self.reply = await self.layer.inner(call)
            self.failure = None
            return reply
        except BaseException as error:
            self.failure = error
            raise
        finally:
            if call.sent != before:
                self.leaked = not self._held()
            self.since = self._clock()
            call.notes.frame = self

    def _held(self) -> bool:
        if len(self.call.stages) == self.mark:
            return False
        holds = (stage for stage in self.call.stages[self.mark :] if isinstance(stage, Hold))
        return any(not (hold.released or hold.leaked) for hold in holds)

    def pause(self) -> None:
        self.own += self._clock() - self.since
        self.since = 0.0

    def resume(self) -> None:
        self.since = self._clock()
        self.call.notes.frame = self

    def leave(self, outer: Frame | None) -> None:
        """What the plugin asked of the chunks ends with it."""
        own = self.own + self._clock() - self.since
        self.since = 0.0
        stages = self.call.stages
        notes = self.call.notes
        notes.frame = outer
        name = self.layer.name
        if len(stages) > self.mark:
            notes.marks.append((name, tuple(map(type, stages[self.mark :]))))
            del stages[self.mark :]
        if self.reply is None and self.failure is None:
            notes.marks.append((name, "turned"))
        notes.plugin_seconds[name] = notes.plugin_seconds.get(name, 0.0) + own


class _Layer:
    def __init__(self, name: str, plugin: AnyPlugin, inner: Handler, clock: Clock, report: Report) -> None:
        self.name = name
        self.plugin = plugin
        self.inner = inner
        self.monotonic = clock.monotonic
        self.watches_only = plugin.fails_open
        self._report = report

    def reported(self, error: Exception) -> None:
        self._report(self.name, error)


class _GuardLayer(_Layer):
    """Fails closed: what goes wrong in the plugin ends the call."""

    async def __call__(self, call: Call) -> Reply:
        outer = call.notes.frame
        frame = PluginFrame(self, call)
        try:
            return await self.plugin(call, frame.handle)
        except asyncio.CancelledError:
            if not _overdue(frame):
                raise
            error = PluginError(self.name, overdue=True)
            frame.reported(error)
            raise error from None
        except SidegateError as error:
            if error is not frame.failure and error.plugin is None:
                error.plugin = self.name
            raise
        except Exception as error:
            if error is frame.failure:
                raise
            frame.reported(error)
            raise PluginError(self.name) from error
        finally:
            frame.leave(outer)


class _ObserverLayer(_Layer):
    """Fails open: the handler runs once whatever the plugin does, and its outcome stands."""

    async def __call__(self, call: Call) -> Reply:
        outer = call.notes.frame
        frame = PluginFrame(self, call)
        try:
            await self._watched(call, frame)
            if frame.failure is not None:
                raise frame.failure
            if frame.reply is None:
                return await frame.handle(call)
            return frame.reply
        finally:
            frame.leave(outer)

    async def _watched(self, call: Call, frame: PluginFrame) -> None:
        try:
            await self.plugin(call, lambda call: self._once(call, frame))
        except asyncio.CancelledError:
            if not _overdue(frame):
                raise
            frame.reported(PluginError(self.name, overdue=True))
        except Exception as error:
            if error is not frame.failure:
                frame.reported(error)

    async def _once(self, call: Call, frame: PluginFrame) -> Reply:
        if frame.failure is not None:
            raise frame.failure
        if frame.reply is not None:
            return frame.reply
        return await frame.handle(call)


def _overdue(frame: PluginFrame) -> bool:
    """Whether the cancellation was the bound on the plugin's own time; the task then goes on."""
    if not frame.overdue:
        return False
    frame.overdue = False
    task = asyncio.current_task()
    return task is not None and task.uncancel() == 0
