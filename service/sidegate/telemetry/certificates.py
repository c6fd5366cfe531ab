"""Certificates of listeners: when they end, and what became of new ones. Metrics and log, where a listener has TLS."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from sidegate.contract.host import Log


class Certificates:
    """Hears of them from the listeners, `listen` and `admin`."""

    def __init__(self, registry: CollectorRegistry, log: Log) -> None:
        self._log = log
        self._reloads = Counter(
            "sidegate_tls_reloads", "Certificates loaded anew, or refused.", ("listener", "outcome"), registry=registry
        )
        self._expiry = Gauge(
            "sidegate_tls_certificate_expiry_seconds",
            "When the certificate in use ends, in seconds of the epoch.",
            ("listener",),
            registry=registry,
        )
        self._until: dict[str, float | None] = {}

    def in_use(self, listener: str, expires: float | None) -> None:
        for outcome in ("renewed", "refused"):
            self._reloads.labels(listener, outcome)
        self._until[listener] = expires
        self._expiry.labels(listener).set(float("nan") if expires is None else expires)

    def renewed(self, listener: str) -> None:
        self._reloads.labels(listener, "renewed").inc()
        until = self._until.get(listener)
        ends = None if until is None else datetime.fromtimestamp(until, UTC).isoformat()
        self._log.write("tls_renewed", {"listener": listener, "expires": ends})

    def refused(self, listener: str, error: Exception) -> None:
        """What was in use stays in use."""
        self._reloads.labels(listener, "refused").inc()
        self._log.write("tls_refused", {"listener": listener, "error": str(error)})
