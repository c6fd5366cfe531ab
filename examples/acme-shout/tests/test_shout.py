"""Shout: words are replaced in every delivery, wherever events cut them, and the contract of a plugin is kept."""

from __future__ import annotations

import re

import pytest
from acme_shout import Settings, Shout
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract import (
    BlockEnd,
    Call,
    Chunk,
    End,
    Finish,
    Handler,
    Part,
    Reasoning,
    Reply,
    Report,
    Text,
    ToolCall,
    Usage,
)
from sidegate.testing import PLUGIN_CHECKS, Driven, check_plugin, drive, host, says

WORDS = {"acme": "ACME", "acme corp": "ACME Corp", "corp ltd": "Corp. Ltd", "café": "Café", "ab": "", "c++": "C++"}


def a_plugin(words: dict[str, str] | None = None) -> Shout:
    return Shout(Settings(words=words or WORDS), host())


def sends(*parts: Part, whole: bool = False) -> Handler:
    """A handler that sends these parts, an event each, or all in one body."""

    async def handler(call: Call) -> Reply:
        chunks = [Chunk(parts=parts, whole=True, closing=True)] if whole else [Chunk.of(part) for part in parts]
        for chunk in chunks:
            await call.send(chunk)
        return Reply()

    return handler


def text_of(driven: Driven, choice: int) -> str:
    return "".join(part.text for part in driven.parts if isinstance(part, Text) and part.choice == choice)


@pytest.mark.parametrize("check", PLUGIN_CHECKS)
async def test_it_keeps_the_contract(check: str) -> None:
    await check_plugin(check, Shout, Settings(words=WORDS))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_word_is_replaced_in_any_case(stream: bool) -> None:
    driven = await drive(a_plugin(), says("Ask Acme", " or ACME", " today", stream=stream), stream=stream)
    assert driven.error is None
    assert driven.text == "Ask ACME or ACME today"


async def test_a_word_cut_by_events_is_found_and_little_is_held_back() -> None:
    driven = await drive(a_plugin(), says("At a", "c", "m", "e c", "or", "ner, acm", "e"))
    assert [part.text for part in driven.parts if isinstance(part, Text)] == ["At ", "ACME corner, ", "ACME"]


async def test_the_longer_of_two_words_wins() -> None:
    driven = await drive(a_plugin(), says("acme ", "corp", " ltd and corp", " ltd"))
    assert driven.text == "ACME Corp ltd and Corp. Ltd"


async def test_part_of_a_word_is_no_word() -> None:
    driven = await drive(a_plugin(), says("acme", "ology, m", "acme, acme_", "x"))
    assert driven.text == "acmeology, macme, acme_x"


async def test_untouched_events_are_the_same_events() -> None:
    chunk = Chunk.of(Text("nothing here"))
    seen: list[Chunk] = []

    async def handler(call: Call) -> Reply:
        await call.send(chunk)
        return Reply()

    class Watch(Shout):
        async def __call__(self, call: Call, handler: Handler) -> Reply:
            call.tap(seen.append)
            return await super().__call__(call, handler)

    await drive(Watch(Settings(words=WORDS), host()), handler)
    assert seen == [chunk]
    assert seen[0] is chunk


@pytest.mark.parametrize("whole", [False, True])
async def test_choices_do_not_mix(whole: bool) -> None:
    parts: list[Part] = [
        Text("ac"),
        Text("acm", 1),
        Text("me"),
        Text("e corp", 1),
        Finish("stop"),
        Finish("stop", 1),
        End(),
    ]
    if whole:
        parts = [Text("acme"), Finish("stop"), Text("acme corp", 1), Finish("stop", 1), End()]
    driven = await drive(a_plugin(), sends(*parts, whole=whole), stream=not whole)
    assert (text_of(driven, 0), text_of(driven, 1)) == ("ACME", "ACME Corp")


@pytest.mark.parametrize("closing", [BlockEnd(), Finish("stop"), ToolCall("", "t1", "ask", 0, 1), Text("x", 0, 1)])
async def test_what_is_held_comes_before_what_ends_its_block(closing: Part) -> None:
    driven = await drive(a_plugin(), sends(Text("acme"), closing, End()))
    assert driven.parts == [Text("ACME"), closing, End()]


async def test_what_is_held_comes_before_the_end_where_nothing_else_ends_it() -> None:
    driven = await drive(a_plugin(), sends(Text("an ac"), Report(Usage(1, 2)), End()))
    assert driven.parts == [Text("an "), Report(Usage(1, 2)), Text("ac"), End()]


@pytest.mark.parametrize("whole", [False, True])
async def test_a_reply_of_tool_calls_only_passes_as_it_is(whole: bool) -> None:
    parts = (ToolCall('{"q":"acme"}', "t1", "ask"), BlockEnd(), Finish("tool_calls"), End())
    driven = await drive(a_plugin(), sends(*parts, whole=whole), stream=not whole)
    assert tuple(driven.parts) == parts


async def test_signed_reasoning_passes_as_it_is() -> None:
    parts = (Reasoning("acme"), Reasoning(signature="s"), BlockEnd(), Text("acme", 0, 1), BlockEnd(0, 1), End())
    driven = await drive(a_plugin(), sends(*parts))
    assert driven.error is None
    assert driven.parts == [*parts[:3], Text("ACME", 0, 1), *parts[4:]]


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in zip(edges, edges[1:], strict=False)]


@given(
    st.lists(st.sampled_from(["acme", "ACME", "corp", "ltd", "café", "ab", "a", "b", "c++", "_", " ", "  ", "é"])),
    st.lists(st.integers(0, 200), max_size=12),
)
async def test_however_a_reply_is_cut_it_reads_the_same(words: list[str], places: list[int]) -> None:
    text = "".join(words)
    ordered = sorted(WORDS, key=len, reverse=True)
    pattern = rf"(?i)(?<!\w)(?:{'|'.join(map(re.escape, ordered))})(?!\w)"
    driven = await drive(a_plugin(), says(*cut(text, places)))
    assert driven.text == re.sub(pattern, lambda found: WORDS[found.group().lower()], text)


def test_words_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(ValueError, match="case"):
        a_plugin({"acme": "A", "Acme": "B"})


async def test_the_longest_word_there_may_be_is_found() -> None:
    word = "w" * 100
    driven = await drive(a_plugin({word: "found"}), says(*word))
    assert driven.text == "found"
