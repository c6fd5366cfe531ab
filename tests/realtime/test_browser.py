"""A page that talks: its key in a subprotocol, as OpenAI's libraries bring it; one of elsewhere may not."""

from __future__ import annotations

from playwright.async_api import Browser

from tests.endings.conftest import browser
from tests.realtime.ground import KEY, gateway_for, keys, rows
from tests.realtime.provider import realtime_provider

__all__ = ["browser"]

TALK = """
([url, key]) => new Promise((resolve) => {
    const seen = {types: [], protocol: null, code: null};
    const socket = new WebSocket(url, ["realtime", "openai-insecure-api-key." + key]);
    socket.onopen = () => { seen.protocol = socket.protocol; socket.send('{"type":"response.create"}'); };
    socket.onmessage = ({data}) => {
        seen.types.push(JSON.parse(data).type);
        if (seen.types.at(-1) === "response.done") socket.close(1000);
    };
    socket.onclose = ({code}) => { seen.code = code; resolve(seen); };
})
"""


async def test_a_page_talks_with_the_key_of_its_user(browser: Browser) -> None:
    async with realtime_provider() as provider, gateway_for(provider, keys()) as running:
        url = running.url.replace("http", "ws", 1) + "/v1/realtime?model=voice"
        page = await browser.new_page()
        await page.goto(running.url + "/livez")
        seen = await page.evaluate(TALK, [url, KEY])
        assert (seen["protocol"], seen["code"]) == ("realtime", 1000)
        assert (seen["types"][0], seen["types"][-1]) == ("session.created", "response.done")
        elsewhere = await browser.new_page()
        await elsewhere.goto(provider.url)
        refused = await elsewhere.evaluate(TALK, [url, KEY])
        assert (refused["protocol"], refused["code"]) == (None, 1006)
        lines = await rows(running, 3)
    assert [line["error"] for line in lines if line["status"] == 403] == ["origin_not_allowed"]
    assert len(provider.voices) == 1
