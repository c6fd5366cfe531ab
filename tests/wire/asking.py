"""How each dialect asks for each feature of `words`, by hand: what the declarations of dialects are held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sidegate.contract.meaning import Request
from sidegate.wire.body import read_fields
from sidegate.wire.dialect import Fields
from sidegate.wire.registry import DIALECTS

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
PIXEL = "iVBORw0KGgo="
PDF = "JVBERi0="
CALLED = {"name": "f", "arguments": '{"a":1}'}

_CONFIG = "generationConfig"


def asked(dialect: str, *parts: Mapping[str, Any], **more: Any) -> Fields:
    """The fields of a request; lists of turns are put one after another, objects over each other."""
    body: dict[str, Any] = {"model": "m", **({"max_tokens": 9} if dialect.startswith("anthropic") else {})}
    for part in (*parts, more):
        for name, value in part.items():
            if isinstance(value, list) and name in ("messages", "input", "contents"):
                body[name] = [*body.get(name, []), *value]
            elif isinstance(value, dict):
                body[name] = {**body.get(name, {}), **value}
            else:
                body[name] = value
    if not body.keys() & {"messages", "input", "contents", "prompt"}:
        body |= HELLO[dialect]
    return read_fields(msgspec.json.encode(body))


def read(dialect: str, fields: Fields) -> Request:
    return DIALECTS[dialect].read_request(fields)


def _user(*content: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(content)}]}


def _said(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"contents": [{"role": role, "parts": list(parts)}]}


def _config(**fields: Any) -> dict[str, Any]:
    return {_CONFIG: fields}


def _input(*items: dict[str, Any]) -> dict[str, Any]:
    return {"input": list(items)}


def _in_input(piece: dict[str, Any]) -> dict[str, Any]:
    return _input({"type": "message", "role": "user", "content": [piece]})


HELLO: Mapping[str, dict[str, Any]] = {
    "openai.chat": {"messages": [{"role": "user", "content": "hi"}]},
    "openai.responses": {"input": "hi"},
    "openai.completions": {"prompt": "hi"},
    "anthropic.messages": {"messages": [{"role": "user", "content": "hi"}]},
    "gemini.generate": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    "ai_sdk.ui_messages": {"messages": [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]},
}

_CHAT_TOOLS = {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]}
_CHAT_CALL = {
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": CALLED}]},
    ]
}
_CHAT_RESULT = {"messages": [{"role": "tool", "tool_call_id": "c1", "content": "4"}]}
_CLAUDE_TOOLS = {"tools": [{"name": "f", "input_schema": SCHEMA}]}
_CLAUDE_CALL = {
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}]},
    ]
}
_PIXEL_SOURCE = {"type": "base64", "media_type": "image/png", "data": PIXEL}
_GEMINI_TOOLS = {"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": SCHEMA}]}]}
_GEMINI_CALL = {
    "contents": [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [{"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}}]},
    ]
}
_RESPONSES_TOOLS = {"tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}]}
_RESPONSES_CALL = _input({"role": "user", "content": "hi"}, {"type": "function_call", "call_id": "c1", **CALLED})


def _claude_result(content: Any, **more: Any) -> dict[str, Any]:
    return _user({"type": "tool_result", "tool_use_id": "c1", "content": content, **more})


def _gemini_result(response: Any, **more: Any) -> dict[str, Any]:
    return _said({"functionResponse": {"id": "c1", "name": "f", "response": response, **more}})


def _result(output: Any) -> dict[str, Any]:
    return _input({"type": "function_call_output", "call_id": "c1", "output": output})


def _shown(**file: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "parts": [{"type": "file", **file}]}]}


def _ran(state: str, **more: Any) -> dict[str, Any]:
    call = {"type": "tool-f", "toolCallId": "c1", "input": {"a": 1}, "state": state, **more}
    return {"messages": [*HELLO["ai_sdk.ui_messages"]["messages"], {"role": "assistant", "parts": [call]}]}


def _merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = [*found.get(name, []), *value] if isinstance(value, list) else value
    return found


_PIXEL_URL = f"data:image/png;base64,{PIXEL}"
_FORMAT = {"type": "json_schema", "name": "answer", "schema": SCHEMA}

ASKS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "openai.chat": {
        "system": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]},
        "messages.name": {"messages": [{"role": "user", "name": "ann", "content": "hi"}]},
        "messages.content.image": _user({"type": "image_url", "image_url": {"url": _PIXEL_URL}}),
        "messages.content.image.detail": _user(
            {"type": "image_url", "image_url": {"url": _PIXEL_URL, "detail": "low"}}
        ),
        "messages.content.file": _user(
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}}
        ),
        "messages.content.file.id": _user({"type": "file", "file": {"file_id": "file-1"}}),
        "messages.content.tool_call": _merged(_CHAT_CALL, _CHAT_RESULT),
        "messages.content.tool_result": _merged(_CHAT_CALL, _CHAT_RESULT),
        "tools": _CHAT_TOOLS,
        "tools.strict": {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}]
        },
        "tool_choice": {**_CHAT_TOOLS, "tool_choice": "required"},
        "parallel_tool_calls": {**_CHAT_TOOLS, "parallel_tool_calls": False},
        "response_format.json_object": {"response_format": {"type": "json_object"}},
        "response_format.json_schema": {
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
        },
        "choices": {"n": 2},
        "max_tokens": {"max_tokens": 9},
        "stop": {"stop": ["a"]},
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.5},
        "seed": {"seed": 3},
        "frequency_penalty": {"frequency_penalty": 0.5},
        "presence_penalty": {"presence_penalty": 0.5},
        "reasoning_effort": {"reasoning_effort": "low"},
        "user": {"user": "u1"},
        "metadata": {"metadata": {"a": "b"}},
    },
    "openai.responses": {
        "system": {"input": "hi", "instructions": "Be brief."},
        "messages.content.image": _in_input({"type": "input_image", "image_url": _PIXEL_URL}),
        "messages.content.image.detail": _in_input({"type": "input_image", "image_url": _PIXEL_URL, "detail": "low"}),
        "messages.content.file": _in_input(
            {"type": "input_file", "file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}
        ),
        "messages.content.file.id": _in_input({"type": "input_file", "file_id": "file-1"}),
        "messages.content.tool_call": _merged(_RESPONSES_CALL, _result("4")),
        "messages.content.tool_result": _merged(_RESPONSES_CALL, _result("4")),
        "tool_result.image": _merged(_RESPONSES_CALL, _result([{"type": "input_image", "image_url": _PIXEL_URL}])),
        "tools": _RESPONSES_TOOLS,
        "tools.strict": {"tools": [{**_RESPONSES_TOOLS["tools"][0], "strict": True}]},
        "tool_choice": {**_RESPONSES_TOOLS, "tool_choice": "required"},
        "parallel_tool_calls": {**_RESPONSES_TOOLS, "parallel_tool_calls": False},
        "response_format.json_object": {"text": {"format": {"type": "json_object"}}},
        "response_format.json_schema": {"text": {"format": _FORMAT}},
        "max_tokens": {"max_output_tokens": 9},
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.5},
        "reasoning_effort": {"reasoning": {"effort": "low"}},
        "user": {"user": "u1"},
        "metadata": {"metadata": {"a": "b"}},
    },
    "anthropic.messages": {
        "system": {"system": "Be brief."},
        "messages.content.image": _user({"type": "image", "source": _PIXEL_SOURCE}),
        "messages.content.file": _user(
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
        ),
        "messages.content.file.id": _user({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
        "messages.content.tool_call": _merged(_CLAUDE_CALL, _claude_result("4")),
        "messages.content.tool_result": _merged(_CLAUDE_CALL, _claude_result("4")),
        "tool_result.is_error": _merged(_CLAUDE_CALL, _claude_result("oops", is_error=True)),
        "tool_result.image": _merged(_CLAUDE_CALL, _claude_result([{"type": "image", "source": _PIXEL_SOURCE}])),
        "tools": _CLAUDE_TOOLS,
        "tools.strict": {"tools": [{"name": "f", "input_schema": SCHEMA, "strict": True}]},
        "tool_choice": {**_CLAUDE_TOOLS, "tool_choice": {"type": "any"}},
        "parallel_tool_calls": {**_CLAUDE_TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        "response_format.json_schema": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        "max_tokens": {"max_tokens": 9},
        "stop": {"stop_sequences": ["a"]},
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.5},
        "top_k": {"top_k": 5},
        "reasoning_effort": {"output_config": {"effort": "low"}},
        "reasoning_tokens": {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000},
        "user": {"metadata": {"user_id": "u1"}},
    },
    "gemini.generate": {
        "system": {"systemInstruction": {"parts": [{"text": "Be brief."}]}},
        "messages.content.image": _said({"inlineData": {"mimeType": "image/png", "data": PIXEL}}),
        "messages.content.file": _said({"inlineData": {"mimeType": "application/pdf", "data": PDF}}),
        "messages.content.file.id": _said(
            {"fileData": {"fileUri": "gs://bucket/a.pdf", "mimeType": "application/pdf"}}
        ),
        "messages.content.tool_call": _merged(_GEMINI_CALL, _gemini_result({"output": "4"})),
        "messages.content.tool_result": _merged(_GEMINI_CALL, _gemini_result({"output": "4"})),
        "tool_result.is_error": _merged(_GEMINI_CALL, _gemini_result({"error": "oops"})),
        "tool_result.image": _merged(
            _GEMINI_CALL,
            _gemini_result({"output": "4"}, parts=[{"inlineData": {"mimeType": "image/png", "data": PIXEL}}]),
        ),
        "tools": _GEMINI_TOOLS,
        "tool_choice": {**_GEMINI_TOOLS, "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
        "response_format.json_object": _config(responseMimeType="application/json"),
        "response_format.json_schema": _config(responseMimeType="application/json", responseJsonSchema=SCHEMA),
        "choices": _config(candidateCount=2),
        "max_tokens": _config(maxOutputTokens=9),
        "stop": _config(stopSequences=["a"]),
        "temperature": _config(temperature=0.5),
        "top_p": _config(topP=0.5),
        "top_k": _config(topK=5),
        "seed": _config(seed=3),
        "frequency_penalty": _config(frequencyPenalty=0.5),
        "presence_penalty": _config(presencePenalty=0.5),
        "reasoning_effort": _config(thinkingConfig={"thinkingLevel": "LOW"}),
        "reasoning_tokens": _config(thinkingConfig={"thinkingBudget": 2000}),
    },
    "openai.completions": {
        "choices": {"n": 2},
        "max_tokens": {"max_tokens": 9},
        "stop": {"stop": ["a"]},
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.5},
        "seed": {"seed": 3},
        "frequency_penalty": {"frequency_penalty": 0.5},
        "presence_penalty": {"presence_penalty": 0.5},
        "user": {"user": "u1"},
    },
    "ai_sdk.ui_messages": {
        "system": {"system": "Be brief."},
        "messages.content.image": _shown(mediaType="image/png", url=_PIXEL_URL),
        "messages.content.file": _shown(
            mediaType="application/pdf", url=f"data:application/pdf;base64,{PDF}", filename="a.pdf"
        ),
        "messages.content.file.id": _shown(providerReference={"openai": "file-1"}),
        "messages.content.tool_call": _ran("output-available", output="4"),
        "messages.content.tool_result": _ran("output-available", output="4"),
        "tool_result.is_error": _ran("output-error", errorText="oops"),
        "tools": {"tools": {"f": {"inputSchema": SCHEMA}}},
        "tools.strict": {"tools": {"f": {"inputSchema": SCHEMA, "strict": True}}},
        "tool_choice": {"tools": {"f": {"inputSchema": SCHEMA}}, "toolChoice": "required"},
        "response_format.json_object": {"responseFormat": {"type": "json"}},
        "response_format.json_schema": {"responseFormat": {"type": "json", "schema": SCHEMA}},
        "max_tokens": {"maxOutputTokens": 9},
        "stop": {"stopSequences": ["a"]},
        "temperature": {"temperature": 0.5},
        "top_p": {"topP": 0.5},
        "top_k": {"topK": 5},
        "seed": {"seed": 3},
        "frequency_penalty": {"frequencyPenalty": 0.5},
        "presence_penalty": {"presencePenalty": 0.5},
        "reasoning_effort": {"reasoning": "low"},
    },
}
"""By dialect and feature: fields that ask for it."""

ALONE: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "openai.chat": {
        "tools": {"tools": [{"type": "custom", "custom": {"name": "f"}}]},
        "tool_choice": {"tool_choice": {"type": "custom", "custom": {"name": "f"}}},
        "audio": {"audio": {"voice": "alloy", "format": "wav"}},
        "modalities": {"modalities": ["text", "audio"]},
        "web_search_options": {"web_search_options": {"search_context_size": "low"}},
        "messages.audio": {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]},
    },
    "openai.completions": {"suffix": {"suffix": "the end"}},
    "openai.responses": {
        "previous_response_id": {"previous_response_id": "resp_1"},
        "conversation": {"conversation": "conv_1"},
        "prompt": {"prompt": {"id": "pmpt_1"}},
        "background": {"background": True, "stream": True},
        "tools": {"tools": [{"type": "web_search"}]},
        "tool_choice": {"tool_choice": {"type": "web_search"}},
    },
    "anthropic.messages": {
        "tools": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "container": {"container": "container_1"},
        "thread": {"thread": {"id": "thread_1"}},
        "mcp_servers": {"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]},
    },
    "gemini.generate": {
        "tools": {"tools": [{"googleSearch": {}}]},
        "cachedContent": {"cachedContent": "cachedContents/1"},
        "generationConfig.responseModalities": _config(responseModalities=["TEXT", "IMAGE"]),
        "generationConfig.responseMimeType": _config(responseMimeType="text/x.enum"),
        "toolConfig.functionCallingConfig.allowedFunctionNames": {
            **_GEMINI_TOOLS,
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f", "g"]}},
        },
    },
    "ai_sdk.ui_messages": {},
}
"""By dialect: what it alone can ask, and is refused elsewhere."""
