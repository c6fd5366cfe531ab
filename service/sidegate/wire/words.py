"""Words: what each dialect can say of what a request may ask, as data. The one place where that is declared.

`translation` goes by it, docs/dialects/translation.md is made from it, and tests hold both to it. A dialect
has a word for a feature, or none; what happens where it has none hangs on the feature and not on the pair of dialects.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple


class Loss(Enum):
    """What becomes of a feature that a provider's dialect has no word for."""

    DROPPED = "dropped"
    """Left out and named in the reply's header; refused where the translation is strict."""
    REFUSED = "refused"
    """Never left out: the answer would be one to another question."""


class Feature(NamedTuple):
    """Something that a request may ask."""

    name: str
    """As the header and the log name it."""
    says: str
    loss: Loss


_D, _R = Loss.DROPPED, Loss.REFUSED

FEATURES: tuple[Feature, ...] = (
    Feature("system", "system prompts", _R),
    Feature("messages.name", "names of who speaks", _D),
    Feature("messages.content.image", "images", _R),
    Feature("messages.content.image.detail", "how closely an image is looked at", _D),
    Feature("messages.content.file", "files, inline or by URL", _R),
    Feature("messages.content.file.id", "files by an id", _R),
    Feature("messages.content.tool_call", "earlier calls of tools", _R),
    Feature("messages.content.tool_result", "results of tools", _R),
    Feature("tool_result.is_error", "that a tool failed", _D),
    Feature("tool_result.image", "images among the results of tools", _R),
    Feature("tools", "functions", _R),
    Feature("tools.strict", "that arguments must fit the schema", _D),
    Feature("tool_choice", "the choice among tools", _R),
    Feature("parallel_tool_calls", "no more than one call at a time", _D),
    Feature("response_format.json_object", "an answer that is JSON", _R),
    Feature("response_format.json_schema", "an answer that fits a schema", _R),
    Feature("choices", "several answers", _R),
    Feature("max_tokens", "the longest answer", _R),
    Feature("stop", "stop sequences", _D),
    Feature("temperature", "", _D),
    Feature("top_p", "", _D),
    Feature("top_k", "", _D),
    Feature("seed", "", _D),
    Feature("frequency_penalty", "", _D),
    Feature("presence_penalty", "", _D),
    Feature("reasoning_effort", "how much it thinks, in a word", _D),
    Feature("reasoning_tokens", "how much it thinks, in tokens", _D),
    Feature("user", "the end user", _D),
    Feature("metadata", "", _D),
)

LOSSES: Mapping[str, Loss] = MappingProxyType({feature.name: feature.loss for feature in FEATURES})

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "openai.chat": "OpenAI Chat",
        "openai.responses": "OpenAI Responses",
        "anthropic.messages": "Anthropic",
        "gemini.generate": "Gemini",
        "openai.completions": "OpenAI Completions",
        "ai_sdk.ui_messages": "AI SDK UI",
    }
)
"""Dialects as people call them."""

_CONFIG = "generationConfig."

WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "openai.chat": {
            "system": "messages",
            "messages.name": "messages.name",
            "messages.content.image": "messages.content.image_url",
            "messages.content.image.detail": "messages.content.image_url.detail",
            "messages.content.file": "messages.content.file",
            "messages.content.file.id": "messages.content.file.file_id",
            "messages.content.tool_call": "messages.tool_calls",
            "messages.content.tool_result": "messages.tool_call_id",
            "tool_result.image": "messages.content.image_url",
            "tools": "tools",
            "tools.strict": "tools.function.strict",
            "tool_choice": "tool_choice",
            "parallel_tool_calls": "parallel_tool_calls",
            "response_format.json_object": "response_format",
            "response_format.json_schema": "response_format",
            "choices": "n",
            "max_tokens": "max_tokens",
            "stop": "stop",
            "temperature": "temperature",
            "top_p": "top_p",
            "seed": "seed",
            "frequency_penalty": "frequency_penalty",
            "presence_penalty": "presence_penalty",
            "reasoning_effort": "reasoning_effort",
            "user": "user",
            "metadata": "metadata",
        },
        "openai.responses": {
            "system": "instructions",
            "messages.content.image": "input.content.input_image",
            "messages.content.image.detail": "input.content.input_image.detail",
            "messages.content.file": "input.content.input_file",
            "messages.content.file.id": "input.content.input_file.file_id",
            "messages.content.tool_call": "input.function_call",
            "messages.content.tool_result": "input.function_call_output",
            "tool_result.image": "input.output.input_image",
            "tools": "tools",
            "tools.strict": "tools.strict",
            "tool_choice": "tool_choice",
            "parallel_tool_calls": "parallel_tool_calls",
            "response_format.json_object": "text.format",
            "response_format.json_schema": "text.format",
            "max_tokens": "max_output_tokens",
            "temperature": "temperature",
            "top_p": "top_p",
            "reasoning_effort": "reasoning.effort",
            "user": "user",
            "metadata": "metadata",
        },
        "anthropic.messages": {
            "system": "system",
            "messages.content.image": "messages.content.image",
            "messages.content.file": "messages.content.document",
            "messages.content.file.id": "messages.content.document.source.file_id",
            "messages.content.tool_call": "messages.content.tool_use",
            "messages.content.tool_result": "messages.content.tool_result",
            "tool_result.is_error": "messages.content.is_error",
            "tool_result.image": "messages.content.content.image",
            "tools": "tools",
            "tools.strict": "tools.strict",
            "tool_choice": "tool_choice",
            "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
            "response_format.json_schema": "output_config.format",
            "max_tokens": "max_tokens",
            "stop": "stop_sequences",
            "temperature": "temperature",
            "top_p": "top_p",
            "top_k": "top_k",
            "reasoning_effort": "output_config.effort",
            "reasoning_tokens": "thinking.budget_tokens",
            "user": "metadata.user_id",
        },
        "gemini.generate": {
            "system": "systemInstruction",
            "messages.content.image": "contents.parts.inlineData",
            "messages.content.file": "contents.parts.fileData",
            "messages.content.file.id": "contents.parts.fileData.fileUri",
            "messages.content.tool_call": "contents.parts.functionCall",
            "messages.content.tool_result": "contents.parts.functionResponse",
            "tool_result.is_error": "contents.parts.functionResponse.response.error",
            "tool_result.image": "contents.parts.functionResponse.parts",
            "tools": "tools.functionDeclarations",
            "tool_choice": "toolConfig.functionCallingConfig",
            "response_format.json_object": _CONFIG + "responseMimeType",
            "response_format.json_schema": _CONFIG + "responseJsonSchema",
            "choices": _CONFIG + "candidateCount",
            "max_tokens": _CONFIG + "maxOutputTokens",
            "stop": _CONFIG + "stopSequences",
            "temperature": _CONFIG + "temperature",
            "top_p": _CONFIG + "topP",
            "top_k": _CONFIG + "topK",
            "seed": _CONFIG + "seed",
            "frequency_penalty": _CONFIG + "frequencyPenalty",
            "presence_penalty": _CONFIG + "presencePenalty",
            "reasoning_effort": _CONFIG + "thinkingConfig.thinkingLevel",
            "reasoning_tokens": _CONFIG + "thinkingConfig.thinkingBudget",
        },
        "openai.completions": {
            "choices": "n",
            "max_tokens": "max_tokens",
            "stop": "stop",
            "temperature": "temperature",
            "top_p": "top_p",
            "seed": "seed",
            "frequency_penalty": "frequency_penalty",
            "presence_penalty": "presence_penalty",
            "user": "user",
        },
        "ai_sdk.ui_messages": {
            "system": "system",
            "messages.content.image": "messages.parts.file",
            "messages.content.file": "messages.parts.file",
            "messages.content.file.id": "messages.parts.file.providerReference",
            "messages.content.tool_call": "messages.parts.tool",
            "messages.content.tool_result": "messages.parts.tool.output",
            "tool_result.is_error": "messages.parts.tool.errorText",
            "tools": "tools",
            "tools.strict": "tools.strict",
            "tool_choice": "toolChoice",
            "response_format.json_object": "responseFormat",
            "response_format.json_schema": "responseFormat",
            "max_tokens": "maxOutputTokens",
            "stop": "stopSequences",
            "temperature": "temperature",
            "top_p": "topP",
            "top_k": "topK",
            "seed": "seed",
            "frequency_penalty": "frequencyPenalty",
            "presence_penalty": "presencePenalty",
            "reasoning_effort": "reasoning",
        },
    }
)
"""By dialect: the field that says a feature. Clients are told by it what was refused."""

PROVIDERS = ("openai.chat", "openai.responses", "anthropic.messages", "gemini.generate")
"""Dialects that a chat is translated into."""

PARTLY: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("openai.chat", "messages.content.file.id"): "of OpenAI's own clients; others are refused",
        ("openai.responses", "messages.content.file.id"): "of OpenAI's own clients; others are refused",
        ("anthropic.messages", "messages.content.file.id"): "others are refused",
        ("gemini.generate", "messages.content.file.id"): "others are refused",
        ("openai.chat", "tool_result.image"): "as a turn of the user's that follows",
        ("anthropic.messages", "temperature"): "above 1 it is 1, and named",
        ("anthropic.messages", "stop"): "those of white space alone are dropped",
        ("anthropic.messages", "reasoning_effort"): "`none` and `minimal` are dropped",
        ("gemini.generate", "seed"): "beyond 32 bits it is dropped",
        ("gemini.generate", "reasoning_effort"): "before Gemini 3 as a budget",
    }
)
"""Words that do not say all of it."""

ALONE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "openai.chat": ("tools", "tool_choice", "audio", "modalities", "web_search_options", "messages.audio"),
        "openai.completions": ("suffix",),
        "openai.responses": ("previous_response_id", "conversation", "prompt", "background", "tools", "tool_choice"),
        "anthropic.messages": ("tools", "container", "mcp_servers", "thread"),
        "gemini.generate": (
            "tools",
            "cachedContent",
            _CONFIG + "responseModalities",
            _CONFIG + "responseMimeType",
            "toolConfig.functionCallingConfig.allowedFunctionNames",
        ),
        "openai.embeddings": (),
        "ai_sdk.ui_messages": (),
    }
)
"""By the client's dialect: fields that one dialect alone knows and that are refused in translation, since they stand
for what is said, for tools, or for the kind of the answer. All others of the kind are dropped."""
