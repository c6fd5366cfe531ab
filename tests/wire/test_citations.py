"""What a reply rests on: the same in every dialect that has a word for it, at the right place, whatever was changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sidegate.contract.chunk import Chunk
from sidegate.contract.meaning import (
    BlockEnd,
    Citation,
    End,
    Finish,
    Part,
    Reasoning,
    Start,
    Text,
    ToolCall,
)
from sidegate.contract.stages import Change
from sidegate.errors import Ending
from sidegate.wire.registry import DIALECTS
from tests.wire.recordings import Case, parameters
from tests.wire.saying import assembled, written

CHAT, RESPONSES = "openai.chat", "openai.responses"
ANTHROPIC, GEMINI = "anthropic.messages", "gemini.generate"
URL, TITLE = "https://example.com/sea", "The sea"

SAID = "Grüße. "
CITED = "Das Meer 🦊 ist blau."
TEXT = SAID + CITED
PLACE = (len(SAID), len(TEXT))

every = pytest.mark.parametrize("client", [CHAT, RESPONSES, ANTHROPIC, GEMINI])
both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])

_ANNOTATION = {"type": "url_citation", "start_index": PLACE[0], "end_index": PLACE[1], "url": URL, "title": TITLE}
_INNER = {key: value for key, value in _ANNOTATION.items() if key != "type"}
_FOUND = {
    "type": "web_search_result_location",
    "url": URL,
    "title": TITLE,
    "cited_text": "blue",
    "encrypted_index": "E",
}
_SEGMENT = {"startIndex": len(SAID.encode()), "endIndex": len(TEXT.encode()), "text": CITED}
_GROUNDING = {
    "groundingChunks": [{"web": {"uri": URL, "title": TITLE}}],
    "groundingSupports": [{"segment": _SEGMENT, "groundingChunkIndices": [0]}],
}

WHOLES: dict[str, dict[str, Any]] = {
    CHAT: {
        "choices": [
            {
                "message": {
                    "role": "assistant",
                    "content": TEXT,
                    "annotations": [{"type": "url_citation", "url_citation": _INNER}],
                },
                "finish_reason": "stop",
                "index": 0,
            }
        ]
    },
    RESPONSES: {
        "id": "r",
        "object": "response",
        "status": "completed",
        "output": [
            {
                "type": "message",
                "id": "m",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": TEXT, "annotations": [_ANNOTATION]}],
            }
        ],
    },
    ANTHROPIC: {
        "id": "m",
        "type": "message",
        "content": [{"type": "text", "text": SAID}, {"type": "text", "text": CITED, "citations": [_FOUND]}],
        "stop_reason": "end_turn",
    },
    GEMINI: {
        "candidates": [
            {
                "content": {"parts": [{"text": TEXT}, {"text": "", "thoughtSignature": "AAAA"}], "role": "model"},
                "finishReason": "STOP",
                "groundingMetadata": _GROUNDING,
            }
        ]
    },
}

PARTS: dict[str, list[Part]] = {
    dialect: [*DIALECTS[dialect].read_whole(json.dumps(whole).encode())] for dialect, whole in WHOLES.items()
}
providers = pytest.mark.parametrize("provider", list(PARTS))


def told(dialect: str, parts: list[Part], *, stream: bool) -> list[Part]:
    """What a client of the dialect reads of it."""
    if stream:
        return heard_of(dialect, written(DIALECTS[dialect], [[part] for part in parts]))
    return [*DIALECTS[dialect].read_whole(assembled(DIALECTS[dialect], [parts]))]


def heard_of(dialect: str, body: bytes) -> list[Part]:
    """A stream as the pump reads it."""
    splitter, meter = DIALECTS[dialect].splitter(), DIALECTS[dialect].meter()
    found: list[Part] = []
    for event in splitter.feed(body):
        meter.event(event)
        found += (meter.reader or DIALECTS[dialect].read_event)(event)
    # Where a dialect has no mark of the end, the pump says it.
    return found if found[-1] == End() else [*found, End()]


def places(parts: list[Part]) -> list[tuple[str | None, str | None, str]]:
    """What is cited, and for which words of the reply."""
    found = []
    for part in parts:
        if type(part) is Citation:
            block = "".join(one.text for one in parts if type(one) is Text and one.block == part.block)
            found.append((part.url, part.title, part.words or block[part.start : part.end]))
    return found


@providers
@every
@both
def test_a_source_and_its_place_are_the_same_in_every_dialect(provider: str, client: str, stream: bool) -> None:
    heard = told(client, PARTS[provider], stream=stream)
    assert "".join(part.text for part in heard if type(part) is Text) == TEXT
    # Anthropic cites by blocks: a place within one is told as the whole of it.
    whole = client == ANTHROPIC and provider != ANTHROPIC
    if provider == client == GEMINI:
        # Its own repeats the text, and what is written anew may not.
        assert [url for url, _, _ in places(heard)] == [URL]
        return
    assert places(heard) == [(URL, TITLE, TEXT if whole else CITED)]


@providers
@both
def test_what_a_dialect_cites_comes_back_as_it_was(provider: str, stream: bool) -> None:
    heard = told(provider, PARTS[provider], stream=stream)
    (was,) = [part for part in PARTS[provider] if type(part) is Citation]
    (now,) = [part for part in heard if type(part) is Citation]
    if provider != GEMINI:
        assert (now.data, now.quote) == (was.data, was.quote)


# --- edits ------------------------------------------------------------------------------------------------------------


class Edit:
    def __init__(self, change: Callable[[str], str]) -> None:
        self._change = change

    def see(self, chunk: Chunk) -> list[Chunk]:
        return [chunk.with_text(self._change)]

    def end(self, ending: Ending) -> list[Chunk]:
        return []


class Late(Edit):
    """Holds the text back until something else comes."""

    def __init__(self) -> None:
        self._held: list[Chunk] = []

    def see(self, chunk: Chunk) -> list[Chunk]:
        if chunk.text:
            self._held.append(chunk)
            return []
        held, self._held = self._held, []
        return [*held, chunk]


async def edited(parts: list[Part], edit: Edit) -> list[Part]:
    stage = Change(edit, 5, None)
    chunks = [chunk for part in parts for chunk in await stage.passes([Chunk.of(part)])]
    return [part for chunk in chunks for part in chunk.parts]


@providers
@every
@both
async def test_an_edit_of_what_is_cited_leaves_the_source_and_no_copy(provider: str, client: str, stream: bool) -> None:
    changed = await edited(PARTS[provider], Edit(lambda text: text.replace("Meer", "XXXXXX").replace("blue", "y")))
    (cited,) = [part for part in changed if type(part) is Citation]
    assert (cited.url, cited.title) == (URL, TITLE)
    assert (cited.start, cited.end, cited.words, cited.quote, cited.data) == (None, None, None, None, None)
    heard = told(client, changed, stream=stream)
    assert "Meer" not in str(heard)
    if (provider, client) != (GEMINI, GEMINI):
        block = CITED if provider == ANTHROPIC and client != ANTHROPIC else None
        ((url, title, words),) = places(heard)
        assert (url, title) == (URL, TITLE)
        assert "XXXXXX" in words
        assert block is None or words == block.replace("Meer", "XXXXXX")


@providers
@every
async def test_an_edit_that_changes_nothing_or_holds_back_leaves_all_as_it_was(provider: str, client: str) -> None:
    for edit in (Edit(lambda text: text), Late()):
        changed = await edited(PARTS[provider], edit)
        assert changed == PARTS[provider]


async def test_a_place_before_a_change_stands_and_one_behind_it_does_not() -> None:
    before, behind = Citation(URL, start=0, end=3), Citation(URL, start=8, end=10)
    parts: list[Part] = [Text("abc secret de"), before, behind]
    changed = await edited(parts, Edit(lambda text: text.replace("secret", "x")))
    assert changed == [Text("abc x de"), before, Citation(URL)]


# --- writing ----------------------------------------------------------------------------------------------------------


def test_what_is_cited_of_several_blocks_stands_in_the_text_of_all() -> None:
    parts: list[Part] = [
        Start(),
        Text("Ha", block=0),
        Citation("https://a", block=0),
        BlockEnd(block=0),
        Text("llo", block=1),
        Text("!", block=1),
        Citation("https://b", "B", start=1, end=3, block=1),
        Citation("https://b", "B", start=1, end=3, block=1),
        Citation("https://c", start=5, end=90, block=1),
        Citation(title="no address", block=1),
        BlockEnd(block=1),
        Finish("stop"),
        End(),
    ]
    whole = json.loads(assembled(DIALECTS[CHAT], [parts]))
    told = [one["url_citation"] for one in whole["choices"][0]["message"]["annotations"]]
    assert [(one["url"], one["start_index"], one["end_index"]) for one in told] == [
        ("https://a", 0, 2),
        ("https://b", 3, 5),
        ("https://c", 2, 6),
    ]
    lines = written(DIALECTS[CHAT], [[part] for part in parts]).decode().split("\n\n")
    chunks = [json.loads(line[6:])["choices"][0] for line in lines if '"choices":[{' in line]
    assert [chunk["delta"].get("annotations") is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["finish_reason"] == "stop"


@every
def test_nothing_is_cited_where_nothing_is(client: str) -> None:
    parts: list[Part] = [Start(), Text("Hi"), Finish("stop"), End()]
    for said in (written(DIALECTS[client], [parts]), assembled(DIALECTS[client], [parts])):
        assert b"citation" not in said
        assert b"grounding" not in said


@every
def test_sources_that_come_after_a_call_break_no_stream(client: str) -> None:
    parts: list[Part] = [
        Start(),
        Text("Hi", block=1),
        Reasoning("hm", block=0),
        ToolCall("{}", "c", "f", block=3),
        BlockEnd(block=3),
        Citation(URL, TITLE, block=1),
        Finish("tool_calls"),
        End(),
    ]
    heard = told(client, parts, stream=True)
    assert [part.reason for part in heard if type(part) is Finish] == ["tool_calls"]
    assert "".join(part.text for part in heard if type(part) is Text) == "Hi"


def test_odd_citations_cost_no_event() -> None:
    odd: Any
    for odd in (
        None,
        7,
        [],
        "x",
        {"groundingChunks": 7},
        {"groundingChunks": [7, {}, {"web": 1}, {"web": {"uri": 1}}]},
    ):
        candidate = {"content": {"parts": [{"text": "a"}]}, "groundingMetadata": odd, "citationMetadata": odd}
        said = json.dumps({"candidates": [candidate]}).encode()
        assert [part for part in DIALECTS[GEMINI].read_event(b"data: " + said + b"\n\n") if type(part) is Text]
    for odd in (7, [7], [{"type": "url_citation"}], [{"url_citation": {"url": 1}}], [{"url_citation": 1}]):
        delta = {"choices": [{"index": 0, "delta": {"content": "a", "annotations": odd}}]}
        assert DIALECTS[CHAT].read_event(b"data: " + json.dumps(delta).encode() + b"\n\n")


# --- recorded ---------------------------------------------------------------------------------------------------------

RECORDED = parameters(
    *("anthropic/messages-", "openai/", "gemini/gemini-", "openrouter/chat-", "xai/"),
    only=lambda case: case.good and {"citations", "grounding", "annotations"} & set(case.meta["tags"]) != set(),
)


@pytest.mark.parametrize("case", RECORDED)
def test_what_was_cited_once_is_cited_everywhere(case: Case) -> None:
    dialect = {"messages": ANTHROPIC, "gemini": GEMINI, "responses": RESPONSES}.get(case.dialect, CHAT)
    if case.stream or case.body.lstrip()[:1] == b"[":
        parts = heard_of(dialect, case.body)
    else:
        parts = [*DIALECTS[dialect].read_whole(case.body)]
    urls = {part.url for part in parts if type(part) is Citation and part.url is not None}
    for client in (CHAT, RESPONSES, ANTHROPIC, GEMINI):
        stream = written(DIALECTS[client], [[part] for part in parts])
        if client == RESPONSES:
            # What comes behind the end of a text is in the last event.
            stream = b"".join(stream.partition(b"event: response.completed")[1:])
        heard = heard_of(client, stream)
        assert {part.url for part in heard if type(part) is Citation and part.url is not None} == urls, client
