"""Flight: the responses of a session that are under way, from their admission to their settlement."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.meaning import Usage
from sidegate.contract.reply import Attempt
from sidegate.errors import BadRequest, Cancelled, CutError, Ending, SidegateError
from sidegate.realtime.turn import RESPONSE, TRANSCRIPTION, Turn, make_turn
from sidegate.wire.openai_realtime import events as wire
from sidegate.wire.openai_realtime.context import OUTPUT, Context, piece_bytes

if TYPE_CHECKING:
    from sidegate.upstream.socket import ProviderSocket

_MOST_OVER = 64
"""Responses of which it is remembered that they are over."""

Tell = Callable[[SidegateError], Awaitable[None]]


class Starts(Protocol):
    """Lets responses in."""

    def start(self, turn: Turn) -> None: ...


class Flight:
    """Of one session."""

    def __init__(
        self,
        session: Call,
        attempt: Attempt,
        provider: ProviderSocket,
        starts: Starts,
        clock: Clock,
        *,
        tell: Tell,
        end: Callable[[SidegateError], None],
        patience: float,
    ) -> None:
        """`tell` says an error to the client, `end` ends the session; `patience` are the seconds that a provider has to
        say what a response used that is not wanted any more."""
        self._session = session
        self._attempt = attempt
        self._provider = provider
        self._starts = starts
        self._clock = clock
        self._tell = tell
        self._end = end
        self._patience = patience
        self.context = Context()
        self._pending: deque[Turn] = deque()
        """Asked for by the client; the provider has not begun them."""
        self._begun: dict[str, Turn] = {}
        """By the provider's id."""
        self._over: deque[str | None] = deque(maxlen=_MOST_OVER)
        """Those that are over, by the same."""
        self._running: set[Turn] = set()
        """All that are not settled."""
        self._admissions: set[asyncio.Task[Any]] = set()

    @property
    def empty(self) -> bool:
        return not self._running

    # --- the client asks ----------------------------------------------------------------------------------------------

    async def asked(self, limits: wire.Limits, about: str) -> int | None:
        """A response is asked for: returns when its call is let in and what it may cost is held, with how long it may
        get where a plugin says so. Raises what refuses it."""
        turn = self._turn(RESPONSE, begun=False, most=limits.most or self.context.most_output, about=about)
        if limits.apart:
            turn.said = None
        error = await self._let_in(turn)
        if error is not None:
            raise error
        changed = turn.inner.request_changed if turn.inner is not None else None
        turn.attempt.sent = True
        self._pending.append(turn)
        return changed[1].max_tokens if changed is not None else None

    async def _let_in(self, turn: Turn) -> SidegateError | None:
        try:
            self._starts.start(turn)
        except SidegateError as error:
            return error
        live = turn.live
        assert live is not None
        self._running.add(turn)
        live.done.add_done_callback(lambda _: self._running.discard(turn))
        ended = live.ended()
        await asyncio.wait((turn.admitted, ended), return_when=asyncio.FIRST_COMPLETED)
        if turn.admitted.done():
            return None
        return (live.reply.error if live.reply is not None else None) or SidegateError("The gateway failed.")

    # --- the provider says --------------------------------------------------------------------------------------------

    async def heard(self, kind: str, data: bytes, *, transcribes: bool) -> None:
        """An event, before the client has it. `transcribes`: the session only writes down what is said."""
        if kind in wire.PIECES:
            await self._piece(kind, data)
        elif kind == wire.RESPONSE_CREATED:
            self._created(wire.response_id(data))
        elif kind == wire.RESPONSE_DONE:
            await self._done(data)
        elif kind in wire.SESSION_TOLD:
            session = wire.told_session(data)
            self.context.most_output = session.most
            self.context.transcription_model = session.transcription_model
        elif kind == wire.TRANSCRIBED:
            self._transcribed(data, transcribes)
        elif kind == wire.ERROR:
            self._failed(data)

    async def _piece(self, kind: str, data: bytes) -> None:
        turn = self._of(data)
        if turn is None:
            return
        attempt = turn.attempt
        attempt.output_bytes += piece_bytes(kind, len(data))
        if attempt.first_token is None:
            attempt.first_token = turn.outlet.notes.first_token = self._clock.monotonic()
            attempt.committed = True
        await self._seen(turn, data, closing=False)

    async def _seen(self, turn: Turn, data: bytes, *, closing: bool) -> None:
        """Whoever taps looks; where one refuses, the response is stopped and the client told."""
        if turn.refused is not None:
            return
        try:
            await turn.see(data, closing)
        except Exception as error:
            turn.refused = error
            await self._tell(error if isinstance(error, SidegateError) else SidegateError("The gateway failed."))
            await self._cancel(turn)

    def _of(self, data: bytes) -> Turn | None:
        if len(self._begun) == 1:
            return next(iter(self._begun.values()))
        return self._begun.get(wire.response_id(data) or "")

    def _created(self, response: str | None) -> None:
        turn = self._pending.popleft() if self._pending else None
        if turn is None:
            turn = self._turn(RESPONSE, begun=True, most=self.context.most_output)
            self._admit(turn)
        turn.response = turn.attempt.provider_id = response
        turn.attempt.status = self._attempt.status
        if response is not None:
            self._begun[response] = turn

    async def _done(self, data: bytes) -> None:
        done = wire.read_done(data)
        turn = self._begun.pop(done.id or "", None)
        if turn is None and done.id is not None and done.id in self._over:
            # Told twice, and used once.
            return
        self._over.append(done.id)
        if turn is None and done.usage is not None:
            # Nobody said that it had begun: what it used counts all the same.
            turn = self._turn(RESPONSE, begun=True, most=None)
            self._admit(turn)
        if turn is None:
            return
        if done.usage is not None and turn.said is not None:
            self.context.used(done.usage, turn.said)
        await self._seen(turn, data, closing=True)
        turn.ends(done)

    def _transcribed(self, data: bytes, transcribes: bool) -> None:
        """What the user said was written down, by a model of its own, at a price of its own."""
        item, usage = wire.read_transcribed(data)
        model = self.context.transcription_model or (self._attempt.target if transcribes else "unknown")
        turn = self._turn(TRANSCRIPTION, begun=True, most=None, target=model, used=usage or Usage(0, 0))
        # What is billed by the minute has no tokens: unknown, and never 0.
        turn.attempt.background = usage is None
        turn.ends(wire.Done(item, "completed", "stop", usage))
        self._admit(turn)

    def _failed(self, data: bytes) -> None:
        """An error: of an event that asked for a response, it says that there will be none."""
        code, about = wire.read_error(data)
        for turn in tuple(self._pending):
            if about is not None and turn.about == about:
                self._pending.remove(turn)
                turn.attempt.sent = False
                turn.fails(BadRequest("The provider refused to answer.", code=code or "provider_error"))
                return

    # --- turns --------------------------------------------------------------------------------------------------------

    def _turn(
        self,
        operation: str,
        *,
        begun: bool,
        most: int | None,
        about: str | None = None,
        target: str = "",
        used: Usage | None = None,
    ) -> Turn:
        context = self.context
        tokens = (context.most, most or OUTPUT) if used is None else (used.input_tokens or 0, used.output_tokens or 0)
        turn = make_turn(
            self._session,
            self._clock,
            operation,
            (self._attempt, target or self._attempt.target),
            tokens,
            begun=begun,
            most=most,
            about=about,
        )
        turn.attempt.input_bytes = context.likely * 4
        turn.said = context.so_far
        return turn

    def _admit(self, turn: Turn) -> None:
        """What its provider has begun goes through the pipeline while its events go on to the client."""
        task = asyncio.create_task(self._admitted(turn))
        self._admissions.add(task)
        task.add_done_callback(self._admissions.discard)

    async def _admitted(self, turn: Turn) -> None:
        error = await self._let_in(turn)
        if error is None or turn.call.operation == TRANSCRIPTION:
            return
        await self._tell(error)
        if error.code == "insufficient_quota":
            # The next pause of the user would begin another.
            self._end(error)

    async def stopped(self, turn: Turn) -> None:
        """A response is not wanted any more: its provider is told, and may say what it used."""
        if not turn.over.done():
            await self._cancel(turn)
        await turn.finished(self._patience)

    async def _cancel(self, turn: Turn) -> None:
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._provider.send(wire.write_cancel(turn.response), True)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def land(self, why: SidegateError | None, down: asyncio.Task[None], seconds: float) -> None:
        """Settle what is under way. Where `down` still reads, what is stopped may say what it used; with `seconds`,
        each has that long to end by itself."""
        if not down.done() and self._running:
            if not seconds:
                for turn in tuple(self._begun.values()):
                    await self._cancel(turn)
            await self._settled(seconds or self._patience, down)
        gone = Cancelled(Ending.CLIENT_GONE)
        cut = CutError("The provider closed the session.") if down.done() else gone
        for turn in tuple(self._running):
            turn.fails(why or cut)
            if not turn.admitted.done() and turn.live is not None:
                turn.live.stop(gone)
        await self._settled(self._patience, None)
        for task in tuple(self._admissions):
            task.cancel()

    async def _settled(self, seconds: float, down: asyncio.Task[None] | None) -> None:
        """Wait until all are, or the provider says nothing more."""
        idle = [turn for turn in self._pending if down is not None]
        ends = [turn.live.ended() for turn in self._running if turn.live is not None and turn not in idle]
        if not ends:
            return
        waiting = [asyncio.ensure_future(asyncio.wait(ends)), *([down] if down is not None else [])]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        waiting[0].cancel()
