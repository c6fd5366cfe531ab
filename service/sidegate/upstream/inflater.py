"""Inflating: a compressed reply, though none was asked for. Never more at once than was asked: a bomb meets a bound."""

from __future__ import annotations

import zlib

from sidegate.errors import CutError, ReplyError

_MOST = 2**16
"""Bytes given at a time."""
_GZIP = zlib.MAX_WBITS | 16
_DEFLATE_METHOD = 8
"""The low four bits of the first byte of a zlib stream (RFC 1950); some servers send a bare one (RFC 1951)."""


class Inflater:
    """One body. `feed` compressed bytes, then take `more` until there is none."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._stream = None if bits == zlib.MAX_WBITS else zlib.decompressobj(wbits=bits)
        self._rest = b""

    def feed(self, data: bytes) -> None:
        self._rest += data
        if self._stream is None and self._rest:
            bare = self._rest[0] & 15 != _DEFLATE_METHOD
            self._stream = zlib.decompressobj(wbits=-self._bits if bare else self._bits)

    def more(self) -> bytes:
        """Some of what was fed, inflated; empty where more has to be fed. Raises `ReplyError`."""
        stream = self._stream
        if stream is None:
            return b""
        try:
            data = stream.decompress(self._rest, _MOST)
        except zlib.error as error:
            raise ReplyError("The provider's reply cannot be decompressed.") from error
        self._rest = stream.unconsumed_tail
        if stream.eof and (further := stream.unused_data):
            # Another member of the same body, RFC 1952 section 2.2.
            self._stream = zlib.decompressobj(wbits=self._bits)
            self._rest = further
            return data or self.more()
        return data

    def end(self) -> None:
        """The bytes are over. Raises `CutError` where the body is not."""
        if self._stream is not None and not self._stream.eof:
            raise CutError("The provider's reply was cut off.")


def inflater(encoding: str) -> Inflater | None:
    """For a Content-Encoding; `None` for none. Raises `ReplyError` for one that is not known."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return Inflater(_GZIP)
        case "deflate":
            return Inflater(zlib.MAX_WBITS)
        case _:
            raise ReplyError("The provider's reply is in an encoding that was not asked for.")
