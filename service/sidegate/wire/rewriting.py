"""Rewriting: a request in its own dialect of which a plugin has changed the meaning. What differs is written anew, all
else keeps its bytes.

Some of what is said can be said by several fields, and is written by one of them: where that is, all of them are
written anew, so that nothing is lost, and nothing that a plugin took out stays in another place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from sidegate.wire.body import encode
from sidegate.wire.dialect import Fields

_SCHEMA = "generationConfig.response"
TOGETHER: Mapping[str, tuple[frozenset[str], ...]] = MappingProxyType(
    {
        "openai.chat": (frozenset(("tools", "functions", "tool_choice", "function_call")),),
        "openai.responses": (frozenset(("input", "instructions")),),
        "anthropic.messages": (frozenset(("messages", "system")), frozenset(("output_config", "output_format"))),
        "gemini.generate": (frozenset((f"{_SCHEMA}Schema", f"{_SCHEMA}JsonSchema")),),
    }
)
"""By dialect: the fields that may say the same."""


def rewritten(
    dialect: str, asked: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[Fields, set[str]]:
    """The fields, and the names of those that were written anew. `before` and `after` are what the request as it was
    asked, and as it is now, is written as."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    for group in TOGETHER.get(dialect, ()):
        if group & changed and _moves(dialect, group, asked, before):
            changed |= group
    fields: Fields = dict(asked)
    for name in changed:
        if name in after:
            fields[name] = encode(after[name])
        else:
            fields.pop(name, None)
    if dialect == "openai.chat" and "functions" in asked and "tools" not in asked and "functions" in changed:
        _as_functions(fields, after)
    return fields, changed & after.keys()


def _moves(dialect: str, group: Collection[str], asked: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether the writer says by one field what was asked by another."""
    if dialect == "gemini.generate" or any((name in asked) != (name in before) for name in group):
        return True
    return "messages" in group and _has_system_turns(asked)


def _has_system_turns(asked: Mapping[str, Any]) -> bool:
    """Anthropic takes some among the others; they are written apart."""
    turns = msgspec.json.decode(asked["messages"])
    return any(isinstance(turn, dict) and turn.get("role") == "system" for turn in turns)


def _as_functions(fields: Fields, after: Mapping[str, Any]) -> None:
    """In the words of before there were tools: a client that asks so reads the reply so."""
    tools, choice = after.get("tools") or [], after.get("tool_choice")
    fields.pop("tools", None)
    fields.pop("tool_choice", None)
    if not tools:
        return
    fields["functions"] = encode([tool["function"] for tool in tools if "function" in tool])
    if isinstance(choice, dict):
        fields["function_call"] = encode({"name": choice["function"]["name"]})
    elif choice is not None:
        fields["function_call"] = encode("auto" if choice == "required" else choice)
