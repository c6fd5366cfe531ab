"""Voices: how a provider of each dialect says the same things, as bytes. For scripts of a provider."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

WORDS = ("Grü", "ße, ", "世界", " 🦊")
"""What a reply says: text beyond ASCII, so that bytes that are cut anywhere are felt."""

TEXT = "".join(WORDS)
USED = (7, 4)
"""Tokens in and out that a reply reports."""

_HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-1"}


class Voice(Protocol):
    """What a provider says in one dialect."""

    dialect: str
    """As the config says it: `openai`, `openai_responses`, `anthropic`, `gemini`."""

    def begins(self, *words: str, counts: bool = True) -> list[bytes]:
        """The events of a stream up to and with these words; `counts`: usage is told where the dialect begins by it."""
        ...

    def ends(self, *usages: Any) -> list[bytes]:
        """The events after the words: the finish reason, each usage, and last the mark of a clean end."""
        ...

    def usage(self, tokens: tuple[Any, Any]) -> Any:
        """A usage object, of whatever values."""
        ...

    def whole(self, text: str = TEXT, usage: Any = None) -> bytes:
        """A whole body; without a usage where none is given."""
        ...

    def failure(self, message: str, kind: str = "server_error") -> bytes:
        """The body of an error."""
        ...

    def failure_event(self, message: str, kind: str = "server_error") -> bytes:
        """An error inside a stream."""
        ...


def framed(data: Any, kind: str = "") -> bytes:
    """An event of a stream."""
    head = f"event: {kind}\n".encode() if kind else b""
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"


class OpenAIVoice:
    """OpenAI Chat Completions."""

    dialect = "openai"

    def begins(self, *words: str, counts: bool = True) -> list[bytes]:
        return [self._delta(role="assistant", content=""), *(self._delta(content=word) for word in words)]

    def ends(self, *usages: Any) -> list[bytes]:
        told = [framed({**_HEAD, "choices": [], "usage": usage}) for usage in usages]
        return [self._delta("stop"), *told, b"data: [DONE]\n\n"]

    def usage(self, tokens: tuple[Any, Any]) -> Any:
        inputs, output = tokens
        total = inputs + output if isinstance(inputs, int) and isinstance(output, int) else None
        return {"prompt_tokens": inputs, "completion_tokens": output, "total_tokens": total}

    def whole(self, text: str = TEXT, usage: Any = None) -> bytes:
        message = {"role": "assistant", "content": text}
        body = {
            **_HEAD,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        return msgspec.json.encode(body if usage is None else {**body, "usage": usage})

    def failure(self, message: str, kind: str = "server_error") -> bytes:
        return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": kind}})

    def failure_event(self, message: str, kind: str = "server_error") -> bytes:
        return b"data: " + self.failure(message, kind) + b"\n\n"

    def _delta(self, finish: str | None = None, **said: Any) -> bytes:
        return framed({**_HEAD, "choices": [{"index": 0, "delta": said, "finish_reason": finish}]})


class AnthropicVoice:
    """Anthropic Messages."""

    dialect = "anthropic"

    def begins(self, *words: str, counts: bool = True) -> list[bytes]:
        usage = {"input_tokens": USED[0], "output_tokens": 1} if counts else None
        message = {**self._message([], usage), "stop_reason": None}
        block = {"type": "text", "text": ""}
        return [
            self._event("message_start", message=message),
            self._event("content_block_start", index=0, content_block=block),
            *(self._said(word) for word in words),
        ]

    def ends(self, *usages: Any) -> list[bytes]:
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        told: list[dict[str, Any]] = [{"usage": usage} for usage in usages] or [{}]
        return [
            self._event("content_block_stop", index=0),
            *(self._event("message_delta", delta=delta, **each) for each in told),
            self._event("message_stop"),
        ]

    def usage(self, tokens: tuple[Any, Any]) -> Any:
        return {"input_tokens": tokens[0], "output_tokens": tokens[1]}

    def whole(self, text: str = TEXT, usage: Any = None) -> bytes:
        return msgspec.json.encode(self._message([{"type": "text", "text": text}], usage))

    def failure(self, message: str, kind: str = "server_error") -> bytes:
        named = {"server_error": "api_error"}.get(kind, kind)
        return msgspec.json.encode({"type": "error", "error": {"type": named, "message": message}})

    def failure_event(self, message: str, kind: str = "server_error") -> bytes:
        return b"event: error\ndata: " + self.failure(message, kind) + b"\n\n"

    def _message(self, content: list[Any], usage: Any) -> dict[str, Any]:
        said = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "real-1",
            "content": content,
            "stop_reason": "end_turn",
            "stop_sequence": None,
        }
        return said if usage is None else {**said, "usage": usage}

    def _said(self, word: str) -> bytes:
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})

    def _event(self, kind: str, **fields: Any) -> bytes:
        return framed({"type": kind, **fields}, kind)


class ResponsesVoice(OpenAIVoice):
    """OpenAI Responses. Its last event is the response; some servers say `[DONE]` after it, as this one does."""

    dialect = "openai_responses"

    def begins(self, *words: str, counts: bool = True) -> list[bytes]:
        where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        part = {"type": "output_text", "text": "", "annotations": []}
        return [
            self._event("response.created", response=self._response("in_progress", [])),
            self._event("response.output_item.added", output_index=0, item=self._message("in_progress")),
            self._event("response.content_part.added", **where, part=part),
            *(self._event("response.output_text.delta", **where, delta=word, logprobs=[]) for word in words),
        ]

    def ends(self, *usages: Any) -> list[bytes]:
        usage = {"usage": usages[-1]} if usages else {}
        response = {**self._response("completed", [self._message("completed", TEXT)]), **usage}
        return [
            self._event("response.output_item.done", output_index=0, item=self._message("completed", TEXT)),
            self._event("response.completed", response=response),
            b"data: [DONE]\n\n",
        ]

    def usage(self, tokens: tuple[Any, Any]) -> Any:
        return {"input_tokens": tokens[0], "output_tokens": tokens[1]}

    def whole(self, text: str = TEXT, usage: Any = None) -> bytes:
        body = self._response("completed", [self._message("completed", text)])
        return msgspec.json.encode(body if usage is None else {**body, "usage": usage})

    def failure_event(self, message: str, kind: str = "server_error") -> bytes:
        return self._event("error", message=message, code=kind, param=None)

    def _response(self, status: str, output: list[Any]) -> dict[str, Any]:
        head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "real-1"}
        return {**head, "status": status, "error": None, "output": output, "usage": None}

    def _message(self, status: str, *texts: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
        return {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": content}

    def _event(self, kind: str, **fields: Any) -> bytes:
        return framed({"type": kind, "sequence_number": 0, **fields}, kind)


class GeminiVoice:
    """Gemini. It has no mark of a clean end: the last event only repeats the counts."""

    dialect = "gemini"

    def begins(self, *words: str, counts: bool = True) -> list[bytes]:
        counted = {"promptTokenCount": USED[0], "totalTokenCount": USED[0]}
        told: dict[str, Any] = {"usageMetadata": counted} if counts else {}
        return [framed(self._said("", **told)), *(framed(self._said(word)) for word in words)]

    def ends(self, *usages: Any) -> list[bytes]:
        finish = framed(self._said("", "STOP"))
        told = [framed(self._reply(usageMetadata=usage)) for usage in usages]
        return [finish, *told, framed(self._reply())]

    def usage(self, tokens: tuple[Any, Any]) -> Any:
        inputs, output = tokens
        total = inputs + output if isinstance(inputs, int) and isinstance(output, int) else None
        return {"promptTokenCount": inputs, "candidatesTokenCount": output, "totalTokenCount": total}

    def whole(self, text: str = TEXT, usage: Any = None) -> bytes:
        return msgspec.json.encode(self._said(text, "STOP", **({} if usage is None else {"usageMetadata": usage})))

    def failure(self, message: str, kind: str = "server_error") -> bytes:
        code, status = _GOOGLE.get(kind, (500, "INTERNAL"))
        return msgspec.json.encode({"error": {"code": code, "message": message, "status": status}})

    def failure_event(self, message: str, kind: str = "server_error") -> bytes:
        return b"data: " + self.failure(message, kind) + b"\n\n"

    def _said(self, text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
        content = {"parts": [{"text": text}], "role": "model"}
        reason = {} if finish is None else {"finishReason": finish}
        return self._reply(candidates=[{"content": content, "index": 0, **reason}], **more)

    def _reply(self, **more: Any) -> dict[str, Any]:
        return {**more, "modelVersion": "real-1", "responseId": "g1"}


_GOOGLE = {
    "invalid_request_error": (400, "INVALID_ARGUMENT"),
    "authentication_error": (401, "UNAUTHENTICATED"),
    "rate_limit_error": (429, "RESOURCE_EXHAUSTED"),
    "overloaded_error": (503, "UNAVAILABLE"),
}
_ALL: tuple[Voice, ...] = (OpenAIVoice(), ResponsesVoice(), AnthropicVoice(), GeminiVoice())

VOICES: Mapping[str, Voice] = MappingProxyType({voice.dialect: voice for voice in _ALL})
"""By dialect."""
