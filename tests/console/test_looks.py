"""Every page, light and dark, wide and narrow: whole, within its width, and fit for those who do not see it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.console.ground import PAGES, config, console
from tests.node.process import INSTALLED

AXE = INSTALLED / "node_modules" / "axe-core" / "axe.min.js"
RULES = "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)"
SHOTS = os.environ.get("SIDEGATE_SHOTS")
"""A folder that takes a picture of each page."""
SOME: list[tuple[Any, int]] = [("light", 1280), ("dark", 360)]
LOOKS = [*SOME, ("dark", 1280), ("light", 360)] if SHOTS else SOME
"""Colours do not depend on the width, nor widths on the colours."""


@pytest.fixture
def axe() -> str:
    if not AXE.exists():
        pytest.skip(f"{AXE}: scripts/test installs it where npm is")
    return AXE.read_text()


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
async def test_a_page_fits_and_can_be_read(browser: Browser, axe: str, scheme: Any, width: int) -> None:
    size: Any = {"width": width, "height": 860}
    async with console(browser, config(key="", jobs={}), viewport=size, color_scheme=scheme) as shown:
        page = shown.page
        for caller, model in (("ann", "demo"), ("bob", "demo-cut"), ("ann", "demo-fail")):
            body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
            headers = {"Authorization": f"Bearer {caller}"}
            await page.request.post(f"{shown.running.url}/v1/chat/completions", data=body, headers=headers)
        await shown.running.service.ledger.flush()
        await shown.open("calls")
        link = page.get_by_role("region", name="Calls on record").get_by_role("link").first
        one = (await link.get_attribute("href") or "").removeprefix("#/")
        for place in (*PAGES, one):
            await shown.open(place)
            await shown.settled()
            if place == "":
                await expect(page.locator("#connection")).to_have_text("Live")
                await expect(page.locator(".uplot")).to_have_count(5)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{place}: too wide"
            await page.evaluate(axe)
            found = await page.evaluate(RULES)
            grave = [each for each in found if each["impact"] in ("serious", "critical")]
            assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in grave] == [], place
            if SHOTS:
                name = f"{place.partition('/')[0] or 'overview'}{'-one' if place == one else ''}-{scheme}-{width}.png"
                await page.screenshot(path=Path(SHOTS) / name, full_page=True)
        await shown.is_well()


async def test_the_theme_is_chosen_and_kept(browser: Browser) -> None:
    async with console(browser, config(key=""), color_scheme="light") as shown:
        page = shown.page
        ground = "getComputedStyle(document.body).backgroundColor"
        await shown.open()
        light = await page.evaluate(ground)
        await page.get_by_label("Theme").select_option("dark")
        dark = await page.evaluate(ground)
        assert dark != light
        await page.reload()
        assert await page.evaluate(ground) == dark
        await page.get_by_label("Theme").select_option("auto")
        assert await page.evaluate(ground) == light


async def test_charts_tell_their_numbers_as_a_table(browser: Browser) -> None:
    async with console(browser, config(key="")) as shown:
        page = shown.page
        await shown.open()
        figure = page.get_by_role("figure").filter(has_text="Tokens per second")
        await figure.get_by_text("As a table").click()
        table = figure.get_by_role("region", name="Tokens per second")
        await expect(table.get_by_role("columnheader").nth(1)).to_have_text("output")
        await expect(table.get_by_role("row").nth(2)).to_be_visible()
        await shown.is_well()
