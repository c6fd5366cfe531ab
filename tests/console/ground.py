"""The ground of the console's tests: a gateway with callers and prices, and its page in a real Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, Route, expect

from sidegate.testing import Running, demo_config, gateway

expect.set_options(timeout=20_000)

KEY = "an-admin-key-of-32-characters-00"
PAGES = ("", "calls", "playground", "usage", "budgets", "jobs", "keys", "pipelines", "models", "config")
WATCH = """
window.complaints = [];
addEventListener("securitypolicyviolation", (event) => complaints.push([event.violatedDirective, event.blockedURI]));
"""


def config(*, callers: tuple[str, ...] = ("ann", "bob"), key: str = KEY, **rest: Any) -> dict[str, Any]:
    """Callers whose key is their name, priced; `slow` is a model that takes its time."""
    keys = [{"name": name, "digest": sha256(name.encode()).hexdigest(), "names_end_users": True} for name in callers]
    budgets = [{"name": "per-caller", "amount_usd": "20", "period": "month", "per": ["caller"]}]
    made = demo_config(
        {"use": "api_key", "settings": {"keys": keys, "issued": True}},
        {"use": "cost", "settings": {"prices": {"*": {"input": "1", "output": "2"}}, "budgets": budgets}},
        admin={"port": 0, **({"key": key} if key else {})},
        **rest,
    )
    made["providers"]["slow"] = {"dialect": "demo", "settings": {"tokens_per_second": 1, "first_token": 0}}
    made["models"]["slow"] = {"provider": "slow", "model": "demo"}
    return made


class Console:
    """A page of the console, and what was wrong with it."""

    def __init__(self, running: Running, page: Page) -> None:
        self.running = running
        self.page = page
        self.wrong: list[str] = []
        self.outside: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self._heard(message.type, message.text))

    def _heard(self, kind: str, text: str) -> None:
        # Chromium reports every status from 400 on; what is refused is meant to be, and looked at where it is shown.
        if kind in ("error", "warning") and "the server responded with a status of" not in text:
            self.wrong.append(text)

    async def open(self, place: str = "") -> None:
        """Go to a page by its address, loading all anew."""
        await self.page.goto("about:blank")
        await self.page.goto(f"{self.running.admin_url}/console/#/{place}")

    async def unlock(self, key: str = KEY) -> None:
        """Give the key that is asked for."""
        await self.page.get_by_label("Key", exact=True).fill(key)
        await self.page.get_by_role("button", name="Go on").click()

    async def go(self, title: str) -> None:
        """Go to a page by the navigation."""
        await self.page.get_by_role("navigation").get_by_role("link", name=title, exact=True).click()
        await expect(self.page.get_by_role("heading", level=1)).to_have_text(title)

    async def settled(self) -> None:
        """Wait until the page shows what it has asked for."""
        await expect(self.page.locator("main [aria-busy]")).to_have_count(0)
        await self.page.wait_for_load_state("domcontentloaded")
        await expect(self.page.locator("main .page").first).not_to_be_empty()

    async def is_well(self) -> None:
        """Nothing failed, nothing was blocked, nobody else was asked."""
        assert await self.page.evaluate("window.complaints") == []
        assert self.wrong == []
        assert self.outside == []


@asynccontextmanager
async def console(browser: Browser, made: Mapping[str, Any], **context: Any) -> AsyncIterator[Console]:
    """A gateway of this config, and a page that can reach nothing else."""
    async with gateway(made) as running:
        opened = await browser.new_context(**context)
        await opened.add_init_script(WATCH)
        shown = Console(running, await opened.new_page())
        here = urlsplit(running.admin_url).netloc

        async def only_here(route: Route) -> None:
            if urlsplit(route.request.url).netloc == here:
                await route.continue_()
            else:
                shown.outside.append(route.request.url)
                await route.abort()

        # What is in memory alone (about:, blob:, data:) asks nobody.
        await opened.route("**://*/**", only_here)
        try:
            yield shown
        finally:
            await opened.close()
