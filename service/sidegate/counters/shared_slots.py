"""Slots that all replicas share: leases in the store, renewed by one task of each process for all that it holds.

A slot that is left is free in the store with the next round trip. Those of a process that was killed come free when
their lease ends. Who waits is woken by the store when it is first in its row, and looks for itself now and then.

Every holder is counted in this process too, so that it can count for itself while the store is away, those who hold by
the store included; and the store hears of all of them when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from secrets import token_hex
from types import TracebackType

from sidegate.contract.counters import SlotClaim
from sidegate.counters.keys import shared_key
from sidegate.counters.shared_rates import unavailable
from sidegate.counters.slot_script import ENTER, LEAVE, RENEW
from sidegate.counters.slots import LocalSlots, patience, refusal
from sidegate.counters.wakes import Wakes
from sidegate.shared.line import StoreDown
from sidegate.shared.script import Argument, Order
from sidegate.shared.store import Store

LOOK_SECONDS = 1.0
"""How often a call that waits looks for itself, in case that it was not woken. Less often where many wait."""

LOOKS_A_SECOND = 500
"""Of one process, for all its calls that wait."""

UNHEARD = 4
"""After so many looks that did not come a call loses its place: so long a row may stand whose first has died."""

RENEWALS = 3
"""In the time of one lease."""

_MOST_RENEWED = 200
"""Leases in one run of the script, so that it holds up nobody else's."""


class SharedSlots:
    """`contract.counters.SlotCounters` on a shared store. `lease` is in seconds."""

    def __init__(self, store: Store, local: LocalSlots, lease: float) -> None:
        self.store = store
        self.local = local
        self.lease = lease
        self.name = token_hex(8)
        """Of this process, in the store."""
        self.wakes = Wakes(store, self.name)
        self._held: dict[str, Sequence[SlotClaim]] = {}
        self._count = 0
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None
        store.came_up.append(self.renew)

    def __len__(self) -> int:
        """Calls of this process that hold slots."""
        return len(self._held)

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep(), name="slots")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.wakes.stop()

    def hold(self, claims: Sequence[SlotClaim]) -> _Held:
        """Hold a slot of each for the length of the block."""
        return _Held(self, claims)

    async def enter(self, claims: Sequence[SlotClaim]) -> str:
        """Hold a slot of each, when there is one; the holder's id. Raises `Refusal`."""
        for claim in claims:
            if claim.limit < 1:
                raise ValueError("limit must be at least 1")
        self._count += 1
        id = f"{self.name}.{self._count}"
        try:
            await self._enter(id, claims)
        except BaseException:
            # Also what was asked and not answered is undone: it is run after.
            self._left(id, claims)
            raise
        self._held[id] = claims
        return id

    def leave(self, id: str) -> None:
        """Never waits: the store hears of it with the next round trip."""
        claims = self._held.pop(id)
        self.local.leave(claims)
        self._left(id, claims)

    def renew(self) -> None:
        """Tell the store of everybody who holds a slot here."""
        leases = [(self._keys(claim)[0], id) for id, claims in self._held.items() for claim in claims]
        for start in range(0, len(leases), _MOST_RENEWED):
            some = leases[start : start + _MOST_RENEWED]
            keys, ids = [key for key, _ in some], [id for _, id in some]
            self.store.post(Order(RENEW, keys, [int(self.lease * 1000), *ids]))

    async def _enter(self, id: str, claims: Sequence[SlotClaim]) -> None:
        try:
            ticket, stopping = await self._ask(id, 0, claims, any(claim.wait > 0 for claim in claims))
            if stopping:
                wait = patience(stopping)
                if not ticket or wait <= 0:
                    raise refusal(self.local.advice(stopping))
                await self._wait(id, ticket, claims, wait)
            self.local.occupy(claims)
        except StoreDown:
            await self._enter_alone(claims)

    async def _wait(self, id: str, ticket: int, claims: Sequence[SlotClaim], wait: float) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(wait):
                with self.wakes.listening(id) as woken:
                    while True:
                        await woken(self._look())
                        _, stopping = await self._ask(id, ticket, claims, True)
                        if not stopping:
                            return
        except TimeoutError:
            raise refusal(self.local.advice(claims)) from None
        finally:
            self._waiting -= 1

    def _look(self) -> float:
        """Seconds between looks."""
        return max(LOOK_SECONDS, self._waiting / LOOKS_A_SECOND)

    async def _enter_alone(self, claims: Sequence[SlotClaim]) -> None:
        if any(claim.on_store_failure == "deny" for claim in claims):
            raise unavailable()
        await self.local.enter([claim for claim in claims if claim.on_store_failure == "local"])
        self.local.occupy([claim for claim in claims if claim.on_store_failure == "allow"])

    async def _ask(
        self, id: str, ticket: int, claims: Sequence[SlotClaim], may_wait: bool
    ) -> tuple[int, list[SlotClaim]]:
        keys = [f"{self.store.tag}tickets"]
        times = int(self.lease * 1000), int(UNHEARD * self._look() * 1000)
        arguments: list[Argument] = [id, ticket, *times, int(may_wait), self.wakes.channel]
        for claim in claims:
            keys += self._keys(claim)
            arguments += (claim.limit, claim.queue)
        entered, *rest = await self.store.ask("slots", Order(ENTER, keys, arguments))
        return (0, []) if entered else (rest[0], [claims[index - 1] for index in rest[1:]])

    def _left(self, id: str, claims: Sequence[SlotClaim]) -> None:
        keys = [key for claim in claims for key in self._keys(claim)]
        self.store.post(Order(LEAVE, keys, [id, self.wakes.channel]))

    def _keys(self, claim: SlotClaim) -> tuple[str, str, str]:
        """Holders, row and heard."""
        key = shared_key(claim.key)
        return f"{self.store.tag}s:{key}", f"{self.store.tag}w:{key}", f"{self.store.tag}h:{key}"

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.lease / RENEWALS)
            if self.store.up:
                self.renew()


class _Held:
    """Round the block of a holder."""

    __slots__ = ("_claims", "_id", "_slots")

    def __init__(self, slots: SharedSlots, claims: Sequence[SlotClaim]) -> None:
        self._slots = slots
        self._claims = claims
        self._id = ""

    async def __aenter__(self) -> None:
        self._id = await self._slots.enter(self._claims)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slots.leave(self._id)
