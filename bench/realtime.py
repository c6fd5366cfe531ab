"""What a Realtime session costs on its way: latency added to each event, and CPU of the gateway for each event.

`python -m bench.realtime`, from the root of the repository. A provider that echoes sound runs in a process of its own,
the gateway in another, and this one is the client; the same is asked of the provider directly. `--quick` shows that it
runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import statistics
import sys
import tempfile
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import NamedTuple

import aiohttp
import msgspec
from aiohttp import WSMsgType, web

from bench.process import Process, share_out

PIECE = base64.b64encode(b"\x01\x02" * 4800).decode()
"""200 ms of sound, as the vendor sends it at a time."""
DELTA = msgspec.json.encode(
    {
        "type": "response.output_audio.delta",
        "event_id": "event_1",
        "response_id": "resp_1",
        "item_id": "item_1",
        "output_index": 0,
        "content_index": 0,
        "delta": PIECE,
    }
).decode()
APPEND = msgspec.json.encode({"type": "input_audio_buffer.append", "audio": PIECE[:3200]}).decode()
"""50 ms of sound, as clients send it at a time."""
BEGUN = '{"type":"response.created","event_id":"event_0","response":{"id":"resp_1","status":"in_progress"}}'
PATH = "/v1/realtime"
QUERY = "?model=voice"


class Found(NamedTuple):
    median: float
    """Microseconds from an event sent to its answer."""
    p99: float
    events: float
    """Events of sound a second, one way, flat out."""


async def session(request: web.Request) -> web.WebSocketResponse:
    """Answers each piece of sound with one; pours as many as `response.create` asks for."""
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    await socket.send_str(BEGUN)
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        if message.data.startswith('{"type":"pour'):
            for _ in range(msgspec.json.decode(message.data)["count"]):
                await socket.send_str(DELTA)
        else:
            await socket.send_str(DELTA)
    return socket


async def provide(place: Path) -> None:
    app = web.Application()
    app.router.add_get(PATH, session)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await asyncio.to_thread(place.write_text, f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


async def measured(url: str, rounds: int, poured: int) -> Found:
    async with aiohttp.ClientSession() as http, http.ws_connect(url + PATH + QUERY, max_msg_size=0) as socket:
        await socket.receive()
        for _ in range(rounds // 10):
            await socket.send_str(APPEND)
            await socket.receive()
        taken = []
        for _ in range(rounds):
            began = perf_counter()
            await socket.send_str(APPEND)
            await socket.receive()
            taken.append((perf_counter() - began) * 1e6)
        began = perf_counter()
        await socket.send_str(msgspec.json.encode({"type": "pour", "count": poured}).decode())
        for _ in range(poured):
            await socket.receive()
        pace = poured / (perf_counter() - began)
    return Found(statistics.median(taken), statistics.quantiles(taken, n=100)[98], pace)


def config(state: Path, provider: str) -> bytes:
    return msgspec.json.encode(
        {
            "listen": {"port": 0},
            "admin": None,
            "state": str(state),
            "providers": {"p": {"dialect": "openai", "base_url": provider + "/v1", "api_key": "k"}},
            "models": {"voice": {"provider": "p", "model": "gpt-realtime"}},
            "pipelines": {"main": {"plugins": [{"use": "log"}, {"use": "cost"}]}},
            "routes": [{"name": "voice", "pipeline": "main", "operations": ["realtime"]}],
        }
    )


def waited(file: Path) -> str:
    """The URL in a file, as soon as it is there."""
    until = monotonic() + 30
    while monotonic() < until:
        words = file.read_text().replace(")", "").split() if file.exists() else []
        if (found := next((word for word in words if word.startswith("http://")), None)) is not None:
            return found
        sleep(0.05)
    raise RuntimeError(f"nothing is served: {file}")


def compared(rounds: int, poured: int) -> None:
    cores = share_out()
    with tempfile.TemporaryDirectory(prefix="sidegate-bench-") as name:
        folder = Path(name)
        port, log = folder / "port", folder / "gateway.log"
        here = [sys.executable, "-m", "bench.realtime", "--provide", str(port)]
        provider = Process(here, cores.provider, folder / "provider.log")
        gateway = None
        try:
            url = waited(port)
            (folder / "config.json").write_bytes(config(folder / "state", url))
            command = [sys.executable, "-m", "sidegate", "serve", str(folder / "config.json")]
            gateway = Process(command, cores.server, log)
            served = waited(log)
            direct = asyncio.run(measured(url, rounds, poured))
            before = gateway.cpu()
            through = asyncio.run(measured(served, rounds, poured))
            # Each round is an event up and one down.
            spent = (gateway.cpu() - before) * 1e6 / (poured + rounds * 2.2)
        finally:
            for process in (gateway, provider):
                if process is not None:
                    process.stop()
    print_table(direct, through, spent)


def print_table(direct: Found, through: Found, spent: float) -> None:
    rows = [
        ("", "direct", "through", "added"),
        *(
            (what, f"{one:.0f}", f"{two:.0f}", f"{two - one:.0f}")
            for what, one, two in (
                ("up and down, median, us", direct.median, through.median),
                ("up and down, p99, us", direct.p99, through.p99),
            )
        ),
        ("sound down, events/s", f"{direct.events:.0f}", f"{through.events:.0f}", ""),
        ("CPU of the gateway, us an event", "", f"{spent:.0f}", ""),
    ]
    sys.stdout.write("".join(f"{row[0]:34}{row[1]:>9}{row[2]:>9}{row[3]:>9}\n" for row in rows))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.realtime", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--provide", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.provide is not None:
        asyncio.run(provide(asked.provide))
        return 0
    compared(*((50, 100) if asked.quick else (5000, 20_000)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
