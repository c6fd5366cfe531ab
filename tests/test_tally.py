"""Tallies say what Prometheus' own client says of the same values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from sidegate.telemetry.tally import TOGETHER, Counts, Spreads

BOUNDS = (0.001, 0.25, 1.0, 40.96)
LABELS = ("operation", "model")

values = st.floats(0, 100) | st.sampled_from(BOUNDS)
children = st.tuples(st.sampled_from(("chat", "embeddings")), st.sampled_from(("gpt", 'odd"\n\\name')))


def told(registry: CollectorRegistry) -> list[bytes]:
    """The lines a scrape gets, but for the times at which the client's own children were made."""
    lines = generate_latest(registry).splitlines()
    return [line for line in lines if b"_created" not in line and b"made" not in line]


@given(st.lists(st.tuples(children, values)))
def test_a_spread_is_told_as_a_histogram(seen: list[tuple[tuple[str, str], float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    spreads = Spreads("took_seconds", "How long.", LABELS, BOUNDS, ours)
    histogram = Histogram("took_seconds", "How long.", LABELS, buckets=BOUNDS, registry=theirs)
    for labels, value in seen:
        spreads.child(*labels).observe(value)
        histogram.labels(*labels).observe(value)
    assert told(ours) == told(theirs)


@given(st.lists(values), st.lists(values))
def test_what_waits_and_what_was_put_into_buckets_is_told_as_one(before: list[float], after: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    spreads = Spreads("took_seconds", "How long.", LABELS, BOUNDS, ours)
    histogram = Histogram("took_seconds", "How long.", LABELS, buckets=BOUNDS, registry=theirs)
    for value in (*before, *[0.25, 0.5] * TOGETHER, *after):
        spreads.child("chat", "gpt").observe(value)
        histogram.labels("chat", "gpt").observe(value)
    assert told(ours) == told(ours) == told(theirs)
    spreads.child("chat", "gpt").observe(1.0)
    histogram.labels("chat", "gpt").observe(1.0)
    assert told(ours) == told(theirs)


@given(st.lists(st.tuples(children, values)))
def test_counts_are_told_as_a_counter(seen: list[tuple[tuple[str, str], float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts = Counts("calls", "How many.", LABELS, ours)
    counter = Counter("calls", "How many.", LABELS, registry=theirs)
    for labels, value in seen:
        counts.child(*labels).value += value
        counter.labels(*labels).inc(value)
    assert told(ours) == told(theirs)


def test_a_name_that_is_taken_is_refused() -> None:
    registry = CollectorRegistry()
    Counts("calls", "How many.", LABELS, registry)
    with pytest.raises(ValueError, match="calls"):
        Counts("calls", "Again.", LABELS, registry)
