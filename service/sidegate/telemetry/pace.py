"""Pace: how much is going on at the moment, from what is counted anyway. Nothing is counted for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sidegate.telemetry.metrics import Metrics

WINDOW_SECONDS: Final = 60.0
"""What percentiles are of, once somebody has looked that long."""


class Percentiles(Struct, frozen=True, kw_only=True):
    """From a histogram, so between the bounds of a bucket; in seconds."""

    p50: float
    p95: float
    p99: float
    over_seconds: float | None
    """Of the calls that ended in so many seconds; null: since the start."""


class Tokens(Struct, frozen=True, kw_only=True):
    """Tokens in a second. What providers have not told yet is estimated."""

    input: float
    output: float


class Snapshot(Struct, frozen=True, kw_only=True):
    """All counters at a moment, monotonic seconds."""

    at: float
    by_ending: dict[str, int]
    input_tokens: float
    output_tokens: float
    first: list[int]
    per_token: list[int]

    @property
    def calls(self) -> int:
        return sum(self.by_ending.values())


def snapshot(metrics: Metrics, at: float, output_in_flight: float) -> Snapshot:
    """`output_in_flight`: tokens that calls in flight have said so far; they are counted when these end."""
    by_ending: dict[str, int] = {}
    for labels, value in metrics.calls.values():
        by_ending[labels[-1]] = by_ending.get(labels[-1], 0) + int(value)
    tokens = {"input": 0.0, "output": 0.0}
    for labels, value in metrics.tokens.values():
        if labels[-1] in tokens:
            tokens[labels[-1]] += value
    return Snapshot(
        at=at,
        by_ending=by_ending,
        input_tokens=tokens["input"],
        output_tokens=tokens["output"] + output_in_flight,
        first=metrics.first.summed(),
        per_token=metrics.per_token.summed(),
    )


class Pace:
    """The snapshots of the last minute, and what they say."""

    def __init__(self, first: Sequence[float], per_token: Sequence[float]) -> None:
        """The bounds of both histograms."""
        self._first = first
        self._per_token = per_token
        self._kept: deque[Snapshot] = deque()

    def take(self, snapshot: Snapshot) -> None:
        """The one of now. What is older than the window is forgotten, but for the last of it."""
        self._kept.append(snapshot)
        while len(self._kept) > 2 and self._kept[1].at <= snapshot.at - WINDOW_SECONDS:
            self._kept.popleft()

    @property
    def now(self) -> Snapshot:
        return self._kept[-1]

    def calls_per_second(self) -> float:
        seconds, before = self._last()
        return max(0.0, (self.now.calls - before.calls) / seconds) if seconds else 0.0

    def tokens_per_second(self) -> Tokens:
        """An estimate that a provider corrects takes nothing away."""
        seconds, before = self._last()
        if not seconds:
            return Tokens(input=0.0, output=0.0)
        return Tokens(
            input=max(0.0, (self.now.input_tokens - before.input_tokens) / seconds),
            output=max(0.0, (self.now.output_tokens - before.output_tokens) / seconds),
        )

    def first_token(self) -> Percentiles | None:
        return self._percentiles(self._first, [each.first for each in (self._kept[0], self.now)])

    def per_token(self) -> Percentiles | None:
        return self._percentiles(self._per_token, [each.per_token for each in (self._kept[0], self.now)])

    def _last(self) -> tuple[float, Snapshot]:
        before = self._kept[-2] if len(self._kept) > 1 else self.now
        return self.now.at - before.at, before

    def _percentiles(self, bounds: Sequence[float], counts: Sequence[list[int]]) -> Percentiles | None:
        """Of the window; where nothing has ended in it, since the start; `None` where nothing ever has."""
        before, now = counts
        since = [late - early for late, early in zip(now, before, strict=True)]
        over: float | None = self.now.at - self._kept[0].at
        if not sum(since):
            since, over = now, None
        if not sum(since):
            return None
        p50, p95, p99 = (quantile(bounds, since, share) for share in (0.5, 0.95, 0.99))
        return Percentiles(p50=p50, p95=p95, p99=p99, over_seconds=over)


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float:
    """As Prometheus does it: evenly spread within a bucket, and the last bound for what lies beyond."""
    rank = share * sum(counts)
    below = 0
    for index, count in enumerate(counts[:-1]):
        if below + count >= rank and count:
            least = bounds[index - 1] if index else 0.0
            return least + (bounds[index] - least) * (rank - below) / count
        below += count
    return bounds[-1]
