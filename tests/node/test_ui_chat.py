"""The AI SDK's own chat, as a page runs it, of this major and the one before, before a provider of each dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidegate.testing import Exchange
from sidegate.testing.voices import VOICES, WORDS
from tests.node.process import Node
from tests.node.stage import DIALECTS, Stage
from tests.sdk.scripts import CALLS, TEXT, USED
from tests.sdk.speaking import SPEAKERS

pytestmark = pytest.mark.parametrize("major", [7, 6], ids=["ai-7", "ai-6"])
each_provider = pytest.mark.parametrize("model", DIALECTS)
SAID = [(id, name, json.loads(arguments)) for id, name, arguments in CALLS]


def told(message: Any) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


@each_provider
def test_a_chat_reads_text_calls_and_usage(node: Node, stage: Stage, major: int, model: str) -> None:
    heard = node("ui_chat", "chat", major=major, url=stage.url, body={"model": model})
    assert (heard["status"], heard["errors"]) == ("ready", [])
    assert heard["finishes"] == [{"isAbort": False, "isError": False, "finishReason": "tool-calls"}]
    (_, message) = heard["messages"]
    assert told(message) == TEXT
    assert [tuple(call) for call in heard["called"]] == SAID
    parts = [part for part in message["parts"] if part["type"].startswith("tool-")]
    assert [(part["toolCallId"], part["state"], part["input"]) for part in parts] == [
        (id, "input-available", given) for id, _, given in SAID
    ]
    usage = message["metadata"]["usage"]
    assert (usage["inputTokens"], usage["outputTokens"]) == USED


@each_provider
def test_what_the_pages_tools_answer_is_sent_and_goes_on(node: Node, stage: Stage, major: int, model: str) -> None:
    async def script(exchange: Exchange) -> None:
        if len(stage.providers[model].exchanges) == 1:
            await SPEAKERS[model](exchange)
        else:
            await exchange.reply(b'{"error": {"message": "Enough.", "type": "invalid_request_error"}}', 400)

    stage.plays(model, script)
    answers = {name: {"from": name} for _, name, _ in SAID}
    heard = node("ui_chat", "chat", major=major, url=stage.url, body={"model": model}, answers=answers)
    assert heard["status"] == "error", "the second answer was a refusal"
    assert heard["error"] == "Enough."
    assert len(heard["messages"]) == 2, "it went on with the message that called"
    again = stage.providers[model].exchanges[1].body.decode()
    assert all(name in again for name in answers)
    assert all("from" in again for _ in answers)


@each_provider
def test_a_chat_that_stops_frees_the_provider(node: Node, stage: Stage, major: int, model: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        for event in VOICES[model].begins(*WORDS[:2]):
            await exchange.chunk(event)
        await exchange.closed.wait()

    stage.plays(model, script)
    heard = node("ui_chat", "chat", major=major, url=stage.url, body={"model": model}, leave=True)
    assert (heard["status"], heard["errors"]) == ("ready", [])
    assert heard["finishes"][0]["isAbort"]
    stage.ground.left(stage.asked(model))


@each_provider
def test_a_chat_whose_provider_breaks_is_told(node: Node, stage: Stage, major: int, model: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        for event in VOICES[model].begins(*WORDS):
            await exchange.chunk(event)
        exchange.reset()

    stage.plays(model, script)
    heard = node("ui_chat", "chat", major=major, url=stage.url, body={"model": model})
    assert heard["status"] == "error"
    assert "provider" in heard["error"].lower()
    assert heard["finishes"][0]["isError"]
    assert told(heard["messages"][1]).startswith(WORDS[0]), "the words so far are kept"


def test_a_refusal_is_the_message_that_a_page_shows(node: Node, stage: Stage, major: int) -> None:
    heard = node("ui_chat", "chat", major=major, url=stage.url, body={"model": "none"})
    assert (heard["status"], heard["error"]) == ("error", "The model `none` does not exist.")
    assert heard["errors"][0].get("status") == (404 if major == 7 else None), "the older one has only the words"


def test_an_answer_that_is_made_anew_takes_the_place_of_the_last(node: Node, stage: Stage, major: int) -> None:
    heard = node("ui_chat", "chat", major=major, url=stage.url, body={"model": "anthropic"}, regenerate=True)
    assert [message["role"] for message in heard["messages"]] == ["user", "assistant"]
    assert told(heard["messages"][1]) == TEXT


def test_a_page_that_was_loaded_anew_finds_nothing_running(node: Node, stage: Stage, major: int) -> None:
    heard = node("ui_chat", "chat", major=major, url=stage.url, resume=True)
    assert (heard["status"], heard["errors"], heard["messages"]) == ("ready", [], [])


def test_plain_text_is_read(node: Node, stage: Stage, major: int) -> None:
    body = {"model": "gemini", "streamProtocol": "text"}
    heard = node("ui_chat", "chat", major=major, url=stage.url, body=body, text=True)
    assert (heard["status"], told(heard["messages"][1])) == ("ready", TEXT)


@pytest.mark.parametrize("protocol", ["data", "text"])
@each_provider
def test_a_completion_is_read(node: Node, stage: Stage, major: int, model: str, protocol: str) -> None:
    body = {"model": model, "streamProtocol": protocol}
    heard = node("ui_chat", "completion", major=major, url=stage.url, prompt="Hi", body=body, streamProtocol=protocol)
    assert heard == {"text": TEXT, "given": TEXT}
