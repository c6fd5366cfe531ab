"""Session: one connection to the chat socket, from its first word to its last. It is a call in flight as long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import NamedTuple, Protocol

import msgspec

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.reply import Reply
from sidegate.conversations import words
from sidegate.conversations.conversation import Conversation
from sidegate.conversations.house import House, check_own
from sidegate.conversations.member import TOO_SLOW, Member, Seat, Serving
from sidegate.errors import BadRequest, Cancelled, Ending, Refusal, SidegateError
from sidegate.settings import Route
from sidegate.sockets.closing import INVALID_TEXT, NORMAL, Closed, closing_for

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BINARY = Closed(1003, "text_only")


class Heard(Protocol):
    """A message."""

    @property
    def data(self) -> bytes: ...
    @property
    def text(self) -> bool: ...


class Socket(Protocol):
    """The client's end."""

    @property
    def closed(self) -> Closed | None: ...
    def receive(self) -> Awaitable[Heard | None]: ...
    def send(self, data: bytes, text: bool) -> Awaitable[None]: ...
    def keep(self) -> Awaitable[SidegateError]: ...


class _Outcome(NamedTuple):
    how: Closed
    error: SidegateError | None = None


class Session:
    """`opened` says that the pipeline has let it in; `ready` is the socket, once the handshake was answered."""

    def __init__(self, house: House, service: Serving, route: Route, clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ready: asyncio.Future[Socket] = loop.create_future()
        self.how = Closed(NORMAL)
        """How the socket is to be closed."""
        self._house = house
        self._service = service
        self._route = route
        self._clock = clock
        self._conversation: Conversation | None = None

    async def __call__(self, call: Call) -> Reply:
        """The heart of the session's call."""
        if call.asked.wrong is not None:
            raise call.asked.wrong
        self.opened.set_result(None)
        socket = await self.ready
        member = Member(Seat(call, self._service, self._route), self._house.behind)
        outcome = _Outcome(closing_for(Cancelled(Ending.CLIENT_GONE)))
        self._house.arrives(member)
        try:
            outcome = await self._run(member, socket)
        except asyncio.CancelledError:
            outcome = _Outcome(closing_for(call.notes.stop))
            raise
        finally:
            self.how = outcome.how
            self._house.leaves(member)
            if self._conversation is not None:
                self._conversation.leave(member, self._clock.monotonic())
        if outcome.error is not None:
            raise outcome.error
        return Reply()

    async def _run(self, member: Member, socket: Socket) -> _Outcome:
        """Hear, tell and keep alive, until one of them ends."""
        loop = asyncio.get_running_loop()
        hearing = loop.create_task(self._hear(member, socket))
        telling = loop.create_task(member.send(socket.send))
        keeping = asyncio.ensure_future(socket.keep())
        losing = loop.create_task(member.lost.wait())
        tasks = (hearing, telling, keeping, losing)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if losing.done():
                return _Outcome(TOO_SLOW, Cancelled(Ending.CLIENT_GONE, code="too_slow"))
            if telling.done():
                return _Outcome(telling.result())
            if hearing.done():
                return hearing.result()
            error = keeping.result()
            return _Outcome(closing_for(error), error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _hear(self, member: Member, socket: Socket) -> _Outcome:
        while (heard := await socket.receive()) is not None:
            if not heard.text:
                return _Outcome(_BINARY, BadRequest("Messages are text.", code="text_only"))
            self._answer(member, heard.data)
        closed = socket.closed or Closed(NORMAL)
        if closed.code in (1002, INVALID_TEXT, 1009):
            return _Outcome(closed, BadRequest("What came is no message.", code=closed.reason or "protocol_error"))
        return _Outcome(Closed(NORMAL), None if closed.clean else Cancelled(Ending.CLIENT_GONE))

    def _answer(self, member: Member, data: bytes) -> None:
        re: str | None = None
        try:
            said = _read(data)
            re = said.id
            self._do(member, said)
        except SidegateError as error:
            wrong = words.Wrong(
                code=error.code, message=error.message, param=error.param, retry_after=error.retry_after, re=re
            )
            member.tell(wrong)

    def _do(self, member: Member, said: words.Said) -> None:
        if isinstance(said, words.Open | words.Join):
            if self._conversation is not None:
                raise Refusal(409, "already_open", "This connection takes part in a conversation: open another.")
            if isinstance(said, words.Open):
                self._conversation = self._house.open(member, said)
            else:
                self._conversation = self._house.join(member, said)
            return
        if self._conversation is None:
            if not isinstance(said, words.Create | words.Add):
                raise Refusal(409, "not_open", "Open or join a conversation first.")
            self._conversation = self._house.open(member, words.Open())
        conversation = self._conversation
        match said:
            case words.Create():
                conversation.create(member, said)
            case words.Add():
                conversation.add(member, said)
            case words.Cancel():
                conversation.cancel(said)
            case words.Invite():
                member.tell(self._house.invite(conversation, member, said))
            case words.Close():
                check_own(conversation, member)
                conversation.close()


def _read(data: bytes) -> words.Said:
    try:
        said: words.Said = words.decode(data)
        return said
    except _UNREADABLE as error:
        raise BadRequest(f"The message is not understood: {error}"[:500], code="invalid_message") from None
