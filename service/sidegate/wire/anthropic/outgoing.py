"""Requests of Anthropic Messages, written: for an Anthropic provider that a client of another dialect has asked.

Source: https://platform.claude.com/docs/en/api/messages, in the version that `TRANSLATED_VERSION` names.
"""

from __future__ import annotations

from typing import Any

from sidegate.contract.meaning import Content, Message, OpaqueContent, Request, TextContent, Tool, ToolResult
from sidegate.errors import BadRequest
from sidegate.wire.anthropic.calls import with_own_ids
from sidegate.wire.anthropic.content import write_content

TRANSLATED_VERSION = "2023-06-01"
"""The `anthropic-version` of what is written here. Later ones refuse `temperature`, `top_p` and `top_k`, which clients
of other dialects send; a client's own version goes with its own bytes."""

DEFAULT_MAX_TOKENS = 4096
"""Anthropic requires a limit, other dialects do not: this many tokens every model of it may write."""

_EFFORTS = frozenset(("low", "medium", "high", "xhigh", "max"))
# What a request read from this dialect may keep; other dialects have none of these words, or mean the same by them.
_OWN = frozenset(
    (
        "cache_control",
        "container",
        "context_management",
        "diagnostics",
        "inference_geo",
        "mcp_servers",
        "output_config",
        "speed",
        "thinking",
    )
)


def write_request(request: Request, dropped: list[str]) -> dict[str, Any]:
    """The request as a JSON object; what has no counterpart is left out and named in `dropped`, once.

    Raises `BadRequest` for more than one choice, which would quietly be answered with one.
    """
    if request.choices is not None and request.choices > 1:
        raise BadRequest("n: This provider gives one choice.", param="n")
    lost: list[str] = []
    thinking = request.reasoning_tokens
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": DEFAULT_MAX_TOKENS + (thinking or 0) if request.max_tokens is None else request.max_tokens,
        "system": _system(request, lost),
        "messages": _turns(request, lost),
        "stream": request.stream or None,
        "temperature": _temperature(request, lost),
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop_sequences": _stop(request, lost),
        "tools": _tools(request) or None,
        "metadata": None if request.user is None else {"user_id": request.user},
        "thinking": None if thinking is None else {"type": "enabled", "budget_tokens": thinking},
        "output_config": _output(request, lost),
    }
    if body["tools"]:
        body["tool_choice"] = _tool_choice(request)
    elif request.tool_choice not in (None, "auto", "none"):
        lost.append("tool_choice")
    _name_lost(request, lost)
    _add_own(request, body, lost)
    dropped.extend(name for name in dict.fromkeys(lost) if name not in dropped)
    return {name: value for name, value in body.items() if value is not None}


def _system(request: Request, lost: list[str]) -> str | list[dict[str, Any]] | None:
    """The system prompt stands apart here: what is said as `system` anywhere is gathered, in order."""
    texts = []
    for message in request.messages:
        for piece in message.content if message.role == "system" else ():
            if not isinstance(piece, TextContent):
                lost.append(_name(piece))
            elif piece.text:
                texts.append(piece.text)
    if not texts:
        return None
    return texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]


def _turns(request: Request, lost: list[str]) -> list[dict[str, Any]]:
    """The turns, roles alternating: consecutive ones of a role are one."""
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for message in with_own_ids(request.messages):
        if message.name is not None:
            lost.append("messages.name")
        blocks = [] if message.role == "system" else _blocks(message, lost)
        if blocks and turns and turns[-1][0] == message.role:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((message.role, blocks))
    return [{"role": role, "content": _content(blocks)} for role, blocks in turns]


def _blocks(message: Message, lost: list[str]) -> list[dict[str, Any]]:
    """The blocks of a turn, without empty texts: Anthropic refuses those."""
    blocks: list[dict[str, Any]] = []
    for piece in message.content:
        block = write_content(piece)
        if block is None:
            lost.append(_name(piece))
        elif block.get("text") != "":
            blocks.append(block)
        if isinstance(piece, ToolResult):
            lost.extend(_result_name(one) for one in piece.content if write_content(one) is None)
    return blocks


def _result_name(piece: Content) -> str:
    return "tool_result." + type(piece).__name__.removesuffix("Content").lower()


def _content(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Results of tools stand first, else they are refused; text alone is a string."""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        text = blocks[0]["text"]
        return text if isinstance(text, str) else blocks
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _name(piece: Content) -> str:
    kind = piece.kind if isinstance(piece, OpaqueContent) else type(piece).__name__.removesuffix("Content").lower()
    return f"messages.content.{kind}"


def _temperature(request: Request, lost: list[str]) -> float | None:
    """Other dialects go up to 2, Anthropic to 1. With a budget for thinking it takes none but 1."""
    if request.temperature is None:
        return None
    if request.temperature > 1 or (request.reasoning_tokens is not None and request.temperature != 1):
        lost.append("temperature")
        return 1.0
    return request.temperature


def _stop(request: Request, lost: list[str]) -> list[str] | None:
    """Anthropic refuses stop sequences of nothing but white space."""
    kept = [sequence for sequence in request.stop if sequence.strip()]
    if len(kept) < len(request.stop):
        lost.append("stop")
    return kept or None


def _tools(request: Request) -> list[dict[str, Any]]:
    own = request.extra.get("tools", [])
    return [_tool(tool) for tool in request.tools] + (list(own) if _are_own_tools(own) else [])


def _tool(tool: Tool) -> dict[str, Any]:
    described = {} if tool.description is None else {"description": tool.description}
    strict = {"strict": True} if tool.strict else {}
    schema = {"type": "object", **(tool.parameters or {"properties": {}})}
    return {"name": tool.name, **described, "input_schema": schema, **strict}


def _are_own_tools(tools: Any) -> bool:
    """Whether they were read from this dialect; OpenAI's own have no name, or have it a level deeper, or are custom."""
    return isinstance(tools, list) and all(
        isinstance(tool, dict)
        and ("name" in tool or "mcp_server_name" in tool)
        and tool.get("type") not in ("custom", "namespace")
        for tool in tools
    )


def _tool_choice(request: Request) -> dict[str, Any] | None:
    choice = request.tool_choice
    parallel = request.parallel_tool_calls
    one = {} if parallel is None else {"disable_parallel_tool_use": not parallel}
    if choice is None:
        return {"type": "auto", **one} if one else None
    if choice == "none":
        return {"type": "none"}
    if choice.startswith("tool:"):
        return {"type": "tool", "name": choice.removeprefix("tool:"), **one}
    return {"type": "any" if choice == "required" else "auto", **one}


def _output(request: Request, lost: list[str]) -> dict[str, Any] | None:
    own = request.extra.get("output_config")
    config: dict[str, Any] = dict(own) if isinstance(own, dict) else {}
    if request.reasoning_effort in _EFFORTS:
        config["effort"] = request.reasoning_effort
    elif request.reasoning_effort is not None:
        lost.append("reasoning_effort")
    asked = request.response_format
    if asked is not None and asked.kind == "json_schema" and asked.schema is not None:
        config["format"] = {"type": "json_schema", "schema": asked.schema}
    elif asked is not None and asked.kind != "text":
        lost.append("response_format")
    return config or None


def _name_lost(request: Request, lost: list[str]) -> None:
    for name in ("seed", "frequency_penalty", "presence_penalty", "metadata"):
        if getattr(request, name) is not None:
            lost.append(name)


def _is_own(name: str, value: Any) -> bool:
    """OpenAI has two of the names too, and means otherwise by them."""
    if name == "service_tier":
        return value in ("auto", "standard_only")
    return name in _OWN and (name != "context_management" or isinstance(value, dict))


def _add_own(request: Request, body: dict[str, Any], lost: list[str]) -> None:
    """What this dialect alone knows goes on; the rest is named."""
    for name, value in request.extra.items():
        if _is_own(name, value):
            if body.get(name) is None:
                body[name] = value
        elif name != "tools" or not _are_own_tools(value):
            lost.append(name)
