"""Readers: replies of HTTP/1.1 out of the bytes of one connection, parsed strictly by llhttp (`httptools`).

What is not plainly HTTP is refused (RFC 9112): two lengths, a transfer coding other than `chunked`, a bare line feed, a
space before a colon, more than 32 KiB of head or trailers.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sidegate.errors import CutError, ReplyError
from sidegate.upstream.headers import Headers
from sidegate.upstream.response import Response

MAX_HEADER_BYTES = 32 * 2**10
"""Of a head, those of interim replies and the trailers included; and of framing between two bytes of a body."""
MAX_LINGER_BYTES = 64 * 2**10
"""Of a body that nobody wants."""
_TAIL_BYTES = 64
"""So much of a body tells where it ends in a read."""

_VERSIONS = (b"HTTP/1.1 ", b"HTTP/1.0 ")
"""The parser takes others, and RTSP and ICE, too."""
_INTERIM = frozenset({100, 102, 103})
_BODILESS = frozenset({204, 304})
_LENGTH = b"\r\ncontent-length:"
_CODING = b"\r\ntransfer-encoding:"


class _Refused(Exception):
    """Stops the parser."""


class Reader:
    """One reply after the other. `expect` each, then `feed` what comes, until it is `over`."""

    def __init__(self) -> None:
        self._came: list[bytes] = []
        """Of the body, by the read at hand."""
        # A provider puts each event in a chunk of its own: none of them costs a call of Python's.
        self.on_body = self._came.append
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
        self._head = b""
        self._heads = self._dry = self._dropped = 0
        self._interim = False
        self._problem: ReplyError | None = None

    def feed(self, data: bytes) -> None:
        """Raises `ReplyError` where it is no HTTP, `CutError` where it stops being it in the body."""
        self.heard = True
        if not self._response.status:
            self._head += data
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._hand_on(data)
            if not self.over:
                raise self._failure() from error
            self.keeps = False
            return
        if len(self._came) == 1 and len(data) <= MAX_HEADER_BYTES and not self.unwanted:
            # Nearly every read of a stream: an event in a chunk of its own.
            self._dry = 0
            self._response.feed(self._came.pop())
            return
        self._hand_on(data)
        if self._dry > MAX_HEADER_BYTES or self._dropped > MAX_LINGER_BYTES:
            raise self._failure()

    def _hand_on(self, data: bytes) -> None:
        """What `data` has brought of the body is the response's; what came since is framing."""
        came = self._came
        if not came:
            self._dry += len(data)
            return
        last = came[-1]
        self._dry = 0 if len(data) <= MAX_HEADER_BYTES else _behind(data, last[-_TAIL_BYTES:])
        whole = last if len(came) == 1 else b"".join(came)
        came.clear()
        if self.unwanted:
            self._dropped += len(whole)
        else:
            self._response.feed(whole)

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

    def on_headers_complete(self) -> None:
        """The parser has found every line of the head good: so it ends where the first empty one is."""
        status = self._parser.get_status_code()
        head = self._cut()
        if status in _INTERIM:
            self._interim, self._head = True, self._head[len(head) + 2 :]
            return
        if not 200 <= status < 600:
            raise _Refused
        headers = Headers(head)
        # The parser has refused a length beside a transfer coding.
        self.until_end = not headers.has(_LENGTH) and not self._is_bounded(status, headers)
        try:
            self._response.begin(status, headers)
        except ReplyError as problem:
            self._problem = problem
            raise
        self._head = b""

    def _cut(self) -> bytes:
        """The head that is whole now, without the line that ends it."""
        if not self._head.startswith(b"HTTP/1.1 "):
            self._head = self._head.lstrip(b"\r\n")
            if not self._head.startswith(_VERSIONS):
                raise _Refused
        end = self._head.find(b"\r\n\r\n") + 2
        self._heads += end
        if self._heads > MAX_HEADER_BYTES:
            raise _Refused
        return self._head[:end]

    def _is_bounded(self, status: int, headers: Headers) -> bool:
        """Whether the body tells its own end, though it tells no length."""
        if not headers.has(_CODING):
            return status in _BODILESS
        is_chunked = headers["transfer-encoding"].lower() == "chunked"
        if not is_chunked or status in _BODILESS or self._head.startswith(b"HTTP/1.0"):
            raise _Refused
        return True

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        self.over = True
        self.keeps = self._parser.should_keep_alive()


def _behind(data: bytes, end: bytes) -> int:
    """Bytes of a read that stand behind the body's `end` in it."""
    return len(data) - data.rfind(end) - len(end)
