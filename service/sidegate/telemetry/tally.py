"""Tallies: what is counted for every call, kept as plain numbers and told to Prometheus when it asks.

The client library's own counters take a lock for each number, and a histogram one for every bucket it looks at; of a
call there are some twenty numbers, all written by the event loop's thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

TOGETHER = 100
"""Values that are put into buckets at a time."""


class Count:
    """A number that grows: add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Spread:
    """How often a value fell below each bound, and the sum of them.

    Values wait until there are some, and are put into their buckets together: one by one takes twice as many steps.
    """

    __slots__ = ("_bounds", "_counts", "_fresh", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._fresh: list[float] = []
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.sum += value
        fresh = self._fresh
        fresh.append(value)
        if len(fresh) >= TOGETHER:
            self._sort()

    @property
    def counts(self) -> list[int]:
        """By bucket, the last of which has no bound."""
        self._sort()
        return self._counts

    def _sort(self) -> None:
        fresh, self._fresh = self._fresh, []
        fresh.sort()
        below = 0
        for bucket, bound in enumerate(self._bounds):
            up_to = bisect_right(fresh, bound, below)
            self._counts[bucket] += up_to - below
            below = up_to
        self._counts[-1] += len(fresh) - below


class Counts(Collector):
    """A counter with labels; `name` without `_total`."""

    def __init__(self, name: str, help: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._told = name, help, tuple(labels)
        self._children: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def child(self, *labels: str) -> Count:
        """The number of these labels: kept by whoever asks often."""
        found = self._children.get(labels)
        if found is None:
            found = self._children[labels] = Count()
        return found

    def values(self) -> Iterator[tuple[tuple[str, ...], float]]:
        """Every number so far, by its labels."""
        for labels, count in self._children.items():
            yield labels, count.value

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield self._family()

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = self._family()
        for labels, count in list(self._children.items()):
            family.add_metric(labels, count.value)
        yield family

    def _family(self) -> CounterMetricFamily:
        name, help, labels = self._told
        return CounterMetricFamily(name, help, labels=labels)


class Spreads(Collector):
    """A histogram with labels; `bounds` ascend, and one without end follows them."""

    def __init__(
        self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._told = name, help, tuple(labels)
        self.bounds = tuple(bounds)
        self._names = [*map(floatToGoString, bounds), "+Inf"]
        self._children: dict[tuple[str, ...], Spread] = {}
        registry.register(self)

    def child(self, *labels: str) -> Spread:
        """The values of these labels: kept by whoever asks often."""
        found = self._children.get(labels)
        if found is None:
            found = self._children[labels] = Spread(self.bounds)
        return found

    def seen(self, *labels: str) -> Spread | None:
        """The values of these labels, where there are any."""
        return self._children.get(labels)

    def summed(self) -> list[int]:
        """How many values of all labels fell into each bucket."""
        if not self._children:
            return [0] * (len(self.bounds) + 1)
        return [sum(each) for each in zip(*(spread.counts for spread in self._children.values()), strict=True)]

    def describe(self) -> Iterator[HistogramMetricFamily]:
        yield self._family()

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = self._family()
        for labels, spread in list(self._children.items()):
            buckets = list(zip(self._names, accumulate(spread.counts), strict=True))
            family.add_metric(labels, buckets, spread.sum)
        yield family

    def _family(self) -> HistogramMetricFamily:
        name, help, labels = self._told
        return HistogramMetricFamily(name, help, labels=labels)
