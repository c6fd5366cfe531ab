"""A scripted Realtime provider: hears pauses, talks in pieces, stops when it is talked over, says what it used."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

SPEECH = base64.b64encode(b"\x01\x02" * 2400).decode()
SILENCE = base64.b64encode(b"\x00\x00" * 2400).decode()
PIECE = base64.b64encode(b"\x03\x04" * 4800).decode()

USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "image_tokens": 0,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}


class Voice:
    """One session with it."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.headers = request.headers
        self.query = dict(request.query)
        self.heard: list[Any] = []
        """Events, or bytes, in the order they came."""
        self.closed_with: int | None = None
        self.responses = 0
        self.active: asyncio.Task[None] | None = None
        self.active_id = ""
        self.usage = USAGE
        self.news = asyncio.Condition()

    async def say(self, type: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"type": type, "event_id": "event_p", **fields}))

    async def until(self, kind: str, count: int = 1) -> Any:
        """The count-th event of a kind that the client sends."""

        def found() -> list[Any]:
            return [one for one in self.heard if isinstance(one, dict) and one["type"] == kind]

        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: len(found()) >= count)
        return found()[count - 1]

    async def created(self) -> str:
        self.responses += 1
        response = self.active_id = f"resp_{self.responses}"
        await self.say(
            "response.created", response={"id": response, "object": "realtime.response", "status": "in_progress"}
        )
        return response

    async def piece(self, response: str) -> None:
        await self.say(
            "response.output_audio.delta",
            response_id=response,
            item_id="i",
            output_index=0,
            content_index=0,
            delta=PIECE,
        )

    async def word(self, response: str, text: str) -> None:
        await self.say(
            "response.output_audio_transcript.delta",
            response_id=response,
            item_id="i",
            output_index=0,
            content_index=0,
            delta=text,
        )

    async def done(self, response: str, status: str = "completed", **details: Any) -> None:
        said = {"id": response, "object": "realtime.response", "status": status, "usage": self.usage}
        if details:
            said["status_details"] = {"type": status, **details}
        await self.say("response.done", response=said)

    async def answer(self, pieces: int = 3, between: float = 0.0) -> None:
        response = await self.created()
        for number in range(pieces):
            await self.piece(response)
            await self.word(response, f"word{number} ")
            await asyncio.sleep(between)
        await self.done(response)

    def begin(self, pieces: int = 3, between: float = 0.0) -> None:
        self.active = asyncio.create_task(self.answer(pieces, between))

    async def interrupt(self, reason: str) -> None:
        if self.active is not None and not self.active.done():
            self.active.cancel()
            await asyncio.wait([self.active])
            await self.done(self.active_id, "cancelled", reason=reason)


Script = Callable[[Voice], Awaitable[None]]
Behaviour = Callable[[Voice, dict[str, Any]], Awaitable[None]]


async def conversation(voice: Voice, event: dict[str, Any]) -> None:
    """What the vendor does, with voice detection on its side: sound that is not silence is speech."""
    match event["type"]:
        case "session.update":
            await voice.say("session.updated", session={"id": "sess_1", **event["session"]})
        case "response.create":
            if voice.active is not None and not voice.active.done():
                code = "conversation_already_has_active_response"
                error = {"type": "invalid_request_error", "code": code, "message": "One is active."}
                await voice.say("error", error={**error, "event_id": event.get("event_id")})
                return
            most = event.get("response", {}).get("metadata", {})
            voice.begin(int(most.get("pieces", 3)), float(most.get("between", 0)))
        case "response.cancel":
            await voice.interrupt("client_cancelled")
        case "input_audio_buffer.append" if event["audio"] == SPEECH:
            await voice.say("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item_u")
            await voice.interrupt("turn_detected")
        case "input_audio_buffer.append" if event["audio"] == SILENCE:
            await voice.say("input_audio_buffer.speech_stopped", audio_end_ms=100, item_id="item_u")
            await voice.say("input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
            await voice.say(
                "conversation.item.input_audio_transcription.completed",
                item_id="item_u",
                content_index=0,
                transcript="hello",
                usage={
                    "type": "tokens",
                    "total_tokens": 17,
                    "input_tokens": 14,
                    "output_tokens": 3,
                    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                },
            )
            voice.begin()


class Provider:
    """Where it listens, and the sessions it has had."""

    def __init__(self, behaviour: Behaviour, refuse: int | None) -> None:
        self.behaviour = behaviour
        self.refuse = refuse
        self.url = ""
        self.voices: list[Voice] = []
        self.asked: list[web.Request] = []

    async def session(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if self.refuse is not None:
            return web.json_response({"error": {"message": "no"}}, status=self.refuse)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        voice = Voice(socket, request)
        self.voices.append(voice)
        model = request.query.get("model")
        await voice.say("session.created", session={"type": "realtime", "id": "sess_1", "model": model})
        async for message in socket:
            heard = json.loads(message.data) if message.type is WSMsgType.TEXT else message.data
            async with voice.news:
                voice.heard.append(heard)
                voice.news.notify_all()
            if isinstance(heard, dict):
                await self.behaviour(voice, heard)
            else:
                await socket.send_bytes(heard)
        voice.closed_with = socket.close_code
        if voice.active is not None:
            voice.active.cancel()
        return socket

    async def voice(self, number: int = 0) -> Voice:
        async with asyncio.timeout(10):
            while True:
                if len(self.voices) > number:
                    return self.voices[number]
                await asyncio.sleep(0.005)


@asynccontextmanager
async def realtime_provider(
    behaviour: Behaviour = conversation, *, refuse: int | None = None
) -> AsyncIterator[Provider]:
    """Serve on a free port. `refuse`: answer each handshake with this status."""
    provider = Provider(behaviour, refuse)
    app = web.Application()
    app.router.add_get("/v1/realtime", provider.session)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield provider
    finally:
        await runner.cleanup()
