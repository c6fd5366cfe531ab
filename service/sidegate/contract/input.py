"""Input: what a client says on a socket, while its call is in flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec


class Input:
    """One message of a client, on its way to the provider. Looked at by `call.tap_input`, and passed on as it came."""

    __slots__ = ("_fields", "data", "text", "type")

    def __init__(self, data: bytes, *, text: bool, type: str = "") -> None:
        self.data = data
        """The message, whole, in the bytes it came in."""
        self.text = text
        """Whether it came as text; else it is bytes, such as sound."""
        self.type = type
        """What kind of event it is, such as `input_audio_buffer.append`; empty where it is none."""
        self._fields: Mapping[str, Any] | None = None

    @property
    def fields(self) -> Mapping[str, Any]:
        """The event's fields, decoded when first read; empty where it is no JSON object."""
        if self._fields is None:
            self._fields = _fields(self.data) if self.text else {}
        return self._fields


SeeInput: TypeAlias = Callable[[Input], None]
"""Looks at a message of the client. A plain function; what it raises ends the session."""

_decode = msgspec.json.Decoder().decode


def _fields(data: bytes) -> Mapping[str, Any]:
    try:
        found = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
