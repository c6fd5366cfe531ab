"""Turn: one response of a session, as a call of its own: let in, counted, priced and settled as any other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from multidict import CIMultiDict, CIMultiDictProxy

from sidegate.contract.call import Asked, Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock
from sidegate.contract.ids import new_call_id
from sidegate.contract.meaning import Request
from sidegate.contract.reply import Attempt, Reply
from sidegate.errors import Cancelled, Ending, PhaseTimeout, ProviderError, SidegateError
from sidegate.live import LiveCall
from sidegate.realtime.outlet import SocketOutlet
from sidegate.wire.openai_realtime.context import Said
from sidegate.wire.openai_realtime.events import NAME, Done, read_parts

RESPONSE = "realtime_response"
TRANSCRIPTION = "realtime_transcription"


class Turn:
    """A response: asked for by the client (`begun` is false), or begun by its provider, which heard the user pause."""

    said: Said | None = None
    """What the client had said when it began; `None` of one that is not made from the conversation."""

    def __init__(self, call: Call, attempt: Attempt, outlet: SocketOutlet, *, about: str | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.call = call
        self.attempt = attempt
        self.outlet = outlet
        self.about = about
        """The client's event that asks for it."""
        self.response: str | None = None
        """The provider's id of it, once it has begun."""
        self.inner: Call | None = None
        """The attempt's own call: its chunks climb from there."""
        self.live: LiveCall | None = None
        self.admitted: asyncio.Future[None] = loop.create_future()
        """It has passed the pipeline, and what it may cost is held."""
        self.over: asyncio.Future[Done] = loop.create_future()
        """Its provider has said how it ended; or why nobody will."""
        self.refused: BaseException | None = None
        """What a plugin that looked at it raised."""

    @property
    def begun(self) -> bool:
        return self.call.asked.begun

    def ends(self, done: Done) -> None:
        if not self.over.done():
            self.over.set_result(done)

    def fails(self, error: BaseException) -> None:
        """Nobody will say how it ended."""
        if not self.over.done():
            self.over.set_exception(error)
            # Whoever waits hears of it; where nobody does any more, nothing is lost.
            self.over.exception()

    async def see(self, data: bytes, closing: bool) -> None:
        """Let whoever taps look at an event, before the client has it. Raises what they raise."""
        inner = self.inner
        if inner is not None and not inner.takes_raw(NAME, False):
            await inner.emit([Chunk(data, reader=read_parts, dialect=NAME, closing=closing, meaningful=True)])

    def note(self, done: Done) -> None:
        """What its provider says that it used."""
        attempt = self.attempt
        attempt.usage, attempt.finish = done.usage, done.finish
        attempt.provider_id = done.id or attempt.provider_id
        attempt.committed = True

    async def finished(self, seconds: float) -> None:
        """Wait a while for its provider to say what it used."""
        with suppress(TimeoutError, SidegateError):
            async with asyncio.timeout(seconds):
                self.note(await asyncio.shield(self.over))

    async def ended(self) -> Reply:
        """How it ended, as the reply of its call. Raises where that was no good end."""
        total = self.attempt.timeouts.total
        try:
            async with asyncio.timeout(total):
                done = await asyncio.shield(self.over)
        except TimeoutError as error:
            raise PhaseTimeout("total", total) from error
        self.note(done)
        if self.refused is not None:
            raise self.refused
        if done.status == "cancelled":
            raise Cancelled(Ending.CANCELLED, code="response_cancelled")
        if done.status == "failed":
            raise ProviderError("The provider could not answer.", code=done.code or "provider_error")
        return Reply(usage=done.usage, finish=done.finish, model=self.attempt.model)


def make_turn(
    session: Call,
    clock: Clock,
    operation: str,
    target: tuple[Attempt, str],
    tokens: tuple[int, int],
    *,
    begun: bool,
    most: int | None = None,
    about: str | None = None,
) -> Turn:
    """A turn of a session. `target` is the session's own attempt, and the provider's model; `most` what the client
    allows the answer to be."""
    now, parent = clock.now(), target[0]
    outlet = SocketOutlet(clock)
    model = session.model
    call = Call(
        id=new_call_id(now),
        operation=operation,
        dialect=NAME,
        model=model,
        delivery="socket",
        outlet=outlet,
        started=clock.monotonic(),
        started_at=now,
        asked=Asked(
            headers=_traced(session.headers, parent),
            peer=session.peer,
            tokens=tokens,
            begun=begun,
            read=lambda: Request(model=model, max_tokens=most),
        ),
        route=session.route,
        edit_timeout=session.edit_timeout,
    )
    call.caller, call.end_user, call.streams = session.caller, session.end_user, True
    call.subject = session.id
    outlet.notes = call.notes
    call.notes.price = session.notes.price
    call.notes.relayed = True
    attempt = Attempt(
        number=1,
        provider=parent.provider,
        target=target[1],
        system=parent.system,
        started=call.started,
        started_at=now,
        timeouts=parent.timeouts,
        sent=begun,
        status=parent.status if begun else None,
    )
    return Turn(call, attempt, outlet, about=about)


def _traced(headers: Mapping[str, str], session: Attempt) -> Mapping[str, str]:
    """In a trace, a response belongs to its session."""
    own = session.request_headers or {}
    if "traceparent" not in own:
        return headers
    changed = CIMultiDict(headers)
    changed["traceparent"] = own["traceparent"]
    return CIMultiDictProxy(changed)
