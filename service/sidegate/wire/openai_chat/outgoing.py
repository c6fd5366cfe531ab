"""Chat Completions requests, written: for an OpenAI provider that a client of another dialect has asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sidegate.contract.meaning import (
    Content,
    Message,
    OpaqueContent,
    Request,
    ResponseFormat,
    TextContent,
    Tool,
    ToolResult,
    ToolUse,
)
from sidegate.wire.openai_request import OPAQUE_CALL, write_piece


def write_request(request: Request, dropped: list[str]) -> dict[str, Any]:
    """The request as a JSON object; what has no counterpart is left out and named in `dropped`, once."""
    lost = _Lost(dropped)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [one for message in request.messages for one in _turn(message, lost)],
        "stream": request.stream or None,
        "stream_options": {"include_usage": True} if request.stream else None,
        # Not max_completion_tokens: every server of this dialect knows the older word, few the newer.
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "seed": request.seed,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "n": request.choices,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request),
        "parallel_tool_calls": request.parallel_tool_calls if request.tools else None,
        "response_format": _response_format(request.response_format),
        "reasoning_effort": request.reasoning_effort,
        "user": request.user,
        "metadata": request.metadata,
    }
    lost.note("top_k", request.top_k is not None)
    lost.note("reasoning_tokens", request.reasoning_tokens is not None)
    for name in request.extra:
        lost.note(name)
    return {name: value for name, value in body.items() if value is not None}


class _Lost:
    """Names what is left out, each once."""

    def __init__(self, dropped: list[str]) -> None:
        self._dropped = dropped

    def note(self, name: str, is_lost: bool = True) -> None:
        if is_lost and name not in self._dropped:
            self._dropped.append(name)


def _turn(message: Message, lost: _Lost) -> Iterator[dict[str, Any]]:
    """One turn as messages: the results of tools first, for they must follow the calls at once.

    What a tool has shown besides text is shown by the user right after: there is no place for it in the result.
    """
    results = [piece for piece in message.content if isinstance(piece, ToolResult)]
    for result in results:
        yield {"role": "tool", "tool_call_id": result.id, "content": _result(result, lost)}
    shown = [piece for result in results for piece in result.content if not isinstance(piece, TextContent)]
    rest = [*shown, *(piece for piece in message.content if not isinstance(piece, ToolResult))]
    if not rest and message.content:
        return
    named = {} if message.name is None else {"name": message.name}
    if message.role == "assistant":
        yield {"role": "assistant", **_assistant(rest, lost), **named}
    else:
        yield {"role": message.role, "content": _content(rest, lost), **named}


def _assistant(content: Sequence[Content], lost: _Lost) -> dict[str, Any]:
    calls: list[Any] = []
    rest: list[Content] = []
    for piece in content:
        if isinstance(piece, ToolUse):
            function = {"name": piece.name, "arguments": piece.arguments or "{}"}
            calls.append({"id": piece.id, "type": "function", "function": function})
        elif isinstance(piece, OpaqueContent) and piece.kind == OPAQUE_CALL:
            calls.append(piece.data)
        else:
            rest.append(piece)
    said = _content(rest, lost)
    if isinstance(said, list) and all(piece.get("type") == "text" for piece in said):
        # Many servers take an assistant's words as a string only.
        said = "".join(str(piece["text"]) for piece in said)
    return {"content": said or None, "tool_calls": calls} if calls else {"content": said}


def _content(content: Sequence[Content], lost: _Lost) -> str | list[dict[str, Any]]:
    """Text alone as a string, which every server takes; else the list."""
    if len(content) == 1 and isinstance(content[0], TextContent):
        return content[0].text
    pieces: list[dict[str, Any]] = []
    for piece in content:
        written = write_piece(piece)
        if written is None:
            lost.note(_name(piece))
        else:
            pieces.append(written)
    if len(pieces) == 1 and pieces[0].get("type") == "text":
        return str(pieces[0]["text"])
    return pieces or ""


def _name(piece: Content) -> str:
    kind = piece.kind if isinstance(piece, OpaqueContent) else type(piece).__name__.removesuffix("Content").lower()
    return f"messages.content.{kind}"


def _result(result: ToolResult, lost: _Lost) -> str:
    """The answer of a tool. The dialect has text alone here, and no word for a failure."""
    lost.note("tool_result.is_error", result.is_error)
    return "".join(piece.text for piece in result.content if isinstance(piece, TextContent))


def _tool(tool: Tool) -> dict[str, Any]:
    declared = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return {"type": "function", "function": {name: value for name, value in declared.items() if value is not None}}


def _tool_choice(request: Request) -> Any:
    choice = request.tool_choice
    if choice is None or not request.tools:
        return None
    if choice.startswith("tool:"):
        return {"type": "function", "function": {"name": choice.removeprefix("tool:")}}
    return choice


def _response_format(format: ResponseFormat | None) -> dict[str, Any] | None:
    if format is None:
        return None
    if format.kind != "json_schema":
        return {"type": format.kind}
    schema = {"name": format.name or "answer", "schema": format.schema or {}, "strict": format.strict}
    return {"type": "json_schema", "json_schema": {name: value for name, value in schema.items() if value is not None}}
