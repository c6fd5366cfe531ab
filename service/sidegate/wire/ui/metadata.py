"""What travels beside the words of a UI message: signatures of thinking, the name of the call, and its usage.

`providerMetadata` is the only way by which a signature returns with the next request. It has there the name that the
AI SDK's own provider of its vendor gives it, so that a history may move between them and the gateway.
"""

from __future__ import annotations

from typing import Any

from sidegate.contract.meaning import Usage
from sidegate.wire.seals import ANTHROPIC, GEMINI, OPENAI, Seal, decoded, unmarked

_NAMES = {
    ANTHROPIC: ("anthropic", "signature"),
    GEMINI: ("google", "thoughtSignature"),
    OPENAI: ("openai", "reasoningEncryptedContent"),
}
_UNKNOWN = ("sidegate", "signature")
_REDACTED = "redactedData"

_VENDORS = {"anthropic": ANTHROPIC, "bedrock": ANTHROPIC}
_BY_KEY = {"signature": None, "thoughtSignature": GEMINI, "reasoningEncryptedContent": OPENAI}
"""Whose a signature is of that name, whatever the provider is called."""


def signed(signature: str | None, vendor: str | None) -> dict[str, Any]:
    """The field of a chunk that binds a text, some thinking or a call; none where there is no signature."""
    if not signature:
        return {}
    name, key = _UNKNOWN if vendor is None else _NAMES.get(vendor, _UNKNOWN)
    return {"providerMetadata": {name: {key: signature}}}


def sealed(redacted: str) -> dict[str, Any]:
    """The field of a chunk of thinking that only its maker, Anthropic, can read."""
    return {"providerMetadata": {"anthropic": {_REDACTED: redacted}}}


def read_seal(metadata: Any) -> Seal | None:
    """The signature in a part's metadata, or what was sealed, whoever wrote it."""
    for name, told in metadata.items() if isinstance(metadata, dict) else ():
        if not isinstance(told, dict):
            continue
        if (redacted := _word(told.get(_REDACTED))) is not None:
            return Seal(ANTHROPIC, None, redacted)
        for key, vendor in _BY_KEY.items():
            if (signature := _word(told.get(key))) is not None:
                return decoded(signature) if vendor == GEMINI else unmarked(vendor or _VENDORS.get(name), signature)
    return None


def write_usage(usage: Usage) -> dict[str, Any]:
    """Token counts as a `LanguageModelUsage` of the AI SDK. What is unknown is left out: `null` is an error there."""
    inputs, output = usage.input_tokens, usage.output_tokens
    total = inputs + output if inputs is not None and output is not None else None
    read, made, reasoned = usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens
    return {
        **_known(inputTokens=inputs, outputTokens=output, totalTokens=total),
        "inputTokenDetails": _known(
            noCacheTokens=_rest(inputs, read, made),
            cacheReadTokens=read,
            cacheWriteTokens=made,
            audioTokens=usage.audio_input_tokens,
        ),
        "outputTokenDetails": _known(
            textTokens=_rest(output, reasoned), reasoningTokens=reasoned, audioTokens=usage.audio_output_tokens
        ),
    }


def _rest(whole: int | None, *finer: int | None) -> int | None:
    """What is none of the finer kinds, where any of those is known."""
    told = [count for count in finer if count is not None]
    return max(0, whole - sum(told)) if whole is not None and told else None


def _known(**counts: int | None) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count is not None}


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
