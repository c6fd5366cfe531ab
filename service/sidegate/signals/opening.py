"""Opening: the signals of a gateway, by the store that it shares with others, or none."""

from __future__ import annotations

from sidegate.shared.store import Store
from sidegate.signals.asking import LocalSignals, Signals


def open_signals(store: Store | None, *, seconds: float, workers: int) -> Signals:
    """What asks the others. Without a store, several workers cannot ask each other, and say so."""
    if store is None:
        return LocalSignals(alone=workers == 1)
    from sidegate.signals.shared import SharedSignals

    return SharedSignals(store, seconds)
