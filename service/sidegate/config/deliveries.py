"""Checks of how routes deliver: what one promises must be possible with what the config has."""

from __future__ import annotations

from collections.abc import Iterator

from sidegate.settings import Route, Settings


def delivery_mistakes(settings: Settings, route: Route) -> Iterator[tuple[str, str]]:
    """Each with the setting of the route that is wrong."""
    if "job" in route.deliveries and settings.jobs is None:
        yield "deliveries", "jobs are off: set `jobs`"
    if "socket" in route.deliveries and settings.workers > 1:
        yield "deliveries", "a conversation is in the memory of one process: `socket` needs `workers: 1`"
    if route.job_after and (settings.jobs is None or (route.deliveries and "job" not in route.deliveries)):
        yield "job_after", "there are no jobs here: set `jobs`, and list `job` in `deliveries`"
    if route.resumable and route.deliveries and "stream" not in route.deliveries:
        yield "resumable", "there are no streams here: list `stream` in `deliveries`"
    if route.resumable and route.on_disconnect == "continue":
        if settings.jobs is None:
            yield "resumable", "with `on_disconnect: continue` keeps streams as jobs: set `jobs`"
        elif route.operations and "jobs" not in route.operations:
            yield "resumable", "with `on_disconnect: continue` keeps streams as jobs: list `jobs` in its operations"
    elif route.resumable and settings.workers > 1 and not settings.counters.url:
        yield "resumable", "needs a store that all workers share: set `counters.url`, or `workers: 1`"
