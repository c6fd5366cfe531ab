"""Opening: where streams are kept, by what a config says."""

from __future__ import annotations

from collections.abc import Callable

from sidegate.contract.host import Clock, Log
from sidegate.settings import Settings
from sidegate.settings.streams import Streams as StreamSettings
from sidegate.shared.store import Watch
from sidegate.streams.desk import Streams


def open_streams(
    settings: Settings,
    now: Callable[[], StreamSettings],
    clock: Clock,
    log: Log,
    watch: Watch,
    draining: Callable[[], bool],
) -> Streams:
    """In memory, and in the store that gateways share where `settings` name one. `now` gives the bounds in force."""
    if not settings.counters.url:
        return Streams(now, clock, None)
    from sidegate.streams.copies import Copies

    shared = settings.counters
    where = {"url": shared.url, "prefix": shared.prefix}
    return Streams(now, clock, Copies(now, clock, log, watch, draining, **where, timeout=shared.timeout))
