"""Tools of Gemini's requests and the choice among them, read and written.

Source: https://ai.google.dev/api/caching#Tool. Gemini's own tools (search, code execution) have no word here: they stay
raw in a request's `extra`, so that another dialect names `tools` as dropped. So does a `toolConfig` that says more.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sidegate.contract.meaning import Request, Tool
from sidegate.errors import BadRequest
from sidegate.wire.gemini.fields import read_as, renamed, several
from sidegate.wire.gemini.schema import json_schema
from sidegate.wire.openai_request import Name

_READ = {"AUTO": "auto", "ANY": "required", "NONE": "none"}
_WRITTEN = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


class _Declared(Struct, rename="camel"):
    name: Name
    description: str | None = None
    parameters: Any = None
    parameters_json_schema: Any = None


class _Calling(Struct, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class _Tools(Struct, rename="camel"):
    function_declarations: Any = None


class _ToolConfig(Struct, rename="camel"):
    function_calling_config: Any = None


def read_tools(value: Any, extra: dict[str, Any]) -> tuple[Tool, ...]:
    """The functions; Gemini's own tools go into `extra`."""
    found: list[Tool] = []
    own: list[dict[str, Any]] = []
    for index, each in enumerate(several(value, "tools")):
        place = f"tools[{index}]"
        if not isinstance(each, dict):
            raise BadRequest(f"{place}: Expected `object`", param=place)
        tool = renamed(each, _Tools)
        declared = several(tool.pop("functionDeclarations", None), f"{place}.functionDeclarations")
        found += [_read_tool(one, f"{place}.functionDeclarations[{at}]") for at, one in enumerate(declared)]
        if tool:
            own.append(tool)
    if own:
        extra["tools"] = own
    return tuple(found)


def _read_tool(value: Any, place: str) -> Tool:
    declared = read_as(value, _Declared, place)
    parameters = declared.parameters_json_schema
    if parameters is None and declared.parameters is not None:
        parameters = json_schema(declared.parameters, f"{place}.parameters")
    if parameters is not None and not isinstance(parameters, dict):
        where = f"{place}.parametersJsonSchema"
        raise BadRequest(f"{where}: Expected `object`", param=where)
    return Tool(declared.name, declared.description, parameters)


def read_choice(value: Any, extra: dict[str, Any]) -> str | None:
    """The choice among them; what more there is to a `toolConfig` keeps it whole in `extra`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadRequest("toolConfig: Expected `object`", param="toolConfig")
    told = renamed(value, _ToolConfig)
    asked = told.pop("functionCallingConfig", None)
    calling = _Calling() if asked is None else read_as(asked, _Calling, "toolConfig.functionCallingConfig")
    names = calling.allowed_function_names or []
    more = set(renamed(asked, _Calling)) - {"mode", "allowedFunctionNames"} if isinstance(asked, dict) else set()
    choice = _READ.get(calling.mode or "")
    if told or more or len(names) > 1 or (calling.mode and choice is None):
        extra["toolConfig"] = value
    if choice == "required" and len(names) == 1:
        return f"tool:{names[0]}"
    return choice


def write_tools(request: Request, lost: list[str]) -> list[dict[str, Any]]:
    declared = [_write_tool(tool, lost) for tool in request.tools]
    own = request.extra.get("tools", [])
    return ([{"functionDeclarations": declared}] if declared else []) + (list(own) if are_own_tools(own) else [])


def _write_tool(tool: Tool, lost: list[str]) -> dict[str, Any]:
    if tool.strict:
        lost.append("tools.strict")
    told = {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
    return {name: each for name, each in told.items() if each is not None}


def are_own_tools(tools: Any) -> bool:
    """Whether they were read from this dialect: other vendors' have a type or a name."""
    return isinstance(tools, list) and all(
        isinstance(tool, dict) and not {"type", "name", "mcp_server_name"} & tool.keys() for tool in tools
    )


def write_choice(request: Request, lost: list[str]) -> dict[str, Any] | None:
    """`toolConfig`: what was read of it, and the choice that counts now. One that cannot be said is named in `lost`."""
    told = request.extra.get("toolConfig")
    own: dict[str, Any] = dict(told) if isinstance(told, dict) else {}
    choice = request.tool_choice
    if choice is None:
        return own or None
    if not request.tools and not own:
        if choice not in ("auto", "none"):
            lost.append("tool_choice")
        return None
    calling: dict[str, Any] = {"mode": _WRITTEN.get(choice, "ANY")}
    if choice.startswith("tool:"):
        calling["allowedFunctionNames"] = [choice.removeprefix("tool:")]
    before = own.pop("function_calling_config", own.get("functionCallingConfig"))
    kept = before if isinstance(before, dict) else {}
    return {**own, "functionCallingConfig": kept if kept.get("mode") == calling["mode"] else {**kept, **calling}}
