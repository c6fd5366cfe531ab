"""The name a reply is kept under: two calls with the same one would get the same answer, but for chance.

It is made of the body as it came, its fields in order, so that whatever a provider knows and the gateway does not tells
two calls apart; what says nothing about the answer is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from sidegate.contract import Call, Model, Request

SAYS_NOTHING = frozenset(
    ("model", "stream", "stream_options", "user", "metadata", "safety_identifier", "prompt_cache_key")
)
"""Fields about the delivery, or for a provider's records. The model stands beside them, as the call has it."""
_BROWSER = "ai_sdk."
"""Dialects in which a body is full of names made up for it. What is not read of it reaches no model, so its meaning is
all there is."""
_VERSIONS = ("anthropic-version", "anthropic-beta", "openai-beta")
"""Headers that change what a provider answers to the same body."""
_ONCE = ("background", "conversation", "container")
"""What goes on at the provider after the reply, or before: it is no answer to this body alone."""

_OWN = ("previous_response_id",)
"""What names something of one caller's: whether it is is asked further in, and nobody asks where an answer is kept."""

Scope = Literal["caller", "team", "everyone"]


def key_of(call: Call, scope: Scope, models: Iterable[Model], version: str) -> str | None:
    """Hex; `None` where the reply is not one to be kept. Raises `BadRequest` where the request makes no sense."""
    request = call.request  # Refuses repeated fields, too: of those the last would win here, and elsewhere the first.
    fields = call.asked.fields
    never = _ONCE if scope == "caller" else (*_ONCE, *_OWN)
    if any(name in fields and bytes(fields[name]) not in (b"null", b"false") for name in never):
        return None
    changed = call.request_changed
    named: list[Any] = [
        version,
        _whose(call, scope),
        call.operation,
        call.dialect,
        call.route,
        call.model,
        [model.targets for model in models if _means(model.name, call.model)],
        [call.headers.get(name, "") for name in _VERSIONS],
        _meant(request) if not fields or call.dialect.startswith(_BROWSER) else _said(call),
        None if changed is None else _meant(changed[1]),
    ]
    return sha256(msgspec.json.encode(named, order="sorted")).hexdigest()


def _whose(call: Call, scope: Scope) -> tuple[str, ...]:
    if scope == "everyone":
        return ("everyone",)
    if scope == "team" and call.caller.team is not None:
        return ("team", call.caller.team)
    return ("caller", call.caller.name)


def _means(name: str, asked: str) -> bool:
    return asked.startswith(name[:-1]) if name.endswith("*") else asked == name


def _said(call: Call) -> dict[str, Any]:
    return {name: msgspec.json.decode(raw) for name, raw in call.asked.fields.items() if name not in SAYS_NOTHING}


def _meant(request: Request) -> Request:
    return replace(request, stream=False, include_usage=True, user=None, metadata=None)
