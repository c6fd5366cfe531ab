"""Readers: replies of HTTP/1.1 out of the bytes of one connection, parsed strictly by llhttp (`httptools`).

What is not plainly HTTP is refused (RFC 9112): two lengths, a transfer coding other than `chunked`, a bare line feed, a
space before a colon, more than 32 KiB of head or trailers.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sidegate.errors import CutError, ReplyError
from sidegate.upstream.response import Response

MAX_HEADER_BYTES = 32 * 2**10
"""Of a head, those of interim replies and the trailers included; and of framing between two bytes of a body."""
MAX_LINGER_BYTES = 64 * 2**10
"""Of a body that nobody wants."""

_HTTP = b"HTTP/"
"""The parser takes RTSP and ICE, too."""
_INTERIM = frozenset({100, 102, 103})
_BODILESS = frozenset({204, 304})
_VERSIONS = frozenset({"1.0", "1.1"})


class _Refused(Exception):
    """Stops the parser."""


class Reader:
    """One reply after the other. `expect` each, then `feed` what comes, until it is `over`."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.heard = False
        """Something of a reply has come, be it a single byte."""
        self.over = False
        """The reply has ended by its own framing."""
        self.keeps = False
        """It was the provider's wish that the connection stays, and not one byte came after the reply."""
        self.until_end = False
        """Only the end of the connection ends the body."""
        self.unwanted = False
        """Nobody reads the body: it is dropped, within a bound."""

    def expect(self, response: Response) -> None:
        """Before each request."""
        self.heard = self.over = self.keeps = self.until_end = self.unwanted = False
        self._response = response
        self._first = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_size = self._dry = self._dropped = 0
        self._interim = False
        self._problem: ReplyError | None = None

    def feed(self, data: bytes) -> None:
        """Raises `ReplyError` where it is no HTTP, `CutError` where it stops being it in the body."""
        self.heard = True
        self._dry += len(data)
        if len(self._first) < len(_HTTP):
            self._first = (self._first + data[:16]).lstrip(b"\r\n")[: len(_HTTP)]
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.over:
                raise self._failure() from error
            self.keeps = False
        if self._dry > MAX_HEADER_BYTES and not self.over:
            raise self._failure()

    def close(self) -> None:
        """Nothing is fed any more."""
        # It holds this object's methods, and this object it: let go, or both wait for the collector.
        del self._parser

    def _failure(self) -> CutError | ReplyError:
        if self._response.begun:
            return CutError("The provider's reply was cut off.")
        return self._problem or ReplyError("The provider's reply is not HTTP.")

    def on_message_begin(self) -> None:
        if self.over:
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEADER_BYTES:
            raise _Refused
        if self._response.begun:
            return  # a trailer
        name = name.lower()
        value = value.rstrip(b" \t")
        before = self._headers.get(name)
        self._headers[name] = value if before is None else before + b", " + value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, {}
        if status in _INTERIM:
            self._interim = True
            return
        coding = headers.get(b"transfer-encoding")
        version = self._parser.get_http_version()
        if not 200 <= status < 600 or version not in _VERSIONS or self._first != _HTTP:
            raise _Refused
        if coding is not None and (coding.lower() != b"chunked" or version == "1.0" or status in _BODILESS):
            raise _Refused
        self.until_end = coding is None and b"content-length" not in headers and status not in _BODILESS
        try:
            self._response.begin(status, headers)
        except ReplyError as problem:
            self._problem = problem
            raise

    def on_body(self, data: bytes) -> None:
        self._dry = 0
        if not self.unwanted:
            self._response.feed(data)
            return
        self._dropped += len(data)
        if self._dropped > MAX_LINGER_BYTES:
            raise _Refused

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        self.over = True
        self.keeps = self._parser.should_keep_alive()
