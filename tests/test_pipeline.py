"""The contract of a plugin, claim by claim."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from sidegate.contract import (
    BlockEnd,
    Call,
    Chunk,
    End,
    Ending,
    Finish,
    Handler,
    Observer,
    Part,
    Plugin,
    Reasoning,
    Reply,
    Report,
    Start,
    Text,
    Usage,
)
from sidegate.contract.stages import Change, Chunks
from sidegate.errors import PluginError, ProviderError, Refusal
from sidegate.testing import drive, host, says
from tests.plugins.calls import HandClock

Run = Callable[[Call, Handler], Awaitable[Reply]]

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


class Hands:
    """A clock that tests turn."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


class Does(Plugin[None]):
    """A guard that does what the test says."""

    def __init__(self, run: Run) -> None:
        super().__init__(None, host())
        self._run = run

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        return await self._run(call, handler)


class Watches(Observer[None]):
    """An observer that does what the test says."""

    def __init__(self, run: Run) -> None:
        super().__init__(None, host())
        self._run = run

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        return await self._run(call, handler)


class Upper:
    """An edit that holds all text back, and says it in capitals at the end of its block."""

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], str] = {}
        self.ended: list[Ending] = []

    def see(self, chunk: Chunk) -> Chunks:
        (part,) = chunk.parts
        if isinstance(part, Text):
            key = (part.choice, part.block)
            self.held[key] = self.held.get(key, "") + part.text
            return []
        if isinstance(part, BlockEnd):
            return [*self._flush(part.choice, part.block), chunk]
        return [chunk]

    def end(self, ending: Ending) -> Chunks:
        self.ended.append(ending)
        return [chunk for key in tuple(self.held) for chunk in self._flush(*key)]

    def _flush(self, choice: int, block: int) -> Iterable[Chunk]:
        text = self.held.pop((choice, block), "")
        return [Chunk.of(Text(text.upper(), choice, block))] if text else []


@both
async def test_the_await_is_the_exchange(stream: bool) -> None:
    order: list[str] = []

    async def run(call: Call, handler: Handler) -> Reply:
        call.tap(lambda chunk: order.append("chunk"))
        reply = await handler(call)
        order.append("after")
        return reply

    driven = await drive(Does(run), says("a", "b", stream=stream), stream=stream)
    assert driven.text == "ab"
    assert order[-1] == "after"
    assert order.count("after") == 1
    assert "chunk" in order


@both
async def test_chunks_climb_from_the_innermost_to_the_outermost(stream: bool) -> None:
    seen: list[tuple[str, str]] = []

    def looking(name: str, change: Callable[[str], str]) -> Plugin[None]:
        class Edits:
            def see(self, chunk: Chunk) -> Chunks:
                if chunk.text:
                    seen.append((name, chunk.text))
                return [chunk.with_text(change)]

            def end(self, ending: Ending) -> Chunks:
                return []

        async def run(call: Call, handler: Handler) -> Reply:
            call.change(Edits())
            return await handler(call)

        return Does(run)

    driven = await drive(
        [looking("outer", lambda text: text + "!"), looking("inner", str.upper)], says("hi", stream=stream)
    )
    assert driven.text == "HI!"
    assert seen == [("inner", "hi"), ("outer", "HI")]


@both
async def test_held_text_is_let_go_before_the_closing_event_and_passes_the_outer_edits(stream: bool) -> None:
    edit = Upper()
    outer: list[str] = []

    async def outer_run(call: Call, handler: Handler) -> Reply:
        call.tap(lambda chunk: outer.append(chunk.text))
        return await handler(call)

    async def run(call: Call, handler: Handler) -> Reply:
        call.change(edit)
        return await handler(call)

    driven = await drive([Does(outer_run), Does(run)], says("he", "llo", stream=stream), stream=stream)
    assert driven.text == "HELLO"
    assert "".join(outer) == "HELLO"
    assert edit.ended == [Ending.COMPLETE]
    kinds = [type(part).__name__ for part in driven.parts]
    assert kinds.index("Text") < kinds.index("Finish") < kinds.index("End")


@both
async def test_held_text_is_dropped_where_the_reply_fails(stream: bool) -> None:
    edit = Upper()

    async def run(call: Call, handler: Handler) -> Reply:
        call.change(edit)
        return await handler(call)

    async def fails(call: Call) -> Reply:
        await call.send(Chunk.of(Text("secret")))
        raise ProviderError("broken")

    driven = await drive(Does(run), fails, stream=stream)
    assert isinstance(driven.error, ProviderError)
    assert driven.text == ""
    assert edit.ended == []


async def test_an_async_edit_holds_up_the_reply_in_order() -> None:
    class Slow:
        async def see(self, chunk: Chunk) -> Iterable[Chunk]:
            await asyncio.sleep(0)
            return [chunk.with_text(str.upper)]

        async def end(self, ending: Ending) -> Iterable[Chunk]:
            return [Chunk.of(Text("."))]

    async def run(call: Call, handler: Handler) -> Reply:
        call.change(Slow())
        return await handler(call)

    assert (await drive(Does(run), says("a", "b", "c"))).text == "ABC."


async def test_an_edit_that_takes_too_long_is_a_refusal() -> None:
    class Never:
        async def see(self, chunk: Chunk) -> Iterable[Chunk]:
            await asyncio.Event().wait()
            return []

        def end(self, ending: Ending) -> Chunks:
            return []

    async def run(call: Call, handler: Handler) -> Reply:
        call.edit_timeout = 0.01
        call.change(Never())
        return await handler(call)

    driven = await drive(Does(run), says("a"))
    assert isinstance(driven.error, Refusal)
    assert driven.error.code == "edit_timeout"


async def test_a_signed_block_is_passed_whole_or_refused() -> None:
    class Meddles:
        def see(self, chunk: Chunk) -> Chunks:
            (part,) = chunk.parts
            if isinstance(part, Reasoning) and part.text:
                return [Chunk.of(Reasoning(part.text.upper()))]
            return [chunk]

        def end(self, ending: Ending) -> Chunks:
            return []

    async def thinks(call: Call) -> Reply:
        await call.send(Chunk.of(Reasoning("hm")))
        await call.send(Chunk.of(Reasoning(signature="s")))
        return Reply()

    async def run(call: Call, handler: Handler) -> Reply:
        call.change(Meddles())
        return await handler(call)

    driven = await drive(Does(run), thinks)
    assert isinstance(driven.error, Refusal)
    assert driven.error.code == "signed_block_changed"


@both
async def test_a_refusal_from_a_tap_stops_the_provider(stream: bool) -> None:
    went_on = False

    def see(chunk: Chunk) -> None:
        if "b" in chunk.text:
            raise Refusal(403, "no_b", "No b here.")

    async def run(call: Call, handler: Handler) -> Reply:
        call.tap(see)
        return await handler(call)

    async def provider(call: Call) -> Reply:
        nonlocal went_on
        await call.send(Chunk.of(Text("b")))
        went_on = True
        return Reply()

    driven = await drive(Does(run), provider, stream=stream)
    assert isinstance(driven.error, Refusal)
    assert driven.parts == []
    assert not went_on


@both
async def test_a_held_run_can_be_dropped_and_run_again(stream: bool) -> None:
    runs = 0

    async def provider(call: Call) -> Reply:
        nonlocal runs
        runs += 1
        return await says(f"run {runs}", stream=stream)(call)

    async def repair(call: Call, handler: Handler) -> Reply:
        async with call.hold() as held:
            await handler(call)
            assert held.text == "run 1"
            held.drop()
            reply = await handler(call)
            await held.release()
        return reply

    assert (await drive(Does(repair), provider, stream=stream)).text == "run 2"
    assert runs == 2


async def test_each_run_has_its_own_inner_taps() -> None:
    seen: list[str] = []

    async def inner(call: Call, handler: Handler) -> Reply:
        call.tap(lambda chunk: seen.append(chunk.text))
        return await handler(call)

    async def repair(call: Call, handler: Handler) -> Reply:
        async with call.hold() as held:
            await handler(call)
            held.drop()
            reply = await handler(call)
            await held.release()
        return reply

    await drive([Does(repair), Does(inner)], says("x"))
    assert seen.count("x") == 2


async def test_running_again_after_something_was_released_is_an_error() -> None:
    async def greedy(call: Call, handler: Handler) -> Reply:
        await handler(call)
        return await handler(call)

    driven = await drive(Does(greedy), says("x"))
    assert isinstance(driven.error, PluginError)
    assert isinstance(driven.failures[0][1], RuntimeError)
    assert driven.text == "x"


async def test_leaving_a_hold_without_a_word_drops_it() -> None:
    async def forgets(call: Call, handler: Handler) -> Reply:
        async with call.hold():
            return await handler(call)

    assert (await drive(Does(forgets), says("x"))).parts == []


async def test_more_than_may_be_held_is_refused() -> None:
    async def holds(call: Call, handler: Handler) -> Reply:
        call.hold_limit = 500
        async with call.hold() as held:
            reply = await handler(call)
            await held.release()
        return reply

    driven = await drive(Does(holds), says("x" * 200, "y" * 200, "z" * 200))
    assert isinstance(driven.error, Refusal)
    assert driven.error.code == "reply_too_large"


async def test_a_plugin_that_answers_itself_passes_only_the_plugins_outside_it() -> None:
    seen: list[str] = []

    async def outer(call: Call, handler: Handler) -> Reply:
        call.tap(lambda chunk: seen.append(chunk.text))
        return await handler(call)

    async def cache(call: Call, handler: Handler) -> Reply:
        return await says("cached")(call)

    async def inner(call: Call, handler: Handler) -> Reply:
        raise AssertionError("never reached")

    driven = await drive([Does(outer), Does(cache), Does(inner)], says("fresh"))
    assert driven.text == "cached"
    assert "cached" in seen


async def test_what_a_plugin_asked_of_the_chunks_ends_with_it() -> None:
    async def inner(call: Call, handler: Handler) -> Reply:
        call.change(Upper())
        return await handler(call)

    async def outer(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        assert call.stages == []
        return reply

    assert (await drive([Does(outer), Does(inner)], says("x"))).text == "X"


async def test_a_comment_before_the_end_costs_no_look_at_the_chunks() -> None:
    async def run(call: Call, handler: Handler) -> Reply:
        call.at_end(lambda ending: [Chunk.comment("cost 1")])
        assert not any(stage.sees for stage in call.stages)
        return await handler(call)

    kinds = [type(part).__name__ for part in (await drive(Does(run), says("x"))).parts]
    assert kinds[-2:] == ["Comment", "End"]


# --- guards and observers ---------------------------------------------------------------------------------------------


@both
async def test_a_guard_that_raises_fails_closed(stream: bool) -> None:
    async def broken(call: Call, handler: Handler) -> Reply:
        raise ZeroDivisionError

    driven = await drive(Does(broken), says("x", stream=stream), stream=stream)
    assert isinstance(driven.error, PluginError)
    assert driven.error.status == 500
    assert driven.parts == []


@both
async def test_an_observer_that_raises_before_is_stepped_over(stream: bool) -> None:
    async def broken(call: Call, handler: Handler) -> Reply:
        raise ZeroDivisionError

    driven = await drive(Watches(broken), says("x", stream=stream), stream=stream)
    assert driven.error is None
    assert driven.text == "x"
    assert isinstance(driven.failures[0][1], ZeroDivisionError)


@both
async def test_an_observer_that_raises_after_leaves_the_reply_standing(stream: bool) -> None:
    runs = 0

    async def provider(call: Call) -> Reply:
        nonlocal runs
        runs += 1
        return await says("x", stream=stream)(call)

    async def broken(call: Call, handler: Handler) -> Reply:
        await handler(call)
        raise ZeroDivisionError

    driven = await drive(Watches(broken), provider, stream=stream)
    assert driven.reply is not None
    assert driven.reply.finish == "stop"
    assert runs == 1


async def test_an_observer_cannot_hide_what_happened_inside() -> None:
    async def hides(call: Call, handler: Handler) -> Reply:
        try:
            return await handler(call)
        except Exception:
            return Reply()

    async def fails(call: Call) -> Reply:
        raise ProviderError("broken")

    driven = await drive(Watches(hides), fails)
    assert isinstance(driven.error, ProviderError)
    assert driven.failures == []


async def test_an_observers_tap_that_raises_looks_no_more_and_the_call_goes_on() -> None:
    async def run(call: Call, handler: Handler) -> Reply:
        call.tap(lambda chunk: 1 / 0)  # type: ignore[arg-type]
        return await handler(call)

    driven = await drive(Watches(run), says("a", "b"))
    assert driven.text == "ab"
    assert len(driven.failures) == 1


@pytest.mark.parametrize("what", ["change", "hold", "at_end"])
async def test_an_observer_may_not_meddle(what: str) -> None:
    async def run(call: Call, handler: Handler) -> Reply:
        if what == "change":
            call.change(Upper())
        elif what == "at_end":
            call.at_end(lambda ending: [])
        else:
            async with call.hold():
                return await handler(call)
        return await handler(call)

    driven = await drive(Watches(run), says("a"))
    assert driven.text == "a"
    assert isinstance(driven.failures[0][1], TypeError)


@both
async def test_a_cancelled_call_is_cancelled_through_every_plugin(stream: bool) -> None:
    left: list[str] = []
    reached = asyncio.Event()

    def named(name: str) -> Run:
        async def run(call: Call, handler: Handler) -> Reply:
            try:
                return await handler(call)
            finally:
                left.append(name)

        return run

    async def silent(call: Call) -> Reply:
        await call.send(Chunk.of(Text("a")))
        reached.set()
        await asyncio.Event().wait()
        return Reply()

    task = asyncio.create_task(drive([Does(named("guard")), Watches(named("observer"))], silent, stream=stream))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left == ["observer", "guard"]


async def test_a_plugins_own_time_is_clocked_without_what_is_further_in() -> None:
    clock = Hands()

    async def run(call: Call, handler: Handler) -> Reply:
        clock.seconds += 1
        reply = await handler(call)
        clock.seconds += 2
        return reply

    async def provider(call: Call) -> Reply:
        clock.seconds += 100
        return Reply()

    async def outer(call: Call, handler: Handler) -> Reply:
        clock.seconds += 0.5
        return await handler(call)

    driven = await drive([Watches(outer), Does(run)], provider, clock=clock)
    assert driven.call.notes.plugin_seconds == {"does": 3.0, "watches": 0.5}


async def test_parts_of_a_chunk_are_shown_to_an_edit_one_at_a_time() -> None:
    shown: list[int] = []

    class Counts:
        def see(self, chunk: Chunk) -> Chunks:
            shown.append(len(chunk.parts))
            return [chunk]

        def end(self, ending: Ending) -> Chunks:
            return []

    async def run(call: Call, handler: Handler) -> Reply:
        call.change(Counts())
        return await handler(call)

    async def provider(call: Call) -> Reply:
        await call.send(Chunk.of(Text("a"), Text("b", choice=1), Finish("stop")))
        return Reply()

    driven = await drive(Does(run), provider)
    assert shown == [1, 1, 1]
    assert len(driven.parts) == 3


async def test_waiting_for_others_is_no_time_of_the_plugins_own() -> None:
    clock = HandClock()

    async def run(call: Call, handler: Handler) -> Reply:
        clock.pass_by(1)
        with call.waiting():
            assert call.notes.frame is not None
            assert call.notes.frame.since == 0
            clock.pass_by(60)
        clock.pass_by(2)
        return await handler(call)

    driven = await drive(Does(run), says("a"), clock=clock)
    assert driven.call.notes.plugin_seconds == {"does": 3.0}


async def test_a_wait_that_is_cancelled_leaves_the_clock_right() -> None:
    clock = HandClock()

    async def run(call: Call, handler: Handler) -> Reply:
        with suppress(ValueError), call.waiting():
            clock.pass_by(60)
            raise ValueError
        clock.pass_by(2)
        return await handler(call)

    driven = await drive(Does(run), says("a"), clock=clock)
    assert driven.call.notes.plugin_seconds == {"does": 2.0}


def test_a_copy_of_a_chunk_says_the_same_and_keeps_nothing_that_was_decoded() -> None:
    read: list[bytes] = []

    def reader(raw: bytes) -> tuple[Part, ...]:
        read.append(raw)
        return (Text(raw.decode()),)

    chunk = Chunk(b"hi", reader=reader, dialect="d", closing=True, meaningful=True)
    chunk.hidden = True
    assert chunk.text == "hi"
    copied = chunk.copy()
    assert (copied.raw, copied.dialect, copied.closing, copied.meaningful, copied.hidden) == (
        b"hi",
        "d",
        True,
        True,
        True,
    )
    assert (copied.text, chunk.copy().text) == ("hi", "hi")
    assert len(read) == 3


def test_a_copy_of_a_chunk_made_of_parts_has_them_and_its_base() -> None:
    whole = Chunk(b"{}", reader=lambda _: (), dialect="d", whole=True, closing=True).with_parts([Text("x")])
    copied = whole.copy()
    assert copied.parts == (Text("x"),)
    assert (copied.base, copied.whole, copied.raw) == (("d", b"{}"), True, None)


async def test_a_slow_reader_is_no_time_of_a_plugin_that_emits() -> None:
    clock = Hands()
    reader: list[str] = []

    async def answers(call: Call, handler: Handler) -> Reply:
        async with call.hold() as held:
            await handler(call)
            await held.release()
        await call.send(Chunk.of(Text("more")))
        return Reply()

    async def slow(call: Call, handler: Handler) -> Reply:
        def see(chunk: Chunk) -> None:
            clock.seconds += 10
            reader.append(chunk.text)

        call.tap(see)
        return await handler(call)

    class Outer(Does):
        """So that the two go by different names."""

    driven = await drive([Outer(slow), Does(answers)], says("x"), clock=clock)
    assert "".join(reader) == "xmore"
    assert driven.call.notes.plugin_seconds == {"does": 0.0, "outer": 0.0}


async def test_a_stream_that_began_with_parts_is_written_from_parts_to_its_end() -> None:
    async def greets(call: Call, handler: Handler) -> Reply:
        await call.send(Chunk.of(Text("Dear reader: ")))
        return await handler(call)

    assert (await drive(Does(greets), says("x"))).text == "Dear reader: x"


@pytest.mark.parametrize("what", ["tap", "edit", "end", "at_end"])
async def test_a_fault_in_what_a_guard_does_to_chunks_is_its_own(what: str) -> None:
    def breaks(*_: object) -> Chunks:
        raise ZeroDivisionError

    class Broken:
        def see(self, chunk: Chunk) -> Chunks:
            return breaks() if what == "edit" else [chunk]

        def end(self, ending: Ending) -> Chunks:
            return breaks() if what == "end" else []

    async def run(call: Call, handler: Handler) -> Reply:
        if what == "tap":
            call.tap(breaks)  # type: ignore[arg-type]
        elif what == "at_end":
            call.at_end(breaks)
        else:
            call.change(Broken())
        return await handler(call)

    driven = await drive([Does(run)], says("x"))
    assert isinstance(driven.error, PluginError)
    assert (driven.error.plugin, driven.error.code) == ("does", "plugin_error")
    assert [(name, type(error)) for name, error in driven.failures] == [("does", ZeroDivisionError)]


async def test_signed_thinking_that_an_edit_held_and_gave_back_whole_is_not_changed() -> None:
    class Holds:
        def __init__(self, drops: bool) -> None:
            self.held: list[Chunk] = []
            self.drops = drops

        def see(self, chunk: Chunk) -> list[Chunk]:
            if any(type(part) is BlockEnd for part in chunk.parts):
                held, self.held = self.held, []
                return [chunk] if self.drops else [*held, chunk]
            self.held.append(chunk)
            return []

        def end(self, ending: Ending) -> list[Chunk]:
            return []

    async def thinks(call: Call) -> Reply:
        for part in (Reasoning("h"), Reasoning("m"), Reasoning(signature="s"), BlockEnd(), Finish("stop"), End()):
            await call.send(Chunk.of(part))
        return Reply()

    for drops in (False, True):

        async def run(call: Call, handler: Handler, drops: bool = drops) -> Reply:
            call.change(Holds(drops))
            return await handler(call)

        driven = await drive(Does(run), thinks)
        assert (driven.error is None) is not drops
        assert len([part for part in driven.parts if type(part) is Reasoning]) == (0 if drops else 3)


async def test_a_lead_in_waits_for_what_an_edit_holds() -> None:
    """So that a reply which the edit refuses in the end has not begun."""
    reached: list[int] = []

    class Holds:
        def see(self, chunk: Chunk) -> list[Chunk]:
            return [] if chunk.text == "held" else [chunk]

        def end(self, ending: Ending) -> list[Chunk]:
            return []

    async def provider(call: Call) -> Reply:
        for part in (Start(id="r"), Text("held"), Report(Usage(input_tokens=1)), Text("said"), Finish("stop"), End()):
            await call.send(Chunk.of(part))
            reached.append(len(call._outlet.parts))  # type: ignore[attr-defined]
        return Reply()

    async def run(call: Call, handler: Handler) -> Reply:
        call.change(Holds())
        return await handler(call)

    driven = await drive(Does(run), provider)
    assert driven.error is None
    assert reached == [0, 0, 0, 3, 4, 5]


async def test_what_has_no_parts_is_no_lead_in_where_it_is_all_there_is_to_say() -> None:
    """The gateway's own replies are bytes: a list of models, how a job stands, the events of a stream told again."""

    class Passes:
        def see(self, chunk: Chunk) -> list[Chunk]:
            return [chunk]

        def end(self, ending: Ending) -> list[Chunk]:
            return []

    for whole in (True, False):
        told = Chunk(b"{}", dialect="sidegate", parts=(), whole=whole, closing=whole, meaningful=True)
        assert await Change(Passes(), 5, None).passes([told]) == [told]
