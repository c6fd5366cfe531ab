"""Shapes of vendors' bodies, as far as the gateway itself reads or writes them; all further fields pass."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

Object: TypeAlias = dict[str, Any]
Model = Annotated[str, Meta(max_length=512, description="A model name of the config.")]
Stream = Annotated[bool, Meta(description="Answer as server-sent events.")]
MaxTokens = Annotated[int, Meta(ge=1, description="The most tokens of the answer.")]

# --- OpenAI -----------------------------------------------------------------------------------------------------------


class ChatCompletionRequest(Struct, kw_only=True):
    """Chat Completions, as OpenAI has it."""

    model: Model
    messages: Annotated[list[Object], Meta(min_length=1)]
    stream: Stream | None = None
    stream_options: Object | None = None
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    tools: list[Object] | None = None
    tool_choice: str | Object | None = None
    response_format: Object | None = None


class ChatCompletion(Struct, kw_only=True):
    """A whole answer."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Object]
    usage: Object | None = None


class CompletionRequest(Struct, kw_only=True):
    """Completions, the API before Chat Completions."""

    model: Model
    prompt: Any
    stream: Stream | None = None
    max_tokens: MaxTokens | None = None
    temperature: float | None = None
    stop: str | list[str] | None = None


class EmbeddingRequest(Struct, kw_only=True):
    """Embeddings, as OpenAI has them."""

    model: Model
    input: Any
    """A text, a list of texts, or tokens."""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class Embeddings(Struct, kw_only=True):
    """Vectors, in the order of the inputs."""

    object: str
    data: list[Object]
    model: str
    usage: Object | None = None


class ResponseRequest(Struct, kw_only=True):
    """Responses, as OpenAI has them."""

    model: Model
    input: Any
    stream: Stream | None = None
    instructions: str | None = None
    max_output_tokens: MaxTokens | None = None
    previous_response_id: str | None = None
    background: bool | None = None
    store: bool | None = None
    tools: list[Object] | None = None


class Response(Struct, kw_only=True):
    """A response."""

    id: str
    object: str
    status: str | None = None
    model: str | None = None
    output: list[Object] = field(default_factory=list)
    usage: Object | None = None


class OpenAIErrorBody(Struct, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None
    details: Object | UnsetType = UNSET


class OpenAIError(Struct, kw_only=True):
    """An error, as OpenAI has it."""

    error: OpenAIErrorBody


class OpenAIModel(Struct, kw_only=True):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(Struct, kw_only=True):
    """Models, as OpenAI lists them."""

    object: Literal["list"]
    data: list[OpenAIModel]


# --- Anthropic --------------------------------------------------------------------------------------------------------


class MessageRequest(Struct, kw_only=True):
    """Messages, as Anthropic has them."""

    model: Model
    messages: Annotated[list[Object], Meta(min_length=1)]
    max_tokens: MaxTokens
    system: str | list[Object] | UnsetType = UNSET
    stream: Stream | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    tools: list[Object] | UnsetType = UNSET


class CountRequest(Struct, kw_only=True):
    """What is to be counted: as a request of Messages."""

    model: Model
    messages: Annotated[list[Object], Meta(min_length=1)]
    system: str | list[Object] | UnsetType = UNSET
    tools: list[Object] | UnsetType = UNSET


class TokenCount(Struct, kw_only=True):
    input_tokens: int


class AnthropicMessage(Struct, kw_only=True):
    """A whole answer."""

    id: str
    type: Literal["message"]
    role: str
    model: str
    content: list[Object]
    stop_reason: str | None
    usage: Object


class AnthropicErrorBody(Struct, kw_only=True):
    type: str
    message: str
    details: Object | UnsetType = UNSET


class AnthropicError(Struct, kw_only=True):
    """An error, as Anthropic has it."""

    type: Literal["error"]
    error: AnthropicErrorBody
    request_id: str


class AnthropicModel(Struct, kw_only=True):
    type: Literal["model"]
    id: str
    display_name: str
    created_at: datetime


class AnthropicModels(Struct, kw_only=True):
    """Models, as Anthropic lists them."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


# --- Gemini -----------------------------------------------------------------------------------------------------------


class GenerateContentRequest(Struct, kw_only=True, rename="camel"):
    """generateContent, as Google has it."""

    contents: Annotated[list[Object], Meta(min_length=1)]
    system_instruction: Object | UnsetType = UNSET
    generation_config: Object | UnsetType = UNSET
    tools: list[Object] | UnsetType = UNSET


class GenerateContent(Struct, kw_only=True, rename="camel"):
    """A whole answer, or an event of a stream."""

    candidates: list[Object] = field(default_factory=list)
    usage_metadata: Object | UnsetType = UNSET
    model_version: str | UnsetType = UNSET


class EmbedContentRequest(Struct, kw_only=True):
    content: Object


class EmbedContent(Struct, kw_only=True):
    embedding: Object


class BatchEmbedContentsRequest(Struct, kw_only=True):
    requests: Annotated[list[Object], Meta(min_length=1)]


class BatchEmbedContents(Struct, kw_only=True):
    embeddings: list[Object]


class GeminiCountRequest(Struct, kw_only=True, rename="camel"):
    contents: list[Object] | UnsetType = UNSET
    generate_content_request: Object | UnsetType = UNSET


class GeminiCount(Struct, kw_only=True, rename="camel"):
    total_tokens: int


class GeminiErrorBody(Struct, kw_only=True):
    code: int
    message: str
    status: str
    details: list[Object]


class GeminiError(Struct, kw_only=True):
    """An error, as Google has it."""

    error: GeminiErrorBody


class GeminiModel(Struct, kw_only=True, rename="camel"):
    name: str
    display_name: str
    supported_generation_methods: list[str]


class GeminiModels(Struct, kw_only=True):
    """Models, as Google lists them."""

    models: list[GeminiModel]


# --- AI SDK -----------------------------------------------------------------------------------------------------------


class UIChatRequest(Struct, kw_only=True):
    """What `useChat` sends."""

    id: str | UnsetType = UNSET
    messages: Annotated[list[Object], Meta(min_length=1)]
    model: Model | UnsetType = UNSET
    """Where it is left out: that of the header `x-sidegate-model`, or the route's `default_model`."""
    trigger: str | UnsetType = UNSET
    stream: Stream | UnsetType = UNSET
    stream_protocol: (
        Annotated[Literal["data", "text"], Meta(description="`text`: nothing but the words.")] | UnsetType
    ) = field(default=UNSET, name="streamProtocol")


class UICompletionRequest(Struct, kw_only=True):
    """What `useCompletion` sends."""

    prompt: str
    model: Model | UnsetType = UNSET
    stream: Stream | UnsetType = UNSET
