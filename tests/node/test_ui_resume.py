"""The AI SDK's own chat on a page that was loaded anew, on a route that is resumable."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.jobs.ground import ANN, WORDS, Scene, Told, scene
from tests.jobs.test_resumable import CHATS, a_chat
from tests.node.process import Node
from tests.streams.test_resume import route


@pytest.mark.parametrize("kept", ["memory", "job"])
@pytest.mark.parametrize("major", [7, 6], ids=["ai-7", "ai-6"])
async def test_a_page_that_is_loaded_anew_goes_on_with_the_reply(node: Node, major: int, kept: str) -> None:
    told = Told()
    headers = {"Authorization": f"Bearer {ANN}"}
    async with scene(told, base=CHATS if kept == "job" else route(default_model="m")) as on:

        async def resumed() -> Any:
            asked: dict[str, Any] = {
                "major": major,
                "url": on.running.url,
                "resume": True,
                "id": "chat-1",
                "headers": headers,
            }
            return await asyncio.to_thread(node, "ui_chat", "chat", **asked)

        told.go(2)
        async with on.ann.post("/api/chat", json=a_chat()) as reply:
            await reply.content.readany()
        await running(on, 1)  # what goes on without it
        page = asyncio.create_task(resumed())
        await running(on, 2)  # and who reads it
        told.go()
        heard = await page
        assert (heard["status"], heard["errors"]) == ("ready", [])
        (message,) = heard["messages"]
        assert "".join(part["text"] for part in message["parts"] if part["type"] == "text") == "".join(WORDS)
        assert (await resumed())["messages"] == [], "nothing runs any more"
        assert len(on.provider.exchanges) == 1


async def running(on: Scene, calls: int) -> None:
    async with asyncio.timeout(30):
        while len(on.running.service.live) != calls:  # noqa: ASYNC110  # another process's doing
            await asyncio.sleep(0.01)
