"""What travels beside the words of a UI message: signatures of thinking, the name of the call, and its usage.

`providerMetadata` is the only way by which a signature returns with the next request. It is written under `sidegate`,
and read under any name, since a conversation may have begun with the AI SDK's own providers.
"""

from __future__ import annotations

from typing import Any

from sidegate.contract.meaning import Usage

OWN = "sidegate"

_SIGNATURES = ("signature", "thoughtSignature", "reasoningEncryptedContent")
"""By us and Anthropic, by Google, and by OpenAI."""
_REDACTED = ("redacted", "redactedData")


def signed(signature: str | None) -> dict[str, Any]:
    """The field of a chunk that binds a text, some thinking or a call; none where there is no signature."""
    return {} if signature is None else {"providerMetadata": {OWN: {"signature": signature}}}


def sealed(redacted: str) -> dict[str, Any]:
    """The field of a chunk of thinking that only its maker can read."""
    return {"providerMetadata": {OWN: {"redacted": redacted}}}


def read_signature(metadata: Any) -> str | None:
    """The signature in a part's metadata, whoever wrote it."""
    return _word(metadata, _SIGNATURES)


def read_redacted(metadata: Any) -> str | None:
    return _word(metadata, _REDACTED)


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


def _word(metadata: Any, names: tuple[str, ...]) -> str | None:
    for told in metadata.values() if isinstance(metadata, dict) else ():
        for name in names if isinstance(told, dict) else ():
            value = told.get(name)
            if isinstance(value, str) and value:
                return value
    return None
