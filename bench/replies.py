"""Replies: what makes one whole. Nothing is measured of a reply that is not."""

from __future__ import annotations

import re

import msgspec

from bench.traffic import Shape

TOKEN = re.compile(rb'"content"\s*:\s*" ')
"""In each event that brings a token, however a server writes its JSON."""


class Incomplete(Exception):
    """A reply that is not what was asked for: there is nothing to measure."""


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str


class _Body(msgspec.Struct):
    choices: tuple[_Choice]


_BODY = msgspec.json.Decoder(_Body)


def check_body(body: bytes, shape: Shape) -> None:
    """Raises `Incomplete` where a whole reply does not say all it should."""
    try:
        choice = _BODY.decode(body).choices[0]
    except msgspec.MsgspecError as error:
        raise Incomplete(f"a reply is not a completion ({error}): {body[:300]!r}") from error
    if choice.message.content.count(" ") != shape.tokens or choice.finish_reason != "stop":
        raise Incomplete(f"a reply does not say all it should: {body[:300]!r}")


def check_stream(body: bytes, shape: Shape) -> None:
    """Raises `Incomplete` where a stream has not every token, or not its end."""
    tokens = len(TOKEN.findall(body))
    if tokens != shape.tokens or not body.rstrip().endswith(b"data: [DONE]"):
        raise Incomplete(f"a stream has {tokens} of {shape.tokens} tokens, and ends with {body[-200:]!r}")


def unchunked(body: bytes) -> bytes:
    """A body without its HTTP chunks' frames (RFC 9112, section 7.1)."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        if not size:
            return b"".join(parts)
        at = end + 2 + size
        parts.append(body[end + 2 : at])
        if body[at : at + 2] != b"\r\n":
            raise Incomplete("a reply is not framed as HTTP chunks")
        at += 2
