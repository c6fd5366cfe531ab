"""Replies as bytes, for the store that replicas share. What cannot be read back, whoever wrote it, is no reply."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Raw, Struct

from sidegate.contract import (
    BlockEnd,
    Chunk,
    Citation,
    Comment,
    Embedding,
    End,
    Finish,
    FinishReason,
    Naming,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Reply,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)

VERSION = 1
"""Of the form below. Another one is not read."""

_KINDS: tuple[type[Part], ...] = (
    *(Start, Text, Reasoning, ToolCall, RefusalText, Citation, BlockEnd),
    *(Finish, Report, Embedding, Comment, Opaque, End),
)
"""By their place here parts are told apart: add new ones at the end."""
_NUMBERS: Mapping[type[Part], int] = MappingProxyType({kind: number for number, kind in enumerate(_KINDS)})
_PARTS = tuple(msgspec.msgpack.Decoder(kind) for kind in _KINDS)


class _Piece(Struct, frozen=True, array_like=True):
    raw: bytes | None
    dialect: str
    whole: bool
    closing: bool
    hidden: bool
    meaningful: bool
    parts: list[tuple[int, Raw]]


class Stored(Struct, frozen=True, array_like=True):
    """A complete reply, with what tells how old it is."""

    version: int
    key: str
    at: float
    """Seconds of the epoch."""
    name: str
    created: int
    edited: bool
    usage: Usage | None
    finish: FinishReason | None
    model: str | None
    pieces: list[_Piece]

    @property
    def naming(self) -> Naming:
        return Naming(self.name, self.created)

    @property
    def reply(self) -> Reply:
        return Reply(usage=self.usage, finish=self.finish, model=self.model)

    def chunks(self) -> list[Chunk]:
        """Raises `ValueError` where what is said makes no sense."""
        return [_chunk(piece) for piece in self.pieces]


_STORED = msgspec.msgpack.Decoder(Stored)
_ENCODER = msgspec.msgpack.Encoder()


def pack(key: str, at: float, naming: Naming, edited: bool, reply: Reply, chunks: list[Chunk]) -> bytes | None:
    """`None` where a part holds what bytes cannot."""
    try:
        return _ENCODER.encode(
            Stored(
                VERSION,
                key,
                at,
                naming.id,
                naming.created,
                edited,
                reply.usage,
                reply.finish,
                reply.model,
                [_piece(chunk) for chunk in chunks],
            )
        )
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def unpack(data: bytes, key: str) -> tuple[Stored, list[Chunk]] | None:
    """`None` where this is no reply of this version, kept under this name, that ends."""
    try:
        stored = _STORED.decode(data)
        chunks = stored.chunks()
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        return None
    good = stored.version == VERSION and stored.key == key and chunks and chunks[-1].closing
    return (stored, chunks) if good else None


def _piece(chunk: Chunk) -> _Piece:
    parts = [(_NUMBERS[type(part)], Raw(_ENCODER.encode(part))) for part in chunk.parts]
    return _Piece(chunk.raw, chunk.dialect, chunk.whole, chunk.closing, chunk.hidden, chunk.meaningful, parts)


def _chunk(piece: _Piece) -> Chunk:
    parts: list[Any] = []
    for number, data in piece.parts:
        if not 0 <= number < len(_PARTS):
            raise ValueError("a part of no kind")
        parts.append(_PARTS[number].decode(data))
    chunk = Chunk(
        piece.raw,
        parts=tuple(parts),
        dialect=piece.dialect,
        whole=piece.whole,
        closing=piece.closing,
        meaningful=piece.meaningful,
    )
    chunk.hidden = piece.hidden
    return chunk
