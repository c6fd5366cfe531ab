"""Reloads: which config is in force, since when, and what became of the last try to replace it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

OUTCOMES = ("success", "failure")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload did."""

    generation: int
    changed: tuple[str, ...]
    """The parts of the config that differ from those before, by name."""


class Reloads:
    """For the metrics page, `/readyz?verbose` and the status of the gateway."""

    def __init__(self, registry: CollectorRegistry, now: datetime) -> None:
        self.generation = 1
        """Of the config in force: the one of the start is 1, and each reload makes the next."""
        self.loaded_at = now
        self.error: str | None = None
        """Why the last reload changed nothing, in one line; `None` where it did not fail."""
        self._tries = Counter(
            "sidegate_config_reloads", "Reloads of the config, by outcome.", ("outcome",), registry=registry
        )
        for outcome in OUTCOMES:
            self._tries.labels(outcome)
        self._generation = Gauge(
            "sidegate_config_generation", "Of the config in force; 1 is that of the start.", registry=registry
        )
        self._loaded = Gauge(
            "sidegate_config_last_success_timestamp_seconds",
            "When the config in force was loaded, in seconds of the epoch.",
            registry=registry,
        )
        self._well = Gauge(
            "sidegate_config_last_reload_successful",
            "1 unless the last reload failed: the config on the disk is then not the one in force.",
            registry=registry,
        )
        self._show()

    def succeeded(self, generation: int, now: datetime) -> None:
        self._tries.labels("success").inc()
        self.generation, self.loaded_at, self.error = generation, now, None
        self._show()

    def failed(self, error: str) -> None:
        self._tries.labels("failure").inc()
        self.error = error
        self._show()

    def _show(self) -> None:
        self._generation.set(self.generation)
        self._loaded.set(self.loaded_at.timestamp())
        self._well.set(self.error is None)
