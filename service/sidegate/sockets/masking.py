"""Masking: a client's frames are masked, each of them (RFC 6455 section 5.1). aiohttp takes them either way."""

from __future__ import annotations

_LONGEST_HEAD = 14


class Masks:
    """Follows the bytes of a connection from frame to frame; looks at heads only."""

    __slots__ = ("_head", "_skip")

    def __init__(self) -> None:
        self._skip = 0
        """Bytes until the next head."""
        self._head = b""
        """A head that has begun to come."""

    def hold(self, data: bytes) -> bool:
        """Whether every frame that begins in these bytes is masked. After false, nothing more is to be asked."""
        if self._skip >= len(data):
            self._skip -= len(data)
            return True
        at, self._skip = self._skip, 0
        if self._head:
            data, at, self._head = self._head + data[at:], 0, b""
        end = len(data)
        while at < end:
            if end - at < 2:
                break
            if not data[at + 1] & 0x80:
                return False
            length = data[at + 1] & 0x7F
            size = 6 if length < 126 else 8 if length == 126 else _LONGEST_HEAD
            if end - at < size:
                break
            if length >= 126:
                length = int.from_bytes(data[at + 2 : at + size - 4], "big")
            at += size + length
        if at < end:
            self._head = data[at:]
        else:
            self._skip = at - end
        return True
