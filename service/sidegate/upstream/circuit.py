"""Circuit: a target that fails again and again is left alone for a while, then asked carefully.

Closed, calls pass and are counted. Open, none passes. Half-open, a few probes pass: all must succeed. What is counted
is how attempts ended that were let through in the state at hand; those of an earlier state say nothing about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Literal, TypeAlias

from sidegate.contract.host import Clock
from sidegate.settings import Circuit as CircuitSettings

BUCKETS = 10
"""Parts of the window: that is how finely it rolls."""
MAX_NAMED = 1000
"""Targets that a wildcard passed on, of which circuits are kept; beyond, the oldest is forgotten."""

PROBE_SECONDS = 1.0
"""What a caller is told to wait where a probe is under way: nobody knows how long it takes."""

CircuitState: TypeAlias = Literal["closed", "open", "half_open"]

Changed = Callable[[int], None]
"""Told +1 when a circuit opens, and -1 when it has closed again or is forgotten."""


class Outcome(Enum):
    """What an attempt says about its target."""

    GOOD = 1
    FAILED = 2
    SLOW = 3
    UNKNOWN = 4
    """A refusal, a client that left, a rate limit: nothing."""


# Asking an Enum for a member costs as much as three calls: each good call would, five times.
GOOD, UNKNOWN = Outcome.GOOD, Outcome.UNKNOWN


class Circuit:
    """Of one target. `admit` gives a ticket, which `record` takes back with the outcome."""

    def __init__(self, settings: CircuitSettings, clock: Clock, changed: Changed = lambda by: None) -> None:
        self.settings = settings
        self._clock = clock
        self._changed = changed
        self._width = settings.window / BUCKETS
        self._state = 1
        """Counts the changes of state: the ticket of whoever is let through."""
        self._open = False
        self._until = 0.0
        self._pause = settings.open_seconds
        self._probing = 0
        self._proven = 0
        self._forget()

    @property
    def open(self) -> bool:
        """Not closed: open, or half-open."""
        return self._open

    @property
    def state(self) -> CircuitState:
        """Half-open: the next call may be let through."""
        if not self._open:
            return "closed"
        return "open" if self._clock.monotonic() < self._until else "half_open"

    def admit(self) -> int:
        """A ticket for one attempt; 0 where the target is to be left alone."""
        if not self._open:
            return self._state
        if self._clock.monotonic() < self._until or self._probing + self._proven >= self.settings.probes:
            return 0
        self._probing += 1
        return self._state

    def wait(self) -> float:
        """Seconds until it is worth to ask again; 0 where an attempt would be let through."""
        if not self._open:
            return 0.0
        left = self._until - self._clock.monotonic()
        if left > 0:
            return left
        return PROBE_SECONDS if self._probing + self._proven >= self.settings.probes else 0.0

    def record(self, ticket: int, outcome: Outcome) -> None:
        """How the attempt of `ticket` ended; said once for each. After the state has changed it is not heard."""
        if ticket != self._state:
            return
        if self._open:
            self._probed(outcome)
        elif outcome is not UNKNOWN:
            self._count(outcome)

    def retire(self) -> None:
        """Forgotten: whatever comes of it now changes no metric."""
        if self._open:
            self._changed(-1)
        self._changed = lambda by: None

    # --- closed -------------------------------------------------------------------------------------------------------

    def _count(self, outcome: Outcome) -> None:
        epoch = int(self._clock.monotonic() / self._width)
        place = epoch % BUCKETS
        if self._epochs[place] != epoch:
            self._epochs[place] = epoch
            self._calls[place] = self._failed[place] = self._slow[place] = 0
        self._calls[place] += 1
        if outcome is GOOD:
            return
        if outcome is Outcome.FAILED:
            self._failed[place] += 1
        else:
            self._slow[place] += 1
        if self._is_sick(epoch):
            self._changed(1)
            self._shut()

    def _is_sick(self, epoch: int) -> bool:
        places = [place for place, began in enumerate(self._epochs) if began > epoch - BUCKETS]
        calls = sum(self._calls[place] for place in places)
        if calls < self.settings.min_calls:
            return False
        failed = sum(self._failed[place] for place in places)
        slow = sum(self._slow[place] for place in places)
        return failed >= self.settings.error_rate * calls or (slow > 0 and slow >= self.settings.slow_rate * calls)

    def _forget(self) -> None:
        self._epochs = [-math.inf] * BUCKETS
        self._calls = [0] * BUCKETS
        self._failed = [0] * BUCKETS
        self._slow = [0] * BUCKETS

    # --- open ---------------------------------------------------------------------------------------------------------

    def _shut(self) -> None:
        self._state += 1
        self._open = True
        self._probing = self._proven = 0
        self._until = self._clock.monotonic() + self._pause
        self._pause = min(self._pause * 2, self.settings.longest_open)

    def _probed(self, outcome: Outcome) -> None:
        self._probing -= 1
        if outcome is UNKNOWN:
            return
        if outcome is not GOOD:
            self._shut()
            return
        self._proven += 1
        if self._proven >= self.settings.probes:
            self._close()

    def _close(self) -> None:
        self._state += 1
        self._open = False
        self._pause = self.settings.open_seconds
        self._forget()
        self._changed(-1)


Watch = Callable[[str, str], Changed]
"""Gives what is told of changes of the circuits of a provider and a model, as the config spells it."""


NONE_NAMED: Mapping[tuple[str, str], Circuit] = MappingProxyType({})


class Circuits:
    """One circuit for each target: those of the config for good, those behind wildcards within a bound."""

    def __init__(
        self,
        settings: Mapping[str, CircuitSettings | None],
        clock: Clock,
        watch: Watch,
        named: Mapping[tuple[str, str], Circuit] = NONE_NAMED,
    ) -> None:
        """`named`: those behind wildcards as they stand."""
        self._settings = settings
        self._clock = clock
        self._watch = watch
        self._fixed: dict[tuple[str, str], Circuit | None] = {}
        self._named: dict[tuple[str, str], Circuit] = dict(named)

    def known(self, provider: str, model: str) -> Circuit | None:
        """The target's, where it has one already."""
        place = provider, model
        return self._fixed.get(place) or self._named.get(place)

    def named(self, providers: Container[str]) -> dict[tuple[str, str], Circuit]:
        """Those behind wildcards, of these providers."""
        return {place: circuit for place, circuit in self._named.items() if place[0] in providers}

    def retire(self, but: Circuits) -> None:
        """All are forgotten, but what another set has taken over."""
        kept = {id(circuit) for circuit in but._every()}
        for circuit in self._every():
            if id(circuit) not in kept:
                circuit.retire()

    def _every(self) -> list[Circuit]:
        return [each for each in (*self._fixed.values(), *self._named.values()) if each is not None]

    def declare(self, provider: str, model: str, known: Circuit | None = None) -> None:
        """A target of the config: its metric is there from the start, also for a pattern. `known`: as it stands."""
        settings, changed = self._settings[provider], self._watch(provider, model)
        if not model.endswith("*"):
            made = None if settings is None else known or Circuit(settings, self._clock, changed)
            self._fixed[provider, model] = made

    def of(self, provider: str, model: str, spelled: str) -> Circuit | None:
        """The target's circuit; `None` where its provider has none. `spelled` is the config's word for the model."""
        place = provider, model
        if place in self._fixed:
            return self._fixed[place]
        settings = self._settings[provider]
        if settings is None:
            return None
        return self._named.get(place) or self._add(place, settings, spelled)

    def _add(self, place: tuple[str, str], settings: CircuitSettings, spelled: str) -> Circuit:
        if len(self._named) >= MAX_NAMED:
            self._named.pop(next(iter(self._named))).retire()
        made = self._named[place] = Circuit(settings, self._clock, self._watch(place[0], spelled))
        return made
