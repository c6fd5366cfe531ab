"""Tools that clients run: what they give goes back with what was called, to any provider, and the answer comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidegate.testing import Exchange
from sidegate.testing.spoken import streams
from sidegate.testing.voices import TEXT, USED, VOICES, WORDS
from tests.node.process import Node, NodeError
from tests.node.stage import DIALECTS, Stage
from tests.sdk.scripts import CALLS
from tests.sdk.scripts import TEXT as FIRST
from tests.sdk.speaking import SIGNATURE, SPEAKERS

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("openai", {}),
    "anthropic": ("anthropic", {}),
    "google": ("google", {}),
    "ai-chat": ("ai", {"vendor": "chat"}),
    "ai-responses": ("ai", {"vendor": "responses"}),
    "ai-compatible": ("ai", {"vendor": "compatible"}),
    "ai-anthropic": ("ai", {"vendor": "anthropic"}),
    "ai-google": ("ai", {"vendor": "google"}),
}
"""Module, and what it is given."""


@both
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_what_tools_give_goes_back_and_the_answer_comes(
    node: Node, stage: Stage, client: str, dialect: str, stream: bool
) -> None:
    voice, provider = VOICES[dialect], stage.providers[dialect]

    async def plays(exchange: Exchange) -> None:
        if len(provider.exchanges) == 1:
            await SPEAKERS[dialect](exchange)
        elif streams(exchange):
            await exchange.stream(*voice.begins(*WORDS), *voice.ends(voice.usage(USED)))
        else:
            await exchange.reply(voice.whole(TEXT, voice.usage(USED)))

    stage.plays(dialect, plays)
    told = answered(node, stage, client, dialect, stream, whole=dialect != "openai_responses")
    assert told["steps"] == [FIRST, TEXT]
    again = provider.exchanges[-1]
    sent = json.dumps(again.json, ensure_ascii=False)
    for call_id, name, _ in CALLS:
        assert f"the {name} of Zürich" in sent
        if not client == dialect == "anthropic":
            assert sent.count(f'"{call_id}"') == 2, "the call and its result are one"
            assert sent.count(f'"{name}"') >= 2, "it is declared, and was called"
    if client == dialect == "anthropic":
        assert again.json["thread"]["type"] == "continue", "who holds the conversation is sent what is new"
    elif (client, dialect) == ("ai-responses", "openai_responses"):
        assert {"type": "item_reference", "id": "msg_1"} in again.json["input"], "who keeps it is referred to it"
    elif (client, stream) != ("google", True):  # It keeps nothing but the first piece of a text.
        assert FIRST in sent
    if client.endswith("google") and dialect == "gemini":
        assert SIGNATURE in sent, "Gemini wants back what it signed"


def answered(node: Node, stage: Stage, client: str, dialect: str, stream: bool, **given: Any) -> Any:
    module, more = CLIENTS[client]
    return node(
        module,
        "answered",
        url=stage.url,
        model=dialect,
        stream=stream,
        tools=True,
        question="Zürich",
        **more,
        **given,
    )


def test_what_no_other_provider_keeps_is_refused_with_the_way_out(node: Node, stage: Stage) -> None:
    with pytest.raises(NodeError, match="With `store: false`, clients give back what was said itself"):
        answered(node, stage, "ai-responses", "anthropic", stream=False)
    assert len(stage.providers["anthropic"].exchanges) == 1
