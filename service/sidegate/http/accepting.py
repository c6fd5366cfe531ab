"""Accepting: where a config accepts jobs, call endpoints do so too; elsewhere they are what they were."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from sidegate.errors import BadRequest, SidegateError
from sidegate.http.calls import CallEndpoint, Placed
from sidegate.http.prefer import read_prefer
from sidegate.service import Service
from sidegate.settings import Route

_CHATS = ("chat", "text_completion")
"""Operations whose replies can be had in several ways."""

_HOW = {
    "buffered": "a whole reply, by no `stream`",
    "stream": 'a stream, by `"stream": true` or the path that says so',
    "job": "a job, by `Prefer: respond-async`",
    "socket": "a socket, at `/v1/chat/ws`",
}


class Deliveries:
    """What a route delivers by, where it says so."""

    def __init__(self, route: Route) -> None:
        self._allowed = route.deliveries

    def check(self, request: web.Request, stream: bool) -> SidegateError | None:
        """What is wrong with asking in this way."""
        if "job" in self._allowed and "Prefer" in request.headers and read_prefer(request.headers).respond_async:
            return None
        if ("stream" if stream else "buffered") in self._allowed:
            return None
        message = f"This route delivers {'; or '.join(_HOW[name] for name in self._allowed)}."
        return BadRequest(message, code="delivery_not_served", param="stream")


class Answering(Protocol):
    """A call endpoint."""

    async def answer(self, request: web.Request, placed: Placed | None = None) -> web.StreamResponse: ...


def streams_are_jobs(service: Service, route: Route) -> bool:
    """Of a resumable route: its streams go on without their client, and end as jobs."""
    return service.jobs is not None and route.on_disconnect == "continue"


def accepting(service: Service, route: Route, endpoint: CallEndpoint, *, array: bool = False) -> Answering:
    """The endpoint, or one round it that keeps as a job what a client prefers to have later."""
    survive = route.resumable and streams_are_jobs(service, route)
    if route.resumable and not survive:
        from sidegate.http.resumable import ResumableExchange

        endpoint.exchange = ResumableExchange(service, route, service.handlers[route.pipeline], endpoint.voice)
    if route.deliveries and endpoint.dialect.operation in _CHATS:
        endpoint.check = Deliveries(route).check
    if (
        service.jobs is None
        or (route.deliveries and "job" not in route.deliveries)
        or (route.operations and "jobs" not in route.operations)
    ):
        return endpoint
    from sidegate.http.job_calls import JobEndpoint

    return JobEndpoint(service, route, endpoint, streams_survive=survive, array=array)
