"""Feeds: how the pieces of a reply come to the pump, with the clock running only while the provider is waited for.

A model says a token at a time, so what is done for each piece counts. `drive` takes a piece the moment it is read from
the socket, without waking a task. Mostly that is all, for a client that reads makes nobody wait. What has to be waited
for is begun there and then, as the task it belongs to, which goes on with the rest of it; what comes meanwhile stays in
the response, within its bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import Context
from typing import Any

from sidegate.contract.reply import Attempt
from sidegate.pump import Take
from sidegate.upstream.deadline import Deadline
from sidegate.upstream.response import Response


class Feed:
    """A `sidegate.pump.Source`: the body of one reply. `context` is that of the task which drives it; where it is not
    known, that task itself does whatever may have to wait."""

    __slots__ = (
        "_attempt",
        "_began",
        "_context",
        "_deadline",
        "_idle",
        "_loop",
        "_response",
        "_stopped",
        "_take",
        "_task",
    )

    def __init__(
        self, response: Response, deadline: Deadline, attempt: Attempt, idle: float, context: Context | None
    ) -> None:
        self._response = response
        self._deadline = deadline
        self._attempt = attempt
        self._idle = idle
        self._context = context
        self._loop = deadline.loop
        self._began = False
        self._take: Take | None = None
        self._task: asyncio.Task[Any] | None = None
        self._stopped: Awaitable[bool] | None = None

    async def piece(self) -> bytes:
        """The next bytes; empty at the end. Raises `CutError`."""
        if self._began:
            self._deadline.again()
        elif self._attempt.first_token is None:
            # Heads, comments and pings are no token: they do not put off the first one.
            self._deadline.resume()
        else:
            self._began = True
            self._deadline.wait("idle", self._idle)
        piece = await self._response.piece()
        self._deadline.pause()
        return piece

    async def drive(self, take: Take) -> None:
        """Let `take` have every piece as it comes, until it wants no more, or there is none: `piece` says why."""
        response = self._response
        if not self._began or response.inflates:
            return
        self._take, self._task = take, asyncio.current_task(self._loop)
        more = True
        while more:
            while piece := response.taken():
                rest = take(piece)
                if rest is not None and not await rest:
                    return
            if response.ended:
                return
            self._deadline.again()
            more = await self._driven()
            self._deadline.pause()

    async def _driven(self) -> bool:
        """Until a piece needed the task, which has then done with it, or the body has ended. Whether more is wanted."""
        try:
            if (waiter := self._response.listened(self._step)) is not None:
                await waiter
        except asyncio.CancelledError as error:
            if not isinstance(self._stopped, _Rest):
                raise
            # It is the rest of a step that is cancelled: perhaps by a bound of its own.
            self._stopped.thrown = error
        finally:
            self._response.heard()
        stopped, self._stopped = self._stopped, None
        if stopped is None:
            return True
        self._deadline.pause()
        return await stopped

    def _step(self, piece: bytes) -> bool:
        """Called with what a read of the socket brought. Whether to go on like this."""
        assert self._take is not None
        try:
            rest = self._take(piece)
        except Exception as error:
            self._stopped = _Failure(error)
            return False
        if rest is not None and not self._begun(rest):
            return False
        self._deadline.again()
        return True

    def _begun(self, rest: Coroutine[Any, Any, bool]) -> bool:
        """Do as much as can be done without waiting. Whether that was all."""
        if self._task is None or self._context is None or asyncio.current_task(self._loop) is not None:
            self._stopped = rest
            return False
        asyncio.tasks._enter_task(self._loop, self._task)
        try:
            waits_for = self._context.run(rest.send, None)
        except StopIteration as done:
            if done.value:
                return True
            self._stopped = _Done()
        except Exception as error:
            self._stopped = _Failure(error)
        else:
            self._stopped = _Rest(rest, waits_for)
        finally:
            asyncio.tasks._leave_task(self._loop, self._task)
        return False


class _Done:
    """No more is wanted."""

    def __await__(self) -> Generator[Any, Any, bool]:
        return False
        yield


class _Failure:
    """What a step raised, to be raised in its task."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __await__(self) -> Generator[Any, Any, bool]:
        raise self._error
        yield


class _Rest:
    """What is left of a step that waits for something, to be done by its task."""

    def __init__(self, step: Coroutine[Any, Any, bool], waits_for: Any) -> None:
        self._step = step
        self._waits_for = waits_for
        self.thrown: BaseException | None = None

    def __await__(self) -> Generator[Any, Any, bool]:
        waits_for = self._waits_for
        try:
            if self.thrown is not None:
                waits_for = self._step.throw(self.thrown)
            while True:
                try:
                    value = yield waits_for
                except BaseException as error:
                    waits_for = self._step.throw(error)
                else:
                    waits_for = self._step.send(value)
        except StopIteration as done:
            more: bool = done.value
            return more
