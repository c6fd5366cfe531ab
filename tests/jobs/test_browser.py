"""A browser's `EventSource` on a job: its connection is cut in the middle, it comes back, and the text is whole."""

from __future__ import annotations

from playwright.async_api import Browser

from tests.endings.conftest import browser
from tests.jobs.ground import WORDS, Told, scene
from tests.servers.proxy import fault_proxy

__all__ = ["browser"]

FOLLOW = """
(path) => {
    const seen = window.seen = {text: "", ids: [], resets: 0, opened: 0, job: null};
    const source = new EventSource(path);
    source.onopen = () => { seen.opened++; };
    source.onmessage = ({data, lastEventId}) => {
        seen.ids.push(lastEventId);
        if (data !== "[DONE]") seen.text += JSON.parse(data).choices[0]?.delta?.content ?? "";
    };
    source.addEventListener("reset", () => { seen.text = ""; seen.resets++; });
    source.addEventListener("end", ({data}) => { seen.job = JSON.parse(data); source.close(); });
}
"""


async def test_an_event_source_that_was_cut_comes_back_and_misses_nothing(browser: Browser) -> None:
    told = Told()
    async with scene(told) as on, fault_proxy(on.running.url) as between:
        where = await on.submit()
        async with on.ann.post(f"{where}/ticket") as reply:
            path = (await reply.json())["events"]
        page = await browser.new_page()
        await page.goto(between.url + "/livez")
        await page.evaluate(FOLLOW, path)
        told.go(2)
        await page.wait_for_function("words => window.seen.text === words", arg="".join(WORDS[:2]), timeout=20_000)
        between.reset()
        told.go()
        await page.wait_for_function("() => window.seen.job !== null", timeout=20_000)
        seen = await page.evaluate("() => window.seen")
    assert seen["text"] == "".join(WORDS)
    assert seen["opened"] == 2
    assert seen["resets"] == 0
    assert len(set(seen["ids"])) == len(seen["ids"]), "an event came twice"
    assert seen["job"]["state"] == "completed"
