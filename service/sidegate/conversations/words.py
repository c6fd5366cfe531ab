"""Words: the messages of the chat socket, each a JSON object with a `type`. docs/chat-socket.md tells what they do.

`scripts/chat_socket` writes their JSON Schema into docs/chat-socket.json; a test holds it to these types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from sidegate.contract.meaning import FinishReason

Id: TypeAlias = Annotated[str, Meta(max_length=64)]
DisplayName: TypeAlias = Annotated[str, Meta(max_length=64)]
Busy: TypeAlias = Literal["queue", "interrupt", "refuse"]

_OPTIONS = "Further fields of the request, as Chat Completions has them: `temperature`, `tools`, `max_tokens` ..."


class _Said(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client says. `id`, its own choice, comes back as `re` in an answer to it alone."""

    id: Id | None = None


class Open(_Said, frozen=True, kw_only=True, tag="conversation.open", forbid_unknown_fields=True):
    """Begin a conversation. The first word on a connection; left out, the first turn opens one."""

    name: DisplayName = ""
    instructions: str | None = None


class Join(_Said, frozen=True, kw_only=True, tag="conversation.join", forbid_unknown_fields=True):
    """Take part in one, or come back to it: `after` is the last `seq` that was seen."""

    conversation: Id
    name: DisplayName = ""
    invitation: Id | None = None
    after: Annotated[int, Meta(ge=0)] | None = None


class Invite(_Said, frozen=True, kw_only=True, tag="invitation.create", forbid_unknown_fields=True):
    """A word by which another caller may join; for who has opened the conversation."""

    seconds: Annotated[float, Meta(ge=1)] = 3600


class Create(_Said, frozen=True, kw_only=True, tag="turn.create", forbid_unknown_fields=True):
    """Say something, and have it answered. Without `input` and `messages`: answer what was said."""

    model: Annotated[str, Meta(max_length=512)] = ""
    input: str | None = None
    messages: Annotated[tuple[Raw, ...], Meta(max_length=1000)] = ()
    options: Annotated[dict[str, Raw], Meta(description=_OPTIONS)] = {}
    when_busy: Busy = "queue"


class Add(_Said, frozen=True, kw_only=True, tag="input.add", forbid_unknown_fields=True):
    """Say something that waits for the next turn; with `interrupt`, the answer under way ends and begins anew."""

    input: str | None = None
    messages: Annotated[tuple[Raw, ...], Meta(max_length=1000)] = ()
    interrupt: bool = False


class Cancel(_Said, frozen=True, kw_only=True, tag="turn.cancel", forbid_unknown_fields=True):
    """Stop a turn, or take back one that waits; without `turn` the one that is being answered."""

    turn: Id | None = None


class Close(_Said, frozen=True, kw_only=True, tag="conversation.close", forbid_unknown_fields=True):
    """End the conversation for all; for who has opened it."""


Said: TypeAlias = Open | Join | Invite | Create | Add | Cancel | Close


class Participant(Struct, frozen=True, omit_defaults=True):
    """One who takes part. `id` is of this conversation alone; `name` is what it calls itself."""

    id: str
    name: str = ""


class Entry(Struct, frozen=True, omit_defaults=True):
    """A message of the conversation, in the words of Chat Completions. `ending` says that an answer is not whole."""

    message: Raw
    by: str | None = None
    turn: str | None = None
    ending: str | None = None


class Current(Struct, frozen=True, omit_defaults=True):
    """The answer under way, as far as it has come."""

    turn: str
    by: str
    model: str
    text: str = ""
    reasoning: str = ""


class Opened(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="conversation.opened"):
    """You take part. All up to `seq` is in it; where `replayed`, what you have missed follows instead."""

    conversation: str
    participant: str
    seq: int
    participants: tuple[Participant, ...]
    messages: tuple[Entry, ...] = ()
    current: Current | None = None
    replayed: bool = False
    re: str | None = None


class Invited(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="invitation.created"):
    invitation: str
    expires_at: str
    re: str | None = None


class Wrong(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="error"):
    """What you asked was not done, and the connection goes on."""

    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None
    re: str | None = None


class Joined(Struct, frozen=True, kw_only=True, tag="participant.joined"):
    seq: int
    participant: Participant


class Left(Struct, frozen=True, kw_only=True, tag="participant.left"):
    seq: int
    participant: str


class Added(Struct, frozen=True, kw_only=True, tag="input.added"):
    """`waits`: it becomes part of the conversation when the answer under way has ended."""

    seq: int
    by: str
    messages: tuple[Raw, ...]
    waits: bool


class Queued(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="turn.queued"):
    seq: int
    turn: str
    by: str
    re: str | None = None


class Started(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="turn.started"):
    """A turn is being answered. `call` is its id in the log, the ledger and `/v1/calls/{id}`."""

    seq: int
    turn: str
    by: str
    model: str
    call: str
    messages: tuple[Raw, ...] = ()
    re: str | None = None


class TextDelta(Struct, frozen=True, kw_only=True, tag="text.delta", gc=False):
    seq: int
    turn: str
    text: str


class ReasoningDelta(Struct, frozen=True, kw_only=True, tag="reasoning.delta", gc=False):
    seq: int
    turn: str
    text: str


class ToolCallDelta(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tool_call.delta", gc=False):
    """`id` and `name` come with the first piece of a call; `index` tells calls apart. `arguments` is JSON text, and
    the words of any form that a `custom` tool takes."""

    seq: int
    turn: str
    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None
    custom: bool = False


class Used(Struct, frozen=True, omit_defaults=True):
    """Tokens of all attempts; null where nobody knows."""

    input_tokens: int | None
    output_tokens: int | None
    estimated: bool = False


class Failure(Struct, frozen=True, omit_defaults=True):
    code: str
    message: str
    status: int
    retry_after: float | None = None


class Ended(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="turn.ended"):
    """`ending` is `complete`, `cancelled`, or why it failed. `taken_back`: nothing was said, and its messages are no
    part of the conversation, so that it may be tried again."""

    seq: int
    turn: str
    ending: str
    finish_reason: FinishReason | None = None
    usage: Used | None = None
    cost_nano_usd: int | None = None
    error: Failure | None = None
    taken_back: bool = False


class Closing(Struct, frozen=True, kw_only=True, tag="conversation.closed"):
    seq: int
    reason: Literal["closed", "gateway_stopping"]


Told: TypeAlias = (
    Opened
    | Invited
    | Wrong
    | Joined
    | Left
    | Added
    | Queued
    | Started
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | Ended
    | Closing
)

decode = msgspec.json.Decoder(Said).decode
encode = msgspec.json.Encoder().encode


def schema() -> dict[str, Any]:
    """JSON Schema of what both sides may say."""
    (said, told), defs = msgspec.json.schema_components((Said, Told), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The chat socket of Sidegate",
        "$defs": {**defs, "client": said, "server": told},
        "anyOf": [{"$ref": "#/$defs/client"}, {"$ref": "#/$defs/server"}],
    }
