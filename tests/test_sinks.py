"""Sinks: how a stream's bytes leave. The head waits for what it is the head of, and nobody comes between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.http_writer import StreamWriter
from aiohttp.test_utils import make_mocked_request

from sidegate.cors import Cors
from sidegate.http.cors import add_cors
from sidegate.http.gemini import ArraySink
from sidegate.http.server import Connection
from sidegate.http.sinks import StreamSink
from sidegate.http.ui import TextSink, UISink
from tests.upstream.scene import HandClock

EVENT = b"data: one\n\n"


class Wire(asyncio.Transport):
    """The socket of a client: what was written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...


class Line(Connection):
    """With room for what aiohttp's mock of a request puts there."""


def asked(wire: Wire, origins: tuple[str, ...] = ()) -> web.Request:
    """A request that came by `wire`, to a gateway that pages of `origins` may call."""
    loop = asyncio.get_running_loop()
    connection = Line(web.Server(cast("Any", None)), send_timeout=60.0, loop=loop)
    app = web.Application()
    if origins:
        add_cors(app, Cors(origins=origins))
        app.on_response_prepare.freeze()
    return make_mocked_request(
        "POST",
        "/",
        {"Origin": "https://a.example"},
        app=app,
        transport=wire,
        protocol=connection,
        writer=StreamWriter(connection, loop),
    )


def at_once(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run it to its end, which it must reach without waiting for anything."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


SINKS = [
    pytest.param(StreamSink, id="events"),
    pytest.param(UISink, id="ui"),
    pytest.param(TextSink, id="text"),
    pytest.param(ArraySink, id="array"),
]
Make = Callable[..., StreamSink]


@pytest.mark.parametrize("make", SINKS)
async def test_the_head_leaves_with_the_first_event_in_one_write(make: Make) -> None:
    wire = Wire()
    sink = make(asked(wire), HandClock(), comments=True)
    await sink.write(EVENT)
    assert len(wire.writes) == 1
    assert wire.writes[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"one" in wire.writes[0]
    assert sink.write_now(EVENT)
    assert len(wire.writes) == 2


@pytest.mark.parametrize("comments", [True, False])
async def test_a_sign_of_life_sends_the_head_once(comments: bool) -> None:
    wire = Wire()
    sink = StreamSink(asked(wire), HandClock(), comments=comments)
    await sink.beat()
    await sink.beat()
    assert wire.writes[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(wire.writes) == (2 if comments else 1)


@pytest.mark.parametrize("make", SINKS)
@pytest.mark.parametrize("origins", [(), ("https://a.example",)], ids=["", "cors"])
async def test_between_a_head_and_its_first_event_nothing_waits(make: Make, origins: tuple[str, ...]) -> None:
    """So a heartbeat cannot come between, and no lock is needed."""
    sink = make(asked(Wire(), origins), HandClock(), comments=True)
    at_once(sink.write(EVENT))


async def test_a_stream_that_says_nothing_has_a_head_and_an_end_all_the_same() -> None:
    wire = Wire()
    await StreamSink(asked(wire), HandClock(), comments=True).end()
    assert len(wire.writes) == 1
    assert wire.writes[0].endswith(b"\r\n\r\n0\r\n\r\n")


async def test_a_text_that_fails_before_its_first_word_has_a_head() -> None:
    wire = Wire()
    await TextSink(asked(wire), HandClock(), comments=False).fail(b"")
    assert wire.writes[0].startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_reader_that_has_no_room_is_waited_for() -> None:
    wire = Wire()
    request = asked(wire)
    sink = StreamSink(request, HandClock(), comments=True)
    await sink.write(EVENT)
    request.protocol.pause_writing()
    assert not sink.write_now(EVENT)
    request.protocol.resume_writing()
    assert sink.write_now(EVENT)


async def test_what_comes_after_the_reader_has_left_is_dropped() -> None:
    """Also by whoever writes past the outlet."""
    wire = Wire()
    sink = StreamSink(asked(wire), HandClock(), comments=True)
    await sink.write(EVENT)
    write_now = sink.write_now
    sink.leave()
    assert write_now(EVENT)
    await sink.write(EVENT)
    assert len(wire.writes) == 1
