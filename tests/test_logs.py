from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from select import PIPE_BUF
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.telemetry.logs import JsonLog, configure_logging, mask
from tests.plugins.calls import HandClock

KEY = "sg-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"


class Writes:
    """A stream that keeps each write apart."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self.writes.append(data)

    def flush(self) -> None: ...

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in self.writes]


@contextmanager
def routed() -> Iterator[Writes]:
    """Inside the test, not as a fixture: pytest hangs handlers of its own on the root logger, anew for each phase."""
    stream = Writes()
    undo = configure_logging(JsonLog(stream, HandClock()))
    try:
        yield stream
    finally:
        undo()


def written(event: str, fields: Mapping[str, Any]) -> bytes:
    stream = Writes()
    JsonLog(stream, HandClock()).write(event, fields)
    assert len(stream.writes) == 1
    return stream.writes[0]


def test_a_line_says_when_and_what() -> None:
    line = json.loads(written("call", {"status": 200, "caller": "ann"}))
    assert line == {"time": "2026-11-22T12:00:00Z", "event": "call", "status": 200, "caller": "ann"}


def test_fields_cannot_forge_time_or_event() -> None:
    line = json.loads(written("call", {"time": "never", "event": "start"}))
    assert (line["time"], line["event"]) == ("2026-11-22T12:00:00Z", "call")


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.floats() | st.binary() | st.none()))
def test_nothing_logged_breaks_the_line(fields: dict[str, Any]) -> None:
    data = written("call", fields)
    assert data.endswith(b"\n")
    assert len(data.decode().splitlines()) == 1
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in data.decode()[:-1])
    json.loads(data)


def test_terminals_and_viewers_are_not_steered_by_what_is_logged() -> None:
    hostile = '\n\r\x1b[2J"}\x00\x7f\x9b31m\u2028\u2029\u202e\u2066 grüße'
    data = written("call", {"model": hostile})
    assert json.loads(data)["model"] == hostile
    assert not any(c in data.decode()[:-1] for c in "\n\r\x1b\x00\x7f\x9b\u2028\u2029\u202e\u2066")
    assert "grüße" in data.decode()


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_what_json_cannot_say_costs_neither_the_line_nor_its_other_fields() -> None:
    circular: list[Any] = []
    circular.append(circular)
    line = json.loads(
        written("x", {"error": ValueError("no"), "half": "\ud800", "odd": Odd(), "loop": circular, "n": 1})
    )
    assert line["error"] == "ValueError('no')"
    assert line["half"] == "'\\ud800'"
    assert (line["odd"], line["n"]) == ("<Odd>", 1)


def test_a_stream_that_takes_no_more_loses_the_line_and_counts_it() -> None:
    stream = io.BytesIO()
    log = JsonLog(stream, HandClock())
    stream.close()
    log.write("call", {})
    assert log.lost == 1


async def test_lines_of_calls_that_end_in_one_turn_are_one_write_in_their_order() -> None:
    stream = Writes()
    log = JsonLog(stream, HandClock())
    for number in range(3):
        log.write("call", {"number": number})
    assert stream.writes == []
    await asyncio.sleep(0)
    (data,) = stream.writes
    assert [json.loads(line)["number"] for line in data.splitlines()] == [0, 1, 2]
    log.write("call", {"number": 3})
    await asyncio.sleep(0)
    assert json.loads(stream.writes[1])["number"] == 3


async def test_what_is_no_call_is_written_at_once_and_after_what_waits() -> None:
    stream = Writes()
    log = JsonLog(stream, HandClock())
    log.write("call", {})
    log.write("reload_failed", {})
    assert [json.loads(line)["event"] for line in b"".join(stream.writes).splitlines()] == ["call", "reload_failed"]
    await asyncio.sleep(0)
    assert len(stream.writes) == 1


async def test_a_write_is_what_a_pipe_takes_in_one_piece_so_that_workers_do_not_tear_each_others_lines() -> None:
    stream = Writes()
    log = JsonLog(stream, HandClock())
    sizes = [900] * 9 + [10_000] + [900] * 2
    for number, size in enumerate(sizes):
        log.write("call", {"number": number, "text": "x" * size})
    await asyncio.sleep(0)
    assert [len(data.splitlines()) for data in stream.writes] == [4, 4, 1, 1, 2]
    assert all(data.endswith(b"\n") and (len(data) <= PIPE_BUF or data.count(b"\n") == 1) for data in stream.writes)
    numbers = [json.loads(line)["number"] for line in b"".join(stream.writes).splitlines()]
    assert numbers == list(range(len(sizes)))


def test_a_line_that_waits_is_out_when_the_loop_has_ended() -> None:
    stream = Writes()
    log = JsonLog(stream, HandClock())

    async def last() -> None:
        log.write("call", {"number": 1})

    asyncio.run(last())
    log.flush()
    assert [line["number"] for line in stream.lines] == [1]


async def test_threads_and_the_loop_lose_no_line_of_each_other() -> None:
    stream = Writes()
    log = JsonLog(stream, HandClock())

    def others() -> None:
        for number in range(500):
            log.write("log", {"number": number})

    thread = asyncio.create_task(asyncio.to_thread(others))
    for number in range(500):
        log.write("call", {"number": number})
        await asyncio.sleep(0)
    await thread
    log.flush()
    lines = [json.loads(line) for line in b"".join(stream.writes).splitlines()]
    for event in ("log", "call"):
        assert [line["number"] for line in lines if line["event"] == event] == list(range(500))


async def test_all_lines_of_a_write_that_failed_are_counted() -> None:
    stream = io.BytesIO()
    log = JsonLog(stream, HandClock())
    stream.close()
    log.write("call", {})
    log.write("call", {})
    await asyncio.sleep(0)
    assert log.lost == 2


def test_any_mapping_is_logged() -> None:
    assert json.loads(written("x", MappingProxyType({"n": 1})))["n"] == 1


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"Bearer {KEY}",
        "bearer abcdefgh12",
        "BeArEr%20abcdefgh12",
        "BASIC dXNlcjpwYXNzd29yZDEy",
        "sk-proj-abcdefghij0123456789",
        "AIzaSyA1234567890abcdefghijklmnopqrstu",
    ],
)
def test_keys_are_masked(text: str) -> None:
    assert mask(f"got ({text}).") == "got ([masked])."
    assert text.encode() not in written("x", {"message": f"got {text}", "deep": [{"a": text}]})


@pytest.mark.parametrize(
    "text", ["risk-management-of-everything-we-do", "sg-1", "the bearer of news", "basic understanding"]
)
def test_words_are_not_taken_for_keys(text: str) -> None:
    assert mask(text) == text


def test_libraries_log_as_lines() -> None:
    with routed() as stream:
        logging.getLogger("asyncio").warning("slow %s", f"task {KEY}\nforged")
    (line,) = stream.lines
    assert line["message"] == "slow task [masked]\nforged"
    assert (line["event"], line["level"], line["logger"]) == ("log", "warning", "asyncio")


def test_a_traceback_is_one_field() -> None:
    with routed() as stream:
        try:
            raise ValueError(f"with {KEY}")
        except ValueError:
            logging.getLogger("sidegate.x").exception("failed")
    (line,) = stream.lines
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: with [masked]")


def test_a_record_with_wrong_arguments_is_still_logged() -> None:
    with routed() as stream:
        logging.getLogger("x").error("%d and %d", "one")
    assert stream.lines[0]["message"] == "'%d and %d'"


def test_parse_errors_of_the_server_do_not_bring_their_bytes() -> None:
    raw = "GET / HTTP/1.1\nAuthorization: Bearer short\n"
    with routed() as stream:
        logging.getLogger("aiohttp.server").error("Error from %s", raw, exc_info=ValueError(raw))
    (line,) = stream.lines
    assert line["message"] == "Error from %s (ValueError)"
    assert "exception" not in line
    assert b"short" not in stream.writes[0]


def test_the_access_log_is_silent() -> None:
    with routed() as stream:
        logging.getLogger("aiohttp.access").info("GET /v1/models?key=secret")
    assert stream.writes == []


def test_routing_is_undone() -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("aiohttp.server").filters[:]
    configure_logging(JsonLog(Writes(), HandClock()))()
    assert (root.handlers[:], root.level, logging.getLogger("aiohttp.server").filters[:]) == before
    assert not logging.getLogger("aiohttp.access").disabled


def test_time_is_utc() -> None:
    assert datetime.fromisoformat(json.loads(written("x", {}))["time"]).utcoffset() is not None
