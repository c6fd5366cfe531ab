"""Writes docs/chat-socket.json: the JSON Schema of what both sides of the chat socket may say, from its own types."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sidegate.conversations.words import schema

PAGE = Path(__file__).resolve().parent.parent / "docs" / "chat-socket.json"


def page() -> bytes:
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2) + b"\n"


if __name__ == "__main__":
    PAGE.write_bytes(page())
