"""History: the messages of a conversation, in the words of Chat Completions, and what may become one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

from sidegate.conversations.turn import read_request, write_body
from sidegate.conversations.words import Entry
from sidegate.errors import BadRequest, Refusal
from sidegate.settings.conversations import Conversations as Bounds


class History:
    """Bounded: what does not fit is refused, and nothing of a conversation is left out in silence."""

    def __init__(self, bounds: Bounds, instructions: str | None) -> None:
        """Raises a `Refusal` where the instructions alone are too long."""
        self._bounds = bounds
        self._size = 0
        self.entries: list[Entry] = []
        if instructions:
            told = _message("system", instructions)
            self.check_room([told])
            self.add(told)

    @property
    def messages(self) -> list[Raw]:
        return [entry.message for entry in self.entries]

    def add(self, message: Raw, by: str | None = None, turn: str | None = None, ending: str | None = None) -> None:
        # A copy: what came in one frame is not kept for the sake of one message.
        data = bytes(message)
        self.entries.append(Entry(Raw(data), by, turn, ending))
        self._size += len(data)

    def take_back(self, count: int) -> None:
        """As if it had ended there."""
        self._size -= sum(len(bytes(entry.message)) for entry in self.entries[count:])
        del self.entries[count:]

    def check_room(self, messages: Sequence[Raw]) -> None:
        """Raises a `Refusal` 413 where these do not fit, with an answer to them."""
        size = self._size + sum(len(bytes(message)) for message in messages)
        if len(self.entries) + len(messages) >= self._bounds.max_messages or size > self._bounds.max_bytes:
            raise Refusal(413, "conversation_too_long", "The conversation is as long as it may be: begin another.")


def said(input: str | None, messages: Sequence[Raw]) -> tuple[Raw, ...]:
    """What a client says, as messages. Raises `BadRequest`."""
    if input is None:
        return tuple(messages)
    if messages:
        raise BadRequest("Say `input` or `messages`, not both.", param="input")
    return (_message("user", input),)


def check_sense(model: str, messages: Sequence[Raw], options: Mapping[str, Raw]) -> None:
    """Raises `BadRequest` for what makes no sense: it would be in each request from then on."""
    if messages or options:
        read_request(write_body(model, messages or [_message("user", "")], options))


def _message(role: str, content: str) -> Raw:
    return Raw(msgspec.json.encode({"role": role, "content": content}))
