"""Jobs of all callers, by HTTP: listed, looked at, cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

from aiohttp import web

from sidegate.errors import BadRequest, Refusal
from sidegate.http.admin.answers import CALL, Page, asked, no_parameters, rows_asked, said
from sidegate.jobs.desk import Desk
from sidegate.jobs.job import State
from sidegate.service import Service

PARAMETERS: Final = ("caller", "state", "after", "limit")
STATES: Final = tuple(sorted(set(get_args(State)) - {"removed"}))
MOST_ROWS: Final = 100


def add_jobs(app: web.Application, current: Callable[[], Service]) -> None:
    """The routes of jobs: 404 where the config accepts none."""

    def desk() -> Desk:
        jobs = current().jobs
        if jobs is None:
            raise Refusal(404, "jobs_off", "This gateway accepts no jobs: set `jobs` in the config.")
        return jobs.desk

    async def page(request: web.Request) -> web.Response:
        found = asked(request, PARAMETERS)
        limit = rows_asked(found, most=MOST_ROWS)
        state = found.get("state")
        if state is not None and state not in STATES:
            raise BadRequest(f"`state` is one of {', '.join(STATES)}.", param="state")
        rows = await desk().every(found.get("caller"), state, found.get("after"), limit + 1)
        return said(Page(data=rows[:limit], next=rows[limit - 1]["id"] if len(rows) > limit else None))

    async def one(request: web.Request) -> web.Response:
        no_parameters(request)
        return said(await desk().find_any(request.match_info["id"]))

    async def cancel(request: web.Request) -> web.Response:
        no_parameters(request)
        id = request.match_info["id"]
        row = await desk().cancel_any(id)
        current().log.write("job_cancelled", {"by": "admin_api", "job": id})
        return said(row)

    app.router.add_get("/admin/jobs", page, allow_head=False)
    app.router.add_get(f"/admin/jobs/{CALL}", one, allow_head=False)
    app.router.add_delete(f"/admin/jobs/{CALL}", cancel)
