"""Holding back of a reply: what is collected, let pass while it comes, and collected again."""

from __future__ import annotations

import pytest

from sidegate.contract import BlockEnd, Call, Chunk, End, Handler, Hold, Part, Plugin, Reply, Text
from sidegate.errors import PluginError
from sidegate.testing import drive, host, says
from tests.across.ground import CLIENTS, across
from tests.across.speaking import heard, plays, reply


class Doors(Plugin[None]):
    """Holds; opens and closes at words."""

    left: list[Chunk]

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        async with call.hold() as held:

            def see(chunk: Chunk) -> None:
                if chunk.text == "open":
                    held.open()
                elif chunk.text == "close":
                    held.close()

            call.tap(see)
            reply = await handler(call)
            self.left = list(held.chunks)
            return await self.then(call, handler, held, reply)

    async def then(self, call: Call, handler: Handler, held: Hold, reply: Reply) -> Reply:
        return reply


class Releases(Doors):
    async def then(self, call: Call, handler: Handler, held: Hold, reply: Reply) -> Reply:
        await held.release()
        return reply


class RunsAgain(Doors):
    async def then(self, call: Call, handler: Handler, held: Hold, reply: Reply) -> Reply:
        held.drop()
        reply = await handler(call)
        await held.release()
        return reply


async def test_what_was_collected_goes_with_what_opens_it_in_order() -> None:
    driven = await drive(Releases(None, host()), says("a", "b", "open", "c"))
    assert driven.text == "abopenc"
    assert isinstance(driven.parts[-1], End)


async def test_what_comes_after_it_is_closed_waits() -> None:
    doors = Doors(None, host())
    driven = await drive(doors, says("a", "open", "b", "close", "c"))
    assert driven.text == "aopenb"
    assert "".join(chunk.text for chunk in doors.left) == "closec"
    assert not any(isinstance(part, End) for part in driven.parts)
    whole = await drive(Releases(None, host()), says("a", "open", "b", "close", "c"))
    assert whole.text == "aopenbclosec"


async def test_it_may_be_opened_and_closed_often() -> None:
    driven = await drive(Releases(None, host()), says("open", "1", "close", "2", "3", "open", "4", "close", "5"))
    assert driven.text == "open1close23open4close5"


@pytest.mark.parametrize("words", [("a", "open"), ("open", "a", "close", "b")])
async def test_nothing_is_run_again_once_something_has_gone_on(words: tuple[str, ...]) -> None:
    driven = await drive(RunsAgain(None, host()), says(*words))
    assert isinstance(driven.error, PluginError)
    ((_, error),) = driven.failures
    assert "awaited handler again" in str(error)


async def test_it_may_be_run_again_where_all_was_held() -> None:
    assert (await drive(RunsAgain(None, host()), says("a", "b"))).text == "ab"


async def test_a_piece_that_opens_and_closes_is_held_from_its_start() -> None:
    """A batch that came together is one to the hold: what was decided last counts for all of it."""

    async def together(call: Call) -> Reply:
        await call.emit([Chunk.of(Text(word)) for word in ("open", "a", "close", "b")])
        return Reply()

    doors = Doors(None, host())
    assert (await drive(doors, together)).text == ""
    assert len(doors.left) == 4


class Shouts(Plugin[None]):
    """Lets go of other words than came."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        async with call.hold() as held:
            reply = await handler(call)
            held.chunks = [chunk.with_parts(map(_shouted, chunk.parts)) for chunk in held.chunks]
            await held.release()
        return reply


def _shouted(part: Part) -> Part:
    return Text(part.text.upper(), part.choice, part.block) if isinstance(part, Text) else part


class LeavesOut(Plugin[None]):
    async def __call__(self, call: Call, handler: Handler) -> Reply:
        async with call.hold() as held:
            reply = await handler(call)
            said = [chunk for chunk in held.chunks if chunk.text]
            held.chunks.remove(said[0])
            await held.release()
        return reply


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", CLIENTS)
async def test_what_a_plugin_makes_of_what_it_holds_is_what_the_client_gets(client: str, stream: bool) -> None:
    async with across(plugins=[{"use": "tests.test_holding:Shouts"}]) as on:
        on.plays[client] = plays(client, reply(Text("he", block=1), Text("llo", block=1), BlockEnd(block=1)))
        answer = await on.ask(client, client, stream=stream)
        assert heard(answer)[0].text == "HELLO"


@pytest.mark.parametrize("client", CLIENTS)
async def test_what_a_plugin_takes_out_of_what_it_holds_is_not_told(client: str) -> None:
    async with across(plugins=[{"use": "tests.test_holding:LeavesOut"}]) as on:
        on.plays[client] = plays(client, reply(Text("he", block=1), Text("llo", block=1), BlockEnd(block=1)))
        answer = await on.ask(client, client, stream=True)
        assert heard(answer)[0].text == "llo"
