"""Session: one Realtime connection. Frames go both ways as they come, each way at its own pace; what they mean is kept
count of beside them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from sidegate.contract.call import Call
from sidegate.contract.frame import Frame
from sidegate.contract.host import Clock
from sidegate.contract.input import Input
from sidegate.contract.reply import Attempt, Reply
from sidegate.contract.stages import refuse_awaitable
from sidegate.errors import (
    FAULTS,
    BadRequest,
    Cancelled,
    CutError,
    Ending,
    GatewayStopping,
    PluginError,
    Refusal,
    SidegateError,
)
from sidegate.realtime.flight import Flight, Starts
from sidegate.settings.sockets import Sockets
from sidegate.sockets import closing
from sidegate.sockets.closing import Closed, closing_for, passed_on
from sidegate.upstream.choice import unknown_model
from sidegate.wire.openai_realtime import events as wire
from sidegate.wire.surrogates import without_halves

if TYPE_CHECKING:
    from sidegate.live import Live
    from sidegate.realtime.turn import Turn
    from sidegate.upstream.socket import ProviderSocket

_DRAIN_LOOK = 0.2
"""Seconds between looks at whether the gateway is stopping."""
_WRONG = {
    closing.PROTOCOL_ERROR: "protocol_error",
    closing.INVALID_TEXT: "invalid_utf8",
    closing.TOO_BIG: "message_too_big",
}


class Message(Protocol):
    @property
    def data(self) -> bytes: ...
    @property
    def text(self) -> bool: ...


class Client(Protocol):
    """The client's end."""

    closed: Closed | None

    async def receive(self) -> Message | None: ...
    async def send(self, data: bytes, text: bool) -> None: ...
    async def keep(self) -> SidegateError: ...


class Session:
    """From the handshake on. `run` is the heart of its call."""

    def __init__(
        self, call: Call, starts: Starts, live: Live, settings: Sockets, clock: Clock, *, lingers: bool
    ) -> None:
        """`lingers`: a response under way is waited for when the client has left, as the route wants it."""
        loop = asyncio.get_running_loop()
        self.call = call
        self.intent = ""
        self._starts = starts
        self._live = live
        self._settings = settings
        self._clock = clock
        self._lingers = lingers
        self.opened: asyncio.Future[None] = loop.create_future()
        """A provider is reached: the handshake may be answered."""
        self.ready: asyncio.Future[Client] = loop.create_future()
        """It is answered; or the client has left before."""
        self.how = Closed(closing.NORMAL)
        """How the client is to be told that it is over."""
        self._events = 0
        self._silent = False
        """Nobody listens any more."""

    async def run(self, provider: ProviderSocket, attempt: Attempt) -> Reply:
        """Relay until one side has enough. Raises what ended it, unless that was a good end."""
        self._provider, self._attempt = provider, attempt
        self._flight = Flight(
            self.call,
            attempt,
            provider,
            self._starts,
            self._clock,
            tell=self.tell,
            end=self._end,
            patience=self._settings.closing,
        )
        self.opened.set_result(None)
        error: SidegateError | None = None
        down: asyncio.Task[None] | None = None
        try:
            self._client = await self.ready
            down = asyncio.create_task(self._down(), name="realtime down")
            error = await self._relayed(down)
        except asyncio.CancelledError:
            error = self.call.notes.stop or Cancelled(Ending.CANCELLED)
        except SidegateError as stopped:
            error = stopped
        await self._over(error, down)
        if error is not None:
            raise error
        return Reply(model=attempt.target)

    async def stopped(self, turn: Turn) -> None:
        """A response is not wanted any more."""
        await self._flight.stopped(turn)

    # --- both directions ----------------------------------------------------------------------------------------------

    async def _relayed(self, down: asyncio.Task[None]) -> SidegateError | None:
        up, kept, lost, drained = (
            asyncio.create_task(each)
            for each in (self._up(), self._client.keep(), self._provider.keep(), self._drained())
        )
        others = (up, kept, lost, drained)
        try:
            await asyncio.wait((down, *others), return_when=asyncio.FIRST_COMPLETED)
            for task in (up, down):
                if task.done():
                    task.result()
            if kept.done():
                return kept.result()
            if drained.done():
                return GatewayStopping()
            if up.done() and self._client.closed is not None:
                return self._client_closed(self._client.closed)
            return self._provider_closed(self._provider.closed or Closed(closing.ABNORMAL))
        finally:
            for task in others:
                task.cancel()
            await asyncio.wait(others)

    def _client_closed(self, closed: Closed) -> SidegateError | None:
        self._silent = True
        self.how = closed
        if closed.code in _WRONG:
            return Refusal(400, _WRONG[closed.code], "The client broke off what WebSocket allows.")
        return Cancelled(Ending.CLIENT_GONE) if closed.code == closing.ABNORMAL else None

    def _provider_closed(self, closed: Closed) -> SidegateError | None:
        self.how = passed_on(closed)
        if closed.clean:
            return None
        return CutError(f"The provider closed the session ({closed.code}).")

    async def _drained(self) -> None:
        """A gateway that stops lets a response end, and then the session."""
        while True:
            await asyncio.sleep(_DRAIN_LOOK)
            if self._live.draining and self._flight.empty:
                return

    async def _up(self) -> None:
        client, provider = self._client, self._provider
        while (message := await client.receive()) is not None:
            data = message.data
            if message.text or _may_be_event(data):
                kept = await self._said(data)
                if kept is None:
                    continue
                data = kept
            elif self.call.notes.inputs:
                self._look(Input(data, text=False))
            try:
                await provider.send(data, message.text)
            except ConnectionError:
                return

    async def _down(self) -> None:
        provider = self._provider
        while (message := await provider.receive()) is not None:
            if message.text:
                heard = without_halves(message.data)
                await self._flight.heard(wire.server_type(heard), heard, transcribes=bool(self.intent))
            if not self._silent:
                await self._client.send(message.data, message.text)

    # --- what the client says -----------------------------------------------------------------------------------------

    async def _said(self, data: bytes) -> bytes | None:
        """What goes on to the provider in its place; `None` where nothing does."""
        data = without_halves(data)
        about: str | None = None
        try:
            event = wire.read_client(data)
            if self.call.notes.inputs:
                self._look(Input(data, text=True, type=event.type))
            about = event.event_id
            if event.type == wire.RESPONSE_CREATE:
                return await self._asked(data, event)
            if event.type in wire.SESSION_UPDATES:
                data = self._set(data, event)
            self._flight.context.said(event.type, len(data))
            return data
        except BadRequest as error:
            await self.tell(error, about)
            return None

    async def _asked(self, data: bytes, event: wire.ClientEvent) -> bytes | None:
        """A response is asked for: it passes when its call is let in and what it may cost is held."""
        limits = wire.read_limits(event.response)
        self._flight.context.said(wire.RESPONSE_CREATE, len(data))
        about = event.event_id
        if about is None:
            # By it an answer to this very event is known, should it be an error.
            about = self._event_id()
            data = wire.with_event_id(data, about)
        try:
            most = await self._flight.asked(limits, about)
        except SidegateError as error:
            await self.tell(error, event.event_id)
            return None
        return data if most is None else wire.with_most_output(data, most)

    def _set(self, data: bytes, event: wire.ClientEvent) -> bytes:
        """A session is to be set anew: by the same model, and none that its caller may not use."""
        session = wire.read_session(event.session)
        target = self._attempt.target
        for model in filter(None, (session.transcription_model,)):
            if not self.call.sees_model(model):
                found = unknown_model(model)
                raise BadRequest(found.message, param="session", status=404, code=found.code)
        if session.model is None or session.model == target or self.intent:
            return data
        if session.model != self.call.model:
            raise BadRequest(
                "The model of a session stays the one it was opened with.", param="session.model", code="model_fixed"
            )
        return wire.with_session_model(data, target)

    def _look(self, message: Input) -> None:
        inputs = self.call.notes.inputs
        for pair in tuple(inputs):
            see, owner = pair
            looks: Callable[[Input], object] = see
            try:
                if (given := looks(message)) is not None:
                    refuse_awaitable(given)
            except FAULTS as error:
                if owner is None or not owner.watches_only:
                    raise _failure(error, owner) from error
                inputs.remove(pair)
                owner.reported(error)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def tell(self, error: SidegateError, about: str | None = None) -> None:
        """An error event for the client."""
        if not self._silent and self.ready.done():
            await self._client.send(wire.write_error(error, self._event_id(), about), True)

    async def _over(self, error: SidegateError | None, down: asyncio.Task[None] | None) -> None:
        """Settle what is under way, close the provider's end, and say how the client's is to be closed."""
        try:
            if error is not None and not self._silent and self.how.code == closing.NORMAL:
                self.how = closing_for(error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.closing):
                        await self.tell(error)
            self._silent = True
            if down is not None:
                left = error is None or error.ending is Ending.CLIENT_GONE
                await self._flight.land(error, down, self._attempt.timeouts.idle if self._lingers and left else 0)
        finally:
            if down is not None:
                down.cancel()
            await self._provider.close(closing.NORMAL)

    def _end(self, error: SidegateError) -> None:
        live = next((each for each in self._live.all() if each.call is self.call), None)
        if live is not None:
            live.stop(error)

    def _event_id(self) -> str:
        self._events += 1
        return f"event_{self.call.id[-12:]}{self._events}"


def _failure(error: Exception | SystemExit, owner: Frame | None) -> SidegateError:
    if isinstance(error, SidegateError):
        if owner is not None and error.plugin is None:
            error.plugin = owner.name
        return error
    return PluginError(owner.name if owner is not None else "plugin")


def _may_be_event(data: bytes) -> bool:
    """Whether bytes that did not come as text are JSON all the same to whoever is not strict: in UTF-16, say."""
    try:
        return isinstance(json.loads(data), dict | list)
    except (ValueError, RecursionError):
        return False
