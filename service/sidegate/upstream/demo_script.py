"""What the demo provider will say to a request: decided beforehand, told piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sidegate.contract import (
    BlockEnd,
    Embedding,
    Finish,
    FinishReason,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
)
from sidegate.errors import ProviderError
from sidegate.upstream.demo_schema import instance
from sidegate.upstream.demo_words import answer, answer_from, asked, pieces, thought, tool_results, vector
from sidegate.wire.faults import provider_error

MAX_CHOICES = 128
MAX_STOPS = 16
MAX_VECTOR_NUMBERS = 2**20
MAX_DIMENSIONS = 4096
SIGNATURE = "demo"

_encode = msgspec.json.Encoder().encode


class Block(Struct, frozen=True):
    """A content block, whole. `name` is the tool's."""

    kind: Literal["reasoning", "text", "tool"]
    text: str
    name: str = ""


class Script(Struct, frozen=True):
    """One choice, whole."""

    blocks: tuple[Block, ...]
    finish: FinishReason = "stop"
    stop_sequence: str | None = None


def scripts(request: Request, fixed: str, echo: bool) -> list[Script]:
    """What each choice will say. Raises the `ProviderError` of a request that a provider would not take."""
    _check(request)
    choices = request.choices or 1
    question = asked(request)
    lead = _reasoning(request, question)
    tool = None if fixed or echo else _tool(request)
    if tool is not None:
        arguments = instance(tool.parameters or {"type": "object"})
        call = Block("tool", _json(arguments if isinstance(arguments, dict) else {}), tool.name)
        return [Script((*lead, call), "tool_calls")] * choices
    same = question if echo else fixed or _formatted(request, question)
    if same is not None:
        return [_spoken(lead, same, request.stop)] * choices
    return [_spoken(lead, answer(question, choice), request.stop) for choice in range(choices)]


def told(script: Script, call_id: str, choice: int, limit: int | None) -> Iterator[Part]:
    """The parts of one choice, a token each; `length` where more than `limit` tokens were to be said."""
    left = limit
    for index, block in enumerate(script.blocks):
        opened = block.kind == "tool"
        if opened:
            yield ToolCall("", f"call_{call_id[:24]}{choice}", block.name, choice, index)
        for piece in pieces(block.text):
            if left == 0:
                if opened:
                    yield BlockEnd(choice, index)
                yield Finish("length", choice)
                return
            left = None if left is None else left - 1
            opened = True
            yield _part(block, piece, choice, index)
        if block.kind == "reasoning":
            yield Reasoning("", choice, index, SIGNATURE)
        if opened:
            yield BlockEnd(choice, index)
    yield Finish(script.finish, choice, script.stop_sequence)


def vectors(request: Request, usual: int) -> Iterator[Part]:
    """The reply to an embeddings request."""
    dimensions = usual if request.dimensions is None else request.dimensions
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise _refused(f"The demo provider gives 1 to {MAX_DIMENSIONS} dimensions.", "dimensions")
    if dimensions * len(request.input) > MAX_VECTOR_NUMBERS:
        raise _refused(f"The demo provider gives at most {MAX_VECTOR_NUMBERS} numbers at a time.", "input")
    return (Embedding(vector(text, dimensions), index) for index, text in enumerate(request.input))


def _check(request: Request) -> None:
    """Refuses what would be too much work, as providers do."""
    if request.choices is not None and not 1 <= request.choices <= MAX_CHOICES:
        raise _refused(f"The demo provider gives 1 to {MAX_CHOICES} choices.", "n")
    if len(request.stop) > MAX_STOPS:
        raise _refused(f"The demo provider knows at most {MAX_STOPS} stop sequences.", "stop")


def _refused(message: str, param: str) -> ProviderError:
    return provider_error(400, {}, message=message, code="invalid_value", type="invalid_request_error", param=param)


def _part(block: Block, piece: str, choice: int, index: int) -> Part:
    match block.kind:
        case "reasoning":
            return Reasoning(piece, choice, index)
        case "tool":
            return ToolCall(piece, None, None, choice, index)
        case "text":
            return Text(piece, choice, index)


def _reasoning(request: Request, question: str) -> tuple[Block, ...]:
    if request.reasoning_effort in (None, "none") and not request.reasoning_tokens:
        return ()
    said = list(pieces(thought(question)))
    return (Block("reasoning", "".join(said[: request.reasoning_tokens or None])),)


def _tool(request: Request) -> Tool | None:
    """The tool to call: none once a result has come, so that a conversation ends."""
    choice = request.tool_choice or "auto"
    if not request.tools or choice == "none" or not _asks(request):
        return None
    if not choice.startswith("tool:"):
        return request.tools[0]
    for tool in request.tools:
        if tool.name == choice.removeprefix("tool:"):
            return tool
    raise _refused("The tool that must be called is not among the tools.", "tool_choice")


def _asks(request: Request) -> bool:
    last = request.messages[-1] if request.messages else None
    return last is not None and last.role == "user" and bool(last.text) and not tool_results(request)


def _formatted(request: Request, question: str) -> str | None:
    """What all choices say alike: a tool's result, an instance of a schema."""
    results = tool_results(request)
    shape = request.response_format
    if shape is None or shape.kind == "text":
        return answer_from(results) if results else None
    if shape.kind == "json_schema" and shape.schema is not None:
        return _json(instance(shape.schema))
    return _json({"answer": answer_from(results) if results else answer(question, 0)})


def _spoken(lead: tuple[Block, ...], text: str, stops: tuple[str, ...]) -> Script:
    text, met = _stopped(text, stops)
    return Script((*lead, Block("text", text)), "stop", met)


def _json(value: Any) -> str:
    try:
        return _encode(value).decode()
    except (msgspec.MsgspecError, RecursionError, OverflowError, ValueError):
        # A `const` nested or numbered beyond reason.
        return "{}"


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """The text before the stop sequence that is complete first, and which that is."""
    met: tuple[int, int, str] | None = None
    for stop in stops:
        start = text.find(stop) if stop else -1
        if start >= 0 and (met is None or (start + len(stop), start) < met[:2]):
            met = (start + len(stop), start, stop)
    return (text, None) if met is None else (text[: met[1]], met[2])
