"""Deadline: the phases of an attempt on one timer that is re-armed only when it fires.

Moving it costs an attribute, so it can be moved twice per event: it runs while the provider is waited for, and stands
still while a slow reader is.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from sidegate.contract.call import Call
from sidegate.contract.reply import Attempt
from sidegate.contract.timeouts import Timeouts
from sidegate.errors import PhaseTimeout


def spent(call: Call, attempt: Attempt) -> float:
    """Seconds of the call's total that earlier attempts have taken: `total` is of all of them together."""
    return attempt.started - call.attempts[0].started if call.attempts else 0.0


class Deadline:
    """`with Deadline(timeouts) as deadline:` turns the cancellation it causes into `PhaseTimeout`.

    `gone` are seconds of the total that have passed before.
    """

    def __init__(self, timeouts: Timeouts, gone: float = 0.0) -> None:
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + timeouts.total - gone
        self._phase = "first_token"
        self._limit = timeouts.first_token
        self._due = self._until = 0.0
        self._fired: PhaseTimeout | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._task = asyncio.current_task()

    def wait(self, phase: str, seconds: float) -> None:
        """The provider is waited for: for `seconds` at most, in this phase."""
        self._phase, self._limit = phase, seconds
        self._due = self._until = self._loop.time() + seconds
        if self._handle is None or self._due < self._handle.when():
            self._arm()

    def again(self) -> None:
        """Wait for the same phase as before, anew."""
        self._due = self._loop.time() + self._limit

    def resume(self) -> None:
        """Wait on for the same phase, no longer than it had."""
        self._due = self._until
        if self._handle is None or self._due < self._handle.when():
            self._arm()

    def pause(self) -> None:
        """Something else is waited for: only the total runs on."""
        self._due = 0.0

    def __enter__(self) -> Deadline:
        self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._fired is None:
            return
        if self._task is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise self._fired from error

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        when = min(self._due or self._loop.time() + self._limit, self._end)
        self._handle = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if now >= self._end:
            self._fire("total", self._timeouts.total)
        elif self._due and now >= self._due:
            self._fire(self._phase, self._limit)
        else:
            self._handle = None
            self._arm()

    def _fire(self, phase: str, seconds: float) -> None:
        self._fired = PhaseTimeout(phase, seconds)
        if self._task is not None:
            self._task.cancel()
