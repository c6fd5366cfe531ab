"""Meaning: what a request asks and what a reply says, in no vendor's words.

A reply, streamed or whole, is a sequence of *parts*. Every dialect reads its events into parts and writes parts as its
events, so a plugin that acts on parts means the same everywhere. Parts are small, frozen and compared by value.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "error", "other"]
"""Why a choice ended. `stop` covers a natural end and a stop sequence; `other` is a reason no dialect shares."""


class Usage(Struct, frozen=True, gc=False):
    """Tokens of one attempt, as integers. Unknown is `None`, never 0.

    `input_tokens` includes the cached ones and `output_tokens` the reasoning ones (OpenTelemetry GenAI semantics);
    the finer kinds say how much of the whole they are.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    estimated: bool = False
    """True where the gateway counted because the provider did not say."""
    audio_cache_read_tokens: int | None = None
    """Of those that were cached: sound; `audio_input_tokens` is what was not, where a provider tells them apart."""
    image_input_tokens: int | None = None
    """Of those that were not cached: images. These kinds are for the price, and have no columns in the ledger."""
    image_cache_read_tokens: int | None = None

    def merge(self, later: Usage) -> Usage:
        """What is known after `later` came: a provider that reports twice is believed the last time, per kind."""
        return Usage(
            _last(self.input_tokens, later.input_tokens),
            _last(self.output_tokens, later.output_tokens),
            _last(self.cache_read_tokens, later.cache_read_tokens),
            _last(self.cache_write_tokens, later.cache_write_tokens),
            _last(self.reasoning_tokens, later.reasoning_tokens),
            _last(self.audio_input_tokens, later.audio_input_tokens),
            _last(self.audio_output_tokens, later.audio_output_tokens),
            later.estimated,
            _last(self.audio_cache_read_tokens, later.audio_cache_read_tokens),
            _last(self.image_input_tokens, later.image_input_tokens),
            _last(self.image_cache_read_tokens, later.image_cache_read_tokens),
        )

    @property
    def known(self) -> bool:
        """Whether both the input and the output are known, so that the attempt can be priced."""
        return self.input_tokens is not None and self.output_tokens is not None


def _last(before: int | None, later: int | None) -> int | None:
    return before if later is None else later


# --- the parts of a reply ---------------------------------------------------------------------------------------------


class Start(Struct, frozen=True, gc=False):
    """The provider's lead-in: the reply's id and the model that really answers. Says nothing the reader wants yet."""

    id: str | None = None
    model: str | None = None
    created: int | None = None
    """Unix seconds, where the dialect tells."""


class Text(Struct, frozen=True, gc=False):
    """Visible text of a content block: a piece of it on a stream, the whole of it in a buffered reply."""

    text: str
    choice: int = 0
    block: int = 0


class Reasoning(Struct, frozen=True, gc=False):
    """Thinking of the model. A `signature` (or `redacted` payload) binds the text: change neither, pass both whole."""

    text: str = ""
    choice: int = 0
    block: int = 0
    signature: str | None = None
    redacted: str | None = None
    vendor: str | None = None
    """Who made the signature (`anthropic`, `gemini`, `openai`): good with nobody else. `None` where there is none."""


class ToolCall(Struct, frozen=True, gc=False):
    """A tool call, or a piece of one: `id` and `name` come first, then `arguments`, JSON text, piece by piece."""

    arguments: str = ""
    id: str | None = None
    name: str | None = None
    choice: int = 0
    block: int = 0
    """The content block; unique in the choice, and the same for all pieces of one call."""
    custom: bool = False
    """A tool of OpenAI's that takes words of any form: `arguments` is then those, and no JSON."""


class RefusalText(Struct, frozen=True, gc=False):
    """Words with which the model itself declines (OpenAI's `refusal`); not a refusal by the gateway."""

    text: str
    choice: int = 0
    block: int = 0


class BlockEnd(Struct, frozen=True, gc=False):
    """No more of this block. Dialects without blocks never say it: `Finish` ends what is open of its choice."""

    choice: int = 0
    block: int = 0


class Finish(Struct, frozen=True, gc=False):
    """A choice is done, and why. `stop_sequence` is the one that was met, where the dialect tells."""

    reason: FinishReason
    choice: int = 0
    stop_sequence: str | None = None


class Report(Struct, frozen=True, gc=False):
    """Usage as far as the provider has told it. Merge them in order: `Usage.merge`."""

    usage: Usage


class Embedding(Struct, frozen=True, gc=False):
    """One vector of an embeddings reply."""

    vector: tuple[float, ...]
    index: int = 0


class Citation(Struct, frozen=True, gc=False):
    """What a text rests on: a page, a document. It follows the text, or stands before it in the same block."""

    url: str | None = None
    title: str | None = None
    quote: str | None = None
    """Words of the source."""
    start: int | None = None
    """The first character of the block's text that rests on it; without a place, all of the block's text does."""
    end: int | None = None
    """The character after the last one."""
    words: str | None = None
    """The words of the reply that rest on it, where the provider says the place by them."""
    choice: int = 0
    block: int = 0
    """The block of the text."""
    origin: str | None = None
    """The dialect that `data` is in."""
    data: Any = None
    """The citation in its provider's own words, kept while its place stands. They go before all of the above: an edit
    that changes that leaves them out."""


class Comment(Struct, frozen=True, gc=False):
    """A line for people and proxies (an SSE comment). Left out where the client's dialect does not bear one."""

    text: str


class Opaque(Struct, frozen=True, gc=False):
    """An event or block the gateway has no word for. Passed on untouched in its own dialect, left out in others."""

    kind: str
    choice: int = 0
    block: int | None = None
    data: Any = None
    piece: str | None = None
    """The field of `data` that goes on with a longer text: one of all pieces of this kind, choice and block."""

    @property
    def said(self) -> str:
        """The piece of the longer text."""
        said = self.data.get(self.piece) if self.piece is not None and isinstance(self.data, dict) else None
        return said if isinstance(said, str) else ""

    def saying(self, text: str) -> Opaque:
        """The same with another piece of the longer text."""
        return Opaque(self.kind, self.choice, self.block, {**self.data, self.piece: text}, self.piece)


class End(Struct, frozen=True, gc=False):
    """The clean end of the reply: `[DONE]`, `message_stop`."""


Part: TypeAlias = (
    Start
    | Text
    | Reasoning
    | ToolCall
    | RefusalText
    | Citation
    | BlockEnd
    | Finish
    | Report
    | Embedding
    | Comment
    | Opaque
    | End
)

CONTENT = (Text, Reasoning, ToolCall, RefusalText, Embedding, Finish)
"""The parts a reader waits for: the first of them is the first token, and commits an attempt."""


# --- the request ------------------------------------------------------------------------------------------------------


class TextContent(Struct, frozen=True):
    text: str


class ImageContent(Struct, frozen=True):
    """An image by `url` (http, https) or inline: `data` is base64 and `media_type` its type."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None


class FileContent(Struct, frozen=True):
    """A document, inline (base64 `data`) or by `url` or the provider's own `file_id`."""

    data: str | None = None
    media_type: str | None = None
    name: str | None = None
    url: str | None = None
    file_id: str | None = None


class ReasoningContent(Struct, frozen=True):
    """Thinking of an earlier turn, given back with the signature it came with."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    vendor: str | None = None
    """Who made the signature: another vendor is not given it. `None`: not known, or there is none."""


class ToolUse(Struct, frozen=True):
    """A tool call of an earlier turn. `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True):
    """What a tool answered."""

    id: str
    content: tuple[TextContent | ImageContent | FileContent, ...]
    is_error: bool = False


class OpaqueContent(Struct, frozen=True):
    """Content the gateway has no word for: passed on in its own dialect, refused or dropped in others."""

    kind: str
    data: Any


Content: TypeAlias = TextContent | ImageContent | FileContent | ReasoningContent | ToolUse | ToolResult | OpaqueContent


class Message(Struct, frozen=True):
    """One turn. Tool results are `user` turns holding `ToolResult`; the system prompt is the first, role `system`."""

    role: Literal["system", "user", "assistant"]
    content: tuple[Content, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.content if isinstance(part, TextContent))


class Tool(Struct, frozen=True):
    """A function the model may call. `parameters` is its JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True):
    """The shape asked of the answer."""

    kind: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any] | None = None
    name: str | None = None
    strict: bool | None = None


class Request(Struct, frozen=True, kw_only=True):
    """What a call asks for, whatever the dialect. To change it, `msgspec.structs.replace` it and set `call.request`."""

    model: str
    messages: tuple[Message, ...] = ()
    stream: bool = False
    include_usage: bool = True
    """Whether the client wants to be told the usage of a stream (OpenAI's `stream_options.include_usage`)."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    choices: int | None = None
    """How many answers (OpenAI's `n`)."""
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    """`auto`, `none`, `required`, or `tool:NAME` for one that must be called."""
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    reasoning_tokens: int | None = None
    """A budget for thinking, in tokens (Anthropic's `thinking.budget_tokens`)."""
    user: str | None = None
    metadata: dict[str, Any] | None = None
    input: tuple[str | tuple[int, ...], ...] = ()
    """What to embed: texts or token arrays."""
    dimensions: int | None = None
    encoding_format: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields without a word here, by the client's own names: kept in its dialect, dropped and named in others."""
