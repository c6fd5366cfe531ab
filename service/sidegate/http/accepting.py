"""Accepting: where a config accepts jobs, call endpoints do so too; elsewhere they are what they were."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from sidegate.http.calls import CallEndpoint, Placed
from sidegate.service import Service
from sidegate.settings import Route


class Answering(Protocol):
    """A call endpoint."""

    async def answer(self, request: web.Request, placed: Placed | None = None) -> web.StreamResponse: ...


def streams_are_jobs(service: Service, route: Route) -> bool:
    """Of a resumable route: its streams go on without their client, and end as jobs."""
    return service.jobs is not None and route.on_disconnect == "continue"


def accepting(service: Service, route: Route, endpoint: CallEndpoint, *, array: bool = False) -> Answering:
    """The endpoint, or one round it that keeps as a job what a client prefers to have later."""
    if route.resumable and not streams_are_jobs(service, route):
        from sidegate.http.resumable import ResumableExchange

        endpoint.exchange = ResumableExchange(service, route, service.handlers[route.pipeline], endpoint.voice)
    if service.jobs is None or (route.operations and "jobs" not in route.operations):
        return endpoint
    from sidegate.http.jobs import JobEndpoint

    return JobEndpoint(service, route, endpoint, array=array)
