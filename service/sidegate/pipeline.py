"""The pipeline: plugins round a core, each one inside the one before it in the list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from sidegate.contract.call import Call
from sidegate.contract.frame import Frame
from sidegate.contract.host import Clock
from sidegate.contract.plugin import Handler, Plugin
from sidegate.contract.reply import Reply
from sidegate.contract.stages import Hold
from sidegate.errors import FAULTS, PluginError, SidegateError

AnyPlugin = Plugin[object]  # type: ignore[type-var]  # a pipeline does not care for the settings' type


class Named(Protocol):
    """A plugin with the name it goes by."""

    @property
    def name(self) -> str: ...
    @property
    def plugin(self) -> AnyPlugin: ...


Report = Callable[[str, Exception | SystemExit], None]
"""Told of a plugin's failure: its name and what it raised."""


def chain(plugins: Sequence[Named], core: Handler, clock: Clock, report: Report) -> Handler:
    """The onion, built once: the first plugin is the outermost, `core` answers."""
    if not plugins:
        return core
    inner: _Inner = _Core(core, clock)
    for named in reversed(plugins):
        layer = _ObserverLayer if named.plugin.fails_open else _GuardLayer
        inner = layer(named.name, named.plugin, inner, clock, report)
    outermost = inner
    return lambda call: outermost.enter(call, None)


class _Inner(Protocol):
    """What is further in: told in whose stretch it is awaited, if in one, and tells it what became of the call.

    So one coroutine a plugin is enough beside the plugin's own: they all wait as long as a stream lasts.
    """

    def enter(self, call: Call, outside: PluginFrame | None) -> Coroutine[Any, Any, Reply]: ...


class PluginFrame:
    """One plugin's stretch of one call: clocks its own time and keeps what became of what is further in.

    Every plugin of every call has one, so its methods call nothing that they can do without. `now` is in monotonic
    seconds: where one plugin hands over to the next, the clock is read once for both. A layer makes it (`begin`) and
    sets what it begins with: an `__init__`, which is called by way of C, costs more than all that it would set.
    """

    __slots__ = (
        "call",
        "failure",
        "forgotten",
        "inside",
        "layer",
        "leaked",
        "mark",
        "outer",
        "overdue",
        "own",
        "reply",
        "sent",
        "since",
    )

    layer: _Layer
    call: Call
    outer: Frame | None
    """Whose code ran before."""
    mark: int
    """Stages of the call that were there before."""
    since: float
    own: float
    sent: int
    leaked: bool
    forgotten: int
    inside: bool
    """What is further in is at work."""
    overdue: bool
    reply: Reply | None
    failure: BaseException | None

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def watches_only(self) -> bool:
        return self.layer.watches_only

    def reported(self, error: Exception | SystemExit) -> None:
        self.call.notes.marks.append((self.layer.name, "failed"))
        self.layer.reported(error)

    def handle(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """The `handler` that a guard is given."""
        return self.layer.inner.enter(call, self)

    async def once(self, call: Call) -> Reply:
        """The `handler` that an observer is given: it runs once, and what became of it stands."""
        if self.failure is not None:
            raise self.failure
        if self.reply is not None:
            return self.reply
        return await self.layer.inner.enter(call, self)

    def passes(self, call: Call, now: float) -> None:
        """The plugin waits for what is further in."""
        if self.inside:
            raise RuntimeError(f"{self.name} awaited handler while an earlier await of it goes on")
        if self.leaked:
            raise RuntimeError(f"{self.name} awaited handler again after something of the first run was released")
        self.own += now - self.since
        self.since = 0.0
        self.sent = call.sent
        self.inside = True
        self.forgotten = -1

    def came(self, call: Call, reply: Reply | None, error: BaseException | None, now: float) -> None:
        """What is further in has ended: the plugin goes on."""
        self.inside = False
        self.failure = error
        if error is None:
            self.reply = reply
        if call.sent != self.sent:
            self.leaked = len(call.stages) == self.mark or not self._held()
        self.since = now
        call.notes.frame = self

    def _held(self) -> bool:
        holds = (stage for stage in self.call.stages[self.mark :] if isinstance(stage, Hold))
        return any(not (hold.released or hold.leaked) for hold in holds)

    def pause(self) -> None:
        monotonic = self.layer.monotonic
        self.own += monotonic() - self.since
        self.since = 0.0

    def resume(self) -> None:
        monotonic = self.layer.monotonic
        self.since = monotonic()
        self.call.notes.frame = self

    def leave(self, call: Call, outside: PluginFrame | None, reply: Reply | None, error: BaseException | None) -> None:
        """What the plugin asked of the chunks ends with it, and who is further out goes on."""
        monotonic = self.layer.monotonic
        now = monotonic()
        notes = call.notes
        stages = call.stages
        name = self.layer.name
        if len(stages) > self.mark:
            notes.marks.append((name, tuple(map(type, stages[self.mark :]))))
            del stages[self.mark :]
        if self.reply is None and self.failure is None:
            notes.marks.append((name, "turned"))
        notes.plugin_seconds[name] = notes.plugin_seconds.get(name, 0.0) + self.own + now - self.since
        self.since = 0.0
        if outside is None:
            notes.frame = self.outer
        else:
            outside.came(call, reply, error, now)


class _Core:
    """What answers, as the plugin next to it meets it."""

    __slots__ = ("_answers", "_monotonic")

    def __init__(self, answers: Handler, clock: Clock) -> None:
        self._answers = answers
        self._monotonic = clock.monotonic

    async def enter(self, call: Call, outside: PluginFrame | None) -> Reply:
        assert outside is not None
        outside.passes(call, self._monotonic())
        try:
            reply = await self._answers(call)
        except BaseException as error:
            outside.came(call, None, error, self._monotonic())
            raise
        outside.came(call, reply, None, self._monotonic())
        return reply


class _Layer:
    """A plugin in its place. What it keeps to be called (the plugin, the clock) is called by a local name: called as an
    attribute, it would be looked for among the methods of the class each time."""

    def __init__(self, name: str, plugin: AnyPlugin, inner: _Inner, clock: Clock, report: Report) -> None:
        self.name = name
        self.plugin = plugin.__call__
        self.inner = inner
        self.monotonic = clock.monotonic
        self.watches_only = plugin.fails_open
        self._report = report

    def begin(self, call: Call, outside: PluginFrame | None) -> PluginFrame:
        """The plugin's stretch of this call, from now on."""
        monotonic = self.monotonic
        now = monotonic()
        if outside is not None:
            outside.passes(call, now)
        notes = call.notes
        frame = PluginFrame()
        frame.layer = self
        frame.call = call
        frame.outer = notes.frame
        frame.mark = len(call.stages)
        frame.since = now
        frame.own = 0.0
        frame.leaked = frame.overdue = frame.inside = False
        frame.forgotten = -1
        frame.reply = frame.failure = None
        notes.frame = frame
        return frame

    def reported(self, error: Exception | SystemExit) -> None:
        self._report(self.name, error)


class _GuardLayer(_Layer):
    """Fails closed: what goes wrong in the plugin ends the call."""

    async def enter(self, call: Call, outside: PluginFrame | None) -> Reply:
        frame = self.begin(call, outside)
        plugin = self.plugin
        try:
            reply = await plugin(call, frame.handle)
            if not isinstance(reply, Reply):
                raise TypeError(f"gave back {type(reply).__name__} and no Reply: `return await handler(call)`")
            if frame.forgotten == call.sent:
                raise RuntimeError("held the reply, and neither released nor dropped it")
        except BaseException as error:
            failure = self._failure(frame, error)
            frame.leave(call, outside, None, failure)
            if failure is error:
                raise
            raise failure from failure.__cause__
        frame.leave(call, outside, reply, None)
        return reply

    def _failure(self, frame: PluginFrame, error: BaseException) -> BaseException:
        """The error as it goes on: what is the plugin's own is named after it."""
        if isinstance(error, asyncio.CancelledError):
            if not _overdue(frame):
                return error
            late = PluginError(self.name, overdue=True)
            frame.reported(late)
            return late
        if error is frame.failure or not isinstance(error, FAULTS):
            return error
        if isinstance(error, SidegateError):
            error.plugin = error.plugin or self.name
            return error
        frame.reported(error)
        failure = PluginError(self.name)
        failure.__cause__ = error
        return failure


class _ObserverLayer(_Layer):
    """Fails open: the handler runs once whatever the plugin does, and its outcome stands."""

    async def enter(self, call: Call, outside: PluginFrame | None) -> Reply:
        frame = self.begin(call, outside)
        plugin = self.plugin
        try:
            try:
                await plugin(call, frame.once)
            except (*FAULTS, asyncio.CancelledError) as error:
                self._watch(frame, error)
            reply = frame.reply if frame.reply is not None else await frame.once(call)
        except BaseException as error:
            frame.leave(call, outside, None, error)
            raise
        frame.leave(call, outside, reply, None)
        return reply

    def _watch(self, frame: PluginFrame, error: Exception | SystemExit | asyncio.CancelledError) -> None:
        """What goes wrong in the plugin is told and stepped over; a cancellation that is not its own goes on."""
        if isinstance(error, asyncio.CancelledError):
            if not _overdue(frame):
                raise error
            error = PluginError(self.name, overdue=True)
        if error is not frame.failure:
            frame.reported(error)


def _overdue(frame: PluginFrame) -> bool:
    """Whether the cancellation was the bound on the plugin's own time; the task then goes on."""
    if not frame.overdue:
        return False
    frame.overdue = False
    task = asyncio.current_task()
    return task is not None and task.uncancel() == 0
