"""Server-sent events as bytes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidegate.errors import ReplyError
from sidegate.wire import sse

ENDS = ["\n", "\r\n", "\r"]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(stream)]
    return [stream[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def events(pieces: list[bytes], size: int = sse.MAX_EVENT_BYTES) -> tuple[list[bytes], bytes | None]:
    splitter = sse.Splitter(size)
    return [event for piece in pieces for event in splitter.feed(piece)], splitter.close()


def reference(stream: bytes) -> list[bytes]:
    """The data of each event, read line by line as the standard tells it, with no thought of speed."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found: list[bytes] = []
    lines: list[bytes] = []
    for line in text.split(b"\n")[:-1]:
        if not line and lines:
            found.append(b"\n".join(lines))
            lines = []
        elif line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        elif line == b"data":
            lines.append(b"")
    return found


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Streams with every line end, comments, blank lines, several data lines, and text of more than a byte."""
    line = st.sampled_from(
        ["data: {}", "data:x", "data", "data:  two", ": ping", "event: e", "id: 1", "data: é\u2028😀"]
    )
    parts: list[str] = ["\ufeff"] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 5))):
        for text in draw(st.lists(line, min_size=1, max_size=3)):
            parts += [text, draw(st.sampled_from(ENDS))]
        parts += draw(st.lists(st.sampled_from(ENDS), min_size=1, max_size=2))
    return "".join(parts).encode()


@settings(max_examples=300, deadline=None)
@given(streams(), st.data())
def test_any_cut_of_the_bytes_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    whole = events([stream])
    assert events(cut(stream, places)) == whole
    assert events([bytes([byte]) for byte in stream]) == whole


SHORT = b"data: {}\n\n"


def row_of_short(data: bytes, start: int) -> int:
    while data.startswith(SHORT, start):
        start += len(SHORT)
    return start


def take(splitter: sse.Splitter, piece: bytes, batch: list[bytes]) -> None:
    """What a piece brings, as it stood: events and rows."""
    for event in splitter.around(piece, row_of_short, batch):
        batch.append(event)  # noqa: PERF402  # rows are put between them meanwhile


@settings(max_examples=300, deadline=None)
@given(streams(), st.integers(0, 3), st.data())
def test_rows_that_are_left_whole_stand_among_the_events_as_they_were_sent(
    stream: bytes, rows: int, data: st.DataObject
) -> None:
    stream = stream.replace(b"data: one\n\n", SHORT) + SHORT * rows
    splitter = sse.Splitter()
    batch: list[bytes] = []
    for piece in cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=8))):
        take(splitter, piece, batch)
    whole, rest = events([stream])
    assert (b"".join(batch), splitter.close()) == (b"".join(whole), rest)


def test_a_row_is_left_whole_behind_an_event_that_comes_in_two_pieces() -> None:
    splitter = sse.Splitter()
    batch: list[bytes] = []
    take(splitter, SHORT * 2 + b": pi", batch)
    assert batch == [SHORT * 2]
    take(splitter, b"ng\n\n" + SHORT * 3 + b"data: {", batch)
    assert batch == [SHORT * 2, b": ping\n\n", SHORT * 3]
    take(splitter, b"}\n\n" + SHORT, batch)
    assert batch[3:] == [SHORT * 2]


@settings(max_examples=300, deadline=None)
@given(streams())
def test_events_say_what_the_standard_says(stream: bytes) -> None:
    found, _ = events([stream])
    assert [data for event in found if (data := sse.data(event)) is not None] == reference(stream)
    assert all(event.endswith((b"\n\n", b"\n\r\n", b"\r\r\n")) for event in found)


@settings(max_examples=200, deadline=None)
@given(streams())
def test_joined_events_are_the_same_stream_to_the_next_reader(stream: bytes) -> None:
    found, _ = events([stream])
    assert events([b"".join(found)])[0] == found


def test_bytes_are_unchanged_where_lines_end_with_lf_or_crlf() -> None:
    for end in (b"\n", b"\r\n"):
        stream = end.join([b"event: a", b'data: {"a": 1}', b"", b": ping", b"", b"data: [DONE]", b"", b""])
        assert b"".join(events([stream])[0]) == stream


def test_an_event_is_given_out_at_the_cr_without_waiting_for_its_lf() -> None:
    splitter = sse.Splitter()
    assert splitter.feed(b"data: a\r\n\r") == [b"data: a\r\n\r\n"]
    assert splitter.feed(b"\ndata: b\r\n\r\n") == [b"data: b\r\n\r\n"]
    assert splitter.close() is None


def test_a_byte_order_mark_is_dropped_even_in_pieces() -> None:
    assert events([b"\xef", b"\xbb", b"\xbfdata: a\n\n"]) == ([b"data: a\n\n"], None)
    assert events([b"\xef\xbb\xbfdata: a\n\n"]) == ([b"data: a\n\n"], None)
    assert events([b"data: a\n\n\xef\xbb\xbfdata: b\n\n"])[0][1] == b"\xef\xbb\xbfdata: b\n\n"


def test_the_unterminated_rest_is_given_at_the_close() -> None:
    splitter = sse.Splitter()
    assert splitter.feed(b"data: a\n\ndata: [DONE]\n") == [b"data: a\n\n"]
    assert splitter.close() == b"data: [DONE]\n"
    assert splitter.close() is None


def test_an_event_that_grows_too_large_is_refused_however_it_comes() -> None:
    stream = b"data: ok\n\ndata: " + b"x" * 100 + b"\n\n"
    for pieces in ([stream], [bytes([byte]) for byte in stream], cut(stream, [9, 40, 112])):
        splitter = sse.Splitter(64)
        found: list[bytes] = []

        def read(splitter: sse.Splitter = splitter, pieces: list[bytes] = pieces, found: list[bytes] = found) -> None:
            for piece in pieces:
                found.extend(splitter.feed(piece))
            splitter.close()

        with pytest.raises(ReplyError) as raised:
            read()
        assert raised.value.code == "event_too_large"
        assert found == [b"data: ok\n\n"]


def test_an_endless_line_is_refused() -> None:
    splitter = sse.Splitter(1000)
    for _ in range(1000):
        assert splitter.feed(b"x") == []
    with pytest.raises(ReplyError):
        splitter.feed(b"x")


def test_an_event_of_the_size_allowed_passes() -> None:
    event = b"data: " + b"x" * 56 + b"\n\n"
    assert events([event], 64) == ([event], None)


def growth(small: Callable[[], None], large: Callable[[], None]) -> float:
    """How many times the work `large` is. It is four times as much to do: linear is 4, quadratic 16.

    The least of several tries, of this thread's time and without the collector: what else the machine does is left out.
    """

    def least(work: Callable[[], None]) -> float:
        return min(timed(work) for _ in range(5))

    def timed(work: Callable[[], None]) -> float:
        start = time.thread_time()
        work()
        return time.thread_time() - start

    gc.disable()
    try:
        return least(large) / least(small)
    finally:
        gc.enable()


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_large_event_in_small_pieces_is_not_quadratic(end: bytes) -> None:
    def split(size: int) -> None:
        splitter = sse.Splitter()
        splitter.feed(b"data: a" + end + end)
        for _ in range(size // 1024):
            splitter.feed(b"x" * 1024)
        assert len(splitter.feed(end + end)) == 1

    assert growth(partial(split, 1 << 20), partial(split, 4 << 20)) < 10


def test_many_events_in_one_piece_are_not_quadratic() -> None:
    def split(count: int) -> None:
        assert len(events([b"data: x\n\n" * count])[0]) == count

    assert growth(partial(split, 25_000), partial(split, 100_000)) < 10


def test_data_lines_are_joined_and_lose_one_space() -> None:
    assert sse.data(b"data: a\ndata:b\ndata:  c\ndata\n\n") == b"a\nb\n c\n"
    assert sse.data(b"event: x\r\ndata: a\r\n\r\n") == b"a"
    assert sse.data(b"data: a\rdata: b\n\n") == b"a\nb"
    assert sse.data(b"data: a\nb") == b"a"
    assert sse.data(b"data: [DONE]\n") == b"[DONE]"


def test_an_event_without_data_has_none() -> None:
    assert sse.data(b": ping\n\n") is None
    assert sse.data(b"event: ping\n\n") is None
    assert sse.data(b"database: 1\n\n") is None


def test_u2028_and_u0085_end_no_line() -> None:
    text = "a\u2028b\u0085c\x0bd".encode()
    assert sse.data(b"data: " + text + b"\n\n") == text
    assert sse.data(b"event: x\ndata: " + text + b"\n\n") == text


def test_a_comment_before_the_data_does_not_hide_it() -> None:
    assert events([b": ping\ndata: a\n\n"])[0] == [b": ping\ndata: a\n\n"]
    assert sse.data(b": ping\ndata: a\n\n") == b"a"


def test_blank_lines_are_passed_over_at_once() -> None:
    """A provider that sends nothing else takes no more of the event loop than one that sends nothing."""
    splitter = sse.Splitter()
    asked: list[int] = []

    def row(data: bytes, start: int) -> int:
        asked.append(start)
        return start

    found = list(splitter.around(b"data: a\n\n" + b"\n" * 9999 + b"data: b\n\n" + b"\n" * 9999, row, []))
    assert found == [b"data: a\n\n", b"data: b\n\n"]
    assert len(asked) <= 4


def test_the_kind_is_the_last_event_field() -> None:
    assert sse.kind(b"event: a\ndata: x\n\n") == "a"
    assert sse.kind(b"data: x\r\nevent:b\r\n\r\n") == "b"
    assert sse.kind(b"data: x\n\n") == ""


@given(st.binary(max_size=40))
def test_what_is_framed_is_read_back(payload: bytes) -> None:
    [event] = events([sse.frame(payload, "e")])[0]
    assert sse.data(event) == payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert sse.kind(event) == "e"


def test_a_comment_cannot_smuggle_an_event() -> None:
    assert sse.comment("a\n\ndata: b\r\n") == b": a  data: b  \n\n"
    assert sse.frame(b"x", "a\ndata: b") == b"event: a data: b\ndata: x\n\n"
