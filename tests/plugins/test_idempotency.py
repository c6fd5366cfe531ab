"""One key, one provider call, one price: whoever comes twice, and whenever."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from multidict import CIMultiDict, CIMultiDictProxy

from sidegate.contract import (
    Call,
    Chunk,
    Embedding,
    End,
    Ending,
    Finish,
    Handler,
    Naming,
    Opaque,
    Part,
    Plugin,
    Reply,
    Report,
    Start,
    Text,
    Usage,
)
from sidegate.contract.call import Asked
from sidegate.errors import BadRequest, Cancelled, ProviderError, Refusal, SidegateError
from sidegate.pipeline import chain
from sidegate_plugins._kept_replies import ENTRY_BYTES, Bounds, KeptReplies, KeptReply
from sidegate_plugins.idempotency import Idempotency, Settings
from tests.plugins.calls import HandClock, ListLog, ListOutlet, a_call, a_host

KEY = {"idempotency-key": "k-1"}
WORDS = ("one ", "two ", "three")

both = pytest.mark.parametrize("delivery", ["stream", "buffered"])


class Core:
    """A provider that says a word whenever the test lets it, and counts its calls."""

    def __init__(self, *words: str, failure: BaseException | None = None) -> None:
        self.words = words or WORDS
        self.failure = failure
        self.calls: list[Call] = []
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self._steps = asyncio.Semaphore(0)
        self.flat_out = False

    def let(self, steps: int = 1) -> None:
        for _ in range(steps):
            self._steps.release()

    async def _turn(self) -> None:
        if not self.flat_out:
            await self._steps.acquire()

    async def __call__(self, call: Call) -> Reply:
        number = len(self.calls)
        self.calls.append(call)
        usage = Usage(3, len(self.words))
        ends: list[Part] = [Finish("stop"), Report(usage), End()]
        start = Start(id=f"r{number}", model="m")
        if call.delivery == "buffered":
            await self._turn()
            if self.failure:
                raise self.failure
            parts = (start, Text("".join(self.words)), *ends)
            await call.send(Chunk(parts=parts, whole=True, closing=True, meaningful=True))
            return Reply(usage=usage, finish="stop", model="m")
        for place, word in enumerate(self.words):
            await self._turn()
            await call.emit([Chunk.of(start), Chunk.of(Text(word))] if not place else [Chunk.of(Text(word))])
            self.said.put_nowait(word)
        await self._turn()
        if self.failure:
            raise self.failure
        hidden = Chunk.of(ends[1])
        hidden.hidden = True
        await call.emit([Chunk.of(ends[0]), hidden, Chunk.of(ends[2])])
        return Reply(usage=usage, finish="stop", model="m")


@dataclass
class Ground:
    """The plugin before a core, and what tells them."""

    plugin: Idempotency
    core: Core
    clock: HandClock
    log: ListLog

    def call(self, delivery: str = "stream", body: bytes = b"{}", headers: Any = None, **given: Any) -> Call:
        call = a_call(self.clock, delivery=delivery, **given)
        call.asked = Asked(headers=KEY if headers is None else headers, body=body)
        return call

    async def run(self, call: Call) -> Reply:
        return await chain([_Named("idempotency", self.plugin)], self.core, self.clock, _raise)(call)

    async def ask(self, **given: Any) -> tuple[Call, Reply]:
        call = self.call(**given)
        return call, await self.run(call)

    def start(self, call: Call) -> asyncio.Task[Reply]:
        return asyncio.create_task(self.run(call))


@dataclass(frozen=True)
class _Named:
    name: str
    plugin: Plugin[Any]


def _raise(name: str, error: Exception | SystemExit) -> None:
    raise AssertionError(f"{name} failed") from error


def a_ground(core: Core | None = None, *, waits: bool = False, **settings: Any) -> Ground:
    clock, log = HandClock(), ListLog()
    core = core or Core()
    core.flat_out = not waits
    return Ground(Idempotency(Settings(**settings), a_host(clock, log=log)), core, clock, log)


def told(call: Call) -> list[tuple[tuple[Part, ...], bool, bool, bool]]:
    """What reached the client's edge, chunk by chunk."""
    outlet = call._outlet
    assert isinstance(outlet, ListOutlet)
    return [(chunk.parts, chunk.whole, chunk.closing, chunk.hidden) for chunk in outlet.sent]


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(12):
        await asyncio.sleep(0)


# --- which calls ------------------------------------------------------------------------------------------------------


@both
async def test_a_call_without_the_header_passes(delivery: str) -> None:
    ground = a_ground()
    for _ in range(2):
        call, _ = await ground.ask(delivery=delivery, headers={})
        assert not call.stages
    assert (len(ground.core.calls), len(ground.plugin.replies)) == (2, 0)


@pytest.mark.parametrize("operation", ["models", "calls"])
async def test_what_reaches_no_provider_is_none_of_its_business(operation: str) -> None:
    ground = a_ground()
    for _ in range(2):
        await ground.ask(operation=operation, headers={"idempotency-key": "not a key"})
    assert len(ground.core.calls) == 2


@pytest.mark.parametrize("key", ["", " ", "a b", "a\tb", "é", "x" * 256, "a\x7f", "a\n", "\udc80"])
async def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await a_ground().ask(headers={"idempotency-key": key})
    assert (refused.value.status, refused.value.code) == (400, "invalid_idempotency_key")


async def test_two_keys_are_none() -> None:
    headers = CIMultiDictProxy(CIMultiDict([("Idempotency-Key", "a"), ("idempotency-key", "b")]))
    with pytest.raises(BadRequest):
        await a_ground().ask(headers=headers)


@pytest.mark.parametrize("key", ["a", "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "!~"])
async def test_a_key_is_printable_without_spaces_and_found_in_any_case(key: str) -> None:
    ground = a_ground()
    for name in ("Idempotency-Key", "idempotency-key"):
        await ground.ask(headers=CIMultiDictProxy(CIMultiDict({name: key})))
    assert len(ground.core.calls) == 1


async def test_a_request_that_is_wrong_is_told_so_each_time() -> None:
    ground = a_ground()
    for _ in range(2):
        call = ground.call()
        call.asked = replace(call.asked, wrong=BadRequest("no"))
        await ground.run(call)
    assert len(ground.core.calls) == 2


async def test_a_model_that_has_been_put_out_of_sight_is_not_replayed() -> None:
    ground = a_ground()
    await ground.ask()
    hidden = ground.call()
    hidden.restrict_models(lambda model: False)
    await ground.run(hidden)
    assert ground.core.calls[-1] is hidden
    assert "idempotent-replayed" not in hidden.reply_headers


# --- a reply that is complete -----------------------------------------------------------------------------------------


@both
async def test_a_complete_reply_is_told_again_chunk_by_chunk_at_no_cost(delivery: str) -> None:
    ground = a_ground()
    first, reply = await ground.ask(delivery=delivery)
    second, again = await ground.ask(delivery=delivery)
    assert told(second) == told(first)
    assert again == reply
    assert (len(ground.core.calls), second.attempts) == (1, [])
    assert second.reply_headers == {"idempotent-replayed": "true"}
    assert "idempotent-replayed" not in first.reply_headers
    assert any(hidden for *_, hidden in told(second)) == (delivery == "stream")


async def test_a_reply_told_again_has_the_names_of_the_first() -> None:
    ground = a_ground()
    first = ground.call()
    first.id = "first"
    await ground.run(first)
    ground.clock.pass_by(100)
    second, _ = await ground.ask()
    assert second.naming == first.naming
    assert second.naming.id == "first"


async def test_comments_are_about_one_call_and_not_told_again() -> None:
    ground = a_ground()

    class Costs(Plugin[None]):
        async def __call__(self, call: Call, handler: Handler) -> Reply:
            call.at_end(lambda _: (Chunk.comment("cost=1"),))
            return await handler(call)

    inner = chain([_Named("costs", Costs(None, ground.plugin.host))], ground.core, ground.clock, _raise)
    calls = [ground.call(), ground.call()]
    for call in calls:
        await ground.plugin(call, inner)
    assert len(told(calls[0])) == len(told(calls[1])) + 1


async def test_who_tells_a_reply_again_leaves_what_is_kept_as_it_is() -> None:
    ground = a_ground()
    read: list[bytes] = []

    def reader(raw: bytes) -> tuple[Part, ...]:
        read.append(raw)
        return (Text("x"), End())

    async def core(call: Call) -> Reply:
        await call.send(Chunk(b"raw", reader=reader, dialect="openai.chat", closing=True, meaningful=True))
        return Reply()

    first = ground.call()
    first.tap(lambda chunk: None if chunk.parts else None)
    await ground.plugin(first, core)
    assert len(read) == 1
    for count in (2, 3):
        call = ground.call()
        call.tap(lambda chunk: None if chunk.parts else None)
        await ground.plugin(call, core)
        assert len(read) == count


@both
@pytest.mark.parametrize(
    "changed",
    [
        {"body": b"{ }"},
        {"operation": "text_completion"},
        {"route": "other"},
        {"model": "other"},
        {"headers": {**KEY, "anthropic-version": "2027-01-01"}},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_another_request_under_the_same_key_is_refused(delivery: str, changed: Mapping[str, Any]) -> None:
    ground = a_ground()
    await ground.ask(delivery=delivery)
    with pytest.raises(Refusal) as refused:
        await ground.ask(delivery=delivery, **changed)
    assert (refused.value.status, refused.value.code) == (422, "idempotency_key_reused")
    assert len(ground.core.calls) == 1


async def test_a_stream_and_a_whole_are_two_requests() -> None:
    ground = a_ground(waits=True)
    streamed = ground.start(ground.call(delivery="stream"))
    await settle()
    with pytest.raises(Refusal) as refused:
        await ground.ask(delivery="buffered")
    assert refused.value.status == 422
    ground.core.let(9)
    await streamed


@pytest.mark.parametrize("other", [{"caller": "bob"}, {"end_user": "eve"}, {"headers": {"idempotency-key": "k-2"}}])
async def test_a_key_is_its_callers_and_its_end_users_own(other: Mapping[str, Any]) -> None:
    ground = a_ground()
    await ground.ask()
    call, _ = await ground.ask(body=b"other", **other)
    assert "idempotent-replayed" not in call.reply_headers
    assert len(ground.core.calls) == 2


async def test_after_its_time_a_reply_is_forgotten() -> None:
    ground = a_ground(keep=60.0)
    await ground.ask()
    ground.clock.pass_by(59.9)
    await ground.ask()
    assert len(ground.core.calls) == 1
    ground.clock.pass_by(0.1)
    await ground.ask(body=b"even another request")
    assert len(ground.core.calls) == 2
    assert len(ground.plugin.replies) == 1


# --- a reply that is under way ----------------------------------------------------------------------------------------


async def test_a_second_call_reads_along_from_the_beginning() -> None:
    ground = a_ground(waits=True)
    first, second = ground.call(), ground.call()
    leading = ground.start(first)
    ground.core.let(2)
    await settle()
    following = ground.start(second)
    await settle()
    assert told(second) == told(first)
    assert len(told(second)) == 3
    ground.core.let(1)
    await settle()
    assert len(told(second)) == 4
    ground.core.let(9)
    assert await following == await leading
    assert told(second) == told(first)
    assert len(ground.core.calls) == 1
    assert second.reply_headers == {"idempotent-replayed": "true"}


@both
async def test_fifty_calls_at_once_are_one_call_and_fifty_equal_replies(delivery: str) -> None:
    ground = a_ground(waits=True)
    calls = [ground.call(delivery=delivery) for _ in range(50)]
    running = [ground.start(call) for call in calls]
    for _ in range(9):
        ground.core.let()
        await settle()
    assert len({str(reply) for reply in await asyncio.gather(*running)}) == 1
    assert all(told(call) == told(calls[0]) for call in calls)
    assert len(told(calls[0])) > 0
    assert len(ground.core.calls) == 1


@both
async def test_a_second_call_may_be_told_to_come_again_instead(delivery: str) -> None:
    ground = a_ground(waits=True, in_flight="conflict")
    leading = ground.start(ground.call(delivery=delivery))
    await settle()
    with pytest.raises(Refusal) as refused:
        await ground.ask(delivery=delivery)
    assert (refused.value.status, refused.value.code) == (409, "idempotency_in_flight")
    assert refused.value.retry_after == 1
    ground.core.let(9)
    await leading
    call, _ = await ground.ask(delivery=delivery)
    assert call.reply_headers == {"idempotent-replayed": "true"}


async def test_a_follower_that_waits_is_not_a_plugin_that_takes_too_long() -> None:
    ground = a_ground(waits=True)
    leading = ground.start(ground.call())
    await settle()
    second = ground.call()
    following = ground.start(second)
    await settle()
    assert second.notes.frame is not None
    assert second.notes.frame.since == 0
    ground.clock.pass_by(600)
    ground.core.let(9)
    await asyncio.gather(leading, following)
    assert second.notes.plugin_seconds["idempotency"] == 0


async def test_a_follower_that_stands_still_does_not_hold_up_the_others() -> None:
    ground = a_ground(waits=True)
    first, stuck = ground.call(), ground.call()
    gate = asyncio.Event()

    class Stuck(ListOutlet):
        async def chunks(self, chunks: list[Chunk]) -> None:
            await gate.wait()
            await super().chunks(chunks)

    stuck._outlet = Stuck()
    leading, following = ground.start(first), ground.start(stuck)
    ground.core.let(9)
    await leading
    assert told(stuck) == []
    held = ground.plugin.replies.size
    gate.set()
    await following
    assert told(stuck) == told(first)
    assert ground.plugin.replies.size == held


async def test_a_follower_that_is_cancelled_ends_nobody_elses_call() -> None:
    ground = a_ground(waits=True)
    first, other = ground.call(), ground.call()
    leading, gone, staying = ground.start(first), ground.start(ground.call()), ground.start(other)
    ground.core.let(1)
    await settle()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    ground.core.let(9)
    await asyncio.gather(leading, staying)
    assert told(other) == told(first)


# --- a reply that fails -----------------------------------------------------------------------------------------------

FAILURES = [ProviderError("broken", status=503, code="overloaded"), Refusal(403, "no", "No."), RuntimeError("bug")]


@both
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_what_has_failed_is_not_kept(delivery: str, failure: Exception) -> None:
    ground = a_ground(Core(failure=failure))
    with pytest.raises(type(failure)):
        await ground.ask(delivery=delivery)
    assert (len(ground.plugin.replies), ground.plugin.replies.size) == (0, 0)
    ground.core.failure = None
    call, reply = await ground.ask(delivery=delivery)
    assert reply.complete
    assert "idempotent-replayed" not in call.reply_headers


async def test_a_reply_that_says_itself_that_it_is_not_complete_is_not_kept() -> None:
    ground = a_ground()

    async def cut(call: Call) -> Reply:
        await call.send(Chunk.of(Text("half")))
        return Reply(ending=Ending.CUT)

    async def unclosed(call: Call) -> Reply:
        await call.send(Chunk.of(Text("half")))
        return Reply()

    for core in (cut, unclosed):
        await ground.plugin(ground.call(), core)
        assert len(ground.plugin.replies) == 0


@both
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_where_the_first_fails_unheard_another_takes_its_place(delivery: str, failure: Exception) -> None:
    ground = a_ground(Core("only"), waits=True)
    core = ground.core
    calls = [ground.call(delivery=delivery) for _ in range(4)]
    running = [ground.start(call) for call in calls]
    await settle()
    core.failure = failure

    # Before the first word where there is one; a whole reply fails before it is said.
    running[0].cancel() if delivery == "stream" else core.let()
    await settle()
    core.failure = None
    core.let(9)
    done = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(done[0], BaseException)
    assert len({str(reply) for reply in done[1:]}) == 1
    assert [isinstance(reply, Reply) for reply in done[1:]] == [True] * 3
    assert len(core.calls) == 2
    leaders = [call for call in calls[1:] if "idempotent-replayed" not in call.reply_headers]
    assert leaders == [core.calls[1]]


async def test_a_whole_reply_is_not_told_before_its_call_has_ended_well() -> None:
    """A plugin further in may still fail when the provider has answered; nobody has read anything yet."""
    ground = a_ground()
    said, go_on = asyncio.Event(), asyncio.Event()
    runs: list[Call] = []

    async def core(call: Call) -> Reply:
        runs.append(call)
        await call.send(Chunk(parts=(Text(f"{len(runs)}"), End()), whole=True, closing=True))
        said.set()
        await go_on.wait()
        if len(runs) == 1:
            raise ProviderError("late")
        return Reply()

    calls = [ground.call(delivery="buffered") for _ in range(2)]
    running = [asyncio.create_task(ground.plugin(call, core)) for call in calls]
    await said.wait()
    await settle()
    assert told(calls[1]) == []
    go_on.set()
    done = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(done[0], ProviderError)
    assert done[1] == Reply()
    assert [parts[0] for parts, *_ in told(calls[1])] == [Text("2")]


async def test_a_long_reply_told_again_leaves_the_others_their_turn() -> None:
    ground = a_ground(Core(*["x"] * 500))
    await ground.ask()
    call = ground.call()
    telling = ground.start(call)
    await settle()
    assert 0 < len(told(call)) < 500
    await telling
    assert len(told(call)) == 504


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_where_the_first_fails_in_the_middle_its_followers_fail_alike(failure: Exception) -> None:
    ground = a_ground(Core(failure=failure), waits=True)
    first, second = ground.call(), ground.call()
    leading, following = ground.start(first), ground.start(second)
    ground.core.let(1)
    await settle()
    ground.core.let(9)
    done = await asyncio.gather(leading, following, return_exceptions=True)
    assert told(second) == told(first)
    assert done[0] is failure
    assert isinstance(done[1], SidegateError)
    assert done[1] is not failure
    expected = first.reply_for(failure)
    given = second.reply_for(done[1])
    assert (given.status, given.ending) == (expected.status, expected.ending)
    assert expected.error is not None
    assert (done[1].code, done[1].message) == (expected.error.code, expected.error.message)
    assert len(ground.core.calls) == 1
    assert ground.plugin.replies.size == 0


@pytest.mark.parametrize("why", [Cancelled(Ending.CLIENT_GONE), Cancelled(Ending.CANCELLED), None])
async def test_a_first_call_that_is_stopped_in_the_middle_cuts_its_followers(why: SidegateError | None) -> None:
    ground = a_ground(waits=True)
    first, second, late = ground.call(), ground.call(), ground.call()
    leading, following = ground.start(first), ground.start(second)
    ground.core.let(2)
    await settle()
    first.notes.stop = why
    leading.cancel()
    with suppress(asyncio.CancelledError):
        await leading
    with pytest.raises(SidegateError) as cut:
        await following
    assert (cut.value.status, cut.value.code, cut.value.ending) == (503, "idempotency_stopped", Ending.CUT)
    assert ground.plugin.replies.size == 0
    ground.core.let(9)
    assert (await ground.run(late)).complete
    assert len(ground.core.calls) == 2


async def test_a_stop_that_was_swallowed_further_in_is_no_complete_reply() -> None:
    ground = a_ground()
    call = ground.call()
    call.notes.stop = Cancelled(Ending.CANCELLED)
    await ground.run(call)
    assert len(ground.plugin.replies) == 0


# --- bounds -----------------------------------------------------------------------------------------------------------


@both
async def test_a_reply_that_is_too_large_passes_but_is_not_kept_and_says_so(delivery: str) -> None:
    ground = a_ground(Core("x" * 5000), max_reply_bytes=4096)
    for count in (1, 2):
        call, reply = await ground.ask(delivery=delivery)
        assert reply.complete
        assert len(told(call)) == (1 if delivery == "buffered" else 5)
        assert call.reply_headers["x-sidegate-idempotency"] == "not-kept"
        assert (len(ground.core.calls), ground.plugin.replies.size) == (count, 0)
    assert [event for event, _ in ground.log.lines] == ["idempotency_not_kept"] * 2
    assert "k-1" not in str(ground.log.lines)


async def test_followers_of_a_reply_that_grows_too_large_are_cut_and_new_ones_must_wait() -> None:
    ground = a_ground(Core("small", "x" * 5000, "end"), waits=True, max_reply_bytes=4096)
    first, second = ground.call(), ground.call()
    leading, following = ground.start(first), ground.start(second)
    ground.core.let(1)
    await settle()
    assert len(told(second)) == 2
    ground.core.let(1)
    with pytest.raises(Refusal) as cut:
        await following
    assert (cut.value.status, cut.value.code) == (503, "idempotency_reply_too_large")
    with pytest.raises(Refusal) as refused:
        await ground.ask()
    assert (refused.value.status, refused.value.code) == (409, "idempotency_in_flight")
    assert ground.plugin.replies.size == ENTRY_BYTES
    ground.core.let(9)
    assert (await leading).complete
    assert len(ground.plugin.replies) == 0


async def test_the_least_recently_used_reply_is_the_first_to_go() -> None:
    ground = a_ground(max_entries=2)
    for key in ("a", "b", "a", "c", "a", "b"):
        await ground.ask(headers={"idempotency-key": key})
    assert [call.headers["idempotency-key"] for call in ground.core.calls] == ["a", "b", "c", "b"]


async def test_calls_under_way_are_never_evicted_and_more_are_refused() -> None:
    ground = a_ground(waits=True, max_entries=2)
    running = [ground.start(ground.call(headers={"idempotency-key": key})) for key in "ab"]
    await settle()
    with pytest.raises(Refusal) as refused:
        await ground.ask(headers={"idempotency-key": "c"})
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (503, "idempotency_full", 1)
    ground.core.let(18)
    await asyncio.gather(*running)
    await ground.ask(headers={"idempotency-key": "a"})
    assert len(ground.core.calls) == 2


async def test_a_reply_larger_than_all_may_be_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match="max_reply_bytes is more than max_bytes"):
        a_ground(max_bytes=65_536, max_reply_bytes=65_537)


async def test_replies_that_leave_no_room_are_not_kept() -> None:
    """Those under way fill `max_bytes` together, though each for itself is small enough."""
    room = 65_536
    ground = a_ground(Core("x" * 20_000), waits=True, max_bytes=room, max_reply_bytes=room)
    keys = [{"idempotency-key": str(number)} for number in range(4)]
    running = [ground.start(ground.call(headers=headers)) for headers in keys]
    await settle()
    ground.core.let(4)
    await settle()
    assert ground.plugin.replies.size <= room
    ground.core.let(4)
    await asyncio.gather(*running)
    assert 0 < len(ground.plugin.replies) < 4
    assert len(ground.log.lines) == 4 - len(ground.plugin.replies)


KEYS = st.integers(0, 4)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("open"), KEYS),
            st.tuples(st.just("add"), KEYS, st.integers(0, 6000)),
            st.tuples(st.just("complete"), KEYS),
            st.tuples(st.just("fail"), KEYS),
            st.tuples(st.just("read"), KEYS),
            st.tuples(st.just("leave"), KEYS),
            st.tuples(st.just("pass_by"), st.integers(0, 40)),
        ),
        max_size=60,
    )
)
def test_no_bound_is_ever_passed_and_everything_is_given_back(steps: list[tuple[Any, ...]]) -> None:
    clock = HandClock()
    replies = KeptReplies(clock, Bounds(60, max_entries=3, max_bytes=20_000, max_reply_bytes=9_000))
    under_way: dict[int, KeptReply] = {}
    readers: list[tuple[int, KeptReply, Any]] = []
    for kind, number, *rest in steps:
        kept = replies.find(("ann", None, str(number))) if kind != "pass_by" else None
        match kind:
            case "open" if kept is None:
                with suppress(Refusal):
                    under_way[number] = replies.open(("ann", None, str(number)), b"", Naming("i", 0))
            case "add" if number in under_way:
                replies.add(under_way[number], Chunk(b"x" * rest[0]))
            case "complete" if number in under_way:
                replies.complete(under_way.pop(number), Reply())
            case "fail" if number in under_way:
                replies.fail(under_way.pop(number), SidegateError("x"))
            case "read" if kept is not None:
                reading = replies.reading(kept)
                reading.__enter__()
                readers.append((number, kept, reading))
            case "leave" if readers:
                readers.pop(number % len(readers))[2].__exit__(None, None, None)
            case "pass_by":
                clock.pass_by(number)
            case _:
                pass
        assert replies.size <= 20_000
        assert len(replies) <= 3
        alive = {id(kept): kept for kept in [*replies._all.values(), *(kept for _, kept, _ in readers)]}
        assert replies.size == sum(kept.size for kept in alive.values())
        assert all(kept.size <= 9_000 for kept in alive.values())
        assert all(kept.chunks for _, kept, _ in readers if kept.size > ENTRY_BYTES)
        assert set(under_way.values()) <= set(replies._all.values())
    for _, _, reading in readers:
        reading.__exit__(None, None, None)
    for kept in under_way.values():
        replies.complete(kept, Reply())
    clock.pass_by(61)
    assert replies.find(("ann", None, "0")) is None
    assert (replies.size, len(replies), len(replies._idle), len(replies._aging)) == (0, 0, 0, 0)


@pytest.mark.parametrize("kind", ["raw", "parts", "small", "vectors", "fields"])
async def test_the_memory_it_takes_is_not_more_than_it_says(kind: str) -> None:
    """Measured by the allocator: bytes of a provider, words of an edit, many small keys, vectors, unknown fields."""

    def chunk(number: int) -> Chunk:
        match kind:
            case "raw":
                dialect = _Dialect()
                return Chunk(b"data: %d" % number + b"x" * 250, reader=dialect.read, dialect="openai.chat")
            case "vectors":
                return Chunk(parts=(Embedding(tuple(number + place / 3 for place in range(500))),))
            case "fields":
                return Chunk(parts=(Opaque("logprobs", data={f"f{number}": [{"t": number + 0.5, "b": [number] * 9}]}),))
            case _:
                return Chunk(parts=(Text(f"wort ü {number} \u20ac"),))

    replies = KeptReplies(HandClock(), Bounds(60, max_entries=10**6, max_bytes=4 * 2**20, max_reply_bytes=2**20))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        number = 0
        # Until a few have been evicted.
        while len(replies) > number - 5:
            number += 1
            key = f"key-{number}".ljust(255, "x")
            kept = replies.open((f"caller-{number}", f"user-{number}", key), number.to_bytes(32, "big"), Naming("i", 0))
            for place in range(1 if kind == "small" else 40):
                replies.add(kept, chunk(place))
            replies.complete(kept, Reply(usage=Usage(1, 2)))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert replies.size > 3.5 * 2**20
    assert taken <= replies.size <= 4 * 2**20
    assert taken > replies.size / 8


class _Dialect:
    def read(self, raw: bytes) -> tuple[Part, ...]:
        return ()
