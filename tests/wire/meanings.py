"""Requests and replies for properties: any that a dialect can say, in the form in which all give them back."""

from __future__ import annotations

import json
from typing import Any, Literal

from hypothesis import strategies as st

from sidegate.contract.meaning import (
    BlockEnd,
    Citation,
    Content,
    End,
    FileContent,
    Finish,
    FinishReason,
    ImageContent,
    Message,
    Part,
    Reasoning,
    ReasoningContent,
    Report,
    Request,
    ResponseFormat,
    Start,
    Text,
    TextContent,
    Tool,
    ToolCall,
    ToolResult,
    ToolUse,
    Usage,
)
from sidegate.wire.words import WORDS

VENDORS = {"openai.responses": "openai", "anthropic.messages": "anthropic", "gemini.generate": "gemini"}

WORD = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)
SAID = WORD.map(lambda text: f"{text}.")
NAME = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
BASE64 = st.sampled_from(("AAAA", "iVBORw0KGgo=", "c2VhbGVk", "JVBERi0="))
VALUE = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | WORD
OBJECT = st.dictionaries(WORD, VALUE, max_size=3)
SCHEMA = st.builds(
    lambda names: {"type": "object", "properties": {name: {"type": "string"} for name in names}},
    st.lists(NAME, max_size=3, unique=True),
)
SHARE = st.sampled_from((0.0, 0.25, 1.0))


def _turn(draw: st.DrawFn, dialect: str, number: int, last: bool) -> list[Message]:
    """What a user says, and what the model says to it: perhaps calls, which are answered."""
    asks: list[Content] = [TextContent(draw(SAID))]
    if draw(st.booleans()):
        asks.append(ImageContent(data=draw(BASE64), media_type=draw(st.sampled_from(("image/png", "image/jpeg")))))
    if draw(st.booleans()):
        asks.append(FileContent(data=draw(BASE64), media_type="application/pdf", name="a.pdf"))
    turns = [Message("user", tuple(asks))]
    if last:
        return turns
    says: list[Content] = []
    vendor = VENDORS.get(dialect)
    if vendor is not None and draw(st.booleans()):
        says.append(ReasoningContent(draw(SAID), draw(BASE64), None, vendor))
    says.append(TextContent(draw(SAID)))
    calls = [ToolUse(f"c{number}_{at}", draw(NAME), json.dumps(draw(OBJECT))) for at in range(draw(st.integers(0, 2)))]
    turns.append(Message("assistant", (*says, *calls)))
    if calls:
        answers = [ToolResult(call.id, (TextContent(draw(SAID)),), _failed(draw, dialect)) for call in calls]
        turns.append(Message("user", tuple(answers)))
        turns.append(Message("assistant", (TextContent(draw(SAID)),)))
    return turns


def _failed(draw: st.DrawFn, dialect: str) -> bool:
    return "tool_result.is_error" in WORDS[dialect] and draw(st.booleans())


@st.composite
def requests(draw: st.DrawFn, dialect: str) -> Request:
    """Any request that the dialect has words for."""
    words = WORDS[dialect]
    system = [Message("system", (TextContent(draw(SAID)),))] if draw(st.booleans()) else []
    count = draw(st.integers(1, 3))
    turns = [turn for number in range(count) for turn in _turn(draw, dialect, number, number == count - 1)]
    names = draw(st.lists(NAME, max_size=2, unique=True))
    strict = "tools.strict" in words and draw(st.booleans())
    asked: dict[str, st.SearchStrategy[Any]] = {
        "max_tokens": st.integers(1, 2**31 - 1),
        "temperature": SHARE,
        "top_p": SHARE,
        "top_k": st.integers(1, 100),
        "stop": st.lists(SAID, min_size=1, max_size=3).map(tuple),
        "seed": st.integers(-(2**31), 2**31 - 1),
        "frequency_penalty": SHARE,
        "presence_penalty": SHARE,
        "reasoning_effort": st.sampled_from(("low", "medium", "high")),
        "user": SAID,
        "metadata": st.dictionaries(NAME, WORD, min_size=1, max_size=2),
    }
    fields = {name: draw(each) for name, each in asked.items() if name in words and draw(st.booleans())}
    choice = draw(st.sampled_from((None, "auto", "required", "none", f"tool:{names[0]}"))) if names else None
    kinds = [kind for kind in ("json_object", "json_schema") if f"response_format.{kind}" in words]
    kind: Literal["json_object", "json_schema"] | None = draw(st.sampled_from((None, *kinds)))
    shape = None if kind is None else ResponseFormat(kind, draw(SCHEMA) if kind == "json_schema" else None)
    return Request(
        model="gemini-3-pro",
        messages=(*system, *turns),
        tools=tuple(Tool(name, draw(st.none() | SAID), draw(SCHEMA), strict or None) for name in names),
        tool_choice=choice,
        response_format=shape,
        **{"max_tokens": 9, **fields},
    )


def meant(request: Request) -> dict[str, Any]:
    """What a request asks, without what is only form: how texts are cut, labels of schemas, the absence of a wish."""
    shape = request.response_format
    return {
        "model": request.model,
        "system": "".join(message.text for message in request.messages if message.role == "system"),
        "turns": [(m.role, [_piece(one) for one in m.content]) for m in request.messages if m.role != "system"],
        "tools": [(tool.name, tool.description, tool.parameters, bool(tool.strict)) for tool in request.tools],
        "tool_choice": request.tool_choice,
        "shape": shape and (shape.kind, shape.schema),
        **{
            name: getattr(request, name)
            for name in ("max_tokens", "temperature", "top_p", "top_k", "stop", "seed", "frequency_penalty")
        },
        **{name: getattr(request, name) for name in ("presence_penalty", "reasoning_effort", "user", "metadata")},
    }


def _piece(piece: Content) -> Any:
    match piece:
        case ToolUse(id, name, arguments):
            return "call", id, name, json.loads(arguments)
        case _:
            return piece


@st.composite
def replies(draw: st.DrawFn, dialect: str) -> list[Part]:
    """Any reply: thinking with its signature, texts with what they rest on, calls in pieces that interleave."""
    vendor = VENDORS.get(dialect, "anthropic")
    parts: list[Part] = [Start("id", "m")]
    if draw(st.booleans()):
        thought = draw(SAID)
        cut = draw(st.integers(0, len(thought)))
        parts += [Reasoning(piece, block=0) for piece in (thought[:cut], thought[cut:]) if piece]
        if dialect != "openai.chat" and draw(st.booleans()):
            parts.append(Reasoning("", 0, 0, draw(BASE64), None, vendor))
        parts.append(BlockEnd(block=0))
    for piece in draw(st.lists(SAID, max_size=3)):
        parts.append(Text(piece, block=1))
    if any(type(part) is Text for part in parts):
        urls = draw(st.lists(st.sampled_from(("https://a.example", "https://b.example")), max_size=2, unique=True))
        parts += [Citation(url, f"of {url}", block=1) for url in urls]
        parts.append(BlockEnd(block=1))
    queues: list[list[Part]] = []
    for number in range(draw(st.integers(0, 3))):
        arguments = json.dumps(draw(OBJECT))
        cut = draw(st.integers(0, len(arguments)))
        block = 3 + number
        pieces = [ToolCall(text, block=block) for text in (arguments[:cut], arguments[cut:])]
        queues.append([ToolCall("", f"id_{number}", draw(NAME), block=block), *pieces, BlockEnd(block=block)])
    called = bool(queues)
    while queues := [queue for queue in queues if queue]:
        parts.append(draw(st.sampled_from(queues)).pop(0))
    reason: FinishReason = "tool_calls" if called else draw(st.sampled_from(("stop", "length")))
    fresh, made = draw(st.integers(1, 10**9)), draw(st.integers(0, 10**9))
    return [*parts, Finish(reason), Report(Usage(fresh, made, draw(st.integers(0, fresh)))), End()]
