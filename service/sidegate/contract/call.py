"""Call: one request on its way through the gateway, and what a plugin may ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import Context
from datetime import datetime
from typing import Protocol, TypeAlias

from msgspec import Struct

from sidegate.contract.asked import Asked as Asked
from sidegate.contract.caller import ANONYMOUS, Naming
from sidegate.contract.chunk import Chunk
from sidegate.contract.frame import Frame, Standstill
from sidegate.contract.input import SeeInput
from sidegate.contract.meaning import Request
from sidegate.contract.peer import Peer
from sidegate.contract.reply import Attempt, Reply
from sidegate.contract.stages import Change, Chunks, Edit, Ender, Hold, See, Stage, Tap
from sidegate.contract.timeouts import Patience
from sidegate.errors import Cancelled, Ending, SidegateError

Mark: TypeAlias = "tuple[str, str | tuple[type[Stage], ...]]"
"""A plugin's name, and what it did: a word for it, or the kinds of stages it asked for."""


class Outlet(Protocol):
    """Where chunks go after the outermost stage: the client's edge, or the gate of an attempt."""

    async def chunks(self, chunks: list[Chunk]) -> None: ...
    async def raw(self, data: bytes, meaningful: bool) -> None: ...
    def takes_raw(self, dialect: str, whole: bool) -> bool: ...


class Notes(Struct):
    """What a call gathers on its way; shared by the call and its attempts."""

    attempts: list[Attempt] = []
    headers: dict[str, str] = {}
    plugin_seconds: dict[str, float] = {}
    marks: list[Mark] = []
    """What plugins did besides passing the call on; the core's, for its trail."""
    visible: list[Callable[[str], bool]] = []
    price: Callable[[Attempt], int | None] | None = None
    """Nano-USD of an attempt that is over; `None` where that is unknown. The core settles by it."""
    reserve: Callable[[Call], Awaitable[None]] | None = None
    """Awaited by the core with an attempt's own call, right before its provider is reached; may refuse."""
    openings: list[Callable[[Call], Awaitable[None]]] = []
    """Awaited by the core with an attempt's own call, before `reserve`; may refuse."""
    first_token: float | None = None
    """When the first token left for the client, monotonic seconds."""
    trace_id: str | None = None
    """The trace it belongs to, in hex, where a plugin traces it: for the log."""
    stop: SidegateError | None = None
    """Why the core stopped the call, set before its task is cancelled."""
    abandoned: bool = False
    """The client has left and only the usage of what is under way is wanted: nothing is tried anew."""
    edited: bool = False
    """An edit is at work: what goes out is written anew from its meaning."""
    pinned: tuple[str, str] | None = None  # the provider that must be asked, and the mark of its key
    naming: Naming | None = None
    """Set where it is not the call's own: see `Call.naming`."""
    inputs: list[tuple[SeeInput, Frame | None]] = []
    """Who looks at what the client of a socket says, and in whose frame."""
    relayed: bool = False
    """Its events pass as they are: sound that is spoken already cannot be changed."""
    frame: Frame | None = None
    """Whose code runs: the frame of a plugin, if not the core's own."""
    task: asyncio.Task[None] | None = None
    """It runs in."""
    context: Context | None = None
    """That task's."""

    def context_here(self) -> Context | None:
        """For steps of the call that the core does outside of its task. `None` in a task that a plugin has made: only
        that knows its own."""
        if self.task is None or asyncio.current_task(self.task.get_loop()) is not self.task:
            return None
        return self.context


class Call:
    """One request: who asks for what, by which words, and how the reply is to be delivered.

    A plugin reads the attributes, may set `caller`, `end_user` and `request`, asks for the reply's chunks with `tap`,
    `change` and `hold` before it awaits `handler`, and emits with `send`. What it asked for ends when its `__call__`
    returns.
    """

    def __init__(
        self,
        *,
        id: str,
        operation: str,
        dialect: str,
        model: str,
        delivery: str,
        outlet: Outlet,
        started: float,
        started_at: datetime,
        asked: Asked | None = None,
        route: str = "",
        hold_limit: int = 8 * 2**20,
        edit_timeout: float = 5.0,
        notes: Notes | None = None,
    ) -> None:
        self.id = id
        """A UUID (version 7, no dashes): in each reply as `x-request-id`, in the log, the ledger, the URL to cancel."""
        self.operation = operation
        """What is asked for: `chat`, `text_completion`, `embeddings`, `models` and others; the manual lists them."""
        self.dialect = dialect
        """The client's dialect, for logs; nothing in a plugin should depend on it."""
        self.model = model
        """The model name asked for, as in the config; empty where the operation has none."""
        self.subject = ""
        """The id that an operation on records asks for: of a call."""
        self.delivery = delivery
        """`buffered`, `stream`, `job` or `socket`; `streams`: whether event by event, as the request of a job says."""
        self.streams = delivery == "stream"
        self.route = route
        self.patience: Patience | None = None
        """What the route and the client say of the timeouts, where they do."""
        self.caller = ANONYMOUS
        self.end_user: str | None = None
        """The caller's end user, where the caller may name one (set by the authenticating plugin)."""
        self.started = started
        """Monotonic seconds."""
        self.started_at = started_at
        self.asked = asked or Asked()
        self.attempt: Attempt | None = None
        """Set for a plugin in an `attempt` list: the try it stands in."""
        self.hold_limit = hold_limit
        """Bytes that may be held back of one reply."""
        self.edit_timeout = edit_timeout
        """Seconds an async edit may take for one chunk."""
        self.notes = Notes() if notes is None else notes
        self.attempts = self.notes.attempts
        """Every try so far, failed ones included. They survive exceptions."""
        self.reply_headers = self.notes.headers
        """Headers for the reply, by lower-case name. They count until the first byte: on a stream that is early."""
        self._request: Request | None = None
        self._original: Request | None = None
        self.stages: list[Stage] = []
        """What looks at chunks, innermost last; for the core."""
        self._outlet = outlet
        self.sent = 0
        """How many times something was emitted here; for the core."""

    # --- the request --------------------------------------------------------------------------------------------------

    @property
    def headers(self) -> Mapping[str, str]:
        """The client's request headers."""
        return self.asked.headers

    @property
    def peer(self) -> Peer | None:
        """Who the other end of the connection has proved to be: by a TLS certificate, or through a Unix socket."""
        return self.asked.peer

    @property
    def request(self) -> Request:
        """What is asked for, in no dialect. Decoded when first read; raises `BadRequest` where it makes no sense."""
        if self._request is None:
            if self.asked.wrong is not None:
                raise self.asked.wrong
            if self.asked.read is None:
                self._request = Request(model=self.model)
            else:
                self._request = self.asked.read()
            self._original = self._request
        return self._request

    @request.setter
    def request(self, request: Request) -> None:
        """Ask for something else. Only what differs is written anew; the rest of the body stays as it came."""
        _ = self.request
        self._request = request

    @property
    def request_changed(self) -> tuple[Request, Request] | None:
        """What was asked and what is asked now, where a plugin made a difference."""
        if self._request is None or self._original is None or self._request is self._original:
            return None
        return self._original, self._request

    def restrict_models(self, visible: Callable[[str], bool]) -> None:
        """Let the call see only model names for which `visible` is true: the others are unknown to it, 404."""
        self.notes.visible.append(visible)

    def sees_model(self, name: str) -> bool:
        return not self.notes.visible or all(visible(name) for visible in self.notes.visible)

    # --- the reply ----------------------------------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """Whether a token has left for the client: from here on an error is an event."""
        return self.notes.first_token is not None

    @property
    def naming(self) -> Naming:
        """What the ids and the time are made from that the gateway gives the reply: those of this call.

        Whoever tells an earlier call's reply again sets that one's before the first chunk: same reply, same ids.
        """
        return self.notes.naming or Naming(self.id, int(self.started_at.timestamp()))

    @naming.setter
    def naming(self, naming: Naming) -> None:
        self.notes.naming = naming

    def tap(self, see: See) -> None:
        """Look at every chunk that comes past, in order. `see` is a plain function; what it raises stops the call."""
        self.stages.append(Tap(see, self.notes.frame))

    def tap_input(self, see: SeeInput) -> None:
        """Look at every message that the client of a Realtime session sends, before it goes on; see `Input`.

        Other calls have said all they have to say when they begin, and nothing comes.
        """
        self.notes.inputs.append((see, self.notes.frame))

    def change(self, edit: Edit) -> None:
        """Rewrite, drop or hold back: see `Edit`."""
        self._refuse_observer("change")
        self.notes.edited = True
        self.stages.append(Change(edit, self.edit_timeout, self.notes.frame))

    def at_end(self, end: Callable[[Ending], Chunks]) -> None:
        """Give `Chunk.comment`s to stand before the closing event of a complete stream, such as what it cost.

        Costs nothing for the chunks before. What belongs to the reply itself is said by an edit's `end`.
        """
        self._refuse_observer("at_end")
        self.stages.append(Ender(end, self.edit_timeout, self.notes.frame))

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Hold]:
        """Collect what comes instead of passing it on: `held.release()` lets it go, `held.drop()` forgets it.

        Leaving the block without either drops, too; a call that then ends with nothing sent is a plugin's mistake.
        Awaiting `handler` again is allowed only while nothing was released.
        A reply larger than `hold_limit` is refused with 502 `reply_too_large`.
        """
        self._refuse_observer("hold")
        position = len(self.stages)
        held = Hold(self.push, position, self.hold_limit, self.notes)
        self.stages.append(held)
        try:
            yield held
            if held.chunks and not held.released and not held.leaked and self.notes.frame is not None:
                self.notes.frame.forgotten = self.sent
        finally:
            if held in self.stages:
                if self.notes.frame is not None:
                    self.notes.marks.append((self.notes.frame.name, tuple(map(type, self.stages[position:]))))
                del self.stages[self.stages.index(held) :]

    def waiting(self) -> AbstractContextManager[None]:
        """Wait for what others do, such as another call or a slow reader: no time of the plugin's own, so not bounded.

        Only round waits that end by themselves.
        """
        frame = self.notes.frame
        return Standstill(None if frame is None or not frame.since else frame)

    async def send(self, chunk: Chunk) -> None:
        """Emit a chunk outward from here; returns when the reader has room. The only way to emit."""
        await self.emit([chunk])

    async def emit(self, chunks: list[Chunk]) -> None:
        """Emit several chunks that came together, so that they leave together."""
        self.sent += 1
        await self.push(chunks, len(self.stages))

    async def push(self, chunks: list[Chunk], position: int) -> None:
        """`climb`, while the clock of a plugin stands still: a slow reader is not its fault. For the core."""
        frame = self.notes.frame
        if frame is None or not frame.since:
            await self.climb(chunks, position)
            return
        frame.pause()
        try:
            await self.climb(chunks, position)
        finally:
            frame.resume()

    async def climb(self, chunks: list[Chunk], position: int) -> None:
        """Pass chunks through the stages outside `position` and out. For the core; a plugin uses `send`."""
        for index in range(position - 1, -1, -1):
            chunks = await self.stages[index].passes(chunks)
            if not chunks:
                return
        await self._outlet.chunks(chunks)

    def reply_for(self, error: BaseException) -> Reply:
        """What a call that ends by `error` is to the log and the ledger. For plugins that record every ending."""
        if isinstance(error, asyncio.CancelledError):
            error = self.notes.stop or Cancelled(Ending.CANCELLED)
        if not isinstance(error, SidegateError):
            return Reply(status=500, ending=Ending.FAILED, error=SidegateError("The gateway failed."))
        return Reply(status=error.status, ending=error.ending, error=error)

    # --- for the core -------------------------------------------------------------------------------------------------

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        """Whether bytes of `dialect` may pass as they are, because nobody looks on the whole way out."""
        for stage in self.stages:
            if stage.sees:
                return False
        return self._outlet.takes_raw(dialect, whole)

    async def send_raw(self, data: bytes, meaningful: bool) -> None:
        """Emit bytes past all stages; only where `takes_raw`."""
        self.sent += 1
        await self._outlet.raw(data, meaningful)

    def child(self, attempt: Attempt, outlet: Outlet) -> Call:
        """The attempt as a call of its own: own stages and copy of the request, same id, notes and caller."""
        child = Call(
            id=self.id,
            operation=self.operation,
            dialect=self.dialect,
            model=self.model,
            delivery=self.delivery,
            outlet=outlet,
            started=self.started,
            started_at=self.started_at,
            asked=self.asked,
            route=self.route,
            hold_limit=self.hold_limit,
            edit_timeout=self.edit_timeout,
            notes=self.notes,
        )
        child.caller, child.end_user, child.streams = self.caller, self.end_user, self.streams
        child.attempt, child.subject = attempt, self.subject
        child._request, child._original = self._request, self._original
        return child

    def _refuse_observer(self, what: str) -> None:
        frame = self.notes.frame
        if frame is not None and frame.watches_only:
            raise TypeError(f"{frame.name} is an observer: it may tap, not {what}")
        if self.notes.relayed:
            raise TypeError(f"a Realtime session is passed on as it is: it may be tapped or refused, no `{what}` holds")
