"""How the gateway is, by HTTP: what a person looks at first. Asks no provider and no database."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from aiohttp import web
from msgspec import Struct

from sidegate import __version__
from sidegate.http.admin.answers import no_parameters, said
from sidegate.service import Service


class ShownReload(Struct, frozen=True, kw_only=True):
    """The config in force."""

    generation: int
    """1 at the start; each reload that succeeded adds one."""
    loaded_at: datetime
    error: str | None
    """Why the last reload failed, in one line; null where it did not."""


class ShownLedger(Struct, frozen=True, kw_only=True):
    """The record of calls."""

    room: bool
    """Whether calls can be recorded: where not, new ones are refused."""
    waiting: int
    """Rows that are not durable yet."""
    problem: str | None


class ShownCounters(Struct, frozen=True, kw_only=True):
    """Where limits are counted."""

    shared: bool
    """In a store that all replicas share."""
    trouble: str | None


class Status(Struct, frozen=True, kw_only=True):
    """One process of the gateway."""

    object: Literal["status"] = "status"
    version: str
    started_at: datetime
    uptime_seconds: float
    ready: bool
    draining: bool
    in_flight: int
    workers: int
    process_id: int
    reload: ShownReload
    ledger: ShownLedger
    counters: ShownCounters
    jobs: bool
    """Whether the config accepts jobs."""
    urls: tuple[str, ...]
    """Where clients call: `http://127.0.0.1:8080`, `unix:/run/sidegate.sock`."""


def add_status(app: web.Application, current: Callable[[], Service]) -> None:
    """`GET /admin/status`."""

    async def status(request: web.Request) -> web.Response:
        no_parameters(request)
        return said(status_of(current()))

    app.router.add_get("/admin/status", status, allow_head=False)


def status_of(service: Service) -> Status:
    """As it stands."""
    ground = service.ground
    started = datetime.fromtimestamp(ground.created, UTC)
    return Status(
        version=__version__,
        started_at=started,
        uptime_seconds=max(0.0, (ground.clock.now() - started).total_seconds()),
        ready=service.ready,
        draining=ground.live.draining,
        in_flight=len(ground.live),
        workers=service.settings.workers,
        process_id=os.getpid(),
        reload=ShownReload(
            generation=ground.reloads.generation, loaded_at=ground.reloads.loaded_at, error=ground.reloads.error
        ),
        ledger=ShownLedger(room=ground.ledger.room, waiting=ground.ledger.waiting, problem=ground.ledger.problem),
        counters=ShownCounters(shared=ground.counters.shared, trouble=ground.counters.trouble),
        jobs=ground.jobs is not None,
        urls=ground.urls,
    )
