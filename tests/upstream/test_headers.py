"""Headers of replies: found by a search, and the same as if every line had been cut apart."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.errors import CutError, ReplyError
from sidegate.upstream.headers import Headers
from sidegate.upstream.reader import MAX_HEADER_BYTES
from tests.upstream.wires import CHUNKED, OK, fed

names = st.sampled_from(["a", "aa", "b", "a-b", "b-a", "content-type"]).flatmap(
    lambda name: st.sampled_from([name, name.upper(), name.title()])
)
values = st.text(st.sampled_from("aAbB:-, \té"), max_size=12)
lines = st.lists(st.tuples(names, st.sampled_from(["", " ", "\t "]), values), max_size=8)


def head_of(sent: list[tuple[str, str, str]]) -> bytes:
    fields = "".join(f"{name}:{space}{value}\r\n" for name, space, value in sent)
    return OK + fields.encode("latin-1")


@given(lines)
def test_a_header_is_found_as_in_the_lines_cut_apart(sent: list[tuple[str, str, str]]) -> None:
    apart: dict[str, list[str]] = {}
    for name, _, value in sent:
        apart.setdefault(name.lower(), []).append(value.strip(" \t"))
    headers = Headers(head_of(sent))
    assert dict(headers) == {name: ", ".join(each) for name, each in apart.items()}
    assert len(headers) == len(apart)
    for name in ("a", "A", "aa", "b", "A-b", "b-A", "Content-Type", "none"):
        told = apart.get(name.lower())
        assert headers.get(name) == (None if told is None else ", ".join(told))
        assert (name in headers) is (told is not None)
        assert headers.has(f"\r\n{name.lower()}:".encode()) is (told is not None)
        assert headers.says(name, b"ab") is (told is not None and told[0].lower().startswith("ab"))


async def test_headers_after_an_interim_reply_are_those_of_the_reply() -> None:
    async with fed() as there:
        interim = b"\r\nHTTP/1.1 103 Hints\r\nX: early\r\nY: early\r\n\r\n"
        asked = there.exchange([interim + b"\r\n" + OK + b"X: late\r\nContent-Length: 2\r\n\r\nhi"], ends=False)
        status, body = await asked
        assert (status, body) == (200, b"hi")
        assert not there.wire.closed


async def test_the_heads_of_interim_replies_count_towards_the_bound() -> None:
    large = b"X: " + b"a" * (MAX_HEADER_BYTES // 2)
    async with fed() as there:
        said = b"HTTP/1.1 103 Hints\r\n" + large + b"\r\n\r\n" + OK + large + b"\r\nContent-Length: 2\r\n\r\nhi"
        await refused(there.exchange([said], ends=False))
        assert there.wire.closed


async def test_trailers_that_come_with_the_body_have_their_bound() -> None:
    body = CHUNKED + b"5\r\nhello\r\n0\r\n"
    async with fed() as there:
        assert await there.exchange([body + b"X: 1\r\n" * 1_000 + b"\r\n"], ends=False) == (200, b"hello")
        assert not there.wire.closed
    for end in (b"\r\n", b""):
        async with fed() as there:
            await refused(there.exchange([body + b"X: 1\r\n" * 10_000 + end], ends=False))
            assert there.wire.closed
            assert there.keeper.given == []


async def refused(asked: Coroutine[Any, Any, tuple[int, bytes]]) -> None:
    with pytest.raises((CutError, ReplyError)):
        await asked
