"""A real page with `useChat` in a real browser, of another origin than the gateway: it streams, and it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Page, expect

from sidegate.testing import Exchange, Running, Script, ScriptedProvider, gateway, scripted
from sidegate.testing.voices import TEXT, USED, VOICES, WORDS
from tests.endings.conftest import browser
from tests.node.process import Node
from tests.node.stage import PATHS
from tests.relaying import until
from tests.sdk.speaking import SIGNATURE, SPEAKERS

__all__ = ["browser"]

expect.set_options(timeout=20_000)

HTML = '<!doctype html><meta charset="utf-8"><title>Chat</title><div id="root"></div><script src="/page.js"></script>'


@pytest.fixture(scope="session")
def built() -> dict[str, str]:
    """The page's script, once it was built."""
    return {}


@pytest.fixture
def script(node: Node, built: dict[str, str]) -> str:
    """The page's script, as esbuild makes it."""
    if not built:
        made = node("build", "bundled", page="page.jsx")
        assert made["warnings"] == []
        built["text"] = made["text"]
    return built["text"]


@dataclass
class Shown:
    """A page before a gateway before a provider."""

    page: Page
    running: Running
    provider: ScriptedProvider
    complaints: list[str]

    async def ask(self, text: str = "Où est le café?") -> None:
        await self.page.fill("#input", text)
        await self.page.click("#send")

    async def shows(self, answer: str, status: str) -> None:
        """Wait until the page shows this."""
        await expect(self.page.locator("#status")).to_have_text(status)
        await expect(self.page.locator("p.assistant").last).to_have_text(answer)

    def endings(self) -> list[str]:
        return [line["ending"] for line in self.running.log.events("call")]


@asynccontextmanager
async def shown(
    browser: Browser,
    script: str,
    plays: Script,
    dialect: str = "openai",
    allowed: bool = True,
    base: dict[str, Any] | None = None,
    **query: str,
) -> AsyncIterator[Shown]:
    """The page at an origin that the gateway's list has, or has not."""

    async def html(request: web.Request) -> web.Response:
        return web.Response(text=HTML, content_type="text/html")

    async def code(request: web.Request) -> web.Response:
        return web.Response(text=script, content_type="text/javascript")

    site = web.Application()
    site.router.add_get("/", html)
    site.router.add_get("/page.js", code)
    async with TestServer(site) as server, scripted(plays) as provider:
        origin = str(server.make_url("")).rstrip("/")
        config = leads_to(provider.url + PATHS[dialect], dialect, origin if allowed else "https://app.example.com")
        async with gateway({**config, **(base or {})}) as running:
            page = await browser.new_page()
            complaints: list[str] = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            await page.goto(f"{origin}/?{urlencode({'api': running.url, 'model': 'm', **query})}")
            yield Shown(page, running, provider, complaints)
            await page.close()


def leads_to(url: str, dialect: str, origin: str) -> dict[str, Any]:
    provider = {"dialect": dialect, "base_url": url, "api_key": "sk-upstream", "retry": {"attempts": 1}}
    return {
        "listen": {"port": 0, "cors": {"origins": [origin]}},
        "providers": {"p": provider},
        "models": {"m": {"provider": "p", "model": "real"}},
        "pipelines": {"main": {"plugins": [{"use": "log"}]}},
        "server": {"drain": 1},
    }


@pytest.mark.parametrize("dialect", VOICES)
async def test_a_page_shows_a_reply_while_it_grows(browser: Browser, script: str, dialect: str) -> None:
    voice, seen = VOICES[dialect], asyncio.Event()

    async def plays(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(voice.begins(*WORDS[:2])))
        await seen.wait()
        rest = [*voice.begins(*WORDS), *voice.ends(voice.usage(USED))][len(voice.begins(*WORDS[:2])) :]
        await exchange.chunk(b"".join(rest))
        await exchange.chunk(b"")

    async with shown(browser, script, plays, dialect) as at:
        await at.ask()
        await at.shows("".join(WORDS[:2]), "streaming")
        seen.set()
        await at.shows(TEXT, "ready")
        assert at.complaints == []
        await until(lambda: at.endings() == ["complete"])


async def test_a_page_that_stops_frees_the_provider(browser: Browser, script: str) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(VOICES["anthropic"].begins(*WORDS[:2])))
        await exchange.closed.wait()

    async with shown(browser, script, endless, "anthropic") as at:
        await at.ask()
        await at.shows("".join(WORDS[:2]), "streaming")
        await at.page.click("#stop")
        await at.shows("".join(WORDS[:2]), "ready")
        await asyncio.wait_for(at.provider.exchanges[0].closed.wait(), 5)
        await until(lambda: at.endings() == ["client_gone"])
        assert at.complaints == []


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
async def test_a_page_that_is_loaded_anew_goes_on_with_its_reply(
    browser: Browser, script: str, on_disconnect: str
) -> None:
    """Cut in the middle, by the reload; then from memory, or from the job's record."""
    voice, seen = VOICES["openai"], asyncio.Event()
    route = {"name": "r", "pipeline": "main", "resumable": True, "on_disconnect": on_disconnect}

    async def plays(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(voice.begins(*WORDS[:2])))
        await seen.wait()
        rest = [*voice.begins(*WORDS), *voice.ends(voice.usage(USED))][len(voice.begins(*WORDS[:2])) :]
        await exchange.chunk(b"".join(rest))
        await exchange.chunk(b"")

    base = {"routes": [route], "jobs": {"batch_seconds": 0.01}}
    async with shown(browser, script, plays, base=base, chat="chat-1") as at:
        await expect(at.page.locator("#status")).to_have_text("ready")
        await at.ask()
        await at.shows("".join(WORDS[:2]), "streaming")
        await at.page.reload()
        await at.shows("".join(WORDS[:2]), "streaming")
        seen.set()
        await at.shows(TEXT, "ready")
        await at.page.reload()
        await expect(at.page.locator("#status")).to_have_text("ready")
        await expect(at.page.locator("p.assistant")).to_have_count(0)
        assert len(at.provider.exchanges) == 1
        assert at.complaints == []


async def test_a_page_is_told_that_the_provider_broke(browser: Browser, script: str) -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(VOICES["openai"].begins(*WORDS[:2])))
        exchange.close()

    async with shown(browser, script, breaks) as at:
        await at.ask()
        await at.shows("".join(WORDS[:2]), "error")
        await expect(at.page.locator("#error")).to_contain_text("cut off")


async def test_a_page_reads_why_it_was_refused(browser: Browser, script: str) -> None:
    """An error's body and status are the page's to read, as a stream is."""
    async with shown(browser, script, SPEAKERS["openai"], model="nobody") as at:
        await at.ask()
        await expect(at.page.locator("#error")).to_have_text("The model `nobody` does not exist.")


async def test_a_pages_tools_are_called_and_what_they_give_goes_on(browser: Browser, script: str) -> None:
    async def plays(exchange: Exchange) -> None:
        if len(at.provider.exchanges) == 1:
            await SPEAKERS["gemini"](exchange)
        else:
            voice = VOICES["gemini"]
            await exchange.stream(*voice.begins(" So."), *voice.ends(voice.usage(USED)))

    async with shown(browser, script, plays, "gemini") as at:
        await at.ask()
        called = "[tool-weather: output-available][tool-time: output-available]"
        await at.shows(f"Grüße, 世界 🦊{called} So.", "ready")
        again = at.provider.exchanges[1].json["contents"]
        given = [part["functionResponse"]["response"] for part in again[-1]["parts"]]
        assert "the page's weather" in str(given[0])
        assert "the page's time" in str(given[1])
        signed = [part.get("thoughtSignature") for part in again[-2]["parts"] if "functionCall" in part]
        assert signed[0] == SIGNATURE, "Gemini wants back what it signed"


async def test_a_page_of_an_origin_that_is_not_listed_may_not_even_ask(browser: Browser, script: str) -> None:
    async with shown(browser, script, SPEAKERS["openai"], allowed=False) as at:
        await at.ask()
        await expect(at.page.locator("#status")).to_have_text("error")
        await expect(at.page.locator("#error")).to_have_text("Failed to fetch")
        assert at.provider.exchanges == []
