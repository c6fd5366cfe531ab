"""Slots in this process: so many holders of a key at a time, the others in a fair queue of bounded length and wait.

A call that claims slots of several keys gets all at once or waits for those that are full. It waits only in the queues
of the keys that stop it, so that it keeps nobody from the others; its place is by when it came, in every queue.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any

from msgspec import Struct

from sidegate.contract.counters import SlotClaim
from sidegate.contract.host import Clock
from sidegate.errors import Refusal

_LONGEST_ADVICE = 30.0
"""Seconds: `retry_after` is a guess from the pace so far, and is not stretched beyond this."""


def refusal(retry_after: float) -> Refusal:
    """What is said where there is no place."""
    message = "Too many calls at a time. Try again when others have ended."
    return Refusal(429, "concurrency_limit_exceeded", message, retry_after=retry_after)


def patience(claims: Iterable[SlotClaim]) -> float:
    """Seconds that a call may wait which `claims` stop; 0 where one of them lets nobody wait."""
    return min(claim.wait if claim.queue > 0 else 0.0 for claim in claims)


class LocalSlots:
    """`contract.counters.SlotCounters` for one process. Keys that nobody holds or waits for take no memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._came = 0

    def __len__(self) -> int:
        """Keys in memory."""
        return len(self._lines)

    def in_use(self, key: str) -> int:
        """Slots of `key` that are held now."""
        line = self._lines.get(key)
        return line.holders if line else 0

    def waiting(self, key: str) -> int:
        """How many wait for a slot of `key` now."""
        line = self._lines.get(key)
        return len(line.waiters) if line else 0

    def hold(self, claims: Sequence[SlotClaim]) -> _Held:
        """Hold a slot of each for the length of the block.

        Raises `Refusal` 429 `concurrency_limit_exceeded`; `retry_after` is guessed from how fast slots came free.
        """
        return _Held(self, claims)

    def occupy(self, claims: Sequence[SlotClaim]) -> None:
        """Hold a slot of each, whatever the room: for who holds them already by other means. `leave` ends it."""
        for claim in claims:
            line = self._lines.get(claim.key) or self._open(claim.key)
            line.holders += 1

    def leave(self, claims: Sequence[SlotClaim]) -> None:
        """Free what was held, and let in who waited for it."""
        for claim in claims:
            line = self._lines[claim.key]
            line.holders -= 1
            line.freed += 1
        for claim in claims:
            self._serve(claim.key)

    def advice(self, claims: Sequence[SlotClaim]) -> float:
        """Seconds after which another try may find a slot, guessed from how fast they came free of late."""
        now = self._clock.monotonic()
        lines = [self._lines[claim.key] for claim in claims if claim.key in self._lines]
        return max([line.advice(now) for line in lines], default=1.0)

    async def enter(self, claims: Sequence[SlotClaim]) -> None:
        """Hold a slot of each, when there is one. Raises `Refusal`; who is refused or cancelled holds nothing."""
        lines = self._lines
        for claim in claims:
            line = lines.get(claim.key)
            if line is None:
                if claim.limit < 1:
                    raise ValueError("limit must be at least 1")
            elif line.holders + len(line.waiters) >= claim.limit:
                return await self._queue(claims)
        return self.occupy(claims)

    async def _queue(self, claims: Sequence[SlotClaim]) -> None:
        self._came += 1
        waiter = _Waiter(self._came, claims, asyncio.get_running_loop().create_future())
        stopping = self._stopping(waiter)
        wait = patience(stopping)
        full = [claim for claim in stopping if len(self._lines[claim.key].waiters) >= claim.queue]
        if full or wait <= 0:
            raise refusal(self.advice(full or stopping))
        self._place(waiter, stopping)
        try:
            async with asyncio.timeout(wait):
                await waiter.turn
        except BaseException as error:
            if waiter.let_in:
                # A slot was given in the moment in which it was given up.
                self.leave(claims)
            else:
                self._withdraw(waiter)
            if isinstance(error, TimeoutError):
                raise refusal(self.advice(stopping)) from None
            raise

    def _stopping(self, waiter: _Waiter) -> list[SlotClaim]:
        """The claims that find no slot: it is taken, or somebody who came earlier waits for it."""
        found = []
        for claim in waiter.claims:
            line = self._lines.get(claim.key)
            if line is not None and line.holders + line.before(waiter) >= claim.limit:
                found.append(claim)
        return found

    def _place(self, waiter: _Waiter, stopping: Sequence[SlotClaim]) -> None:
        waiter.queues = tuple([claim.key for claim in stopping])
        for key in waiter.queues:
            insort(self._lines[key].waiters, waiter)

    def _withdraw(self, waiter: _Waiter) -> None:
        """Out of all queues; who stood behind moves up."""
        queues, waiter.queues = waiter.queues, ()
        for key in queues:
            self._lines[key].waiters.remove(waiter)
        for key in queues:
            self._serve(key)

    def _serve(self, key: str) -> None:
        """Let in, in the order they came, those whom `key` stopped and nothing stops any more."""
        line = self._lines.get(key)
        if line is None:
            return
        for waiter in tuple(line.waiters):
            if line.holders >= waiter.limit(key):
                break
            if waiter.turn.done():
                continue
            stopping = self._stopping(waiter)
            for name in waiter.queues:
                self._lines[name].waiters.remove(waiter)
            self._place(waiter, stopping)
            if not stopping:
                self.occupy(waiter.claims)
                waiter.let_in = True
                waiter.turn.set_result(None)
        if not line.holders and not line.waiters:
            del self._lines[key]

    def _open(self, key: str) -> _Line:
        line = self._lines[key] = _Line(self._clock.monotonic())
        return line


class _Held(Struct, frozen=True):
    """Round the block of a holder."""

    slots: LocalSlots
    claims: Sequence[SlotClaim]

    def __aenter__(self) -> Coroutine[Any, Any, None]:
        return self.slots.enter(self.claims)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.slots.leave(self.claims)


class _Waiter:
    """Who waits, with all its claims. Sorts by when it came."""

    __slots__ = ("claims", "let_in", "number", "queues", "turn")

    def __init__(self, number: int, claims: Sequence[SlotClaim], turn: asyncio.Future[None]) -> None:
        self.number = number
        self.claims = claims
        self.turn = turn
        self.queues: tuple[str, ...] = ()
        self.let_in = False

    def __lt__(self, other: _Waiter) -> bool:
        return self.number < other.number

    def limit(self, key: str) -> int:
        return min(claim.limit for claim in self.claims if claim.key == key)


class _Line:
    """Who holds and who waits for one key."""

    __slots__ = ("_since", "freed", "holders", "waiters")

    def __init__(self, now: float) -> None:
        self.holders = 0
        self.waiters: list[_Waiter] = []
        self.freed = 0
        self._since = now

    def before(self, waiter: _Waiter) -> int:
        """How many wait here who came earlier."""
        return bisect_left(self.waiters, waiter)

    def advice(self, now: float) -> float:
        """Seconds until all who wait now, and one more, would have had a slot at the pace of this busy spell."""
        if not self.freed:
            return 1.0
        pace = (now - self._since) / self.freed
        return min(max(pace * (len(self.waiters) + 1), 1.0), _LONGEST_ADVICE)
