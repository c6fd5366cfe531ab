"""Calls that are accepted now and fetched later.

What a call endpoint does by itself it goes on to do: only where a client prefers `respond-async`, its request is kept
as a job.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from aiohttp import web

from sidegate.contract.call import Call
from sidegate.errors import BadRequest, SidegateError
from sidegate.http.calls import CallEndpoint, Placed
from sidegate.http.job_result import Answer, accepted, result
from sidegate.http.job_stream import stream_job
from sidegate.http.jobs import Asking, Jobs
from sidegate.http.prefer import Prefer, read_prefer, read_urgency
from sidegate.jobs.desk import Wanted
from sidegate.service import Service
from sidegate.settings import Route

KEPT = frozenset(("anthropic-beta", "anthropic-version", "openai-beta", "traceparent", "tracestate", "user-agent"))
"""Request headers that a job keeps: an allow-list, and no credential is on it. `jobs.headers` adds others."""

_KEY = re.compile(r"[!-~]{1,255}")


class JobEndpoint:
    """A call endpoint that accepts jobs, too."""

    def __init__(
        self, service: Service, route: Route, endpoint: CallEndpoint, *, streams_survive: bool, array: bool
    ) -> None:
        """`streams_survive`: each stream is a job whose client reads along. `array`: its streams are JSON arrays."""
        self._jobs = Jobs(service, route)
        self._endpoint = endpoint
        self._array = array
        self._job_after = route.job_after
        # An array has no place for ids.
        self._resumable = streams_survive and not array
        self._kept = KEPT | {name.lower() for name in self._jobs.desk.settings.headers}

    async def answer(self, request: web.Request, placed: Placed | None = None) -> web.StreamResponse:
        prefer = read_prefer(request.headers) if "Prefer" in request.headers else Prefer()
        if prefer.wait is None and prefer.respond_async and self._job_after:
            prefer = Prefer(respond_async=True, wait=self._job_after)
        if not prefer.respond_async and not self._resumable:
            return await self._endpoint.answer(request, placed)
        asked, model, stream = await self._endpoint.ask(request, placed)
        wanted, wrong = self._wanted(request, placed, stream)
        asking = Asking(model=model, asked=asked, subject=wanted.id)
        # Plain text has no events that could be numbered.
        text = bytes(asked.fields.get("streamProtocol", b"")) == b'"text"'
        if prefer.respond_async and not text:
            return await self._accept(asking, wanted, wrong, prefer)
        if text or not stream or asked.wrong is not None or wrong is not None:
            return await self._endpoint.serve(request, asked, model, stream)
        return await stream_job(self._jobs, request, asking, wanted, self._endpoint)

    async def _accept(
        self, asking: Asking, wanted: Wanted, wrong: SidegateError | None, prefer: Prefer
    ) -> web.StreamResponse:
        voice = self._endpoint.voice

        async def submit(call: Call) -> Answer:
            if wrong is not None and call.asked.wrong is None:
                raise wrong
            desk, prefix = self._jobs.desk, self._jobs.route.prefix
            job = await desk.submit(call, wanted)
            if prefer.wait is not None:
                job = await desk.ended(job, prefer.wait)
                if job.ended:
                    return await result(desk, job, voice, applied=f"wait={prefer.wait:g}")
            return accepted(job, await desk.body(job, prefix), prefix, prefer)

        return await self._jobs.answer(submit, asking, voice, self._endpoint.dialect.name)

    def _wanted(self, request: web.Request, placed: Placed | None, stream: bool) -> tuple[Wanted, SidegateError | None]:
        wrong: SidegateError | None = None
        again: str | None = None
        try:
            again = _again(request)
        except SidegateError as error:
            wrong = error
        dialect = self._endpoint.dialect
        wanted = Wanted(
            id=secrets.token_hex(16),
            route=self._jobs.route.name,
            operation=dialect.operation,
            dialect=dialect.name,
            streams=stream,
            placed=None if placed is None else (placed.model, placed.stream),
            array=self._array,
            urgency=read_urgency(request.headers),
            again=again,
            headers=_kept(request.headers, self._kept),
        )
        return wanted, wrong


def _again(request: web.Request) -> str | None:
    keys = request.headers.getall("Idempotency-Key", ())
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise BadRequest(
            "Idempotency-Key must be one value of 1 to 255 printable ASCII characters without spaces.",
            code="invalid_idempotency_key",
        )
    return keys[0]


def _kept(headers: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    """As text: what is no UTF-8 in them was meant for nobody."""
    found = {name: value for name in sorted(names) if (value := headers.get(name)) is not None}
    return {name: value.encode("utf-8", "replace").decode() for name, value in found.items()}
