"""All dialects by name, as the config and the logs say it. A new dialect is one room and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sidegate.wire.anthropic.dialect import AnthropicMessages
from sidegate.wire.anthropic.tokens import AnthropicCountTokens
from sidegate.wire.dialect import Dialect
from sidegate.wire.gemini.dialect import GeminiGenerate
from sidegate.wire.gemini.embeddings import GeminiBatchEmbed, GeminiEmbed
from sidegate.wire.gemini.tokens import GeminiCountTokens
from sidegate.wire.openai_chat.dialect import OpenAIChat
from sidegate.wire.openai_completions.dialect import OpenAICompletions
from sidegate.wire.openai_embeddings import OpenAIEmbeddings
from sidegate.wire.openai_responses.dialect import OpenAIResponses
from sidegate.wire.ui.dialect import UICompletion, UIMessages

_ALL: tuple[Dialect, ...] = (
    OpenAIChat(),
    OpenAICompletions(),
    OpenAIEmbeddings(),
    OpenAIResponses(),
    AnthropicMessages(),
    AnthropicCountTokens(),
    GeminiGenerate(),
    GeminiBatchEmbed(),
    GeminiEmbed(),
    GeminiCountTokens(),
    UIMessages(),
    UICompletion(),
)

DIALECTS: Mapping[str, Dialect] = MappingProxyType({dialect.name: dialect for dialect in _ALL})
