"""The demo provider: what it says, how fast, and how it fails."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract import (
    Attempt,
    BlockEnd,
    Call,
    Chunk,
    Embedding,
    End,
    Finish,
    Message,
    Part,
    Reasoning,
    Reply,
    Report,
    Request,
    ResponseFormat,
    Start,
    Text,
    TextContent,
    Tool,
    ToolCall,
    ToolResult,
    ToolUse,
    Usage,
)
from sidegate.contract.call import Asked
from sidegate.contract.timeouts import Timeouts
from sidegate.errors import ConnectError, CutError, PhaseTimeout, ProviderError, ReplyError
from sidegate.upstream.demo import Demo, DemoSettings
from sidegate.upstream.demo_words import asked, pieces

FAST = DemoSettings(tokens_per_second=0, first_token=0)


class HandClock:
    """Time moves only where somebody sleeps."""

    def __init__(self) -> None:
        self.time = 100.0
        self.naps: list[float] = []

    def monotonic(self) -> float:
        return self.time

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


class Sink:
    """The outlet: keeps the parts that came, and when."""

    def __init__(self, clock: HandClock) -> None:
        self.parts: list[Part] = []
        self.times: list[float] = []
        self.closed = False
        self._clock = clock
        self.on_part: Callable[[Part], None] = lambda part: None

    async def chunks(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self.closed = self.closed or chunk.closing
            for part in chunk.parts:
                self.parts.append(part)
                self.times.append(self._clock.time)
                self.on_part(part)

    async def raw(self, data: bytes, meaningful: bool) -> None:
        raise AssertionError("the demo provider has no bytes")

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return False


class Run:
    """One attempt at the demo provider."""

    def __init__(
        self, request: Request, settings: DemoSettings = FAST, target: str = "demo", operation: str = "chat"
    ) -> None:
        self.clock = HandClock()
        self.sink = Sink(self.clock)
        self.attempt = Attempt(
            number=1, provider="demo", target=target, started=self.clock.time, started_at=self.clock.now()
        )
        self.call = Call(
            id="0123456789abcdef0123456789abcdef",
            operation=operation,
            dialect="openai.chat",
            model=target,
            delivery="stream",
            outlet=self.sink,
            started=self.clock.time,
            started_at=self.clock.now(),
            asked=Asked(read=lambda: request),
        )
        self.call.attempt = self.attempt
        self.demo = Demo(settings, self.clock, self.clock.sleep)

    async def __call__(self) -> Reply:
        return await self.demo(self.call)

    def text(self, choice: int = 0) -> str:
        return "".join(part.text for part in self.sink.parts if isinstance(part, Text) and part.choice == choice)

    def arguments(self) -> Any:
        return msgspec.json.decode("".join(p.arguments for p in self.sink.parts if isinstance(p, ToolCall)))

    def finishes(self) -> list[Finish]:
        return [part for part in self.sink.parts if isinstance(part, Finish)]

    def usage(self) -> Usage:
        return next(part.usage for part in self.sink.parts if isinstance(part, Report))


def user(text: str) -> Message:
    return Message("user", (TextContent(text),))


def ask(text: str = "What is the capital of France?", **more: Any) -> Request:
    return Request(model="demo", messages=(user(text),), **more)


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
    "required": ["city", "days"],
}
WEATHER = Tool("weather", "Tells the weather", CITY)
CLOCK = Tool("clock")


# --- words ------------------------------------------------------------------------------------------------------------


async def test_the_answer_mentions_what_was_asked_and_who_answers() -> None:
    run = Run(ask("one two three four five six seven eight nine ten eleven twelve thirteen"))
    reply = await run()
    assert '"one two three four five six seven eight nine ten eleven twelve..."' in run.text()
    assert "built-in demo provider" in run.text()
    assert 30 <= len(run.text().split()) <= 60
    assert [letter for letter in run.text() if ord(letter) > 127] == ["é"]
    assert reply == Reply(usage=run.usage(), finish="stop", model="demo")


async def test_the_same_question_gets_the_same_answer() -> None:
    first, second = Run(ask()), Run(ask())
    await first()
    await second()
    assert first.sink.parts == second.sink.parts


async def test_a_reply_has_its_parts_in_order_and_a_token_in_each() -> None:
    run = Run(ask(), msgspec.structs.replace(FAST, answer="Salut, café!"))
    await run()
    assert run.sink.parts == [
        Start(model="demo"),
        Text("Salut"),
        Text(","),
        Text(" café"),
        Text("!"),
        BlockEnd(),
        Finish("stop"),
        Report(Usage(7, 4)),
        End(),
    ]
    assert run.sink.closed


async def test_the_record_of_the_attempt_agrees_with_the_reply() -> None:
    run = Run(ask(), msgspec.structs.replace(FAST, answer="Salut, café!"))
    reply = await run()
    attempt = run.attempt
    assert (attempt.sent, attempt.status, attempt.model, attempt.finish) == (True, 200, "demo", "stop")
    assert attempt.usage == reply.usage == Usage(7, 4)
    assert attempt.output_bytes == len("Salut, café!".encode())
    assert attempt.input_bytes == len("What is the capital of France?")
    assert attempt.first_token == run.clock.time


@given(st.text())
def test_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert all(len(piece.split()) <= 1 for piece in pieces(text))


async def test_echo_repeats_the_last_text_of_the_user_exactly() -> None:
    text = "  Grüße 👩‍👩‍👧\n\n\tand   spaces  "
    messages = (user("first"), Message("assistant", (TextContent("said"),)), user(text))
    run = Run(Request(model="x", messages=messages, tools=(WEATHER,)), target="demo-echo")
    await run()
    assert run.text() == text


async def test_every_text_of_the_prompt_counts_as_input() -> None:
    messages = (
        Message("system", (TextContent("Be brief."),)),
        user("Weather in Paris?"),
        Message("assistant", (ToolUse("c1", "weather", '{"city":1}'),)),
        Message("user", (ToolResult("c1", (TextContent("sunny, warm"),)),)),
    )
    run = Run(Request(model="demo", messages=messages))
    await run()
    assert run.usage().input_tokens == 3 + 4 + (1 + 7) + 3
    assert asked(run.call.request) == "Weather in Paris?"


async def test_no_messages_still_get_an_answer() -> None:
    run = Run(Request(model="demo"))
    await run()
    assert run.text()
    assert run.usage().input_tokens == 0


async def test_a_long_echo_lets_other_calls_run() -> None:
    run = Run(ask("word " * 500), target="demo-echo")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while not run.sink.closed:
            turns += 1
            await asyncio.sleep(0)

    await asyncio.gather(run(), other())
    assert turns >= 500 / 16


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_max_tokens_ends_the_reply_by_length() -> None:
    run = Run(ask(max_tokens=3))
    reply = await run()
    assert run.text() == "Happy to help"
    assert run.sink.parts[-4:-2] == [BlockEnd(), Finish("length")]
    assert reply.finish == run.attempt.finish == "length"
    assert run.usage().output_tokens == 3


async def test_a_reply_that_just_fits_is_not_cut_short() -> None:
    run = Run(ask(max_tokens=2), msgspec.structs.replace(FAST, answer="all said"))
    assert (await run()).finish == "stop"


@pytest.mark.parametrize(
    ("stops", "text", "met"),
    [
        ((" demo", "provider"), "the built-in", " demo"),
        (("in demo pro",), "the built-", "in demo pro"),
        (("built-in demo provider", "demo"), "the built-in ", "demo"),
        (("absent", ""), "the built-in demo provider", None),
        (("the",), "", "the"),
    ],
)
async def test_a_reply_ends_before_the_stop_sequence_that_is_met_first(
    stops: tuple[str, ...], text: str, met: str | None
) -> None:
    run = Run(ask(stop=stops), msgspec.structs.replace(FAST, answer="the built-in demo provider"))
    await run()
    assert run.text() == text
    assert run.finishes() == [Finish("stop", 0, met)]
    assert run.usage().output_tokens == len(list(pieces(text)))


async def test_choices_are_mixed_on_the_stream_and_each_finishes() -> None:
    run = Run(ask(choices=3, max_tokens=5))
    await run()
    order = [part.choice for part in run.sink.parts if isinstance(part, Text)]
    assert order[:6] == [0, 1, 2, 0, 1, 2]
    assert {finish.choice for finish in run.finishes()} == {0, 1, 2}
    assert run.usage().output_tokens == 15
    assert len({run.text(choice) for choice in range(3)}) == 3


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"choices": 100_000}, "n"),
        ({"choices": 0}, "n"),
        ({"stop": ("x",) * 1000}, "stop"),
        ({"tools": (WEATHER,), "tool_choice": "tool:other"}, "tool_choice"),
    ],
)
async def test_what_a_provider_would_not_take_is_refused_as_by_a_provider(more: dict[str, Any], param: str) -> None:
    run = Run(ask(**more))
    with pytest.raises(ProviderError) as caught:
        await run()
    assert (caught.value.status, caught.value.param, caught.value.retryable) == (400, param, False)
    assert run.attempt.status == 400
    assert run.sink.parts == []


# --- tools, formats, reasoning ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("choice", "name"), [(None, "weather"), ("required", "weather"), ("tool:clock", "clock")])
async def test_a_tool_is_called_with_arguments_that_fit(choice: str | None, name: str) -> None:
    run = Run(ask(tools=(WEATHER, CLOCK), tool_choice=choice))
    reply = await run()
    calls = [part for part in run.sink.parts if isinstance(part, ToolCall)]
    assert (calls[0].name, calls[0].arguments) == (name, "")
    assert calls[0].id is not None
    assert len(calls[0].id) <= 40
    assert all(call.id is None and call.name is None and call.arguments for call in calls[1:])
    assert run.arguments() == ({"city": "demo city", "days": 3} if name == "weather" else {})
    assert run.text() == ""
    assert reply.finish == "tool_calls"
    assert run.usage().output_tokens == len(calls) - 1


async def test_no_tool_is_called_where_none_may_be() -> None:
    run = Run(ask(tools=(WEATHER,), tool_choice="none"))
    assert (await run()).finish == "stop"
    assert run.text()


@pytest.mark.parametrize("failed", [False, True])
async def test_a_tool_result_is_answered_in_words(failed: bool) -> None:
    messages = (
        user("Weather?"),
        Message("assistant", (ToolUse("c1", "weather", "{}"),)),
        Message("user", (ToolResult("c1", (TextContent("18 degrees"),), failed),)),
    )
    run = Run(Request(model="demo", messages=messages, tools=(WEATHER,), tool_choice="required"))
    assert (await run()).finish == "stop"
    assert "18 degrees" in run.text()
    assert ("failed" in run.text()) is failed


async def test_tool_arguments_end_by_length_too() -> None:
    run = Run(ask(tools=(WEATHER,), max_tokens=2))
    assert (await run()).finish == "length"
    assert run.usage().output_tokens == 2


async def test_a_json_object_holds_the_answer() -> None:
    run = Run(ask(response_format=ResponseFormat("json_object")))
    await run()
    assert "capital of France" in msgspec.json.decode(run.text())["answer"]


async def test_a_json_schema_is_met_piece_by_piece() -> None:
    run = Run(ask(response_format=ResponseFormat("json_schema", CITY), choices=2))
    await run()
    assert msgspec.json.decode(run.text(0)) == msgspec.json.decode(run.text(1)) == {"city": "demo city", "days": 3}
    assert sum(isinstance(part, Text) for part in run.sink.parts) > 10


async def test_reasoning_comes_first_is_signed_and_counted() -> None:
    run = Run(ask(reasoning_effort="low"))
    await run()
    blocks = [part.block for part in run.sink.parts if isinstance(part, Reasoning | Text)]
    thinking = [part for part in run.sink.parts if isinstance(part, Reasoning)]
    assert blocks == sorted(blocks)
    assert set(blocks) == {0, 1}
    assert thinking[-1] == Reasoning("", 0, 0, "demo")
    assert run.usage().reasoning_tokens == len(thinking) - 1
    words = sum(isinstance(part, Text) for part in run.sink.parts)
    assert run.usage().output_tokens == len(thinking) - 1 + words


async def test_a_budget_for_reasoning_is_kept() -> None:
    run = Run(ask(reasoning_tokens=4))
    await run()
    assert run.usage().reasoning_tokens == 4


@pytest.mark.parametrize("more", [{}, {"reasoning_effort": "none"}, {"reasoning_tokens": 0}])
async def test_nobody_thinks_unasked(more: dict[str, Any]) -> None:
    run = Run(ask(**more))
    await run()
    assert not any(isinstance(part, Reasoning) for part in run.sink.parts)
    assert run.usage().reasoning_tokens is None


# --- embeddings -------------------------------------------------------------------------------------------------------


def embed(*texts: str | tuple[int, ...], **more: Any) -> Run:
    return Run(Request(model="demo", input=texts, **more), operation="embeddings")


async def test_embeddings_are_unit_vectors_equal_for_equal_texts() -> None:
    run = embed("hello world", "other", "hello world", (1, 2, 10**4000))
    reply = await run()
    vectors = [part for part in run.sink.parts if isinstance(part, Embedding)]
    assert [part.index for part in vectors] == [0, 1, 2, 3]
    assert vectors[0].vector == vectors[2].vector != vectors[1].vector
    assert all(len(part.vector) == 256 for part in vectors)
    assert all(math.isclose(math.hypot(*part.vector), 1, rel_tol=1e-6) for part in vectors)
    assert reply.usage == run.usage() == Usage(2 + 1 + 2 + 3, 0)
    assert run.finishes() == []


async def test_the_dimensions_asked_for_are_given() -> None:
    run = embed("", dimensions=1)
    await run()
    assert [abs(part.vector[0]) for part in run.sink.parts if isinstance(part, Embedding)] == [1.0]


@pytest.mark.parametrize("dimensions", [0, -1, 10**9])
async def test_dimensions_beyond_reason_are_refused(dimensions: int) -> None:
    with pytest.raises(ProviderError, match="dimensions"):
        await embed("x", dimensions=dimensions)()


async def test_more_numbers_than_are_reasonable_are_refused() -> None:
    with pytest.raises(ProviderError, match="numbers"):
        await embed(*["x"] * 2000, dimensions=4096)()


# --- pace and failures ------------------------------------------------------------------------------------------------


async def test_tokens_come_at_the_pace_that_is_set() -> None:
    settings = DemoSettings(tokens_per_second=4, first_token=2, answer="a b c")
    run = Run(ask(), settings)
    await run()
    assert [moment - 100 for moment in run.sink.times] == [0, 2, 2.25, 2.5, 2.75, 2.75, 2.75, 2.75]


async def test_a_slow_reader_does_not_slow_the_provider_down() -> None:
    run = Run(ask(), DemoSettings(tokens_per_second=4, first_token=0, answer="a b c"))

    def dawdle(part: Part) -> None:
        run.clock.time += 10 if part == Text("a") else 0

    run.sink.on_part = dawdle
    await run()
    assert run.clock.naps == []


async def test_flat_out_never_waits() -> None:
    run = Run(ask())
    await run()
    assert run.clock.naps == []


async def test_the_slow_model_is_slow() -> None:
    run = Run(ask(max_tokens=5), target="demo-slow")
    await run()
    assert run.clock.time - 100 == 2 + 5 / 5


@pytest.mark.parametrize(
    ("fail", "status", "code", "retryable"),
    [
        ("overloaded", 503, "provider_overloaded", True),
        ("rate_limit", 429, "rate_limit_exceeded", True),
        ("server_error", 502, "provider_error", True),
        ("auth", 502, "provider_auth", False),
        ("bad_reply", 502, "provider_bad_reply", True),
        ("connect", 502, "provider_unreachable", True),
    ],
)
async def test_a_failure_is_the_one_a_real_provider_gives(fail: Any, status: int, code: str, retryable: bool) -> None:
    run = Run(ask(), msgspec.structs.replace(FAST, fail=fail))
    with pytest.raises(ProviderError) as caught:
        await run()
    error = caught.value
    assert (error.status, error.code, error.retryable) == (status, code, retryable)
    assert isinstance(error, ConnectError) == (fail == "connect")
    assert isinstance(error, ReplyError) == (fail == "bad_reply")
    assert run.attempt.sent is (fail != "connect")
    assert run.attempt.status == error.provider_status
    assert run.sink.parts == []


@pytest.mark.parametrize(
    ("target", "code"), [("demo-fail", "provider_error"), ("demo-overloaded", "provider_overloaded")]
)
async def test_a_model_name_asks_for_a_failure(target: str, code: str) -> None:
    with pytest.raises(ProviderError) as caught:
        await Run(ask(), target=target)()
    assert caught.value.code == code


async def test_a_share_of_calls_fails_the_same_ones_each_time() -> None:
    async def failures() -> list[bool]:
        run = Run(ask(), msgspec.structs.replace(FAST, fail="overloaded", fail_rate=0.3, seed=7))
        outcomes = []
        for _ in range(200):
            try:
                await run()
            except ProviderError:
                outcomes.append(True)
            else:
                outcomes.append(False)
        return outcomes

    first = await failures()
    assert first == await failures()
    assert 30 <= sum(first) <= 90


async def test_a_cut_leaves_a_true_record() -> None:
    run = Run(ask("echo me to the very end of it"), msgspec.structs.replace(FAST, cut_after=2), target="demo-echo")
    with pytest.raises(CutError):
        await run()
    assert run.text() == "echo me"
    assert run.attempt.usage == Usage(8, 2)
    assert run.attempt.output_bytes == 7
    assert run.attempt.finish is None
    assert not run.sink.closed


async def test_the_cut_model_breaks_before_its_finish() -> None:
    run = Run(ask("a b c d e f g h"), target="demo-cut")
    with pytest.raises(CutError):
        await run()
    assert sum(isinstance(part, Text) for part in run.sink.parts) == 8
    assert run.finishes() == []


async def test_a_cut_before_anything_was_said() -> None:
    run = Run(ask(), msgspec.structs.replace(FAST, cut_after=0))
    with pytest.raises(CutError):
        await run()
    assert run.sink.parts == [Start(model="demo")]
    assert run.attempt.usage == Usage(7, 0)


async def test_a_stall_is_silence_until_cancelled() -> None:
    run = Run(ask(), msgspec.structs.replace(FAST, stall_after=3), target="demo-stall")
    silent = asyncio.Event()
    run.sink.on_part = lambda part: silent.set() if run.attempt.usage == Usage(7, 3) else None
    task = asyncio.create_task(run.demo(run.call))
    await silent.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert run.attempt.usage == Usage(7, 3)
    assert not run.sink.closed


@pytest.mark.parametrize(("stall_after", "phase"), [(0, "first_token"), (3, "idle")])
async def test_silence_is_ended_by_the_timeout_of_its_phase(stall_after: int, phase: str) -> None:
    run = Run(ask())
    settings = msgspec.structs.replace(FAST, stall_after=stall_after)
    run.demo = Demo(settings, run.clock, run.clock.sleep)
    run.attempt.timeouts = Timeouts(first_token=0.01, idle=0.01)
    with pytest.raises(PhaseTimeout) as caught:
        await run()
    assert caught.value.phase == phase
    assert run.attempt.usage == Usage(7, stall_after)


async def test_an_unknown_model_name_is_the_normal_demo() -> None:
    run = Run(ask(), target="gpt-whatever")
    assert (await run()).model == "gpt-whatever"


@pytest.mark.parametrize(
    "settings",
    [
        {"fail_rate": 1.5},
        {"tokens_per_second": -1},
        {"fail": "sometimes"},
        {"cut_after": -1},
        {"typo": 1},
        {"dimensions": 0},
    ],
)
def test_settings_are_strict(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, DemoSettings)


async def test_it_answers_attempts_only() -> None:
    run = Run(ask())
    run.call.attempt = None
    with pytest.raises(TypeError):
        await run()
