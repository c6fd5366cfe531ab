"""Fixtures: the vendors' own clients, and a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.sdk.conftest import anthropic_at, ground, openai_at

__all__ = ["anthropic_at", "browser", "ground", "openai_at"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A real Chromium, of this machine. Debian: `apt-get install chromium`."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    # Its sandbox does not start as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield started
        finally:
            await started.close()
