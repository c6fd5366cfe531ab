"""Bound: what a request asks for that only a provider of its own dialect can give, so that no other is asked in its
place. What may be left out is dropped and named instead, by whoever writes the request."""

from __future__ import annotations

from sidegate.contract.meaning import Message, OpaqueContent, Request
from sidegate.errors import BadRequest
from sidegate.wire.openai_responses.input import REFERENCE, RESULT

_FIELDS = {"openai.responses": ("previous_response_id", "conversation", "prompt", "background")}
"""By dialect: fields that stand for what is said, or for how it is answered."""
_CONTENT = frozenset((REFERENCE, RESULT, "responses.compaction"))
_WHOLE = " With `store: false`, clients give back what was said itself."
"""The AI SDK refers to what was said before by default, and needs that setting to work with any provider."""


def check_translatable(dialect: str, request: Request) -> None:
    """Raises `BadRequest` naming the field where a request of `dialect` means nothing to a provider of another."""
    if dialect == "anthropic.messages" and request.extra.get("thread") is not None:
        raise _unthreaded()
    for name in _FIELDS.get(dialect, ()):
        if request.extra.get(name):
            raise _refused(name)
    if dialect in _FIELDS:
        for message in request.messages:
            _check_message(message)
        if not any(message.role != "system" for message in request.messages):
            raise BadRequest("input: missing", param="input")


def _check_message(message: Message) -> None:
    for piece in message.content:
        if isinstance(piece, OpaqueContent) and piece.kind in _CONTENT:
            hint = _WHOLE if piece.kind == REFERENCE else ""
            raise _refused("input", f" (`{piece.kind.partition('.')[2]}`)", hint)


def _refused(name: str, more: str = "", hint: str = "") -> BadRequest:
    return BadRequest(
        f"{name}{more}: The provider of this model does not speak the dialect, and keeps nothing of the kind.{hint}",
        param=name,
        code="unsupported_field",
    )


def _unthreaded() -> BadRequest:
    """What tells Anthropic's clients, which refer to what the provider holds, to send the whole of it from now on.

    Source: `ThreadUnsupportedRequestError` of the `anthropic` package, 2.12.
    """
    error = BadRequest(
        "thread: The provider of this model keeps no conversation. Send all of it without `thread`.",
        param="thread",
        code="unsupported_field",
    )
    error.details = {"error_code": "thread_unsupported_request", "unsupported": []}
    return error
