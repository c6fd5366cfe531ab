"""The playground's entry: what comes there is a client's call, with nothing skipped and nothing of the page's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from yarl import URL

from sidegate.testing import Exchange, demo_config, gateway, scripted
from tests.console.ground import KEY, config
from tests.sdk.speaking import SPEAKERS

ADMIN = {"Authorization": f"Bearer {KEY}"}
MESSAGES = [{"role": "user", "content": "Où est le café?"}]
ECHO = "demo-echo"
CALLS: Mapping[str, tuple[dict[str, str], dict[str, Any]]] = {
    "/v1/chat/completions": ({"x-sidegate-client-authorization": "Bearer ann"}, {"model": ECHO, "messages": MESSAGES}),
    "/v1/responses": ({"x-sidegate-client-authorization": "Bearer ann"}, {"model": ECHO, "input": "Où est le café?"}),
    "/v1/messages": ({"x-api-key": "ann"}, {"model": ECHO, "max_tokens": 50, "messages": MESSAGES}),
    f"/v1beta/models/{ECHO}:generateContent": (
        {"x-goog-api-key": "ann"},
        {"contents": [{"role": "user", "parts": [{"text": "Où est le café?"}]}]},
    ),
    f"/v1beta/models/{ECHO}:streamGenerateContent?alt=sse": (
        {"x-goog-api-key": "ann"},
        {"contents": [{"role": "user", "parts": [{"text": "Où est le café?"}]}]},
    ),
}


async def test_every_dialect_is_answered_and_recorded_as_its_callers_call(http: aiohttp.ClientSession) -> None:
    async with gateway(config()) as running:
        for path, (headers, body) in CALLS.items():
            url = f"{running.admin_url}/admin/playground{path}"
            async with http.post(url, json=body, headers={**ADMIN, **headers}) as reply:
                said = await reply.text()
                assert reply.status == 200, said
                for word in ("Où", "café"):
                    assert word in said
                id = reply.headers["x-request-id"]
            await running.service.ledger.flush()
            row, attempts = await running.service.calls.find_any(id)  # type: ignore[misc]
            assert (row.caller, row.ending, len(attempts)) == ("ann", "complete", 1)
            assert row.cost_nano_usd


async def test_the_admins_key_is_not_the_calls(http: aiohttp.ClientSession) -> None:
    async with gateway(config()) as running:
        url = f"{running.admin_url}/admin/playground/v1/chat/completions"
        for headers in (ADMIN, {**ADMIN, "x-sidegate-client-authorization": f"Bearer {KEY}"}):
            async with http.post(url, json={"model": "demo", "messages": MESSAGES}, headers=headers) as reply:
                assert reply.status == 401
                assert (await reply.json())["error"]["code"] in ("missing_api_key", "invalid_api_key")


async def test_two_credentials_of_the_call_are_refused_as_ever(http: aiohttp.ClientSession) -> None:
    async with gateway(config()) as running:
        url = f"{running.admin_url}/admin/playground/v1/chat/completions"
        headers = [*ADMIN.items(), *[("x-sidegate-client-authorization", f"Bearer {name}") for name in ("ann", "bob")]]
        told = []
        plain = [("Authorization", value) for name, value in headers if name != "Authorization"]
        for asked, given in ((url, headers), (f"{running.url}/v1/chat/completions", plain)):
            async with http.post(asked, json={"model": "demo", "messages": MESSAGES}, headers=given) as reply:
                told.append((reply.status, (await reply.json())["error"]["code"]))
        assert told[0] == told[1]
        assert told[0][0] == 401


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "missing_admin_key"),
        ({"Authorization": "Bearer ann"}, 401, "invalid_admin_key"),
        ({**ADMIN, "Origin": "https://evil.example"}, 403, "cross_site"),
        ({**ADMIN, "Sec-Fetch-Site": "same-site"}, 403, "cross_site"),
    ],
)
async def test_who_may_not_administer_may_not_play(
    http: aiohttp.ClientSession, headers: dict[str, str], status: int, code: str
) -> None:
    async with gateway(config()) as running:
        url = f"{running.admin_url}/admin/playground/v1/chat/completions"
        body = {"model": "demo", "messages": MESSAGES}
        async with http.post(url, json=body, headers={"x-api-key": "ann", **headers}) as reply:
            assert (reply.status, (await reply.json())["code"]) == (status, code)


async def test_what_is_wrong_is_said_in_the_words_of_the_dialect(http: aiohttp.ClientSession) -> None:
    async with gateway(config()) as running:
        base = f"{running.admin_url}/admin/playground"
        headers = {**ADMIN, "x-api-key": "ann"}
        async with http.post(
            base + "/v1/messages", data=b"{", headers={**headers, "Content-Type": "application/json"}
        ) as reply:
            assert (reply.status, (await reply.json())["type"]) == (400, "error")
        async with http.post(base + "/v1/nothing", json={}, headers=headers) as reply:
            assert reply.status == 404
        for path in ("//evil.example/v1/messages", "/../usage", "/%2e%2e/keys"):
            url = URL(base + path, encoded=True)
            async with http.post(
                url, json={"model": "demo", "max_tokens": 5, "messages": MESSAGES}, headers=headers
            ) as reply:
                assert reply.status == 404, path
        async with http.get(base + "/v1/models", headers=headers) as reply:
            assert reply.status == 405


async def test_nothing_of_the_page_reaches_a_provider_and_a_page_that_leaves_stops_the_call(
    http: aiohttp.ClientSession,
) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n')
        await exchange.closed.wait()

    async with scripted(endless) as provider:
        made = demo_config(admin={"port": 0, "key": KEY})
        made["providers"] = {"real": {"dialect": "openai", "base_url": provider.url + "/v1", "api_key": "sk-up"}}
        made["models"] = {"m": {"provider": "real"}}
        async with gateway(made) as running:
            host = running.admin_url.partition("//")[2]
            headers = {**ADMIN, "Origin": f"http://{host}", "Cookie": "a=b", "Referer": f"http://{host}/console/"}
            body = {"model": "m", "stream": True, "messages": MESSAGES}
            url = f"{running.admin_url}/admin/playground/v1/chat/completions"
            async with http.post(url, json=body, headers=headers) as reply:
                await reply.content.readline()
            await asyncio.wait_for(provider.exchanges[0].closed.wait(), 5)
            sent = str(provider.exchanges[0].headers).lower()
            for word in (KEY, "origin", "cookie", "referer", "sec-fetch"):
                assert word not in sent


async def test_what_a_provider_says_passes_unchanged(http: aiohttp.ClientSession) -> None:
    """As on the clients' listener: the same bytes."""
    async with scripted(SPEAKERS["openai"]) as provider:
        made = demo_config(admin={"port": 0, "key": KEY})
        made["providers"] = {"real": {"dialect": "openai", "base_url": provider.url + "/v1", "api_key": "sk-up"}}
        made["models"] = {"m": {"provider": "real"}}
        async with gateway(made) as running:
            body = {"model": "m", "stream": True, "messages": MESSAGES}
            said = []
            for base, headers in ((running.url, {}), (running.admin_url + "/admin/playground", ADMIN)):
                async with http.post(base + "/v1/chat/completions", json=body, headers=headers) as reply:
                    said.append([line for line in (await reply.text()).splitlines() if line.startswith("data:")])
            assert said[0] == said[1]
            assert len(said[0]) > 3
