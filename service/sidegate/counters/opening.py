"""Opening: the counters of a gateway, in its own memory or in the store that its config names."""

from __future__ import annotations

from sidegate.contract.counters import RateCounters, SlotCounters
from sidegate.contract.host import Clock, Log
from sidegate.contract.values import NoValues, Values
from sidegate.counters.rates import LocalRates
from sidegate.counters.shared_rates import SharedRates
from sidegate.counters.shared_slots import SharedSlots
from sidegate.counters.slots import LocalSlots
from sidegate.shared.address import shown
from sidegate.shared.store import Store, Watch
from sidegate.shared.values import SharedValues


class Counters:
    """What `host.rates`, `host.slots` and `host.values` are. An empty `url` counts in this process.

    Opens nothing before `start`.
    """

    def __init__(
        self, clock: Clock, log: Log, watch: Watch, *, url: str, prefix: str, timeout: float, lease: float
    ) -> None:
        rates, slots = LocalRates(clock), LocalSlots(clock)
        self.rates: RateCounters = rates
        self.slots: SlotCounters = slots
        self.store: Store | None = None
        self.values: Values = NoValues()
        self._values: SharedValues | None = None
        self._slots: SharedSlots | None = None
        if url:
            self.values = self._values = SharedValues(url, prefix, timeout, log, watch)
            self.store = Store(url, prefix, timeout, log, watch)
            self.rates = SharedRates(self.store, rates)
            self.slots = self._slots = SharedSlots(self.store, slots, lease)

    @property
    def shared(self) -> bool:
        return self.store is not None

    @property
    def trouble(self) -> str | None:
        """What is wrong with the store, where something is: for whoever asks how the gateway does."""
        if self.store is None or self.store.up:
            return None
        return f"the store of limits ({shown(self.store.url)}) is not available"

    async def start(self) -> None:
        """Goes on without the store where it cannot be reached. Raises `ConfigError` where its driver is missing."""
        if self.store is not None and self._slots is not None:
            await self.store.start()
            await self._slots.start()

    async def stop(self) -> None:
        """The store hears what it has not heard yet, for a second at most."""
        if self.store is not None and self._slots is not None:
            await self._slots.stop()
            await self.store.stop()
        if self._values is not None:
            await self._values.stop()
