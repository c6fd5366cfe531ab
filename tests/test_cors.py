"""CORS: pages of origins on the list may call and read, streams, errors and headers too; others may not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from playwright.async_api import Browser, Page

from sidegate.cors import Cors, Origins
from sidegate.testing import Running, demo_config, gateway
from tests.endings.conftest import browser

__all__ = ["browser"]

PAGE = "https://app.example.com"
KEY = {"use": "api_key", "settings": {"keys": [{"name": "app", "digest": "sha256:" + "0" * 64}]}}
LIMIT = {"use": "rate_limit", "settings": {"limits": [{"name": "n", "requests": 1000, "period": "hour"}]}}
CHAT = "/v1/chat/completions"
ASKS = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


@asynccontextmanager
async def allowing(*origins: str, plugins: tuple[Any, ...] = (LIMIT,), **more: Any) -> AsyncIterator[Running]:
    listen = {"port": 0, "cors": {"origins": origins, **more}}
    async with gateway(demo_config(*plugins, listen=listen)) as running:
        yield running


def preflight(origin: str, headers: str = "authorization,content-type", **more: str) -> dict[str, str]:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}
    return {**asked, **more}


# --- which origins ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "origin", "allowed"),
    [
        ("https://app.example.com", "https://app.example.com", True),
        ("https://app.example.com", "http://app.example.com", False),
        ("https://app.example.com", "https://app.example.com:8443", False),
        ("https://app.example.com", "https://app.example.com.evil.example", False),
        ("https://app.example.com", "https://appXexample.com", False),
        ("http://localhost:3000", "http://localhost:3000", True),
        ("http://localhost:3000", "http://localhost:3001", False),
        ("http://[::1]:3000", "http://[::1]:3000", True),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh", True),
        ("https://*.example.com", "https://app.example.com", True),
        ("https://*.example.com", "https://a-1.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://a.b.example.com", False),
        ("https://*.example.com", "https://.example.com", False),
        ("https://*.example.com", "https://evil.example/.example.com", False),
        ("https://*.example.com", "https://evil.example#.example.com", False),
        ("https://*.example.com", "https://app.example.com\n", False),
        ("https://*.example.com", "null", False),
        ("*", "null", True),
        ("*", "https://anybody.example", True),
    ],
)
def test_an_origin_is_compared_whole(listed: str, origin: str, allowed: bool) -> None:
    assert Origins((listed,)).allow(origin) is allowed


@pytest.mark.parametrize(
    "settings",
    [
        {"origins": []},
        {"origins": ["*", "https://app.example.com"]},
        {"origins": ["*"], "credentials": True},
        {"origins": ["null"]},
        {"origins": ["app.example.com"]},
        {"origins": ["https://app.example.com/"]},
        {"origins": ["https://App.example.com"]},
        {"origins": ["https://app.example.com:443"]},
        {"origins": ["http://app.example.com:80"]},
        {"origins": ["https://*"]},
        {"origins": ["https://*.com"]},
        {"origins": ["https://*.*.example.com"]},
        {"origins": ["https://app.*.com"]},
        {"origins": ["https://a.example", ".*"]},
        {"origins": ["https://a.example"], "headers": ["x y"]},
        {"origins": ["https://a.example"], "expose": ["x\r\ny: z"]},
        {"origins": ["https://a.example"], "max_age": -1},
    ],
)
def test_a_list_that_no_browser_could_match_or_that_allows_too_much_is_a_mistake(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, Cors)


# --- the words --------------------------------------------------------------------------------------------------------


async def test_a_preflight_is_answered_without_a_key_and_without_a_call(http: aiohttp.ClientSession) -> None:
    log = {"use": "log", "settings": {}}
    wanted = "Authorization, content-type,x-stainless-lang , anthropic-version,x-goog-api-key,x-mine,x-evil,,"
    async with allowing(PAGE, plugins=(log, KEY), headers=["X-Mine"], max_age=60) as running:
        async with http.options(running.url + CHAT, headers=preflight(PAGE, wanted)) as reply:
            headers = reply.headers
            assert (reply.status, await reply.read()) == (204, b"")
        assert running.log.events("call") == []
    assert headers["Access-Control-Allow-Origin"] == PAGE
    assert headers["Access-Control-Allow-Methods"] == "GET, POST, DELETE"
    allowed = "authorization, content-type, x-stainless-lang, anthropic-version, x-goog-api-key, x-mine"
    assert headers["Access-Control-Allow-Headers"] == allowed
    assert headers["Access-Control-Max-Age"] == "60"
    assert headers["Vary"] == "Access-Control-Request-Headers, Origin"
    assert "Access-Control-Allow-Credentials" not in headers
    assert "Access-Control-Allow-Private-Network" not in headers


async def test_a_named_origin_may_reach_into_the_private_network(http: aiohttp.ClientSession) -> None:
    asked = preflight(PAGE, Access_Control_Request_Private_Network="true")
    asked["Access-Control-Request-Private-Network"] = "true"
    async with allowing(PAGE) as named, allowing("*") as everybody:
        async with http.options(named.url + CHAT, headers=asked) as reply:
            assert reply.headers["Access-Control-Allow-Private-Network"] == "true"
        async with http.options(everybody.url + CHAT, headers=asked) as reply:
            assert reply.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Private-Network" not in reply.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
async def test_others_get_no_word(http: aiohttp.ClientSession, origin: str) -> None:
    async with allowing(PAGE) as running:
        async with http.options(running.url + CHAT, headers=preflight(origin)) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (405, "method_not_allowed")
            refused = reply.headers
        # A client that is no browser may say what it likes there: it is let in by its key.
        async with http.post(running.url + CHAT, json=ASKS, headers={"Origin": origin}) as reply:
            assert reply.status == 200
            answered = reply.headers
    for headers in (refused, answered):
        assert [name for name in headers if name.lower().startswith("access-control")] == []
        assert headers["Vary"] == "Origin"


async def test_two_origins_are_none(http: aiohttp.ClientSession) -> None:
    async with allowing(PAGE) as running:
        async with http.get(running.url + "/v1/models", headers=[("Origin", PAGE), ("Origin", PAGE)]) as reply:
            assert "Access-Control-Allow-Origin" not in reply.headers


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reply_says_who_may_read_it_and_what_of_it(http: aiohttp.ClientSession, stream: bool) -> None:
    async with allowing(PAGE, credentials=True, expose=["Date"]) as running:
        asked = {**ASKS, "stream": stream}
        async with http.post(running.url + CHAT, json=asked, headers={"Origin": PAGE}) as reply:
            assert reply.status == 200
            headers = reply.headers
    assert headers["Access-Control-Allow-Origin"] == PAGE
    assert headers["Access-Control-Allow-Credentials"] == "true"
    exposed = headers["Access-Control-Expose-Headers"].split(", ")
    assert {"x-request-id", "x-ratelimit-remaining-requests", "ratelimit"} <= set(exposed)
    assert "server" not in exposed
    assert headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("path", "status"), [(CHAT, 401), ("/v1/messages", 401), ("/v1beta/models/demo:generateContent", 401), ("/no", 404)]
)
async def test_an_error_may_be_read_too(http: aiohttp.ClientSession, path: str, status: int) -> None:
    async with allowing(PAGE, plugins=(KEY,)) as running:
        async with http.post(running.url + path, json=ASKS, headers={"Origin": PAGE}) as reply:
            assert reply.status == status
            assert reply.headers["Access-Control-Allow-Origin"] == PAGE
            assert "x-request-id" in reply.headers["Access-Control-Expose-Headers"]


async def test_without_a_list_there_is_no_word_of_it(http: aiohttp.ClientSession) -> None:
    async with gateway(demo_config()) as running:
        async with http.get(running.url + "/v1/models", headers={"Origin": PAGE}) as reply:
            assert "Vary" not in reply.headers
        app = running.gateway._runners[0].app
        assert (len(app.middlewares), len(app.on_response_prepare)) == (1, 0)


# --- a real browser ---------------------------------------------------------------------------------------------------

ASK = """
async ({url, body, headers, method}) => {
    try {
        const reply = await fetch(url, {
            method: method || "POST",
            headers: {"Content-Type": "application/json", "Authorization": "Bearer k", ...headers},
            body: body && JSON.stringify(body),
        });
        return {
            status: reply.status,
            text: await reply.text(),
            id: reply.headers.get("x-request-id"),
            left: reply.headers.get("x-ratelimit-remaining-requests"),
            hidden: reply.headers.get("server"),
        };
    } catch (error) {
        return {failed: error.name};
    }
}
"""


@asynccontextmanager
async def page_elsewhere(browser: Browser) -> AsyncIterator[tuple[Page, str]]:
    """A page of another origin than any gateway's, and that origin."""

    async def empty(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>elsewhere</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", empty)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    page = await browser.new_page()
    try:
        await page.goto(url)
        yield page, url
    finally:
        await page.close()
        await runner.cleanup()


async def test_a_browser_lets_a_page_on_the_list_read_streams_errors_and_headers(browser: Browser) -> None:
    async with page_elsewhere(browser) as (page, origin), allowing(origin) as running:

        async def ask(body: Any, **headers: str) -> Any:
            given = {"url": running.url + CHAT, "body": body, "headers": headers}
            return await page.evaluate(ASK, given)

        streamed = await ask({**ASKS, "stream": True}, **{"x-stainless-lang": "js", "x-sidegate-timeouts": "total=9"})
        assert (streamed["status"], streamed["text"].rstrip()[-12:]) == (200, "data: [DONE]")
        assert (streamed["left"], streamed["hidden"]) == ("999", None)
        assert len(streamed["id"]) == 32
        wrong = await ask({**ASKS, "model": "nobody"})
        assert (wrong["status"], "model_not_found" in wrong["text"]) == (404, True)
        assert await ask(ASKS, **{"x-not-allowed": "1"}) == {"failed": "TypeError"}
        deleted = await page.evaluate(ASK, {"url": f"{running.url}/v1/calls/{'0' * 32}", "method": "DELETE"})
        assert deleted["status"] == 404


async def test_a_browser_keeps_all_of_it_from_a_page_that_is_not(browser: Browser) -> None:
    log = {"use": "log", "settings": {}}
    async with page_elsewhere(browser) as (page, _), allowing(PAGE, plugins=(log,)) as running:
        asked = {"url": running.url + CHAT, "body": ASKS}
        assert await page.evaluate(ASK, asked) == {"failed": "TypeError"}
        assert running.log.events("call") == [], "the preflight ended it"
