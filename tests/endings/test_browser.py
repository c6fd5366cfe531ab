"""A browser that reads a stream with `fetch`: it is told of a failure, and its leaving is felt."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from sidegate.testing import MISBEHAVIOURS, answering
from sidegate.testing.voices import WORDS
from tests.endings.ground import CLIENTS, OPENAI, Client, Scene, scene, until

each_client = pytest.mark.parametrize("client", CLIENTS, ids=[client.dialect for client in CLIENTS])

READ = """
async ({path, body, until}) => {
    const control = new AbortController();
    const reply = await fetch(path, {
        method: "POST",
        headers: {"Content-Type": "application/json"},
        body: JSON.stringify(body),
        signal: control.signal,
    });
    const reader = reply.body.getReader();
    const decoder = new TextDecoder();
    let text = "", failed = null;
    try {
        for (;;) {
            const {done, value} = await reader.read();
            if (done) break;
            text += decoder.decode(value, {stream: true});
            if (until && text.includes(until)) control.abort();
        }
    } catch (error) {
        failed = error.name;
    }
    return {status: reply.status, id: reply.headers.get("x-request-id"), text, failed};
}
"""
"""Reads to the end; or leaves, once it has read `until`."""


async def page_at(browser: Browser, on: Scene) -> Page:
    """A page of the gateway's own origin."""
    page = await browser.new_page()
    await page.goto(on.running.url + "/livez")
    return page


async def read(page: Page, client: Client, stream: bool = True, until: str = "") -> Any:
    return await page.evaluate(READ, {"path": client.path, "body": client.body(stream), "until": until})


@each_client
@pytest.mark.parametrize("name", ["reset_in_mid_stream", "ends_without_finish", "silent_in_mid_stream"])
async def test_a_broken_stream_ends_for_a_browser_in_an_error_event(
    browser: Browser, client: Client, name: str
) -> None:
    async with scene(MISBEHAVIOURS[name](client.dialect), client.dialect) as on:
        seen = await read(await page_at(browser, on), client)
    assert (seen["status"], seen["failed"]) == (200, None), "the reader comes to an end, and need not guess"
    assert WORDS[1] in seen["text"]
    last = seen["text"].rstrip().split("\n\n")[-1]
    assert '"error"' in last
    assert client.mark not in seen["text"]


@each_client
async def test_a_good_stream_ends_for_a_browser_in_its_mark(browser: Browser, client: Client) -> None:
    async with scene(answering(client.dialect), client.dialect) as on:
        seen = await read(await page_at(browser, on), client)
    assert (seen["status"], seen["failed"]) == (200, None)
    assert client.mark in seen["text"].rstrip().split("\n\n")[-1]


@each_client
async def test_a_failure_before_the_first_word_is_a_status(browser: Browser, client: Client) -> None:
    async with scene(MISBEHAVIOURS["dropped"](client.dialect), client.dialect) as on:
        seen = await read(await page_at(browser, on), client)
    assert seen["status"] == 502
    assert client.error(seen["text"].encode())


async def test_a_browser_that_leaves_lets_the_provider_go(browser: Browser) -> None:
    timeouts = {"idle": 60}
    async with scene(MISBEHAVIOURS["silent_in_mid_stream"]("openai"), timeouts=timeouts) as on:
        page = await page_at(browser, on)
        seen = await read(page, OPENAI, until=WORDS[1])
        assert seen["failed"] == "AbortError"
        await until(on.provider.exchanges[0].closed.is_set)
        assert (await on.record(seen["id"]))["ending"] == "client_gone"


async def test_a_page_that_is_closed_lets_the_provider_go(browser: Browser) -> None:
    script = MISBEHAVIOURS["never_answers"]("openai")
    async with scene(script, timeouts={"first_token": 60}) as on:
        page = await page_at(browser, on)
        reading = asyncio.ensure_future(read(page, OPENAI))
        await until(lambda: bool(on.provider.exchanges))
        await page.close()
        await until(on.provider.exchanges[0].closed.is_set)
        await asyncio.gather(reading, return_exceptions=True)
