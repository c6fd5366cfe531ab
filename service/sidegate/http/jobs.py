"""Job routes: calls that are accepted now and fetched later. Each request is a call of operation `jobs`.

What a call endpoint does by itself it goes on to do: only where a client prefers `respond-async`, its request is kept
as a job.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from msgspec.structs import replace

from sidegate.contract.call import Asked, Call
from sidegate.contract.caller import Caller
from sidegate.contract.ids import new_call_id
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Reply
from sidegate.errors import BadRequest, SidegateError
from sidegate.http.accepting import streams_are_jobs
from sidegate.http.calls import CallEndpoint, Placed
from sidegate.http.events import plain_asked
from sidegate.http.exchange import Exchange
from sidegate.http.job_result import Answer, accepted, job_answer, result
from sidegate.http.prefer import Prefer, read_prefer, read_urgency
from sidegate.http.replies import Voice
from sidegate.jobs.desk import Desk, Wanted
from sidegate.outlet import BufferOutlet
from sidegate.records import send
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.wire.own import Own

Verb = Callable[[Call], Awaitable[Answer]]

KEPT = frozenset(("anthropic-beta", "anthropic-version", "openai-beta", "traceparent", "tracestate", "user-agent"))
"""Request headers that a job keeps: an allow-list, and no credential is on it. `jobs.headers` adds others."""

_KEY = re.compile(r"[!-~]{1,255}")
_WAIT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, and for which job."""

    subject: str = ""
    model: str = ""
    asked: Asked = field(default_factory=Asked)
    caller: tuple[Caller, str | None] | None = None
    """Caller and end user, where a ticket has told."""


class Jobs:
    """What all job endpoints of one route share."""

    def __init__(self, service: Service, route: Route) -> None:
        assert service.jobs is not None
        self.service = service
        # A client that leaves has only stopped reading: what it reads about goes on.
        self.route = replace(route, on_disconnect="cancel")
        self.desk: Desk = service.jobs.desk

    async def answer(self, verb: Verb, asking: Asking, voice: Voice, dialect: str) -> web.StreamResponse:
        """Run a verb as a call, and say what it gave."""
        given: list[Answer] = []

        async def heart(call: Call) -> Reply:
            found = await verb(call)
            given.append(found)
            await send(call, found.body)
            return Reply(status=found.status)

        outlet = BufferOutlet(dialect, None, self.service.clock)
        call = self.call(outlet, asking, dialect)
        response = await self.exchange(heart, voice).run(call, outlet, None)
        if given and isinstance(response, web.Response) and response.status == 200:
            response.set_status(given[0].status)
            response.content_type = given[0].content_type
            response.headers.update(given[0].headers)
        return response

    def exchange(self, heart: Handler, voice: Voice, *, known: bool = False) -> Exchange:
        """The pipeline round this heart, for one request."""
        pipeline = self.service.plugins[self.route.pipeline]
        return Exchange(self.service, self.route, self.service.around(pipeline, heart, known=known), voice)

    def call(self, outlet: BufferOutlet, asking: Asking, dialect: str) -> Call:
        clock = self.service.clock
        now = clock.now()
        call = Call(
            id=new_call_id(now),
            operation="jobs",
            dialect=dialect,
            model=asking.model,
            delivery="buffered",
            outlet=outlet,
            started=clock.monotonic(),
            started_at=now,
            asked=asking.asked,
            route=self.route.name,
        )
        call.subject = asking.subject
        if asking.caller is not None:
            call.caller, call.end_user = asking.caller
        return call


class JobEndpoint:
    """A call endpoint that accepts jobs, too."""

    def __init__(self, service: Service, route: Route, endpoint: CallEndpoint, *, array: bool = False) -> None:
        """`array`: its streams are JSON arrays."""
        self._jobs = Jobs(service, route)
        self._endpoint = endpoint
        self._array = array
        self._job_after = route.job_after
        # An array has no place for ids.
        self._resumable = route.resumable and streams_are_jobs(service, route) and not array
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
        from sidegate.http.job_stream import stream_job

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


class JobRecords:
    """`/v1/jobs` and what is below, of one route."""

    def __init__(self, service: Service, route: Route) -> None:
        self._jobs = Jobs(service, route)
        self._voice = Own()

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The caller's own, newest first."""

        async def verb(call: Call) -> Answer:
            asked = {name: request.query[name] for name in request.query}
            return Answer(200, await self._jobs.desk.list(call, self._jobs.route.prefix, asked))

        return await self._answer(request, verb)

    async def one(self, request: web.Request) -> web.StreamResponse:
        """How it stands; with `wait=`, as soon as it has ended."""

        async def verb(call: Call) -> Answer:
            desk = self._jobs.desk
            job = await desk.ended(await desk.find(call), _seconds(request))
            return job_answer(job, await desk.body(job, self._jobs.route.prefix))

        return await self._answer(request, verb)

    async def result(self, request: web.Request) -> web.StreamResponse:
        """What its client would have got, in the dialect it asked in."""

        async def verb(call: Call) -> Answer:
            desk = self._jobs.desk
            return await result(desk, await desk.ended(await desk.find(call), _seconds(request)))

        return await self._answer(request, verb)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Stop it; answers when it has ended."""

        async def verb(call: Call) -> Answer:
            job = await self._jobs.desk.cancel(call)
            return job_answer(job, await self._jobs.desk.body(job, self._jobs.route.prefix))

        return await self._answer(request, verb)

    async def ticket(self, request: web.Request) -> web.StreamResponse:
        """What opens its events where no header can be sent."""

        async def verb(call: Call) -> Answer:
            body = await self._jobs.desk.ticket(call, self._jobs.route.prefix)
            return Answer(201, body, headers={"Cache-Control": "no-store"})

        return await self._answer(request, verb)

    async def _answer(self, request: web.Request, verb: Verb) -> web.StreamResponse:
        asking = Asking(subject=request.match_info.get("id", ""), asked=plain_asked(request))
        return await self._jobs.answer(_right(verb), asking, self._voice, self._voice.name)


def _right(verb: Verb) -> Verb:
    """A mistake in the request is told once the pipeline has said who asks."""

    async def checked(call: Call) -> Answer:
        if call.asked.wrong is not None:
            raise call.asked.wrong
        return await verb(call)

    return checked


def _seconds(request: web.Request) -> float:
    text = request.query.get("wait", "0")
    if not _WAIT.fullmatch(text):
        raise BadRequest("wait is a number of seconds.", param="wait")
    return float(text)


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
    return {name: value for name in sorted(names) if (value := headers.get(name)) is not None}
