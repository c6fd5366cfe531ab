"""`/v1/jobs` and what is below: looking jobs up, waiting for them, fetching what they gave, stopping them."""

from __future__ import annotations

import re

from aiohttp import web

from sidegate.contract.call import Call
from sidegate.errors import BadRequest
from sidegate.http.events import plain_asked
from sidegate.http.job_result import Answer, job_answer, result
from sidegate.http.jobs import Asking, Jobs, Verb
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.wire.own import Own

_WAIT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")


class JobRecords:
    """Those of one route."""

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
