"""Tool calls that a server counts in its own way are counted from 0 without gaps."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract.meaning import Finish, ToolCall
from sidegate.wire.openai_chat.indexes import FOR_HELPERS, FOR_TRANSLATION, Renumbering
from sidegate.wire.sse import Splitter, data
from tests.relaying import DONE, ROLE, STOP, delta, event
from tests.wire.recordings import Case, parameters


def call(index: Any = None, id: str | None = None, name: str | None = None, arguments: str = "") -> dict[str, Any]:
    """A piece of a tool call."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    named = {} if id is None else {"id": id, "type": "function"}
    return {**({} if index is None else {"index": index}), **named, "function": function}


def custom(index: int, id: str, name: str) -> dict[str, Any]:
    """The first piece of a custom tool's call."""
    return {"index": index, "id": id, "type": "custom", "custom": {"name": name, "input": ""}}


def calls(*pieces: dict[str, Any], choice: int = 0) -> bytes:
    return event({"id": "c1", "choices": [{"index": choice, "delta": {"tool_calls": list(pieces)}}], "x": 1.50})


def renumbered(*events: bytes, finishing: bool = False) -> list[Any]:
    """The events as they come out, decoded."""
    out = Renumbering(finishing).feed(b"".join(events))
    return [msgspec.json.decode(found) for one in out if (found := data(one)) not in (None, b"[DONE]")]


def indexes(*events: bytes) -> list[tuple[int, int]]:
    """Choice and index of each piece."""
    return [
        (choice["index"], piece["index"])
        for one in renumbered(*events)
        for choice in one["choices"]
        for piece in choice["delta"].get("tool_calls", [])
    ]


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([calls(call(1, "a", "f")), calls(call(1, arguments="{"))], [(0, 0), (0, 0)]),
        ([calls(call(2, "a", "f")), calls(call(5, "b", "g")), calls(call(2))], [(0, 0), (0, 1), (0, 0)]),
        ([calls(call(0, "a", "f", "{}"), call(0, "b", "g", "{}"))], [(0, 0), (0, 1)]),
        ([calls(call(0, "a", "f", "{}")), calls(call(0, "b", "g", "{}")), calls(call(0))], [(0, 0), (0, 1), (0, 1)]),
        ([calls(call(None, "a", "f", "{}")), calls(call(None, "b", "g", "{}"))], [(0, 0), (0, 1)]),
        ([calls(call(None, "a", "f"), call(None, "b", "g"))], [(0, 0), (0, 1)]),
        ([calls(call(3, "a", "f")), calls(call(4, "b", "f"), choice=1)], [(0, 0), (1, 0)]),
        ([calls(custom(0, "a", "f")), calls(custom(0, "b", "g"))], [(0, 0), (0, 1)]),
    ],
    ids=["blocks", "gaps", "one index in one event", "one index", "none", "none in one event", "per choice", "custom"],
)
def test_calls_are_counted_from_0_without_gaps(events: list[bytes], found: list[tuple[int, int]]) -> None:
    assert indexes(*events) == found


def test_what_is_right_is_not_touched() -> None:
    stream = ROLE + calls(call(0, "a", "f")) + calls(call(1, "b", "g"), call(0, arguments="{}")) + STOP + DONE
    assert b"".join(Renumbering(False).feed(stream)) == stream


def test_the_rest_of_an_event_stays() -> None:
    assert renumbered(calls(call(1, "a", "f")))[0]["x"] == 1.5


@pytest.mark.parametrize(
    "event_",
    [
        b'data: {"tool_calls"\n\n',
        b'data: "tool_calls"\n\n',
        b': "tool_calls"\n\n',
        b'data: {"choices": {"tool_calls": []}}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [1, {"index": "x"}, null]}}]}\n\n',
        b'data: {"choices": [1, {"delta": 1}, {"index": "x", "delta": {"tool_calls": [{"index": 7}]}}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": {"index": 7}}}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": 7}]}}]}\n\n',
    ],
)
def test_what_is_no_call_is_left_to_the_reader(event_: bytes) -> None:
    assert Renumbering(True).feed(event_) == [event_]


def test_an_event_that_ends_with_the_stream_is_put_right_too() -> None:
    splitter = Renumbering(False)
    assert splitter.feed(calls(call(1, "a", "f")).rstrip()) == []
    rest = splitter.close()
    assert rest is not None
    assert b'"index":0,"id":"a"' in rest
    assert Renumbering(False).close() is None


def test_a_choice_that_has_called_finishes_with_its_calls_for_those_who_would_not_look_otherwise() -> None:
    stream = [calls(call(0, "a", "f")), delta("stop"), event({"choices": [{"index": 1, "finish_reason": "stop"}]})]
    reasons = [one["choices"][0].get("finish_reason") for one in renumbered(*stream, finishing=True)]
    assert reasons == [None, "tool_calls", "stop"]
    assert b"".join(Renumbering(False).feed(b"".join(stream))) == b"".join(stream)


@pytest.mark.parametrize(("dialect", "reason"), [(FOR_TRANSLATION, "tool_calls"), (FOR_HELPERS, "stop")])
def test_a_whole_body_finishes_alike(dialect: Any, reason: str) -> None:
    message = {"role": "assistant", "tool_calls": [call(0, "a", "f", "{}")]}
    spoken = {"index": 1, "message": {"content": "x"}, "finish_reason": "stop"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}, spoken]
    parts = dialect.read_whole(msgspec.json.encode({"choices": choices}))
    assert [part.reason for part in parts if isinstance(part, Finish)] == [reason, "stop"]
    assert sum(isinstance(part, ToolCall) for part in parts) == 1


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 30)), max_size=20), st.integers(1, 40))
def test_however_they_are_counted_and_cut_there_are_no_gaps(pieces: list[tuple[int, int]], cut: int) -> None:
    seen: set[tuple[int, int]] = set()
    stream = b""
    for choice, index in pieces:
        first = (choice, index) not in seen
        seen.add((choice, index))
        piece = call(index, f"{choice}-{index}", "f") if first else call(index, arguments="{")
        stream += calls(piece, choice=choice)
    splitter, order = Renumbering(False), dict.fromkeys(pieces)
    out = [one for start in range(0, len(stream), cut) for one in splitter.feed(stream[start : start + cut])]
    for one, (choice, index) in zip(out, pieces, strict=True):
        expected = [known for known in order if known[0] == choice].index((choice, index))
        assert msgspec.json.decode(data(one) or b"")["choices"][0]["delta"]["tool_calls"][0]["index"] == expected


@pytest.mark.parametrize("case", parameters("", only=lambda case: case.dialect == "chat" and case.stream))
def test_recorded_streams_are_counted_rightly_and_else_untouched(case: Case) -> None:
    out = Renumbering(False).feed(case.body)
    for before, after in zip(Splitter().feed(case.body), out, strict=True):
        if before != after:
            assert case.name.startswith("openai-compatible/")
            changed = msgspec.json.decode(data(after) or b"")["choices"][0]["delta"]["tool_calls"]
            assert [piece["index"] for piece in changed] == [0]
