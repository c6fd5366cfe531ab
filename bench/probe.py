"""The probed provider, the gateway before it, and clients that leave: for `bench.aborts`."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from bench.figures import INTERVAL
from bench.servers import Server, Setting, gateway_config
from bench.traffic import PATH
from sidegate.testing import Exchange, closed_port
from sidegate.testing.voices import USED, VOICES

VOICE = VOICES["openai"]
KEY = "sg-bench-aborts"


class Probe:
    """A provider that does what the model's name says, and counts what it could send."""

    def __init__(self) -> None:
        self.sent = 0
        self.reached = asyncio.Event()
        """Set by each request."""

    async def __call__(self, exchange: Exchange) -> None:
        self.reached.set()
        match exchange.json["model"]:
            case "waits":
                await exchange.closed.wait()
            case "speaks":
                await self._speaks(exchange, "x", INTERVAL / 1000)
            case "floods":
                await self._speaks(exchange, "x" * 2**14, 0)
            case "fails":
                await exchange.reply(VOICE.failure("down"), 503)
            case "drops":
                exchange.reset()
            case _:
                await exchange.stream(*VOICE.begins("x"), *VOICE.ends(VOICE.usage(USED)))

    async def _speaks(self, exchange: Exchange, word: str, pause: float) -> None:
        """Words without end."""
        *opening, event = VOICE.begins(word)
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(opening))
        while not exchange.closed.is_set():
            await exchange.chunk(event)
            self.sent += len(event)
            await asyncio.sleep(pause)


def server(probe: str) -> Server:
    """The gateway with the mock for load, and the probed provider."""

    def command(told: Setting) -> Sequence[str]:
        config: dict[str, Any] = gateway_config(told, KEY)
        for use in config["pipelines"]["main"]["plugins"]:
            if use["use"] == "model_access":
                use["settings"] = {"callers": {"bench": ["*"]}}
            if use["use"] == "cost":
                use["settings"] = {"prices": {"*": {"input": 0.15, "output": 0.60}}}
        each = {"dialect": "openai", "api_key": "sk-mock", "retry": {"attempts": 1}, "circuit": None}
        # Of a name of its own, since a provider that is asked twice in a call is asked out of its budget for retries.
        urls = {"probe": probe, "failing": probe, "nobody": closed_port()}
        config["providers"] |= {name: {**each, "base_url": url} for name, url in urls.items()}
        config["models"] |= {name: {"provider": "probe"} for name in ("waits", "speaks", "floods", "answers")}
        last = {"provider": "probe", "model": "answers"}
        config["models"] |= {
            "after-503": [{"provider": "failing", "model": "fails"}, last],
            "after-reset": [{"provider": "failing", "model": "drops"}, last],
            "after-refusal": [{"provider": "nobody", "model": "answers"}, last],
        }
        path = told.directory / "sidegate.yaml"
        path.write_bytes(msgspec.json.encode(config))
        return [sys.executable, "-m", "sidegate", "serve", str(path)]

    return Server("sidegate", command, KEY)


async def ask(port: int, model: str, *, buffer: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has asked for a stream."""
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock)
    body = msgspec.json.encode({"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]})
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


def leave(writer: asyncio.StreamWriter, how: str) -> None:
    if how == "RST":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    else:
        writer.close()
