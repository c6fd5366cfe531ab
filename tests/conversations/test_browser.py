"""The chat socket in a browser: two pages in one conversation, one of which cancels in mid-answer."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Browser, Page

from tests.conversations.ground import PATH, connected, stage
from tests.endings.conftest import browser
from tests.jobs.ground import Scene, Told

__all__ = ["browser"]

TALK = """
(url) => {
    const heard = window.heard = [];
    const socket = window.socket = new WebSocket(url.replace("http", "ws"));
    socket.onmessage = ({data}) => heard.push(JSON.parse(data));
    socket.onclose = ({code, reason}) => heard.push({type: "closed", code, reason});
    window.say = (message) => socket.send(JSON.stringify(message));
    window.text = () => heard.filter(({type}) => type === "text.delta").map(({text}) => text).join("");
    window.ended = () => heard.filter(({type}) => type === "turn.ended").length;
    return new Promise((resolve) => { socket.onopen = () => resolve(true); });
}
"""


async def talking(browser: Browser, on: Scene) -> Page:
    """A page of the gateway's own host, with a ticket in place of a key."""
    async with on.ann.post(PATH + "/ticket") as reply:
        url = (await reply.json())["url"]
    page = await browser.new_page()
    await page.goto(on.running.url + "/livez")
    assert await page.evaluate(TALK, on.running.url + url)
    return page


async def heard(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await page.evaluate("() => window.heard")
    return found


async def until(page: Page, true: str) -> None:
    await page.wait_for_function(f"() => {true}", timeout=20_000)


async def test_two_pages_in_one_conversation_and_a_cancel_in_mid_answer(browser: Browser) -> None:
    told = Told()
    async with stage(told) as on:
        ann, bob = await talking(browser, on), await talking(browser, on)
        await ann.evaluate("() => say({type: 'conversation.open', name: 'Ann'})")
        await until(ann, "heard.length === 1")
        conversation = (await heard(ann))[0]["conversation"]
        told.go(1)
        await ann.evaluate("() => say({type: 'turn.create', input: 'A story.'})")
        await until(ann, "text() === 'Once'")
        await bob.evaluate("(id) => say({type: 'conversation.join', conversation: id, name: 'Bob'})", conversation)
        await until(bob, "heard.length === 1")
        assert (await heard(bob))[0]["current"]["text"] == "Once"
        told.go(1)
        await until(bob, "text() === ' upon'")
        await bob.evaluate("() => say({type: 'turn.cancel'})")
        await until(ann, "ended() === 1")
        told.go(20)
        await bob.evaluate("() => say({type: 'turn.create', input: 'Another.'})")
        await until(ann, "ended() === 2")
        await until(bob, "ended() === 2")
        first, second = await heard(ann), await heard(bob)
        seen = second[0]["seq"]
        assert [one for one in first if one.get("seq", 0) > seen] == second[1:], "the same, in the same order"
        assert [one["ending"] for one in first if one["type"] == "turn.ended"] == ["cancelled", "complete"]
        sent = [(one["role"], one["content"]) for one in on.provider.exchanges[1].json["messages"]]
        assert sent == [("user", "A story."), ("assistant", "Once upon"), ("user", "Another.")]
        await ann.evaluate("() => say({type: 'conversation.close'})")
        await until(bob, "heard.at(-1).type === 'closed'")
        assert (await heard(bob))[-1] == {"type": "closed", "code": 1000, "reason": "closed"}
        await ann.close()
        await bob.close()


async def test_a_page_of_another_origin_may_not(browser: Browser) -> None:
    async with stage() as on, connected(on):
        async with on.ann.post(PATH + "/ticket") as reply:
            url = (await reply.json())["url"]
        page = await browser.new_page()
        await page.goto("about:blank")
        script = """(url) => new Promise((resolve) => {
            const socket = new WebSocket(url);
            socket.onopen = () => resolve("open");
            socket.onclose = ({code}) => resolve(code);
        })"""
        assert await page.evaluate(script, (on.running.url + url).replace("http", "ws")) == 1006
        await page.close()
