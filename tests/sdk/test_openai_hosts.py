"""OpenAI's own client before hosts with habits: embeddings in another encoding, tools counted otherwise."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from sidegate.testing import Exchange
from tests.sdk.conftest import OpenAIClient
from tests.sdk.ground import Ground
from tests.wire.recordings import cases

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
BATCH = 300


def vector(number: int) -> list[float]:
    return [number / 4, -0.5, 1.0]


def packed(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


@pytest.mark.parametrize("answers", ["float", "base64"])
@pytest.mark.parametrize("asked", ["float", "base64", None])
def test_vectors_come_in_the_encoding_that_was_asked_for(
    ground: Ground, openai_at: OpenAIClient, asked: Any, answers: str
) -> None:
    async def embeds(exchange: Exchange) -> None:
        numbers = [vector(number) for number in range(len(exchange.json["input"]))]
        written = [packed(one) if answers == "base64" else one for one in numbers]
        # Not in order, as a host may answer.
        data = [{"object": "embedding", "index": i, "embedding": one} for i, one in enumerate(written)][::-1]
        used = {"prompt_tokens": BATCH * 2, "total_tokens": BATCH * 2}
        await exchange.reply(json.dumps({"object": "list", "model": "real-1", "data": data, "usage": used}).encode())

    running, provider = ground.before(embeds)
    ai = openai_at(running)
    texts = [f"text {number}" for number in range(BATCH)]
    named: dict[str, Any] = {} if asked is None else {"encoding_format": asked}
    raw = ai.embeddings.with_raw_response.create(model="m", input=texts, dimensions=3, **named)
    # What the client asks for where its caller says nothing.
    sent = json.loads(raw.http_request.content)["encoding_format"] if asked is None else asked
    assert {type(item["embedding"]) for item in json.loads(raw.content)["data"]} == {str if sent == "base64" else list}
    reply = ai.embeddings.create(model="m", input=texts, dimensions=3)
    found = {item.index: list(item.embedding) for item in reply.data}
    assert found == {number: vector(number) for number in range(BATCH)}
    assert reply.usage.prompt_tokens == BATCH * 2
    assert provider.exchanges[0].json["dimensions"] == 3
    record = ground.record(running, raw.headers["x-request-id"])
    assert (record["input_tokens"], record["output_tokens"], record["ending"]) == (BATCH * 2, 0, "complete")


def test_vectors_that_are_as_asked_are_not_touched(ground: Ground, openai_at: OpenAIClient) -> None:
    body = b'{ "data" : [ {"embedding":"AAAAPw==" , "index":0} ],"usage":{"prompt_tokens":1,"total_tokens":1} }'

    async def embeds(exchange: Exchange) -> None:
        await exchange.reply(body)

    running, _ = ground.before(embeds)
    raw = openai_at(running).embeddings.with_raw_response.create(model="m", input="x", encoding_format="base64")
    assert raw.content == body


def test_vectors_that_cannot_be_read_are_a_failure_of_the_provider(ground: Ground, openai_at: OpenAIClient) -> None:
    async def embeds(exchange: Exchange) -> None:
        await exchange.reply(b'{"data":[{"embedding":["x"],"index":0}],"usage":{"prompt_tokens":5,"total_tokens":5}}')

    running, provider = ground.before(embeds)
    with pytest.raises(openai.InternalServerError, match="not a reply of its dialect") as caught:
        openai_at(running).embeddings.create(model="m", input="x", encoding_format="base64")
    # Paid for all the same, each time.
    record = ground.record(running, caught.value.request_id or "")
    assert [attempt["input_tokens"] for attempt in record["attempts"]] == [5] * len(provider.exchanges)


def test_a_helper_of_the_library_reads_tools_that_the_host_counts_from_1(
    ground: Ground, openai_at: OpenAIClient
) -> None:
    """Straight at this host it raises `IndexError`; who reads the events themselves gets them as the host sent them."""
    found = cases("openai-compatible/chat-stream-tools-01")
    if not found:
        pytest.skip("no recording openai-compatible/chat-stream-tools-01: they are not part of the repository")

    async def plays(exchange: Exchange) -> None:
        await exchange.stream(found[0].body)

    running, _ = ground.before(plays)
    ai = openai_at(running)
    with ai.chat.completions.stream(model="m", messages=HI) as stream:
        helped: Any = stream.get_final_completion()
    (call,) = helped.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("read_file", {"path": "a.txt"})
    chunks = list(ai.chat.completions.create(model="m", messages=HI, stream=True))
    assert {call.index for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []} == {1}
