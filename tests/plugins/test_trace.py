"""Traces as a collector gets them: of real calls, in the words of OpenTelemetry's GenAI conventions."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from sidegate.errors import ConfigError
from sidegate.testing import Exchange, Running, answering, closed_port, demo_config, gateway, scripted
from sidegate_plugins._trace_context import Context, Contexts, parent_of
from tests.plugins.collector import Collector, collector

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "openai_responses": "/v1/responses"}
SECRET = "my mother's maiden name is Rosalind"

both = pytest.mark.parametrize("stream", [True, False])


def tracing(kept: Collector, **settings: Any) -> dict[str, Any]:
    return {"use": "sidegate_plugins.trace:Trace", "settings": {"endpoint": kept.url, **settings}}


def body(stream: bool, dialect: str = "openai") -> dict[str, Any]:
    asked: dict[str, Any] = {"model": "demo", "stream": stream, "temperature": 0.5}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SECRET}]
    if dialect == "openai_responses":
        return asked | {"input": messages, "max_output_tokens": 20}
    if dialect == "anthropic":
        return asked | {"messages": messages[1:], "system": "Be brief.", "max_tokens": 20}
    return asked | {"messages": messages, "max_tokens": 20}


async def ask(running: Running, asked: dict[str, Any], path: str = PATHS["openai"], **headers: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(running.url + path, json=asked, headers=headers) as response,
    ):
        await response.read()
        return response.status


def to(url: str, *more: str, **rest: Any) -> dict[str, Any]:
    """A config whose model leads to these providers, one after the other."""
    urls = [url, *more]
    providers = {
        f"p{number}": {"dialect": "openai", "base_url": one, "api_key": "k", "circuit": None}
        for number, one in enumerate(urls)
    }
    targets = [{"provider": name, "model": f"m{number}"} for number, name in enumerate(providers)]
    return {"providers": providers, "models": {"demo": targets}, **rest}


def pipelines(*plugins: dict[str, Any]) -> dict[str, Any]:
    return {"pipelines": {"main": {"plugins": list(plugins)}}}


@asynccontextmanager
async def traced(stream: bool, **settings: Any) -> AsyncIterator[tuple[Running, Collector]]:
    async with collector() as kept, gateway(demo_config(tracing(kept, **settings), {"use": "log"})) as running:
        yield running, kept


@both
@pytest.mark.parametrize("dialect", PATHS)
async def test_a_call_is_a_span_in_its_clients_trace_with_one_for_each_attempt(dialect: str, stream: bool) -> None:
    async with traced(stream, service_name="gate", resource={"deployment.environment.name": "test"}) as (running, kept):
        assert await ask(running, body(stream, dialect), PATHS[dialect], traceparent=PARENT, tracestate="a=1") == 200
        (call,) = await kept.of_calls()
        (attempt,) = kept.attempts
        (line,) = running.log.events("call")
    assert (call.trace, call.parent, call.name, call.error) == (TRACE, "00f067aa0ba902b7", "chat demo", False)
    assert (attempt.trace, attempt.parent, attempt.name, attempt.error) == (TRACE, call.id, "chat demo", False)
    assert (call.state, line["trace_id"]) == ("a=1", TRACE)
    assert call.resource["service.name"] == "gate"
    assert call.resource["deployment.environment.name"] == "test"
    said = attempt.attributes
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.usage.input_tokens"] == line["input_tokens"] > 0
    assert said["gen_ai.usage.output_tokens"] == line["output_tokens"] > 0
    assert said["gen_ai.request.stream"] is stream
    assert said["gen_ai.response.finish_reasons"]
    assert 0 <= attempt.seconds <= call.seconds
    assert call.attributes["sidegate.call.id"] == line["call"]
    assert call.attributes["sidegate.ending"] == "complete"
    assert call.attributes["http.response.status_code"] == 200
    assert "error.type" not in call.attributes


@both
async def test_nothing_that_was_said_is_in_a_trace_unless_asked_for(stream: bool) -> None:
    async with traced(stream) as (running, kept):
        await ask(running, body(stream))
        await kept.of_calls()
    assert b"Rosalind" not in kept.bytes
    assert b"Be brief" not in kept.bytes
    assert b"temperature" not in kept.bytes


@both
async def test_what_was_said_is_told_in_the_words_of_the_conventions(stream: bool) -> None:
    async with traced(stream, record="messages") as (running, kept):
        await ask(running, body(stream))
        await kept.of_calls()
        (attempt,) = kept.attempts
    said = attempt.attributes
    asked = msgspec.json.decode(said["gen_ai.input.messages"])
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": SECRET}]}]
    assert msgspec.json.decode(said["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    (answer,) = msgspec.json.decode(said["gen_ai.output.messages"])
    assert answer["role"] == "assistant"
    assert answer["parts"][0]["content"]
    assert (said["gen_ai.request.max_tokens"], said["gen_ai.request.temperature"]) == (20, 0.5)


async def test_what_is_kept_of_messages_is_bounded() -> None:
    async with traced(False, record="messages", max_message_bytes=256) as (running, kept):
        asked = body(False)
        asked["messages"][1]["content"] = "x" * 10_000
        await ask(running, asked)
        await kept.of_calls()
        (attempt,) = kept.attempts
    assert len(attempt.attributes["gen_ai.input.messages"]) < 500
    assert len(attempt.attributes["gen_ai.output.messages"]) < 500


@both
async def test_a_provider_is_told_the_span_of_its_own_attempt(stream: bool) -> None:
    async def failing(exchange: Exchange) -> None:
        await exchange.reply(b'{"error":{"message":"no"}}', 500)

    good = answering("openai")
    async with collector() as kept, scripted(failing) as first, scripted(good) as second:
        config = to(first.url, second.url, **pipelines(tracing(kept)))
        async with gateway(config) as running:
            assert await ask(running, body(stream), traceparent=PARENT, tracestate="a=1,b=2", baggage="k=v") == 200
            (call,) = await kept.of_calls()
    assert [span.error for span in kept.attempts] == [True, True, False]
    assert [span.attributes["http.response.status_code"] for span in kept.attempts] == [500, 500, 200]
    assert kept.attempts[0].attributes["error.type"] == "provider_error"
    assert not call.error
    told = [exchange.headers for provider in (first, second) for exchange in provider.exchanges]
    for headers, span in zip(told, kept.attempts, strict=True):
        assert headers["traceparent"] == f"00-{TRACE}-{span.id}-01"
        assert headers["tracestate"] == "a=1,b=2"
        assert "baggage" not in headers


async def test_a_trace_that_its_client_does_not_keep_is_not_kept_here_and_handed_on_so() -> None:
    async with collector() as kept, scripted(answering("openai")) as provider:
        async with gateway(to(provider.url, **pipelines(tracing(kept)))) as running:
            await ask(running, body(False), traceparent=PARENT[:-1] + "0")
            await ask(running, body(False), traceparent=PARENT)
            await kept.of_calls()
        assert [span.served for span in kept.spans].count(True) == 1
    assert [exchange.headers["traceparent"][-2:] for exchange in provider.exchanges] == ["00", "01"]


async def test_nothing_is_handed_on_where_the_config_says_so() -> None:
    async with collector() as kept, scripted(answering("openai")) as provider:
        async with gateway(to(provider.url, **pipelines(tracing(kept, propagate=False)))) as running:
            await ask(running, body(False), traceparent=PARENT)
            await kept.of_calls()
        assert len(kept.attempts) == 1
        assert kept.attempts[0].id != kept.attempts[0].parent
    assert "traceparent" not in provider.exchanges[0].headers


async def test_a_share_of_the_traces_that_begin_here_is_kept() -> None:
    kept = [Contexts(0.25).begin(None).sampled for _ in range(2000)]
    assert 350 < sum(kept) < 650
    assert not any(Contexts(0).begin(None).sampled for _ in range(100))
    assert all(Contexts(1).begin(None).sampled for _ in range(100))


@both
async def test_a_client_that_leaves_in_mid_stream_is_told_as_such(stream: bool) -> None:
    slow = {"demo": {"dialect": "demo", "settings": {"tokens_per_second": 20, "first_token": 0}}}
    async with collector() as kept:
        config = demo_config(tracing(kept)) | {"providers": slow}
        async with gateway(config) as running, aiohttp.ClientSession() as session:
            asking = session.post(running.url + PATHS["openai"], json=body(stream) | {"max_tokens": 500})
            if stream:
                async with asking as response:
                    await response.content.readany()
            else:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await asking
            (call,) = await kept.of_calls()
            (attempt,) = kept.attempts
    assert call.attributes["sidegate.ending"] == attempt.attributes["sidegate.ending"] == "client_gone"
    assert attempt.attributes["error.type"] == "client_gone"


@both
async def test_a_refusal_is_told_with_the_plugin_and_is_no_error_of_the_server(stream: bool) -> None:
    limit = {"use": "rate_limit", "settings": {"limits": [{"name": "one", "requests": 1, "period": "hour"}]}}
    async with collector() as kept, gateway(demo_config(tracing(kept), limit)) as running:
        await ask(running, body(stream))
        assert await ask(running, body(stream)) == 429
        spans = await kept.of_calls(2)
        refused = spans[1].attributes
        assert (refused["sidegate.plugin"], refused["error.type"]) == ("rate_limit", "rate_limit_exceeded")
        assert (refused["sidegate.attempts"], spans[1].error, spans[1].name) == (0, False, "chat unknown")


@both
async def test_a_collector_that_is_away_costs_spans_and_no_call(stream: bool) -> None:
    away = {"use": "trace", "settings": {"endpoint": closed_port() + "/v1/traces"}}
    async with gateway(demo_config(away)) as running:
        assert [await ask(running, body(stream)) for _ in range(3)] == [200, 200, 200]
        async with asyncio.timeout(30):
            await running.gateway.stop()


async def test_its_key_goes_to_the_collector_and_nowhere_else() -> None:
    async with collector() as kept, scripted(answering("openai")) as provider:
        plugin = tracing(kept, headers={"x-key": "the-collectors-key"})
        async with gateway(to(provider.url, **pipelines(plugin, {"use": "log"}))) as running:
            await ask(running, body(False))
            await kept.of_calls()
            assert "the-collectors-key" not in running.log.data.decode()
        assert kept.headers[0]["x-key"] == "the-collectors-key"
    assert "x-key" not in provider.exchanges[0].headers


async def test_without_its_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sidegate_plugins._trace_spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ConfigError, match=r"pip install 'sidegate\[otel\]'"):
        async with gateway(demo_config({"use": "trace"})):
            pass


def test_nothing_of_it_is_imported_before_a_config_traces() -> None:
    code = "import sys, sidegate.gateway, sidegate_plugins.trace; print('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        PARENT[:-1],
        PARENT.upper(),
        PARENT + "-more",
        "ff" + PARENT[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        PARENT.replace("-", "_"),
        "x" * 600,
    ],
)
def test_a_traceparent_that_is_not_valid_begins_a_trace_anew(text: str) -> None:
    assert parent_of({"traceparent": text}) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert parent_of({"traceparent": "01" + PARENT[2:] + "-more"}) == parent_of({"traceparent": PARENT})


@pytest.mark.parametrize("state", ["a", "a=1,a=2", "A=1", "a=1,b", "=", ",".join(f"k{n}=1" for n in range(33))])
def test_a_tracestate_with_one_wrong_member_is_not_passed_on(state: str) -> None:
    found = parent_of({"traceparent": PARENT, "tracestate": state})
    assert found is not None
    assert "tracestate" not in found.headers


@given(some.integers(1, 2**128 - 1), some.integers(1, 2**64 - 1), some.booleans())
def test_what_is_written_is_read_again(trace: int, span: int, sampled: bool) -> None:
    context = Context(trace, span, sampled, "a=1")
    assert parent_of(context.headers) == context


@given(some.text(max_size=80))
def test_no_header_breaks_the_reader(text: str) -> None:
    parent_of({"traceparent": text, "tracestate": text})
    parent_of({"traceparent": PARENT, "tracestate": text})
