"""Plugins that get the contract wrong, in a real gateway: the call ends with an error that names them, is settled once,
holds nothing any more, and the next call is served.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any, cast

import aiohttp
import pytest

from sidegate.contract import Call, Chunk, Handler, Host, Observer, Plugin, Reply
from sidegate.errors import ConfigError, Refusal
from sidegate.testing import Running, demo_config, gateway
from tests.spending import totals

BUDGET = {"name": "all", "amount_usd": 1, "period": "day"}
COST = {"use": "cost", "settings": {"prices": {"demo*": {"input": 1, "output": 2}}, "budgets": [BUDGET]}}

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


class Mistaken(Plugin[None]):
    """Does what the call asks for in a header."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        match call.headers.get("x-mistake"):
            case "status":
                return cast("Reply", (await handler(call)).status)
            case "no return":
                await handler(call)
                return cast("Reply", None)
            case "no handler":
                return cast("Reply", None)
            case "async tap":
                call.tap(cast("Any", _sees))
            case "exit":
                sys.exit("nothing to do")
            case "exit after":
                await handler(call)
                sys.exit(3)
            case "exit in a tap":
                call.tap(lambda chunk: sys.exit(chunk.text))
            case "twice at once":
                return (await asyncio.gather(handler(call), handler(call)))[0]
            case "forgets what it holds":
                async with call.hold():
                    return await handler(call)
            case "refuses with success":
                raise Refusal(200, "fine", "All is well.")
            case _:
                pass
        return await handler(call)


class Quits(Observer[None]):
    """Watches, and calls `sys.exit`."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if "x-mistake" in call.headers:
            sys.exit(4)
        return await handler(call)


class Heads(Plugin[None]):
    """Says headers that have no place in a reply."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.reply_headers.update(
            cast(
                "dict[str, str]",
                {
                    "Content-Length": "5",
                    "transfer-encoding": "chunked",
                    "x a\r\nx-b": "c",
                    "": "nameless",
                    "x-number": 5,
                    6: "six",
                    "x-good": "yes",
                },
            )
        )
        return await handler(call)


class NeverMade(Plugin[None]):
    """Ends the process where it is made."""

    def __init__(self, settings: None, host: Host) -> None:
        super().__init__(settings, host)
        raise SystemExit(0)


class NeverStarted(Plugin[None]):
    """Ends the process where it is started."""

    async def start(self) -> None:
        raise SystemExit(0)

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        return await handler(call)


async def _sees(chunk: Chunk) -> None:
    raise Refusal(403, "blocked", "Nothing may pass.")


def use(cls: type[Any]) -> dict[str, str]:
    return {"use": f"{__name__}:{cls.__name__}"}


def config(*plugins: type[Any]) -> dict[str, Any]:
    return demo_config({"use": "log"}, *map(use, plugins), COST)


async def ask(running: Running, stream: bool, mistake: str | None = None) -> tuple[int, str, Any]:
    body = {"model": "demo", "max_tokens": 20, "stream": stream, "messages": [{"role": "user", "content": "Hello."}]}
    headers = {} if mistake is None else {"x-mistake": mistake}
    async with (
        aiohttp.ClientSession(running.url, timeout=aiohttp.ClientTimeout(10)) as client,
        client.post("/v1/chat/completions", json=body, headers=headers) as response,
    ):
        return response.status, await response.text(), response.headers


async def lines(running: Running, count: int) -> list[dict[str, Any]]:
    """What the log says of so many calls: written when they end, which a client cannot see."""
    async with asyncio.timeout(5):
        while len(running.log.events("call")) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return running.log.events("call")


def ledger_of(running: Running) -> Path:
    return Path(running.gateway.settings.ledger.url.removeprefix("sqlite:///"))


def states(running: Running) -> list[tuple[str, str]]:
    with closing(connect(ledger_of(running))) as file:
        return file.execute("SELECT state, ending FROM calls ORDER BY started_at").fetchall()


@both
@pytest.mark.parametrize(
    "mistake",
    [
        "status",
        "no return",
        "no handler",
        "async tap",
        "exit",
        "exit after",
        "exit in a tap",
        "twice at once",
        "forgets what it holds",
        "refuses with success",
    ],
)
async def test_a_mistaken_guard_ends_its_call_alone_is_named_and_leaves_nothing_held(
    mistake: str, stream: bool
) -> None:
    async with gateway(config(Mistaken)) as running:
        status, text, _ = await ask(running, stream, mistake)
        assert status in ({200, 500} if stream else {500})
        assert "plugin_error" in text
        good, said, _ = await ask(running, stream)
        assert (good, "plugin_error" in said) == (200, False)
        (wrong, right) = await lines(running, 2)
        assert (wrong["error"], wrong["ending"], wrong["plugin"]) == ("plugin_error", "failed", "Mistaken")
        assert (right["error"], right["ending"]) == (None, "complete")
        await running.service.ledger.flush()
        assert [state for state, _ in states(running)] == ["settled", "settled"]
        assert totals(ledger_of(running))[1] == 0
        assert len(running.service.live) == 0


@both
async def test_an_observer_that_quits_is_stepped_over(stream: bool) -> None:
    async with gateway(config(Quits)) as running:
        status, text, _ = await ask(running, stream, "exit")
        assert (status, "plugin_error" in text) == (200, False)
        assert (await lines(running, 1))[0]["ending"] == "complete"


@both
async def test_headers_that_have_no_place_in_a_reply_are_left_out(stream: bool) -> None:
    async with gateway(config(Heads)) as running:
        for _ in range(2):  # the second by the same connection, were the first one's end in the wrong place
            status, text, headers = await ask(running, stream)
            assert (status, text.rstrip().endswith("[DONE]" if stream else "}")) == (200, True)
            told = {str(name).lower() for name in headers}
            assert "x-good" in told
            assert not {"", "x-number", "x a", "x-b"} & told


@pytest.mark.parametrize("cls", [NeverMade, NeverStarted])
async def test_a_plugin_that_quits_before_it_serves_is_a_mistake_in_the_config(cls: type[Any]) -> None:
    with pytest.raises(ConfigError, match=r"pipelines\.main\[1\]: .*SystemExit: 0"):
        async with gateway(config(cls)):
            pass


@pytest.mark.parametrize("status", [0, 101, 200, 204, 304, 399, 600, 999])
def test_a_refusal_has_the_status_of_an_error(status: int) -> None:
    with pytest.raises(ValueError, match=f"400 to 599, and not {status}"):
        Refusal(status, "odd", "Odd.")


def test_a_message_that_is_no_text_is_told_as_far_as_it_can_be() -> None:
    assert Refusal(403, "odd", "not \ud800 here").message == "not ? here"
