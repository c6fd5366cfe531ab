"""The ground: a gateway that serves the chat socket, and clients that speak its words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from sidegate.testing import Exchange
from tests.jobs.ground import ANN, Json, Scene, scene, tells

PATH = "/v1/chat/ws"
MARKS = {"alg": {"index": 0}}


def base(**said: Any) -> Json:
    route = {"name": "r", "pipeline": "main", "deliveries": ["stream", "buffered", "socket"], "default_model": "m"}
    return {"routes": [{**route, **said.pop("route", {})}], "jobs": None, **said}


class Client:
    """One connection. Messages are kept in the order in which they came."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.heard: list[Json] = []

    async def say(self, type: str, **said: Any) -> None:
        await self.socket.send_str(msgspec.json.encode({"type": type, **said}).decode())

    async def hear(self, *types: str) -> Json:
        """The next message of one of these types; what comes before is kept, too."""
        async with asyncio.timeout(20):
            while True:
                message = await self.socket.receive()
                assert message.type is aiohttp.WSMsgType.TEXT, (message, self.heard)
                found: Json = msgspec.json.decode(message.data)
                self.heard.append(found)
                if found["type"] in types:
                    return found

    async def ask(self, type: str, *answers: str, **said: Any) -> Json:
        await self.say(type, **said)
        return await self.hear(*answers)

    async def opened(self, **said: Any) -> Json:
        return await self.ask("conversation.open", "conversation.opened", **said)

    async def joined(self, conversation: str, **said: Any) -> Json:
        return await self.ask("conversation.join", "conversation.opened", "error", conversation=conversation, **said)

    async def text(self, wanted: str) -> None:
        """Until the present answer is at least so much."""
        while wanted not in self.said():
            await self.hear("text.delta")

    async def closed(self) -> tuple[int | None, str]:
        async with asyncio.timeout(20):
            while True:
                message = await self.socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return self.socket.close_code, str(message.extra or "")
                self.heard.append(msgspec.json.decode(message.data))

    def said(self, turn: str | None = None) -> str:
        deltas = [one for one in self.heard if one["type"] == "text.delta" and turn in (None, one["turn"])]
        return "".join(one["text"] for one in deltas)

    def events(self) -> list[Json]:
        """What everybody is told, in order."""
        return [one for one in self.heard if "seq" in one and one["type"] != "conversation.opened"]


@asynccontextmanager
async def connected(on: Scene, key: str | None = ANN, path: str = PATH, **headers: str) -> AsyncIterator[Client]:
    given = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession(on.running.url) as session,
        session.ws_connect(path, headers={**given, **headers}) as socket,
    ):
        yield Client(socket)


@asynccontextmanager
async def stage(
    script: Callable[[Exchange], Awaitable[None]] = tells, *plugins: Json, **said: Any
) -> AsyncIterator[Scene]:
    async with scene(script, *plugins, base=base(**said)) as on:
        yield on
