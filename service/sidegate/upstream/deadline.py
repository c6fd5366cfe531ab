"""Deadline: the phases of an attempt on one timer that is re-armed only when it fires.

Moving it costs an attribute, so it can be moved twice per event: it runs while the provider is waited for, and stands
still while a slow reader is.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType

from sidegate.contract.call import Call
from sidegate.contract.reply import Attempt
from sidegate.contract.timeouts import Timeouts
from sidegate.errors import PhaseTimeout

FAR_SECONDS = 5.0
"""From here on a quarter of a second later is as good."""
GRAIN_SECONDS = 0.25
PORTION = 100
"""So many are looked at before others have their turn: thousands of streams may have begun together."""


def spent(call: Call, attempt: Attempt) -> float:
    """Seconds of the call's total that earlier attempts have taken: `total` is of all of them together."""
    return 0.0 if attempt.number == 1 else attempt.started - call.attempts[0].started


class Dial:
    """What is due far off, by the quarter of a second it is due in: one timer for each, and not for each call."""

    def __init__(self) -> None:
        self._due: dict[int, set[Deadline]] = {}

    def put(self, deadline: Deadline, when: float, loop: asyncio.AbstractEventLoop) -> set[Deadline]:
        """`deadline.check` will be called then, or a little later, unless it is taken out of the set again."""
        mark = int(when / GRAIN_SECONDS) + 1
        due = self._due.get(mark)
        if due is None:
            due = self._due[mark] = set()
            loop.call_at(mark * GRAIN_SECONDS, self._strike, mark, loop)
        due.add(deadline)
        return due

    def _strike(self, mark: int, loop: asyncio.AbstractEventLoop) -> None:
        due = self._due[mark]
        for _ in range(min(len(due), PORTION)):
            due.pop().check()
        if due:
            loop.call_soon(self._strike, mark, loop)
        else:
            del self._due[mark]


class Deadline:
    """`with Deadline(timeouts) as deadline:` turns the cancellation it causes into `PhaseTimeout`.

    `gone` are seconds of the total that have passed before. With a `dial` what is far off is a little late.
    """

    _phase = "first_token"
    _due = _until = 0.0
    _when = math.inf
    _fired: PhaseTimeout | None = None
    _handle: asyncio.TimerHandle | None = None
    _beside: set[Deadline] | None = None

    def __init__(self, timeouts: Timeouts, gone: float = 0.0, dial: Dial | None = None) -> None:
        self._timeouts = timeouts
        self.loop = loop = asyncio.get_running_loop()
        """That of its task."""
        self._end = loop.time() + timeouts.total - gone
        self._limit = timeouts.first_token
        self._dial = dial
        # Told the loop, it does not ask for it: a system call each time.
        self._task = asyncio.current_task(loop)

    def wait(self, phase: str, seconds: float) -> None:
        """The provider is waited for: for `seconds` at most, in this phase."""
        self._phase, self._limit = phase, seconds
        self._due = self._until = self.loop.time() + seconds
        if self._due < self._when:
            self._disarm()
            self._arm()

    def again(self) -> None:
        """Wait for the same phase as before, anew."""
        self._due = self.loop.time() + self._limit

    def resume(self) -> None:
        """Wait on for the same phase, no longer than it had."""
        self._due = self._until
        if self._due < self._when:
            self._disarm()
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
        self._disarm()
        if self._fired is None:
            return
        if self._task is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise self._fired from error

    def check(self) -> None:
        """What it was armed for has come: fire, or be armed anew for what it has moved to."""
        now = self.loop.time()
        if now >= self._end:
            self._fire("total", self._timeouts.total)
        elif self._due and now >= self._due:
            self._fire(self._phase, self._limit)
        else:
            self._handle = self._beside = None
            self._arm()

    def _arm(self) -> None:
        now = self.loop.time()
        when = self._due or now + self._limit
        if when > self._end:
            when = self._end
        self._when = when
        if self._dial is not None and when - now >= FAR_SECONDS:
            self._beside = self._dial.put(self, when, self.loop)
        else:
            self._handle = self.loop.call_at(when, self.check)

    def _disarm(self) -> None:
        if self._beside is not None:
            self._beside.discard(self)
            self._beside = None
        elif self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self, phase: str, seconds: float) -> None:
        self._fired = PhaseTimeout(phase, seconds)
        if self._task is not None:
            self._task.cancel()
