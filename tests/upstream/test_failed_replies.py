"""A reply that says it has failed, and what it used: that is billed as reported, streamed or not."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.testing import Exchange, demo_config, gateway, scripted

COST = {"use": "cost", "settings": {"prices": {"m": {"input": 1, "output": 2}}}}
RESPONSE = {
    "id": "r",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "status": "failed",
    "error": {"code": "server_error", "message": "It broke."},
    "output": [],
    "usage": {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500},
}
COMPLETION = {
    "error": {"code": "server_error", "message": "It broke."},
    "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
@pytest.mark.parametrize("dialect", ["openai", "openai_responses"])
async def test_what_a_failed_reply_has_used_is_billed(dialect: str, stream: bool) -> None:
    async def fails(exchange: Exchange) -> None:
        said: dict[str, Any] = COMPLETION if dialect == "openai" else RESPONSE
        if not stream:
            await exchange.reply(msgspec.json.encode(said))
            return
        await exchange.head(Transfer_Encoding="chunked")
        if dialect == "openai":
            await exchange.chunk(b"data: " + msgspec.json.encode(said) + b"\n\n")
        else:
            event = {"type": "response.failed", "sequence_number": 0, "response": said}
            await exchange.chunk(b"event: response.failed\ndata: " + msgspec.json.encode(event) + b"\n\n")
        await exchange.chunk(b"")

    config = demo_config({"use": "log"}, COST)
    async with scripted(fails) as provider:
        config["providers"]["real"] = {
            "dialect": dialect,
            "base_url": f"{provider.url}/v1",
            "api_key": "k",
            "retry": {"attempts": 1},
        }
        config["models"]["m"] = {"provider": "real"}
        async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
            asked = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "Hello."}]}
            async with client.post("/v1/chat/completions", json=asked) as reply:
                assert b"provider_error" in await reply.read()
            await running.service.ledger.flush()
            [line] = running.log.events("call")
            kept = await running.service.ledger.call(line["call"])
    assert kept is not None
    row = kept[0]
    assert (row.ending, row.input_tokens, row.output_tokens) == ("provider_error", 1000, 500)
    assert (row.cost_nano_usd, row.estimated) == (1000 * 1000 + 500 * 2000, False)
