"""Feeds: a piece is taken when it is read from the socket; what has to be waited for is done in order, by its task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidegate.contract import Attempt, Call, Chunk, Ending, Reply
from sidegate.contract.host import SystemClock
from sidegate.contract.timeouts import Timeouts
from sidegate.errors import CutError, PhaseTimeout, Refusal
from sidegate.gate import Gate
from sidegate.outlet import StreamOutlet
from sidegate.pump import Pump, Take
from sidegate.testing.voices import VOICES
from sidegate.upstream.deadline import Deadline
from sidegate.upstream.feed import Feed
from sidegate.wire.dialect import Dialect, Envelope
from sidegate.wire.registry import DIALECTS
from tests.upstream.wires import CHUNKED, Fed, fed

HEAD = CHUNKED
CLOCK = SystemClock()
CHAT = DIALECTS["openai.chat"]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def new_attempt() -> Attempt:
    return Attempt(number=1, provider="p", target="m", system="openai", started=0, started_at=datetime.now(UTC))


class Driven:
    """A feed under way in a task of its own."""

    def __init__(self, there: Fed) -> None:
        self._there = there
        self.got: list[bytes] = []
        self.task: asyncio.Task[bytes] | None = None

    def says(self, *data: bytes) -> None:
        """As the loop does it: outside of every task."""
        self._there.feed([chunk(each) for each in data])

    async def said(self, *data: bytes) -> list[bytes]:
        """What had been taken of it when the socket had been read, before any task ran."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[bytes]] = loop.create_future()

        def read() -> None:
            self.says(*data)
            done.set_result(list(self.got))

        loop.call_soon(read)
        return await done

    async def over(self) -> bytes:
        """What the feed gives when it is driven no more."""
        assert self.task is not None
        async with asyncio.timeout(5):
            return await self.task


@asynccontextmanager
async def driven(take: Callable[[Driven], Take], timeouts: Timeouts | None = None) -> AsyncIterator[Driven]:
    """Drive what comes after a first piece."""
    async with fed() as there:
        driven = Driven(there)
        asking = asyncio.ensure_future(there.connection.ask(b"GET / HTTP/1.1\r\n\r\n", b""))
        await asyncio.sleep(0)
        there.feed([HEAD + chunk(b"first")])
        response = await asking
        attempt = new_attempt()
        context = copy_context()

        async def run() -> bytes:
            with Deadline(timeouts or Timeouts()) as deadline:
                deadline.wait("first_token", 100)
                feed = Feed(response, deadline, attempt, (timeouts or Timeouts()).idle, context)
                assert await feed.piece() == b"first"
                attempt.first_token = 1.0
                driven.got.append(await feed.piece())
                await feed.drive(take(driven))
                return await feed.piece()

        driven.task = asyncio.get_running_loop().create_task(run(), context=context)
        await driven.said(b"second")
        await asyncio.sleep(0.01)
        assert driven.got == [b"second"]
        try:
            yield driven
        finally:
            driven.task.cancel()
            await asyncio.gather(driven.task, return_exceptions=True)
            response.close()


def keeping(driven: Driven) -> Take:
    def take(piece: bytes) -> None:
        driven.got.append(piece)

    return take


def awaiting(work: Callable[[bytes], Coroutine[Any, Any, bool]]) -> Callable[[Driven], Take]:
    def make(driven: Driven) -> Take:
        async def rest(piece: bytes) -> bool:
            more = await work(piece)
            driven.got.append(piece)
            return more

        return rest

    return make


async def test_a_piece_is_taken_before_any_task_wakes() -> None:
    async with driven(keeping) as on:
        assert await on.said(b"a") == [b"second", b"a"]
        assert await on.said(b"b", b"c") == [b"second", b"a", b"b", b"c"]
        on.says(b"")
        assert await on.over() == b""


async def test_what_waits_for_nothing_is_done_before_any_task_wakes_as_the_task_that_drives() -> None:
    tasks: set[Any] = set()

    async def work(piece: bytes) -> bool:
        tasks.add(asyncio.current_task())
        return piece != b"c"

    async with driven(awaiting(work)) as on:
        assert await on.said(b"a") == [b"second", b"a"]
        assert await on.said(b"b") == [b"second", b"a", b"b"]
        assert tasks == {on.task}
        await on.said(b"c")
        await asyncio.sleep(0)
        on.says(b"d")
        assert await on.over() == b"d"
        assert on.got == [b"second", b"a", b"b", b"c"]


async def test_what_waits_is_finished_by_its_task_and_nothing_overtakes_it() -> None:
    gate = asyncio.Event()

    async def work(piece: bytes) -> bool:
        if piece == b"a":
            await gate.wait()
            await asyncio.sleep(0)
        return True

    async with driven(awaiting(work)) as on:
        for data in (b"a", b"b", b"c"):
            assert await on.said(data) == [b"second"]
        gate.set()
        await asyncio.sleep(0.01)
        assert on.got == [b"second", b"a", b"bc"]
        assert await on.said(b"d") == [b"second", b"a", b"bc", b"d"]


@pytest.mark.parametrize("waits", [False, True])
async def test_what_a_step_raises_is_raised_in_its_task(waits: bool) -> None:
    async def work(piece: bytes) -> bool:
        if waits:
            await asyncio.sleep(0)
        raise Refusal(403, "no", "No.")

    async with driven(awaiting(work)) as on:
        await on.said(b"a")
        with pytest.raises(Refusal):
            await on.over()

    def refusing(driven: Driven) -> Take:
        def take(piece: bytes) -> None:
            raise Refusal(403, "no", "No.")

        return take

    async with driven(refusing) as on:
        await on.said(b"a")
        with pytest.raises(Refusal):
            await on.over()


@pytest.mark.parametrize("turns", [0, 3], ids=["before its task ran", "while its task waits"])
async def test_a_cancellation_reaches_what_is_waited_for(turns: int) -> None:
    ended: list[str] = []

    async def work(piece: bytes) -> bool:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return True

    async with driven(awaiting(work)) as on:
        await on.said(b"a")
        for _ in range(turns):
            await asyncio.sleep(0)
        assert on.task is not None
        on.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await on.over()
        assert ended == ["cancelled"]


async def test_a_bound_of_time_that_a_step_sets_for_itself_holds() -> None:
    async def work(piece: bytes) -> bool:
        try:
            async with asyncio.timeout(0.05):
                await asyncio.Event().wait()
        except TimeoutError:
            return True
        return False

    async with driven(awaiting(work)) as on:
        await on.said(b"a")
        await asyncio.sleep(0.2)
        assert on.got == [b"second", b"a"]
        assert on.task is not None
        assert on.task.cancelling() == 0


async def test_a_step_keeps_its_context_when_its_task_goes_on_with_it() -> None:
    kept: ContextVar[str] = ContextVar("kept", default="")

    async def work(piece: bytes) -> bool:
        token = kept.set("inside")
        await asyncio.sleep(0)
        kept.reset(token)
        return True

    async with driven(awaiting(work)) as on:
        await on.said(b"a")
        await asyncio.sleep(0.01)
        assert on.got == [b"second", b"a"]


async def test_a_cut_is_told_after_what_came_before_it() -> None:
    async with driven(keeping) as on:
        await on.said(b"a")
        on._there.end()
        with pytest.raises(CutError):
            await on.over()
        assert on.got == [b"second", b"a"]


async def test_the_clock_of_silence_runs_between_pieces_and_stands_while_a_reader_is_waited_for() -> None:
    slow = asyncio.Event()

    async def work(piece: bytes) -> bool:
        if piece == b"slow":
            await slow.wait()
        return True

    async with driven(awaiting(work), Timeouts(idle=0.2)) as on:
        for _ in range(4):
            await asyncio.sleep(0.1)
            await on.said(b"a")
        await on.said(b"slow")
        await asyncio.sleep(0.4)
        assert on.task is not None
        assert not on.task.done()
        slow.set()
        with pytest.raises(PhaseTimeout) as caught:
            await on.over()
        assert caught.value.phase == "idle"


# --- with the pump ----------------------------------------------------------------------------------------------------


class Reader:
    """A client: what it was sent; it may have no room for a while."""

    blocked_since = quiet_since = 0.0

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.room = True

    async def write(self, data: bytes) -> None:
        while not self.room:  # noqa: ASYNC110
            await asyncio.sleep(0)
        self.got.append(data)

    def write_now(self, data: bytes) -> bool:
        if self.room:
            self.got.append(data)
        return self.room

    async def beat(self) -> None: ...

    def abort(self) -> None: ...


class Shout:
    """An edit that waits now and then."""

    def __init__(self, waits: bool) -> None:
        self._waits = waits

    async def see(self, chunk: Chunk) -> list[Chunk]:
        if self._waits:
            await asyncio.sleep(0)
        return [chunk.with_text(str.upper)]

    def end(self, ending: Ending) -> list[Chunk]:
        return []


WORDS = [f"{'tök' if number == 9 else 'token'} {number} " for number in range(16)]
PING = b": ping\n\n"


def events(speaker: str) -> list[bytes]:
    voice = VOICES[speaker]
    return [*voice.begins(*WORDS), PING, *voice.ends(voice.usage((7, 4)))]


async def relayed(
    dialect: Dialect, pieces: list[bytes], plugin: Callable[[Call], None], full: set[int]
) -> tuple[bytes, Reply, Attempt]:
    """What the client gets of a stream that comes in these reads, being without room before some of them."""
    loop = asyncio.get_running_loop()
    reader = Reader()
    outlet = StreamOutlet(dialect, Envelope(id="0", model="m", created=0), reader, CLOCK)
    call = Call(
        id="0",
        operation="chat",
        dialect=dialect.name,
        model="m",
        delivery="stream",
        outlet=outlet,
        started=0,
        started_at=datetime.now(UTC),
    )
    outlet.notes = call.notes
    plugin(call)
    attempt = new_attempt()
    call.attempts.append(attempt)
    pump = Pump(call.child(attempt, Gate(call, attempt)), attempt, dialect, CLOCK, hide_usage=False)
    async with fed() as there:
        asking = asyncio.ensure_future(there.connection.ask(b"GET / HTTP/1.1\r\n\r\n", b""))
        await asyncio.sleep(0)
        there.feed([HEAD])
        response = await asking
        context = copy_context()
        with Deadline(Timeouts()) as deadline:
            deadline.wait("first_token", 100)
            feed = Feed(response, deadline, attempt, 100, context)
            task = loop.create_task(pump.stream(feed), context=context)
            for number, piece in enumerate(pieces):
                reader.room = number not in full
                loop.call_soon(there.feed, [piece])
                for _ in range(number % 3):
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
            reader.room = True
            async with asyncio.timeout(5):
                await task
        response.close()
    return b"".join(reader.got), Reply(usage=attempt.usage, finish=attempt.finish), attempt


def looks(call: Call) -> None:
    seen: list[str] = []
    call.tap(lambda chunk: seen.append(chunk.text))


def plain(call: Call) -> None: ...


def shouts(call: Call) -> None:
    call.change(Shout(waits=False))


def shouts_slowly(call: Call) -> None:
    call.change(Shout(waits=True))


@pytest.mark.parametrize(("name", "speaker"), [("openai.chat", "openai"), ("anthropic.messages", "anthropic")])
@pytest.mark.parametrize("plugin", [plain, looks, shouts, shouts_slowly], ids=lambda plugin: plugin.__name__)
@settings(deadline=None)
@given(st.lists(st.integers(1, 4000), max_size=25), st.sets(st.integers(0, 25), max_size=6), st.integers(1, 4))
def test_a_stream_is_the_same_however_it_is_cut_and_read(
    plugin: Callable[[Call], None], name: str, speaker: str, cuts: list[int], full: set[int], events_to_a_chunk: int
) -> None:
    dialect, said = DIALECTS[name], events(speaker)
    stream = b"".join(
        chunk(b"".join(said[at : at + events_to_a_chunk])) for at in range(0, len(said), events_to_a_chunk)
    )
    stream += b"0\r\n\r\n"
    places = sorted({min(place, len(stream)) for place in cuts} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in zip(places, places[1:], strict=False)]
    whole, reply, attempt = asyncio.run(relayed(dialect, [stream], plugin, set()))
    got, cut_reply, cut_attempt = asyncio.run(relayed(dialect, pieces, plugin, full))
    assert got == whole
    assert got.endswith(said[-1])
    assert (cut_reply, cut_attempt.output_bytes) == (reply, attempt.output_bytes)
    assert reply.usage is not None
    if plugin in (plain, looks):
        assert got == b"".join(event for event in said if event != PING)
