from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract import BlockEnd, Finish, Part, Text, ToolCall
from sidegate_plugins._json_fence import LONGEST, Fence, Fences


def passed(*pieces: str) -> str:
    fence = Fence()
    return "".join([*map(fence.feed, pieces), fence.rest()])


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('\n ```JSON\r\n{"a": 1}\r\n```\n\n', '{"a": 1}'),
        ("```\n[1]\n```", "[1]"),
        ("```[1]```", "[1]"),
        ('```json\n{"a": "```"}\n```', '{"a": "```"}'),
        ("```json\n[1]", "[1]"),
        ("[1]", "[1]"),
        (" [1]\n", " [1]\n"),
        ('{"a": "```json\\n"}', '{"a": "```json\\n"}'),
        ("```json\n[1]\n```\nThere you are.", "[1]\n```\nThere you are."),
        ("Here: ```json\n[1]\n```", "Here: ```json\n[1]\n```"),
        ("``", "``"),
        ("```json", "```json"),
        ("", ""),
    ],
)
def test_a_fence_all_round_is_taken_off_wherever_it_is_cut(text: str, bare: str) -> None:
    assert passed(text) == passed(*text) == bare
    for at in range(len(text)):
        assert passed(text[:at], text[at:]) == bare


@given(st.lists(st.text("` \n{}x", max_size=5), max_size=6))
def test_nothing_is_lost_but_the_fence(pieces: list[str]) -> None:
    text = "".join(pieces)
    given = passed(*pieces)
    assert given == passed(text)
    assert given == text or (text.lstrip().startswith("```") and given in text)


def test_little_is_kept_back() -> None:
    fence = Fence()
    assert fence.feed(" " * LONGEST) == " " * LONGEST
    inside = Fence()
    inside.feed("```\n[")
    assert len(inside.feed("\n" * 5000)) == 5000


def test_each_choice_has_its_own_and_what_was_kept_goes_before_the_end_of_the_block() -> None:
    fences = Fences()
    parts: list[Part] = [
        Text("```json\n"),
        Text("[2]\n`", 1),
        Text("[1]\n``"),
        BlockEnd(),
        Finish("stop"),
        ToolCall("{}"),
        Finish("stop", 1),
    ]
    given = [each for part in parts for each in fences.passed(part)]
    assert fences.found
    assert given == [
        Text("[2]\n`", 1),
        Text("[1]"),
        Text("\n``"),
        BlockEnd(),
        Finish("stop"),
        ToolCall("{}"),
        Finish("stop", 1),
    ]
