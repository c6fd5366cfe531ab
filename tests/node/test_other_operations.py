"""Embeddings, counts of tokens, lists of models and retries, by the vendors' clients for Node."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest

from sidegate.testing import Exchange
from tests.node.process import Node
from tests.node.stage import DIALECTS, Stage
from tests.sdk.scripts import TEXT

VECTORS = [[0.5, -0.25, 1.0], [0.0, 2.0, -3.5]]
"""What a float of 32 bits holds exactly."""


async def embeds_like_openai(exchange: Exchange) -> None:
    """In base64 where that is asked, as OpenAI does."""
    coded = exchange.json.get("encoding_format") == "base64"
    vectors = [base64.b64encode(struct.pack("<3f", *each)).decode() if coded else each for each in VECTORS]
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    await exchange.reply(msgspec.json.encode({"object": "list", "data": data, "model": "real-1", "usage": usage}))


async def embeds_in_floats(exchange: Exchange) -> None:
    """Whatever is asked, as many a host does."""
    exchange.body = msgspec.json.encode({**exchange.json, "encoding_format": "float"})
    await embeds_like_openai(exchange)


async def embeds_like_gemini(exchange: Exchange) -> None:
    assert exchange.path.endswith(":batchEmbedContents")
    await exchange.reply(msgspec.json.encode({"embeddings": [{"values": each} for each in VECTORS]}))


PROVIDERS = {
    "openai": ("openai", embeds_like_openai),
    "floats": ("openai", embeds_in_floats),
    "gemini": ("gemini", embeds_like_gemini),
}
EMBEDDING_CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("openai", {}),
    "openai-6": ("openai", {"major": 6}),  # it makes an empty vector of a list of numbers
    "openai-floats": ("openai", {"more": {"encoding_format": "float"}}),
    "google": ("google", {}),
    "ai-openai": ("ai", {}),
    "ai-google": ("ai", {"vendor": "google"}),
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("client", EMBEDDING_CLIENTS)
def test_the_same_vectors_reach_any_client(node: Node, stage: Stage, client: str, provider: str) -> None:
    dialect, script = PROVIDERS[provider]
    module, more = EMBEDDING_CLIENTS[client]
    stage.plays(dialect, script)
    heard = node(module, "embeddings", url=stage.url, model=dialect, input=["one", "two"], **more)
    assert heard["vectors"] == VECTORS


def test_openais_client_asks_for_base64_and_gets_it(node: Node, stage: Stage) -> None:
    stage.plays("openai", embeds_like_openai)
    node("openai", "embeddings", url=stage.url, model="openai", input=["one", "two"])
    assert stage.asked("openai").json["encoding_format"] == "base64"


def test_each_vendors_client_lists_the_models_in_its_own_shape(node: Node, stage: Stage) -> None:
    names = sorted(DIALECTS)
    assert sorted(node("openai", "models", url=stage.url)) == names
    assert sorted(node("anthropic", "models", url=stage.url)) == [["model", name] for name in names]
    assert sorted(node("google", "models", url=stage.url)) == [f"models/{name}" for name in names]


@pytest.mark.parametrize(
    ("client", "dialect", "reply"),
    [("anthropic", "anthropic", {"input_tokens": 9}), ("google", "gemini", {"totalTokens": 9})],
    ids=["anthropic", "google"],
)
def test_tokens_are_counted_by_the_provider(
    node: Node, stage: Stage, client: str, dialect: str, reply: dict[str, int]
) -> None:
    async def counts(exchange: Exchange) -> None:
        await exchange.reply(msgspec.json.encode(reply))

    stage.plays(dialect, counts)
    assert node(client, "tokens", url=stage.url, model=dialect) == 9


CHATS = {"openai": ("openai", "chat"), "anthropic": ("anthropic", "messages")}


@pytest.mark.parametrize("client", CHATS)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
def test_a_client_does_not_repeat_what_the_gateway_says_is_of_no_use(
    node: Node, stage: Stage, client: str, stream: bool
) -> None:
    """A client tries twice again on a 503, unless it is told not to."""

    async def busy(exchange: Exchange) -> None:
        await exchange.reply(b'{"error":{"message":"busy"}}', 503, Retry_After_Ms="1", X_Should_Retry="false")

    stage.plays(client, busy)
    module, name = CHATS[client]
    heard = node(module, name, url=stage.url, model=client, stream=stream, maxRetries=2)
    assert heard["error"]["status"] == 503
    assert len(stage.providers[client].exchanges) == 1


@pytest.mark.parametrize("client", [*CHATS, "ai"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
def test_a_client_comes_back_when_it_is_told(node: Node, stage: Stage, client: str, stream: bool) -> None:
    """What waits for the milliseconds of `retry-after-ms` waits no second."""
    dialect = "openai" if client == "ai" else client
    good = stage.providers[dialect].script

    async def limited(exchange: Exchange) -> None:
        if len(stage.providers[dialect].exchanges) > 1:
            await good(exchange)
        else:
            await exchange.reply(b'{"error":{"message":"slow"}}', 429, Retry_After_Ms="1")

    stage.plays(dialect, limited)
    module, name = CHATS.get(client, ("ai", "said"))
    more: dict[str, Any] = {"vendor": "chat"} if client == "ai" else {}
    heard = node(module, name, url=stage.url, model=dialect, stream=stream, maxRetries=2, tools=True, **more)
    assert "error" not in heard, heard["error"]
    assert len(stage.providers[dialect].exchanges) == 2


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_reader_of_plain_events_takes_the_stream_for_what_it_is(node: Node, stage: Stage, dialect: str) -> None:
    """It insists on the content type, and would come back for more after a clean end, so it closes at the mark."""
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[dialect]
    body = {"model": dialect, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    named = ["message_start", "content_block_delta", "ping", "message_stop"] if dialect == "anthropic" else []
    last = "message_stop" if dialect == "anthropic" else "[DONE]"
    events = node("events", "read", url=stage.url + path, body=body, names=named, last=last)
    if dialect == "anthropic":
        assert {kind for kind, _ in events} >= {"message_start", "content_block_delta", "message_stop"}
        texts = [json.loads(data)["delta"].get("text", "") for kind, data in events if kind == "content_block_delta"]
    else:
        chunks = [json.loads(data) for _, data in events[:-1]]
        texts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]]
    assert "".join(texts) == TEXT
    assert len(stage.providers[dialect].exchanges) == 1
