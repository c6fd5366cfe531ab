"""The console in a real Chromium: what somebody does with it, from the key to a call that was stopped."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.console.ground import Console, config, console
from tests.tree import ROOT

PROMPT = 'Grüße, 世界 🦊 it\'s "quoted" \\ $HOME `x`'
DIALECTS = ("openai.chat", "openai.responses", "anthropic.messages", "gemini.generate")


async def asks(
    page: Page, *, model: str, prompt: str = PROMPT, dialect: str = "openai.chat", stream: bool = True
) -> None:
    """Fill in the playground's form, and send it."""
    await page.get_by_label("Dialect").select_option(dialect)
    await page.get_by_label("Model", exact=True).fill(model)
    await page.get_by_label("Client's key, if one is wanted").fill("ann")
    await page.get_by_label("Prompt", exact=True).fill(prompt)
    await page.get_by_label("Stream", exact=True).set_checked(stream)
    await page.get_by_role("button", name="Send").click()


async def test_a_call_is_begun_seen_stopped_and_found_again(browser: Browser) -> None:
    async with console(browser, config()) as shown:
        page = shown.page
        await shown.open("playground")
        await shown.unlock("a-wrong-key-of-32-characters-0000")
        await expect(page.get_by_role("alert").filter(has_text="not valid")).to_be_visible()
        await shown.unlock()
        await asks(page, model="slow")
        await expect(page.locator(".events li").nth(1)).to_be_visible()
        # It goes on while its user looks elsewhere.
        await shown.go("Overview")
        row = page.get_by_role("region", name="Calls in flight").get_by_role("row").filter(has_text="slow")
        await expect(row).to_have_count(1)
        await shown.go("Calls")
        await expect(row).to_have_count(1)
        await row.get_by_role("link").click()
        stop = page.get_by_role("region", name="In flight", exact=True).get_by_role("button")
        await stop.focus()
        await expect(page.locator(".facts")).to_contain_text("Cost so far")
        before = await page.locator(".facts").inner_text()
        await expect(page.locator(".facts")).not_to_have_text(before, use_inner_text=True)
        await expect(stop).to_be_focused()
        await page.go_back()
        await row.get_by_role("button", name="Stop").click()
        await expect(row).to_have_count(0)
        await shown.go("Playground")
        await expect(page.locator(".tag", has_text="cancelled").first).to_be_visible()
        await shown.go("Calls")
        found = page.get_by_role("region", name="Calls on record").get_by_role("row").filter(has_text="slow")
        await expect(found).to_contain_text("cancelled")
        await expect(found).to_contain_text("$0.0")
        await found.get_by_role("link").click()
        record = page.get_by_role("region", name="What is on record")
        await expect(record).to_contain_text("cancelled")
        await expect(record).to_contain_text("$0.0")
        await expect(page.get_by_role("region", name="Attempts", exact=True).first).to_contain_text("slow")
        await expect(page.get_by_role("region", name="What each plugin did")).to_contain_text("api_key")
        (line,) = shown.running.log.events("call_stopped")
        assert line["call"] in page.url
        await shown.is_well()


async def test_a_page_that_stops_leaves_as_a_client_does(browser: Browser) -> None:
    async with console(browser, config(key="")) as shown:
        page = shown.page
        await shown.open("playground")
        await asks(page, model="slow")
        await expect(page.locator(".events li").nth(1)).to_be_visible()
        await page.get_by_role("button", name="Stop", exact=True).click()
        await expect(page.locator(".tag", has_text="client gone").first).to_be_visible()
        await expect(page.get_by_role("button", name="Send")).to_be_enabled()
        await shown.is_well()


async def test_every_dialect_says_what_was_said(browser: Browser) -> None:
    """The same text streamed and whole; its cost is what the ledger has; and it can be asked again elsewhere."""
    async with console(browser, config(key="")) as shown:
        page = shown.page
        await shown.open("playground")
        snippets: list[tuple[str, str]] = []
        for dialect in DIALECTS:
            for stream in (True, False):
                await asks(page, model="demo-echo", dialect=dialect, stream=stream)
                await expect(page.locator(".answer")).to_have_text(PROMPT)
                await expect(page.locator(".facts").first).to_contain_text("complete")
                await expect(page.locator(".facts").first).to_contain_text("$0.0000")
                for kind in ("curl", "Python"):
                    await page.get_by_role("button", name=kind, exact=True).click()
                    snippets.append((kind, await page.locator("section:has(#code) pre").inner_text()))
        assert all("ann" not in code for _, code in snippets)
        for kind, command in (("curl", ["sh", "-e", "-c"]), ("Python", [sys.executable, "-c"])):
            codes = [code for each, code in snippets if each == kind]
            assert len(codes) == 2 * len(DIALECTS)
            await _say_it(command, codes)
        await shown.is_well()


async def _say_it(command: list[str], codes: list[str]) -> None:
    """One after the other, in one process: the libraries take their time to load."""
    environ = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    process = await asyncio.create_subprocess_exec(
        *command,
        "\n".join(codes),
        env={**environ, "SIDEGATE_KEY": "ann", "HOME": "/nowhere", "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaints = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, complaints.decode()
    # In a stream it comes in pieces, of which this is one.
    assert said.decode().count("世") >= len(codes), said.decode()


async def test_it_is_worked_by_the_keyboard_alone(browser: Browser) -> None:
    async with console(browser, config(key="")) as shown:
        page = shown.page
        await shown.open("playground")
        await asks(page, model="demo")
        await expect(page.locator(".facts").first).to_contain_text("complete")
        await shown.open()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        await page.keyboard.press("Tab")
        assert await _focused(page) == "Skip to the content"
        await _tab_to(page, "Calls")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_be_focused()
        link = page.get_by_role("region", name="Calls on record").get_by_role("link").first
        await expect(link).to_be_visible()
        await _tab_to(page, await link.inner_text())
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Call ")
        await expect(page.get_by_role("heading", level=1)).to_be_focused()
        await page.go_back()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Calls")
        await shown.is_well()


async def _focused(page: Page) -> str:
    found: Any = await page.evaluate("document.activeElement.textContent")
    return str(found).strip()


async def _tab_to(page: Page, text: str) -> None:
    for _ in range(60):
        if await _focused(page) == text:
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"the focus never came to {text}")


async def test_a_key_is_issued_shown_once_and_revoked(browser: Browser) -> None:
    async with console(browser, config()) as shown:
        page = shown.page
        page.on("dialog", lambda dialog: dialog.accept())
        await shown.open("keys")
        await shown.unlock()
        await page.get_by_label("Name: the caller").fill("carol")
        await page.get_by_label("Expires in").fill("90d")
        await page.get_by_label("Budget in USD a month").fill("20.50")
        await page.get_by_role("button", name="Issue").click()
        secret = await page.locator(".done code").inner_text()
        assert secret.startswith("sg-")
        keys = page.get_by_role("region", name="Keys", exact=True)
        await expect(keys).to_contain_text("20.50 USD a month")
        await page.get_by_role("button", name="I have kept it").click()
        assert secret not in await page.content()
        await keys.get_by_role("button", name="Revoke").click()
        await expect(keys).to_contain_text("revoked")
        await shown.is_well()


async def test_what_cannot_be_done_is_said_where_it_happened(browser: Browser) -> None:
    async with console(browser, config(key="")) as shown:
        page = shown.page
        await shown.open("config")
        await page.get_by_role("button", name="Reload").click()
        await expect(page.locator("main [role=status] p")).to_be_visible()
        await shown.open("jobs")
        await expect(page.locator("main")).to_contain_text("accepts no jobs")
        await shown.open("calls/" + "0" * 32)
        await expect(page.get_by_role("alert")).to_be_visible()
        await shown.open("calls?since=nonsense")
        await expect(page.get_by_role("alert")).to_contain_text("since")
        await shown.open("playground")
        await asks(page, model="nobody")
        await expect(page.get_by_role("alert")).to_contain_text("nobody")
        await shown.is_well()


async def test_the_live_view_comes_back_by_itself(browser: Browser) -> None:
    async with console(browser, config(key="")) as shown:
        page = shown.page
        await shown.open()
        await expect(page.locator("#connection")).to_have_text("Live")
        await page.context.set_offline(True)
        _, admin = shown.running.gateway._runners
        assert admin.server is not None
        for connection in admin.server.connections:
            assert connection.transport is not None
            connection.transport.abort()
        await expect(page.locator("#connection")).to_contain_text("Not connected")
        await page.context.set_offline(False)
        await expect(page.locator("#connection")).to_have_text("Live")


async def test_names_that_are_markup_stay_names(browser: Browser) -> None:
    evil = "<img/src=x/onerror=window.pwned=1>"
    made = config(callers=(evil,), key="")
    made["models"] = {evil: {"provider": "demo", "model": "demo-echo"}}
    made["routes"] = [{"name": "default", "pipeline": "main"}]
    async with console(browser, made) as shown:
        page: Page = shown.page
        await _call(shown, evil)
        await shown.open("calls")
        found = page.get_by_role("region", name="Calls on record")
        await expect(found.get_by_role("row").nth(1)).to_contain_text("<img/src=x")
        for place in (
            "",
            "usage?by=caller",
            "usage?by=end_user",
            "budgets",
            "models",
            "pipelines",
            "config",
            "playground",
        ):
            await shown.open(place)
            await shown.settled()
        await shown.open("calls")
        await found.get_by_role("link").first.click()
        await expect(page.get_by_role("region", name="What is on record")).to_contain_text(evil)
        assert await page.evaluate("window.pwned === undefined && document.querySelector('img[src=x]') === null")
        await shown.is_well()


async def test_the_price_of_names_that_are_passed_on_is_told_by_name(browser: Browser) -> None:
    made = config(key="")
    made["models"] = {"any-*": {"provider": "demo"}, "one": {"provider": "demo", "model": "demo-echo"}}
    async with console(browser, made) as shown:
        await shown.open("models")
        rows = shown.page.get_by_role("table", name="Models").get_by_role("row")
        await expect(rows.filter(has_text="any-*")).to_contain_text("by name")
        await expect(rows.filter(has_text="any-*")).not_to_contain_text("unknown")
        await expect(rows.filter(has_text="demo-echo")).not_to_contain_text("by name")
        await shown.is_well()


async def _call(shown: Console, name: str) -> None:
    headers = {"Authorization": f"Bearer {name}", "x-end-user": name}
    body = {"model": name, "messages": [{"role": "user", "content": name}]}
    reply = await shown.page.request.post(f"{shown.running.url}/v1/chat/completions", data=body, headers=headers)
    assert reply.status == 200, await reply.text()
    await shown.running.service.ledger.flush()


def test_the_page_is_what_the_manual_shows() -> None:
    figures = sorted((ROOT / "docs" / "figures").glob("console-*.png"))
    assert figures
    assert all(path.stat().st_size < 200_000 for path in figures)
