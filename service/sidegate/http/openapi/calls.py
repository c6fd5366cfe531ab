"""What calls are in the OpenAPI document: a path for each dialect, and what is asked and answered there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from sidegate.http.gemini import VERSIONS
from sidegate.http.openapi import shapes, vendors
from sidegate.http.openapi.spec import TEXT, Json, Spec, Voice, events, parameter

CALL = (400, 401, 403, 404, 408, 409, 413, 415, 417, 422, 429, 499, 500, 502, 503, 504, 505)
"""What a call may be answered besides 200: the gateway's own, and what a provider says of a client's request."""

OPENAI = Voice(name="OpenAI", body=vendors.OpenAIError)
ANTHROPIC = Voice(name="Anthropic", body=vendors.AnthropicError)
GEMINI = Voice(name="Gemini", body=vendors.GeminiError)
IN_ARRAY = Voice(name="GeminiArray", body=vendors.GeminiError | list[vendors.GeminiError])
"""Of streams without SSE: an error is the only element of an array."""
PAGES = Voice(name="Text", body=str, media=f"{TEXT}; charset=utf-8")

TIMEOUTS = parameter(
    "x-sidegate-timeouts", "header", "Other timeouts, in seconds: `connect=2, first_token=5, idle=10, total=60`."
)
PREFER = parameter(
    "Prefer", "header", "`respond-async` keeps the call as a job; `wait=5` waits for it so many seconds (RFC 7240)."
)
AGAIN = parameter(
    "Idempotency-Key", "header", "Of a job, or where the plugin `idempotency` is at work: the same key, the same reply."
)
MODEL_HEADER = parameter("x-sidegate-model", "header", "The model, where the body names none.")


class Dialect(Struct, frozen=True, kw_only=True):
    """A path at which a dialect is spoken."""

    id: str
    tag: str
    summary: str
    voice: Voice
    asks: Any
    answers: Any
    docs: str
    """Where its vendor describes it."""
    stream: str | None = None
    """What its events are; `None` where it has no streams."""


DIALECTS: Mapping[str, Dialect] = {
    "/v1/chat/completions": Dialect(
        id="createChatCompletion",
        tag="OpenAI",
        summary="Chat Completions",
        voice=OPENAI,
        asks=vendors.ChatCompletionRequest,
        answers=vendors.ChatCompletion,
        docs="https://platform.openai.com/docs/api-reference/chat",
        stream="`chat.completion.chunk` objects, then `[DONE]`.",
    ),
    "/v1/completions": Dialect(
        id="createCompletion",
        tag="OpenAI",
        summary="Completions",
        voice=OPENAI,
        asks=vendors.CompletionRequest,
        answers=vendors.ChatCompletion,
        docs="https://platform.openai.com/docs/api-reference/completions",
        stream="`text_completion` objects, then `[DONE]`.",
    ),
    "/v1/embeddings": Dialect(
        id="createEmbedding",
        tag="OpenAI",
        summary="Embeddings",
        voice=OPENAI,
        asks=vendors.EmbeddingRequest,
        answers=vendors.Embeddings,
        docs="https://platform.openai.com/docs/api-reference/embeddings",
    ),
    "/v1/responses": Dialect(
        id="createResponse",
        tag="OpenAI",
        summary="Responses",
        voice=OPENAI,
        asks=vendors.ResponseRequest,
        answers=vendors.Response,
        docs="https://platform.openai.com/docs/api-reference/responses",
        stream="`response.*` events.",
    ),
    "/v1/messages": Dialect(
        id="createMessage",
        tag="Anthropic",
        summary="Messages",
        voice=ANTHROPIC,
        asks=vendors.MessageRequest,
        answers=vendors.AnthropicMessage,
        docs="https://platform.claude.com/docs/en/api/messages",
        stream="`message_start` to `message_stop`.",
    ),
    "/v1/messages/count_tokens": Dialect(
        id="countMessageTokens",
        tag="Anthropic",
        summary="Count the tokens of a message",
        voice=ANTHROPIC,
        asks=vendors.CountRequest,
        answers=vendors.TokenCount,
        docs="https://platform.claude.com/docs/en/api/messages-count-tokens",
    ),
    "/api/chat": Dialect(
        id="chat",
        tag="AI SDK",
        summary="`useChat`",
        voice=PAGES,
        asks=vendors.UIChatRequest,
        answers=dict[str, Any],
        docs="https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol",
        stream="UI message parts, then `[DONE]`; with `streamProtocol: text` plain text.",
    ),
    "/api/completion": Dialect(
        id="completion",
        tag="AI SDK",
        summary="`useCompletion`",
        voice=PAGES,
        asks=vendors.UICompletionRequest,
        answers=dict[str, Any],
        docs="https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol",
        stream="UI message parts, then `[DONE]`; with `streamProtocol: text` plain text.",
    ),
}

_GEMINI: Mapping[str, tuple[str, str, Any, Any, str]] = {
    "generateContent": (
        "chat",
        "Generate content",
        vendors.GenerateContentRequest,
        vendors.GenerateContent,
        "generate-content",
    ),
    "streamGenerateContent": (
        "chat",
        "Generate content, as a stream",
        vendors.GenerateContentRequest,
        list[vendors.GenerateContent],
        "generate-content",
    ),
    "countTokens": (
        "count_tokens",
        "Count tokens",
        vendors.GeminiCountRequest,
        vendors.GeminiCount,
        "tokens",
    ),
    "embedContent": (
        "embeddings",
        "Embed a content",
        vendors.EmbedContentRequest,
        vendors.EmbedContent,
        "embeddings",
    ),
    "batchEmbedContents": (
        "embeddings",
        "Embed several contents",
        vendors.BatchEmbedContentsRequest,
        vendors.BatchEmbedContents,
        "embeddings",
    ),
}
"""By method: the operation that a route may leave out, what it is, what is asked and answered, the vendor's page."""

GEMINI_PATHS = (*(f"/{version}/{{model}}:{{method}}" for version in VERSIONS), "/models/{model}:{method}")
"""As the router has them: a document cannot say that a parameter has slashes, so each method is a path of its own."""


def call(spec: Spec, path: str, *, jobs: bool) -> Json:
    """The operation of a dialect at its path."""
    spoken = DIALECTS[path]
    more = {} if spoken.stream is None else events(spoken.stream)
    if spoken.tag == "AI SDK":
        more |= spec.content(str, f"{TEXT}; charset=utf-8")
    parameters = [TIMEOUTS, AGAIN]
    if spoken.tag == "AI SDK":
        parameters.append(MODEL_HEADER)
    return _operation(spec, spoken, more, parameters, jobs=jobs)


def gemini(spec: Spec, canonical: str, served: Iterable[str], *, jobs: bool) -> Iterable[tuple[str, Json]]:
    """A path and its operation for each method of one version."""
    head = "/models/" if canonical.startswith("/models/") else canonical.partition("{")[0] + "models/"
    version = head.split("/")[1].replace("models", "")
    for method, (operation, summary, asks, answers, page) in _GEMINI.items():
        if operation not in served:
            continue
        spoken = Dialect(
            id=f"{method}{version.title() or 'Unversioned'}",
            tag="Gemini",
            summary=summary,
            voice=IN_ARRAY if method == "streamGenerateContent" else GEMINI,
            asks=asks,
            answers=answers,
            docs=f"https://ai.google.dev/api/{page}",
        )
        parameters = [parameter("model", "path", "A model name of the config."), TIMEOUTS, AGAIN]
        more: Json = {}
        if method == "streamGenerateContent":
            parameters.append(parameter("alt", "query", "`sse` for events; otherwise the stream is a JSON array."))
            more = events("`GenerateContentResponse` objects.")
        yield f"{head}{{model}}:{method}", _operation(spec, spoken, more, parameters, jobs=jobs)


def _operation(spec: Spec, spoken: Dialect, more: Json, parameters: list[Json], *, jobs: bool) -> Json:
    answered = spec.said("The answer.", spoken.answers)
    answered["content"] |= more
    responses = {"200": answered, **spec.errors(spoken.voice, CALL)}
    if jobs:
        parameters = [*parameters, PREFER]
        responses["202"] = spec.said("The call is kept as a job.", shapes.Job)
    return {
        "operationId": spoken.id,
        "tags": [spoken.tag],
        "summary": spoken.summary,
        "externalDocs": {"url": spoken.docs},
        "parameters": parameters,
        "requestBody": {"required": True, "content": spec.content(spoken.asks)},
        "responses": dict(sorted(responses.items())),
    }
