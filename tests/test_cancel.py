"""Calls in flight: who may see and stop them, and what their reader is told."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

import aiohttp
import pytest

from sidegate.testing import Exchange, gateway, scripted
from tests.relaying import ROLE, chat, delta, leads_to, messages

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
paths = pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])


def with_keys(url: str) -> Any:
    keys = [{"name": name, "digest": sha256(name.encode()).hexdigest()} for name in ("ann", "bob")]
    return leads_to(url, plugins=({"use": "api_key", "settings": {"keys": keys}},))


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def starts(exchange: Exchange) -> None:
    """Says something and falls silent; a buffered one is silent from the start."""
    if exchange.json.get("stream"):
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="x"))
    await exchange.closed.wait()


@both
@paths
async def test_the_owner_cancels_by_id_and_the_reader_is_told(
    http: aiohttp.ClientSession, stream: bool, path: str
) -> None:
    async with scripted(starts) as provider, gateway(with_keys(provider.url)) as running:
        asking = asyncio.create_task(http.post(running.url + path, json=messages(stream), headers=key("ann")))
        call = await in_flight(http, running.url)
        async with http.delete(f"{running.url}/v1/calls/{call['id']}", headers=key("ann")) as reply:
            assert (reply.status, (await reply.json())["ending"]) == (200, "cancelled")
        async with asyncio.timeout(20):
            await provider.exchanges[0].closed.wait()
        async with await asking as reply:
            text = await reply.text()
            assert reply.headers["x-request-id"] == call["id"]
        async with http.get(f"{running.url}/v1/calls/{call['id']}", headers=key("ann")) as reply:
            record = await reply.json()
    assert "cancelled" in text
    assert "[DONE]" not in text
    assert "message_stop" not in text
    assert reply.status == 200
    assert (record["ending"], record["error"]) == ("cancelled", "cancelled")


async def in_flight(http: aiohttp.ClientSession, url: str) -> Any:
    while True:
        async with http.get(url + "/v1/calls", headers=key("ann")) as reply:
            calls = (await reply.json())["data"]
        if calls and calls[0]["provider"]:
            return calls[0]


async def test_nobody_else_sees_or_stops_a_call(http: aiohttp.ClientSession) -> None:
    async with scripted(starts) as provider, gateway(with_keys(provider.url)) as running:
        asking = asyncio.create_task(
            http.post(running.url + "/v1/chat/completions", json=chat(True), headers=key("ann"))
        )
        call = await in_flight(http, running.url)
        async with http.get(running.url + "/v1/calls", headers=key("bob")) as reply:
            assert (await reply.json())["data"] == []
        for method in ("GET", "DELETE"):
            url = f"{running.url}/v1/calls/{call['id']}"
            async with http.request(method, url, headers=key("bob")) as reply:
                assert reply.status == 404
                assert reply.content_type == "application/problem+json"
            async with http.request(method, url) as reply:
                assert reply.status == 401
        assert len(running.service.live) == 1
        (await asking).close()


async def test_a_refusal_names_the_plugin_that_refused(http: aiohttp.ClientSession) -> None:
    config = with_keys("http://127.0.0.1:1")
    async with gateway(config) as running:
        async with http.post(running.url + "/v1/chat/completions", json=chat()) as reply:
            assert reply.status == 401
            call_id = reply.headers["x-request-id"]
        record = await running.service.ledger.call(call_id)
    assert record is not None
    assert (record[0].ending, record[0].plugin) == ("refused", "api_key")
