"""Through the gateway: what is dropped is named, what is refused is refused before anybody is asked."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from sidegate.contract import Call, Handler, Message, Plugin, Reply, TextContent
from sidegate.testing import Exchange, answering
from tests.across.ground import CLIENTS, PROVIDERS, Across, Answer, across
from tests.wire.asking import ASKS, asked
from tests.wire.saying import said

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])

STRICT = {
    "strict": {"targets": [{"provider": "anthropic.messages", "model": "real"}], "translation": "strict"},
    "several": {
        "targets": [
            {"provider": "anthropic.messages", "model": "real"},
            {"provider": "openai.chat", "model": "real"},
        ],
        "translation": "strict",
    },
    "refusing": [
        {"provider": "anthropic.messages", "model": "real"},
        {"provider": "gemini.generate", "model": "real"},
    ],
}


class Briefed(Plugin[None]):
    """Adds a word to what is asked."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        brief = Message("user", (TextContent("Be brief."),))
        call.request = replace(call.request, messages=(*call.request.messages, brief))
        return await handler(call)


async def fails(exchange: Exchange) -> None:
    await exchange.reply(b'{"error": {"message": "no"}}', 500)


def play_well(there: Across) -> None:
    there.plays = {name: answering(dialect) for name, dialect in PROVIDERS.items()}


def line_of(there: Across, answer: Answer) -> Any:
    lines = there.running.log.events("call")
    return next(line for line in lines if line["call"] == answer.headers["x-request-id"])


@both
async def test_what_is_dropped_is_named_in_the_header_and_the_log(stream: bool) -> None:
    async with across() as there:
        play_well(there)
        fields = asked("openai.chat", {"seed": 3}, frequency_penalty=0.5, **{"bad\r\nname: é": 1})
        answer = await there.ask("openai.chat", "anthropic.messages", fields, stream=stream)
        assert answer.status == 200
        assert answer.headers["x-sidegate-dropped"] == "bad__name___, frequency_penalty, seed"
        (attempt,) = line_of(there, answer)["attempts"]
        assert attempt["dropped"] == ["seed", "frequency_penalty", "bad\r\nname: é"]
        plain = await there.ask("openai.chat", "anthropic.messages", stream=stream)
        assert "x-sidegate-dropped" not in plain.headers
        assert "dropped" not in line_of(there, plain)["attempts"][0]


@both
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_refusal_names_the_field_in_the_clients_dialect_before_a_provider_is_asked(
    client: str, stream: bool
) -> None:
    async with across(translation="strict") as there:
        play_well(there)
        other = "openai.chat" if client != "openai.chat" else "anthropic.messages"
        feature = {"openai.chat": "seed", "openai.responses": None, "anthropic.messages": "top_k"}.get(client, "top_k")
        fields = asked(client, ASKS[client][feature]) if feature else asked(client, truncation="auto")
        field = {"top_k": "generationConfig.topK" if client == "gemini.generate" else "top_k"}.get(
            feature or "", feature
        )
        answer = await there.ask(client, other, fields, stream=stream)
        assert (answer.status, answer.param, there.count()) == (400, field or "truncation", 0)
        # In its own dialect nothing is translated, and nothing lost.
        assert (await there.ask(client, client, fields, stream=stream)).status == 200


async def test_a_model_may_be_strict_by_itself() -> None:
    async with across(models=STRICT) as there:
        play_well(there)
        fields = asked("openai.chat", seed=3)
        assert (await there.ask("openai.chat", "anthropic.messages", fields)).status == 200
        answer = await there.ask("openai.chat", "strict", fields)
        assert (answer.status, answer.error["param"], answer.error["code"]) == (400, "seed", "unsupported_field")
        assert len(there.providers["anthropic.messages"].exchanges) == 1
        assert (await there.ask("openai.chat", "strict")).status == 200


@both
async def test_a_target_that_cannot_say_it_is_passed_over(stream: bool) -> None:
    async with across(models=STRICT) as there:
        play_well(there)
        answer = await there.ask(
            "gemini.generate", "several", asked("gemini.generate", generationConfig={"seed": 3}), stream=stream
        )
        assert (answer.status, said(answer.parts).finish) == (200, "stop")
        assert there.sent("openai.chat")["seed"] == 3
        assert "x-sidegate-dropped" not in answer.headers
        first, second = line_of(there, answer)["attempts"]
        assert (first["ending"], first["error"], first["cost_nano_usd"]) == ("refused", "unsupported_field", 0)
        assert second["ending"] == "complete"
        assert not there.providers["anthropic.messages"].exchanges


async def test_where_no_target_can_say_it_the_client_hears_what_the_first_cannot() -> None:
    async with across(models=STRICT) as there:
        play_well(there)
        fields = asked("openai.responses", tools=[{"type": "web_search"}])
        answer = await there.ask("openai.responses", "refusing", fields)
        assert (answer.status, answer.error["param"], there.count()) == (400, "tools", 0)
        assert "Anthropic" in answer.error["message"]


async def test_where_the_target_that_can_say_it_fails_the_client_hears_of_that() -> None:
    async with across(models=STRICT) as there:
        play_well(there)
        there.plays["openai.chat"] = fails
        answer = await there.ask("gemini.generate", "several", asked("gemini.generate", generationConfig={"seed": 3}))
        assert answer.status == 502


@pytest.mark.parametrize(
    ("client", "turn", "lost"),
    [
        (
            "anthropic.messages",
            {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
            "messages.content.cache_control",
        ),
        (
            "openai.chat",
            {"role": "assistant", "content": "x", "reasoning_content": "Hm."},
            "messages.content.reasoning",
        ),
    ],
)
async def test_what_a_change_by_a_plugin_costs_is_named_too(client: str, turn: dict[str, Any], lost: str) -> None:
    """What differs is written anew from its meaning; nothing else is."""
    async with across(plugins=[{"use": f"{__name__}:Briefed"}], translation="strict") as there:
        play_well(there)
        answer = await there.ask(client, client, asked(client, {"messages": [turn]}, a_field=1))
        assert (answer.status, answer.headers["x-sidegate-dropped"]) == (200, lost)
        assert there.sent(client)["a_field"] == 1
        plain = await there.ask(client, client)
        assert "x-sidegate-dropped" not in plain.headers
