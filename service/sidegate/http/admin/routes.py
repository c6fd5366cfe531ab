"""Administration: all that is looked at and done by HTTP on the admin listener, put together."""

from __future__ import annotations

from typing import cast

from aiohttp import web

from sidegate.errors import Refusal
from sidegate.http.admin.answers import CALL
from sidegate.http.admin.budgets import add_budgets
from sidegate.http.admin.calls import add_calls
from sidegate.http.admin.config import add_config
from sidegate.http.admin.live import add_live
from sidegate.http.admin.status import add_status
from sidegate.service import Service


def add_administration(app: web.Application, service: Service) -> None:
    """The routes below `/admin/`, but for keys and usage. They tell of the config in force, also after a reload."""

    def current() -> Service:
        return cast("Service", service.ground.serving)

    add_status(app, current)
    add_config(app, current)
    add_calls(app, current)
    add_budgets(app, current)
    add_live(app, current)
    if service.jobs is None:
        _add_no_jobs(app)
        return
    # Only where the config accepts jobs.
    from sidegate.http.admin.jobs import add_jobs

    add_jobs(app, current)


def _add_no_jobs(app: web.Application) -> None:
    async def off(request: web.Request) -> web.Response:
        raise Refusal(404, "jobs_off", "This gateway accepts no jobs: set `jobs` in the config.")

    app.router.add_get("/admin/jobs", off, allow_head=False)
    app.router.add_get(f"/admin/jobs/{CALL}", off, allow_head=False)
    app.router.add_delete(f"/admin/jobs/{CALL}", off)
