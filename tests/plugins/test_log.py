from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sidegate.contract import (
    Attempt,
    Call,
    Caller,
    Chunk,
    End,
    Ending,
    Handler,
    Message,
    Reply,
    Request,
    Text,
    TextContent,
    Usage,
)
from sidegate.errors import BadRequest, Cancelled, CutError, Refusal
from sidegate.ledger.settlement import settle
from sidegate_plugins.log import Log, Settings
from tests.plugins.calls import EPOCH, HandClock, ListLog, ListOutlet, a_call, a_host, answer, failing

KEY = "sg-the-key-of-ann"


class Bench:
    """A plugin with a log to read and a clock to set."""

    def __init__(self, **settings: Any) -> None:
        self.clock = HandClock()
        self.log = ListLog()
        self.plugin = Log(Settings(**settings), a_host(self.clock, log=self.log))

    async def line(self, handler: Handler = answer, **call: Any) -> dict[str, Any]:
        await self.plugin(a_call(self.clock, **call), handler)
        return self.last()

    def last(self) -> dict[str, Any]:
        ((event, line),) = self.log.lines
        assert event == "call"
        return line


def an_attempt(number: int = 1, **more: Any) -> Attempt:
    given: dict[str, Any] = {"provider": "p", "target": "m-1", "started": 1000.0, "started_at": EPOCH, "sent": True}
    return Attempt(number=number, **(given | more))


def per_token(attempt: Attempt) -> int | None:
    usage = attempt.usage or Usage()
    return None if usage.input_tokens is None or usage.output_tokens is None else 100 * sum(usage_of(usage))


def usage_of(usage: Usage) -> tuple[int, int]:
    return usage.input_tokens or 0, usage.output_tokens or 0


async def test_a_line_says_who_asked_what_and_how_it_went() -> None:
    bench = Bench()

    async def handler(call: Call) -> Reply:
        failed = an_attempt(
            provider="q", ended=1001.0, status=503, ending=Ending.PROVIDER_ERROR, error="provider_error"
        )
        served = an_attempt(2, started=1001.0, ended=1005.0, status=200, ending=Ending.COMPLETE, committed=True)
        served.usage = Usage(10, 20, 5, None, 7)
        call.attempts.extend([failed, served])
        call.notes.price = per_token
        call.notes.first_token = 1002.0
        call.notes.plugin_seconds["api_key"] = 0.00012345678
        bench.clock.pass_by(6)
        return Reply(usage=Usage(10, 20, 5, None, 7), finish="stop", model="m-1-2026")

    caller = Caller("ann", key_id="k1", team="red")
    line = await bench.line(handler, caller=caller, end_user="bob")
    assert line == {
        "call": "0123",
        "trace_id": None,
        "route": "main",
        "operation": "chat",
        "dialect": "openai.chat",
        "delivery": "stream",
        "client_retries": 0,
        "caller": "ann",
        "key_id": "k1",
        "team": "red",
        "end_user": "bob",
        "model": "gpt",
        "served_model": "m-1-2026",
        "provider": "p",
        "status": 200,
        "ending": "complete",
        "error": None,
        "plugin": None,
        "input_tokens": 10,
        "output_tokens": 20,
        "cached_tokens": 5,
        "reasoning_tokens": 7,
        "usage_estimated": False,
        "cost_nano_usd": 3000,
        "time_to_first_token": 2.0,
        "duration": 6.0,
        "tokens_per_second": 5.0,
        "attempts": [
            {
                "provider": "q",
                "target": "m-1",
                "request_id": None,
                "status": 503,
                "ending": "provider_error",
                "error": "provider_error",
                "duration": 1.0,
                "cost_nano_usd": 0,
            },
            {
                "provider": "p",
                "target": "m-1",
                "request_id": None,
                "status": 200,
                "ending": "complete",
                "error": None,
                "duration": 4.0,
                "cost_nano_usd": 3000,
            },
        ],
        "plugin_seconds": {"api_key": 0.000123},
    }


@pytest.mark.parametrize(
    ("error", "status", "ending", "code"),
    [
        (Refusal(429, "rate_limit_exceeded", "No."), 429, "refused", "rate_limit_exceeded"),
        (CutError("Cut."), 502, "cut", "provider_cut"),
        (KeyError("x"), 500, "failed", "internal_error"),
        (asyncio.CancelledError(), 499, "cancelled", "cancelled"),
    ],
)
async def test_every_ending_is_logged_and_goes_on(error: BaseException, status: int, ending: str, code: str) -> None:
    bench = Bench()
    with pytest.raises(type(error)) as raised:
        await bench.plugin(a_call(bench.clock), failing(error))
    assert raised.value is error
    line = bench.last()
    assert (line["status"], line["ending"], line["error"]) == (status, ending, code)


async def test_a_client_that_left_is_told_from_a_call_that_was_cancelled() -> None:
    bench = Bench()
    call = a_call(bench.clock)
    call.notes.stop = Cancelled(Ending.CLIENT_GONE)
    with pytest.raises(asyncio.CancelledError):
        await bench.plugin(call, failing(asyncio.CancelledError()))
    assert bench.last()["ending"] == "client_gone"


async def test_a_cut_call_is_logged_as_the_ledger_will_settle_it() -> None:
    bench = Bench()

    async def handler(call: Call) -> Reply:
        call.notes.price = per_token
        call.attempts.append(an_attempt(input_bytes=40, output_bytes=20, committed=True, status=200, model="m-9"))
        bench.clock.pass_by(3)
        raise CutError("Cut.")

    call = a_call(bench.clock)
    with pytest.raises(CutError) as raised:
        await bench.plugin(call, handler)
    line = bench.last()
    assert (line["input_tokens"], line["output_tokens"], line["usage_estimated"]) == (10, 5, True)
    assert (line["cost_nano_usd"], line["served_model"], line["provider"]) == (1500, "m-9", "p")
    assert (line["attempts"][0]["ending"], line["attempts"][0]["duration"]) == ("cut", 3.0)
    assert call.attempts[0].usage is None
    row, _ = settle(call, call.reply_for(raised.value), 3.0)
    assert (row.input_tokens, row.output_tokens, row.cost_nano_usd) == (10, 5, 1500)


@pytest.mark.parametrize(
    ("attempts", "price", "cost"),
    [
        ([], per_token, 0),
        ([an_attempt(usage=Usage(1, 1))], None, None),
        ([an_attempt(usage=Usage(1, 1))], per_token, 200),
        ([an_attempt(usage=Usage(1, 1)), an_attempt(2, input_bytes=8)], per_token, None),
        ([an_attempt(usage=Usage(1, 1)), an_attempt(2, input_bytes=8, sent=False)], per_token, 200),
        ([an_attempt(usage=Usage(1, 1)), an_attempt(2, usage=Usage(2, 2), ending=Ending.COMPLETE)], per_token, 600),
    ],
)
async def test_a_cost_that_is_not_known_in_full_is_null(attempts: list[Attempt], price: Any, cost: int | None) -> None:
    async def handler(call: Call) -> Reply:
        call.attempts.extend(attempts)
        call.notes.price = price
        return Reply()

    bench = Bench()
    call = a_call(bench.clock)
    await bench.plugin(call, handler)
    assert bench.last()["cost_nano_usd"] == cost
    assert settle(call, Reply(), 1.0)[0].cost_nano_usd == cost


async def test_the_pace_of_a_buffered_reply_is_over_the_whole_call() -> None:
    bench = Bench()

    async def handler(call: Call) -> Reply:
        bench.clock.pass_by(10)
        call.notes.first_token = bench.clock.seconds
        call.attempts.append(an_attempt(usage=Usage(1, 50), ending=Ending.COMPLETE))
        return Reply()

    assert (await bench.line(handler, delivery="buffered"))["tokens_per_second"] == 5.0


SECRET_TALK = Request(
    model="gpt", messages=(Message("system", (TextContent("be brief"),)), Message("user", (TextContent("my secret"),)))
)


async def test_what_was_said_is_not_logged_and_nobody_looks_at_chunks_unless_asked() -> None:
    bench = Bench()
    stages: list[int] = []

    async def handler(call: Call) -> Reply:
        stages.append(len(call.stages))
        return await answer(call)

    line = await bench.line(handler, request=SECRET_TALK, headers={"authorization": f"Bearer {KEY}"})
    assert stages == [0]
    assert not any(word in repr(line) for word in ("secret", "hello", KEY, "authorization"))


@pytest.mark.parametrize("whole", [True, False])
async def test_bodies_are_logged_where_asked_but_never_headers(whole: bool) -> None:
    async def handler(call: Call) -> Reply:
        await call.send(Chunk(parts=(Text("hello "), Text("you", 1), Text("world"), End()), whole=whole, closing=True))
        return Reply()

    line = await Bench(bodies=True).line(handler, request=SECRET_TALK, headers={"x-api-key": KEY})
    assert line["request_texts"] == ["system: be brief", "user: my secret"]
    assert line["reply_texts"] == ["hello world", "you"]
    assert KEY not in repr(line)


async def test_what_a_failing_call_had_said_is_logged_too() -> None:
    bench = Bench(bodies=True)
    with pytest.raises(CutError):
        await bench.plugin(a_call(bench.clock), failing(CutError("Cut.")))
    assert bench.last()["reply_texts"] == ["hello "]


async def test_bodies_are_bounded_in_bytes() -> None:
    async def handler(call: Call) -> Reply:
        for _ in range(1000):
            await call.send(Chunk.of(Text("ü" * 100)))
        return Reply()

    asked = Request(model="gpt", input=("ä" * 6, "x" * 10_000))
    line = await Bench(bodies=True, max_body_bytes=101).line(handler, request=asked)
    assert line["reply_texts"] == ["ü" * 50]
    assert line["request_texts"] == ["ä" * 6, "x" * 89]


async def test_embeddings_are_logged_by_their_texts_not_their_tokens() -> None:
    line = await Bench(bodies=True).line(request=Request(model="e", input=("one", (1, 2), "two")))
    assert line["request_texts"] == ["one", "two"]


async def test_what_is_to_be_redacted_is_found_across_chunks_and_across_the_bound() -> None:
    async def handler(call: Call) -> Reply:
        for piece in ("call ", "+49 ", "1234", "567 now"):
            await call.send(Chunk.of(Text(piece)))
        return Reply()

    asked = Request(model="gpt", messages=(Message("user", (TextContent("1234567 is mine"),)),))
    bench = Bench(bodies=True, max_body_bytes=12, redact=[r"\+?\d[\d ]{6,}"])
    line = await bench.line(handler, request=asked)
    assert line["reply_texts"] == ["call [redact"]
    assert line["request_texts"] == ["user: [redac"]


async def test_a_request_that_cannot_be_read_is_logged_without_its_texts() -> None:
    def unreadable() -> Request:
        raise BadRequest("no")

    bench = Bench(bodies=True)
    call = a_call(bench.clock)
    call.asked = msgspec.structs.replace(call.asked, read=unreadable)
    await bench.plugin(call, answer)
    assert bench.last()["request_texts"] == []


async def test_strangers_do_not_fill_the_log() -> None:
    bench = Bench(bodies=True)
    with pytest.raises(Refusal):
        await bench.plugin(a_call(bench.clock, request=SECRET_TALK), failing(Refusal(401, "invalid_api_key", "No.")))
    assert "request_texts" not in bench.last()


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "(a+)+", r"(\w*x)*$", "(a|b+){3,}"])
def test_patterns_that_cannot_work_or_could_freeze_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"redact\[1\]"):
        Log(Settings(redact=("fine", pattern)), a_host(HandClock()))


@pytest.mark.parametrize("pattern", [r"\b(?:\d[ -]*?){13,16}\b", r"[\w.+-]+@[\w-]+\.[\w.]+", r"(a|b)+", r"\(x+\)+"])
def test_usual_patterns_are_taken(pattern: str) -> None:
    Log(Settings(redact=(pattern,)), a_host(HandClock()))


async def test_the_client_gets_what_it_would_have_got() -> None:
    bench = Bench(bodies=True)
    call = a_call(bench.clock)
    outlet = ListOutlet()
    call._outlet = outlet
    await bench.plugin(call, answer)
    assert "".join(chunk.text for chunk in outlet.sent) == "hello world"
