from __future__ import annotations

import asyncio
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from sidegate.contract import Attempt, Comment, Ending, Handler, Host, Model, Reply, Usage
from sidegate.contract.call import Call
from sidegate.errors import CutError
from sidegate.ledger.rows import Settled
from sidegate.testing import KeptEvents, Running, demo_config, drive, gateway, host, says
from sidegate_plugins.cost import Cost, Price, Settings
from tests.plugins.calls import EPOCH, HandClock, a_call

PRICES = {"gpt": Price(input="2.50", output=10, cache_read=1.25, cache_write="3")}


def a_cost(prices: dict[str, Price] | None = None, to: Host | None = None, **settings: Any) -> Cost:
    return Cost(Settings(prices=PRICES if prices is None else prices, **settings), to or host())


def an_attempt(usage: Usage | None = None, **given: Any) -> Attempt:
    usual: dict[str, Any] = {
        "number": 1,
        "provider": "openai",
        "target": "gpt",
        "started": 0.0,
        "started_at": EPOCH,
        "sent": True,
        "status": 200,
        "finish": "stop",
    }
    return Attempt(**{**usual, **given}, usage=usage)


def answers(*attempts: Attempt, stream: bool = True, usage: Usage | None = None) -> Handler:
    """A handler that opens these attempts and says a word."""

    async def handler(call: Call) -> Reply:
        call.attempts.extend(attempts)
        return await says("Hello", usage=usage, stream=stream)(call)

    return handler


# --- arithmetic -------------------------------------------------------------------------------------------------------


def test_a_price_is_per_million_tokens_and_the_cost_in_nano_usd() -> None:
    assert a_cost().price(an_attempt(Usage(1000, 100))) == 1000 * 2500 + 100 * 10_000


def test_cached_tokens_cost_their_own_price_and_only_the_rest_the_inputs() -> None:
    assert a_cost().price(an_attempt(Usage(1000, 0, 600, 100))) == 300 * 2500 + 600 * 1250 + 100 * 3000


def test_cached_tokens_without_a_price_of_their_own_cost_what_the_input_costs() -> None:
    plain = a_cost({"gpt": Price(input=2, output=1)})
    assert plain.price(an_attempt(Usage(1000, 0, 600, 100))) == 1000 * 2000


def test_reasoning_is_part_of_the_output_and_not_paid_twice() -> None:
    assert a_cost().price(an_attempt(Usage(0, 100, reasoning_tokens=80))) == 100 * 10_000
    apart = a_cost({"gpt": Price(input=0, output=10, reasoning=2)})
    assert apart.price(an_attempt(Usage(0, 100, reasoning_tokens=80))) == 20 * 10_000 + 80 * 2_000


def test_more_cached_tokens_than_tokens_are_not_believed() -> None:
    assert a_cost().price(an_attempt(Usage(10, 0, 600, 600))) == 10 * 1250


def test_a_half_is_rounded_up_once() -> None:
    odd = a_cost({"gpt": Price(input="0.0005", output="0.0005")})
    assert odd.price(an_attempt(Usage(1, 0))) == 1
    assert odd.price(an_attempt(Usage(1, 1))) == 1
    assert a_cost({"gpt": Price(input="0.000499999")}).price(an_attempt(Usage(1, 0))) == 0


@pytest.mark.parametrize("usage", [None, Usage(), Usage(5, None), Usage(None, 5)])
def test_unknown_usage_has_an_unknown_cost(usage: Usage | None) -> None:
    assert a_cost().price(an_attempt(usage)) is None


def test_an_unknown_price_is_an_unknown_cost_and_a_price_of_zero_is_not() -> None:
    assert a_cost({}).price(an_attempt(Usage(1, 1))) is None
    assert a_cost({"gpt": Price(input=0)}).price(an_attempt(Usage(1, 1))) == 0


usd = some.decimals(min_value=0, max_value=100_000, places=9, allow_nan=False)
tokens = some.integers(0, 10**9)


@given(usd, usd, usd, usd, usd, tokens, tokens, some.floats(0, 1), some.floats(0, 1), some.floats(0, 1))
def test_the_cost_is_the_decimals(
    input: Decimal,
    output: Decimal,
    read: Decimal,
    write: Decimal,
    thought: Decimal,
    inputs: int,
    outputs: int,
    cached: float,
    written: float,
    thinking: float,
) -> None:
    reads = int(inputs * cached)
    writes = int((inputs - reads) * written)
    thoughts = int(outputs * thinking)
    price = Price(
        input=str(input), output=str(output), cache_read=str(read), cache_write=str(write), reasoning=f"{thought}"
    )
    found = a_cost({"gpt": price}).price(an_attempt(Usage(inputs, outputs, reads, writes, thoughts)))
    exact = (
        (inputs - reads - writes) * input + reads * read + writes * write + (outputs - thoughts) * output
    ) + thoughts * thought
    assert found == int((exact * 1000).quantize(Decimal(1), ROUND_HALF_UP))


def test_a_float_counts_as_it_is_written() -> None:
    assert a_cost({"gpt": Price(input=0.1)}).price(an_attempt(Usage(10**6, 0))) == 10**8
    assert a_cost({"gpt": Price(input=1e-9)}).price(an_attempt(Usage(10**9, 0))) == 1000


@pytest.mark.parametrize(
    "amount", ["-1", -0.5, "NaN", "Infinity", "-Infinity", "1e99", 100_001, "0.0000000001", "cheap", "", "1,5"]
)
def test_a_price_that_is_none_is_refused_with_its_place(amount: str | float) -> None:
    with pytest.raises(ValueError, match=r"prices\.gpt\.output: "):
        a_cost({"gpt": Price(input=1, output=amount)})


@pytest.mark.parametrize("prices", [{"gpt": {"input": True}}, {"gpt": {"output": 1}}, {"gpt": {"input": 1, "in": 2}}])
def test_a_price_of_the_wrong_shape_is_refused(prices: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"prices": prices}, Settings)


# --- which price ------------------------------------------------------------------------------------------------------


def test_the_longest_name_wins() -> None:
    cost = a_cost(
        {
            "*": Price(input=1),
            "gpt*": Price(input=2),
            "gpt-5*": Price(input=3),
            "gpt-5-mini": Price(input=4),
            "azure/gpt-5-mini": Price(input=5),
            "azure/gpt*": Price(input=6),
        }
    )

    def rate(provider: str, target: str) -> int | None:
        return cost.price(an_attempt(Usage(1000, 0), provider=provider, target=target))

    found = [rate("openai", name) for name in ("claude", "gpt-4", "gpt-5-pro", "gpt-5-mini")]
    assert found == [10**6, 2 * 10**6, 3 * 10**6, 4 * 10**6]
    assert [rate("azure", "gpt-5-mini"), rate("azure", "gpt-5-pro")] == [5 * 10**6, 6 * 10**6]


def test_a_pattern_is_about_models_unless_it_names_the_provider() -> None:
    cost = a_cost({"demo*": Price(input=1), "demo/s*": Price(input=2)})
    assert cost.price(an_attempt(Usage(1000, 0), provider="demo", target="tiny")) is None
    assert cost.price(an_attempt(Usage(1000, 0), provider="demo", target="small")) == 2 * 10**6
    assert cost.price(an_attempt(Usage(1000, 0), provider="demo", target="demo-1")) == 10**6


def test_the_model_that_answered_counts_where_the_one_asked_for_has_no_price() -> None:
    cost = a_cost({"gpt-5-2026": Price(input=1)})
    assert cost.price(an_attempt(Usage(1000, 0), target="latest", model="gpt-5-2026")) == 10**6
    assert cost.price(an_attempt(Usage(1000, 0), target="latest", model="other")) is None


def test_the_rates_are_noted_with_the_attempt() -> None:
    attempt = an_attempt(Usage(1, 1))
    a_cost().price(attempt)
    rates = msgspec.json.decode(attempt.tags["rates"])
    assert (rates["input"], rates["cache_read"], rates["reasoning"]) == (2_500_000_000, 1_250_000_000, 10_000_000_000)


async def test_models_without_a_price_are_named_at_the_start() -> None:
    log, told = KeptEvents(), list[str]()
    models = (Model("fast", (("openai", "gpt"), ("demo", "small"))), Model("demo*", (("demo", "demo*"),)))
    await a_cost({**PRICES, "demo*": Price(input=0)}, host(log=log, tell=told.append, models=models)).start()
    assert told == ["model fast: price unknown (demo/small)"]
    assert log.events == [("price_unknown", {"model": "fast", "provider": "demo", "target": "small"})]


# --- what the client is told ------------------------------------------------------------------------------------------


def comments(parts: list[Any]) -> list[str]:
    return [part.text for part in parts if type(part) is Comment]


async def test_a_buffered_reply_tells_its_cost_in_headers() -> None:
    driven = await drive(a_cost(), answers(an_attempt(Usage(4, 1)), stream=False), stream=False)
    assert dict(driven.call.reply_headers) == {
        "x-sidegate-cost-usd": "0.000020000",
        "x-sidegate-cost-nano-usd": "20000",
        "x-sidegate-input-tokens": "4",
        "x-sidegate-output-tokens": "1",
    }
    assert comments(driven.parts) == []


async def test_a_stream_tells_its_cost_in_a_comment_before_its_end() -> None:
    driven = await drive(a_cost(), answers(an_attempt(Usage(4, 1))))
    assert comments(driven.parts) == ["sidegate cost_usd=0.000020000 input_tokens=4 output_tokens=1"]
    assert [type(part).__name__ for part in driven.parts][-2:] == ["Comment", "End"]
    assert driven.call.reply_headers == {}


@pytest.mark.parametrize("stream", [True, False])
async def test_both_can_be_left_out(stream: bool) -> None:
    driven = await drive(
        a_cost(headers=False, comment=False), answers(an_attempt(Usage(4, 1)), stream=stream), stream=stream
    )
    assert comments(driven.parts) == []
    assert driven.call.reply_headers == {}
    assert driven.call.notes.price is not None


async def test_what_is_told_is_the_sum_of_all_attempts_as_the_ledger_has_it() -> None:
    failed = an_attempt(status=503, finish=None, ending=Ending.PROVIDER_ERROR)
    broken = an_attempt(finish=None, ending=Ending.CUT, input_bytes=40, output_bytes=8)
    driven = await drive(a_cost(), answers(failed, broken, an_attempt(Usage(4, 1)), stream=False), stream=False)
    assert driven.call.reply_headers["x-sidegate-cost-nano-usd"] == str(14 * 2500 + 3 * 10_000)
    assert driven.call.reply_headers["x-sidegate-input-tokens"] == "14"


async def test_unknown_is_said_as_unknown() -> None:
    driven = await drive(a_cost({}), answers(an_attempt(Usage(4, 1)), stream=False), stream=False)
    assert driven.call.reply_headers["x-sidegate-cost-usd"] == "unknown"
    assert driven.call.reply_headers["x-sidegate-cost-nano-usd"] == "unknown"
    assert driven.call.reply_headers["x-sidegate-output-tokens"] == "1"


async def test_a_call_that_failed_tells_what_it_cost_all_the_same() -> None:
    async def fail(call: Call) -> Reply:
        call.attempts.append(an_attempt(Usage(4, 1), ending=Ending.CUT, finish=None))
        raise CutError("cut")

    driven = await drive(a_cost(), fail, stream=False)
    assert isinstance(driven.error, CutError)
    assert driven.call.reply_headers["x-sidegate-cost-nano-usd"] == "20000"


async def test_a_call_without_an_attempt_cost_nothing() -> None:
    driven = await drive(a_cost(), answers(stream=False), stream=False)
    assert driven.call.reply_headers["x-sidegate-cost-usd"] == "0.000000000"


@pytest.mark.parametrize("operation", ["models", "calls"])
async def test_what_reaches_no_provider_is_not_priced(operation: str) -> None:
    driven = await drive(a_cost(), answers(stream=False), stream=False, operation=operation)
    assert driven.call.reply_headers == {}
    assert driven.call.notes.price is None


async def test_a_cancelled_call_is_priced_and_stays_cancelled() -> None:
    began = asyncio.Event()

    async def hang(call: Call) -> Reply:
        call.attempts.append(an_attempt(Usage(4, 1)))
        began.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    cost = a_cost()
    call = a_call(HandClock(), delivery="buffered")
    task = asyncio.ensure_future(cost(call, hang))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.notes.price is not None
    assert call.notes.price(call.attempts[0]) == 20_000


# --- through the gateway ----------------------------------------------------------------------------------------------

PLUGIN = {"use": "sidegate_plugins.cost:Cost", "settings": {"prices": {"demo*": {"input": "0.5", "output": 2}}}}
Path = tuple[str, dict[str, Any]]
OPENAI: Path = ("/v1/chat/completions", {})
ANTHROPIC: Path = ("/v1/messages", {"max_tokens": 50})

both_dialects = pytest.mark.parametrize("path", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])


def asked(path: Path, stream: bool, model: str = "demo") -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say something about the sea."}]
    return {"model": model, "messages": messages, "stream": stream, **path[1]}


async def recorded(running: Running, id: str) -> Settled:
    """The call's row, once it has ended."""
    for _ in range(1000):
        if (found := await running.service.ledger.call(id)) is not None:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("the call was never settled")


@both_dialects
async def test_header_ledger_and_arithmetic_agree_on_a_buffered_reply(path: Path) -> None:
    async with gateway(demo_config(PLUGIN)) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post(path[0], json=asked(path, stream=False)) as reply:
            assert reply.status == 200, await reply.text()
            row, _ = await recorded(running, reply.headers["x-request-id"])
            told = reply.headers["x-sidegate-cost-nano-usd"]
    assert row.input_tokens
    assert row.output_tokens
    assert told == str(row.cost_nano_usd) == str(row.input_tokens * 500 + row.output_tokens * 2000)


@both_dialects
async def test_comment_and_ledger_agree_on_a_stream(path: Path) -> None:
    async with gateway(demo_config(PLUGIN)) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post(path[0], json=asked(path, stream=True)) as reply:
            body = await reply.text()
            row, _ = await recorded(running, reply.headers["x-request-id"])
    assert row.cost_nano_usd
    usd = f"{row.cost_nano_usd // 10**9}.{row.cost_nano_usd % 10**9:09d}"
    told = f": sidegate cost_usd={usd} input_tokens={row.input_tokens} output_tokens={row.output_tokens}"
    assert body.count(told) == 1
    assert body.index(told) > body.index("finish_reason" if path is OPENAI else "content_block_delta")
    assert body.index(told) < body.index("[DONE]" if path is OPENAI else "event: message_stop")


@both_dialects
async def test_a_stream_its_client_leaves_is_paid_for_as_far_as_it_came(path: Path) -> None:
    async with gateway(demo_config(PLUGIN)) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post(path[0], json=asked(path, stream=True, model="demo-stall")) as reply:
            await reply.content.readany()
            id = reply.headers["x-request-id"]
        row, (attempt,) = await recorded(running, id)
    assert (row.ending, attempt.ending) == ("client_gone", "client_gone")
    assert row.cost_nano_usd
    assert attempt.rates is not None


@both_dialects
@pytest.mark.parametrize("stream", [True, False])
async def test_a_provider_that_fails_before_it_speaks_is_not_paid(path: Path, stream: bool) -> None:
    async with gateway(demo_config(PLUGIN)) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post(path[0], json=asked(path, stream=stream, model="demo-fail")) as reply:
            assert reply.status >= 500
            assert reply.headers.get("x-sidegate-cost-usd", "0.000000000") == "0.000000000"
            row, _ = await recorded(running, reply.headers["x-request-id"])
    assert (row.cost_nano_usd, row.input_tokens, row.ending) == (0, 0, "provider_error")


@both_dialects
async def test_a_cut_stream_is_paid_for_and_tells_no_cost(path: Path) -> None:
    async with gateway(demo_config(PLUGIN)) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post(path[0], json=asked(path, stream=True, model="demo-cut")) as reply:
            body = await reply.text()
            row, _ = await recorded(running, reply.headers["x-request-id"])
    assert "cost_usd" not in body
    assert row.ending == "cut"
    assert row.cost_nano_usd
