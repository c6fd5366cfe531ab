"""Relay: what the sessions of a route share. Two pipelines of the same plugins: round sessions, and round responses."""

from __future__ import annotations

from urllib.parse import urlencode

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.reply import Reply
from sidegate.contract.spending import NOTHING
from sidegate.errors import Ending, ProviderError, Refusal, SidegateError
from sidegate.gate import Gate
from sidegate.pipeline import chain
from sidegate.realtime.session import Session
from sidegate.realtime.turn import Turn
from sidegate.service import Service
from sidegate.settings import Provider, Route
from sidegate.upstream.forwarded import forwarded, joined
from sidegate.upstream.host import Host
from sidegate.upstream.socket import ProviderSocket, open_socket
from sidegate.wire.openai_realtime.events import NAME
from sidegate.wire.translation import Untranslatable

_SPEAKING = frozenset({"openai", "openai_responses"})
"""Dialects of providers that may serve it; whether one does, it says itself."""


class Relay:
    """Of one route."""

    def __init__(self, service: Service, route: Route) -> None:
        self.service = service
        self.route = route
        self._sessions: dict[str, Session] = {}
        self._turns: dict[str, Turn] = {}
        pipeline = service.plugins[route.pipeline]
        failed = service._plugin_failed
        self._router = service.router(chain(pipeline.attempt, self._open, service.clock, failed))
        self._ask = chain(pipeline.attempt, self._answer, service.clock, failed)
        self.handler = service.around(pipeline, self._serve)
        """Runs a session, from its handshake on."""
        self._respond = service.around(pipeline, self._hold, known=True)

    # --- sessions -----------------------------------------------------------------------------------------------------

    def add(self, session: Session) -> None:
        self._sessions[session.call.id] = session

    def forget(self, session: Session) -> None:
        self._sessions.pop(session.call.id, None)

    async def _serve(self, call: Call) -> Reply:
        if call.asked.wrong is not None:
            raise call.asked.wrong
        if not self.service.ledger.room:
            raise Refusal(503, "ledger_unavailable", "The gateway cannot record calls.", retry_after=5)
        return await self._router(call)

    async def _open(self, call: Call) -> Reply:
        """A session's attempt. It spends nothing itself: its responses do, each on its own record."""
        attempt = call.attempt
        assert attempt is not None
        for opening in call.notes.openings:
            await opening(call)
        socket = await self._reach(call)
        attempt.sent, attempt.status, attempt.usage, attempt.model = True, 101, NOTHING, attempt.target
        # From here on it is this provider, or none.
        await call.emit([Chunk(b"", parts=(), dialect=NAME, meaningful=True)])
        return await self._sessions[call.id].run(socket, attempt)

    async def _reach(self, call: Call) -> ProviderSocket:
        attempt = call.attempt
        assert attempt is not None
        settings = self.service.settings.providers[attempt.provider]
        if settings.dialect not in _SPEAKING:
            raise Untranslatable(
                f"The model `{call.model[:200]}` is not served by Realtime.",
                param="model",
                code="unsupported_operation",
            )
        credentials = self.service.upstreams[attempt.provider].credentials
        credential = credentials.take()
        rest = credential.until
        own = {**credential.headers, **settings.headers}
        own = {**(attempt.request_headers or {}), **own}
        headers = joined(own, forwarded(NAME, call.headers))
        url = _url(settings, attempt.target, self._sessions[call.id].intent)
        bounds = self.service.settings.sockets
        try:
            socket = await open_socket(url, headers, bounds, self.service.clock, attempt.timeouts.connect)
        except ProviderError as error:
            credentials.failed(credential, error)
            raise
        if rest:
            credentials.worked(credential, rest)
        return socket

    # --- responses ----------------------------------------------------------------------------------------------------

    def start(self, turn: Turn) -> None:
        """Let a response into the pipeline. Raises `SidegateError` where the gateway takes no calls."""
        self._turns[turn.call.id] = turn
        if turn.begun:
            # Whoever refuses it: what its provider has used is on record.
            turn.call.attempts.append(turn.attempt)
        try:
            turn.live = self.service.live.start(turn.call, self._run, turn.outlet, "cancel")
        except SidegateError:
            del self._turns[turn.call.id]
            raise

    async def _run(self, call: Call) -> Reply:
        turn = self._turns[call.id]
        try:
            return await self._respond(call)
        except SidegateError:
            if turn.begun and turn.inner is None:
                await self._spent(turn)
            raise
        finally:
            del self._turns[call.id]

    async def _hold(self, call: Call) -> Reply:
        """At the heart of a response's pipeline: its one attempt, on record however it ends."""
        turn = self._turns[call.id]
        attempt = turn.attempt
        if not turn.begun:
            call.attempts.append(attempt)
        try:
            reply = await self._ask(call.child(attempt, Gate(call, attempt)))
            attempt.ending = Ending.COMPLETE
            return reply
        except SidegateError as error:
            attempt.ending, attempt.error = error.ending, error.code
            raise
        finally:
            stop = call.notes.stop
            attempt.ending = attempt.ending or (stop.ending if stop is not None else Ending.CANCELLED)
            attempt.ended = self.service.clock.monotonic()
            turn.inner = None

    async def _answer(self, call: Call) -> Reply:
        turn = self._turns[call.id]
        turn.inner = call
        session = self._sessions.get(call.subject)
        try:
            for opening in call.notes.openings:
                await opening(call)
            if call.notes.reserve is None:
                self.service.ledger.opened(call)
            else:
                await call.notes.reserve(call)
            turn.admitted.set_result(None)
            return await turn.ended()
        except BaseException:
            # Whoever stops it, its provider is told, and has a moment to say what it used.
            if session is not None and turn.attempt.sent:
                await session.stopped(turn)
            raise

    async def _spent(self, turn: Turn) -> None:
        """A response that its provider began, and that was not let in: what it used is on record all the same."""
        session = self._sessions.get(turn.call.subject)
        if session is not None:
            await session.stopped(turn)
        turn.attempt.ending, turn.attempt.error = Ending.REFUSED, "refused"
        turn.attempt.ended = self.service.clock.monotonic()


def _url(settings: Provider, model: str, intent: str) -> str:
    """Of a session. One that only writes down what is said has its model in its settings, not here."""
    named = "deployment" if settings.deployment_paths else "model"
    query = {"intent": intent} if intent else {named: model}
    return Host(settings).at("/realtime", urlencode(query))
