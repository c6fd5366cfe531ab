"""Logs: one JSON object a line, for the gateway's own events and for what libraries say through `logging`.

A line cannot be forged or broken by what is logged: JSON escapes quotes and C0 controls, and the rest of what acts on
terminals and viewers (DEL, C1, line separators, bidirectional overrides) is escaped here. Keys are masked.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from select import PIPE_BUF
from threading import RLock
from typing import Any, Protocol

import msgspec

from sidegate.contract.host import Clock

MASK = "[masked]"

_KEYS = (
    r"(?i:\bbearer(\s+|%20)[A-Za-z0-9._~+/=-]{8,}|\bbasic\s+[A-Za-z0-9+/=]{16,})"
    r"|\bs[kg]-[A-Za-z0-9_-]{16,}"
    r"|\bAIza[A-Za-z0-9_-]{30,}"
)
_KEY = re.compile(_KEYS)
_KEY_BYTES = re.compile(_KEYS.encode())
_MASK_BYTES = MASK.encode()
_UNSAFE = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")

_SPACE, _PERCENT, _DELETE, _CAPITAL_I = b" %\x7fI"

_LONGEST_TEXT = 16_384
"""Characters of a message or traceback of a library."""


class Stream(Protocol):
    """Where lines go: `sys.stdout.buffer`, or a file opened for bytes."""

    def write(self, data: bytes, /) -> Any: ...
    def flush(self) -> Any: ...


class JsonLog:
    """`contract.host.Log` on a stream. A line that cannot be written is lost and counted: logs never fail a call.

    Lines of calls wait for the end of the loop's turn, and are written together; everything else is written at once,
    and what waits before it. Writing blocks as long as the stream does: whatever reads the gateway's output must keep
    reading.
    """

    def __init__(self, stream: Stream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._encoder = msgspec.json.Encoder(enc_hook=repr)
        self._waiting: deque[bytes] = deque()
        self._writing = RLock()
        self.lost = 0
        """Lines that the stream did not take: a full disk, a closed pipe."""

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """One line: `time` (RFC 3339, UTC), `event`, then `fields`. What JSON cannot say is its `repr`."""
        head = self._encoder.encode({"time": self._clock.now(), "event": event})
        if type(fields) is not dict or "time" in fields or "event" in fields:
            fields = {name: value for name, value in fields.items() if name not in ("time", "event")}
        line = b",".join((head[:-1], self._encoded(fields)[1:])) if fields else head
        self._waiting.append(_harmless(line) + b"\n")
        if event != "call":
            self.flush()
        elif len(self._waiting) == 1:
            self._flush_soon()

    def _flush_soon(self) -> None:
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:
            self.flush()

    def flush(self) -> None:
        """Write what waits: as many whole lines at a time as a pipe takes in one piece, for workers may share it."""
        with self._writing:
            waiting = self._waiting
            while waiting:
                lines = [waiting.popleft()]
                room = PIPE_BUF - len(lines[0])
                while waiting and (room := room - len(waiting[0])) >= 0:
                    lines.append(waiting.popleft())
                try:
                    self._stream.write(b"".join(lines))
                    self._stream.flush()
                except (OSError, ValueError):
                    self.lost += len(lines)

    def _encoded(self, fields: Mapping[str, Any]) -> bytes:
        try:
            return self._encoder.encode(fields)
        except Exception:  # whatever a value's own code raises
            return self._encoder.encode({str(name): self._sayable(value) for name, value in fields.items()})

    def _sayable(self, value: Any) -> Any:
        try:
            self._encoder.encode(value)
        except Exception:
            return _repr(value)
        return value


def mask(text: str) -> str:
    """The text without keys: bearer tokens, `sk-...`, `sg-...`, `AIza...`."""
    return _KEY.sub(MASK, text)


def configure_logging(log: JsonLog, level: int = logging.INFO) -> Callable[[], None]:
    """Send what libraries log (aiohttp, asyncio, anybody) through `log`. Gives back what undoes it.

    `aiohttp.server` logs the raw bytes of a request it cannot parse, keys included: its records lose arguments and
    traceback. `aiohttp.access` is silent: calls are logged by the `log` plugin.
    """
    root = logging.getLogger()
    server = logging.getLogger("aiohttp.server")
    access = logging.getLogger("aiohttp.access")
    before = root.handlers[:], root.level, access.disabled
    root.handlers[:] = [_Handler(log)]
    root.setLevel(level)
    server.addFilter(without_raw_bytes)
    access.disabled = True

    def undo() -> None:
        root.handlers[:], access.disabled = before[0], before[2]
        root.setLevel(before[1])
        server.removeFilter(without_raw_bytes)

    return undo


def without_raw_bytes(record: logging.LogRecord) -> bool:
    """Leaves of a record its fixed words and the type of the error: a filter for loggers that quote their input."""
    kind = record.exc_info[0] if record.exc_info else None
    record.exc_info = record.exc_text = record.stack_info = None
    record.args = ()
    if kind is not None:
        record.msg = f"{record.msg} ({kind.__name__})"
    return True


class _Handler(logging.Handler):
    def __init__(self, log: JsonLog) -> None:
        super().__init__()
        self._log = log
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"level": record.levelname.lower(), "logger": record.name}
        try:
            fields["message"] = mask(record.getMessage())[:_LONGEST_TEXT]
            if record.exc_info:
                fields["exception"] = mask(self._formatter.formatException(record.exc_info))[-_LONGEST_TEXT:]
        except Exception:  # a record whose arguments do not fit its words is still a record
            fields["message"] = mask(_repr(record.msg))
        self._log.write("log", fields)


def _harmless(line: bytes) -> bytes:
    """Without keys, and without what acts on terminals and viewers."""
    if _may_hold_key(line):
        line = _KEY_BYTES.sub(_MASK_BYTES, line)
    if not line.isascii() or _DELETE in line:
        line = _UNSAFE.sub(_escaped, line)
    return line


def _may_hold_key(line: bytes) -> bool:
    """Whether a word stands there that a key begins with. Few lines have one, and the expression takes 20 us."""
    # `in` is three times as dear: it first tries whether the bytes are a number.
    if line.find(b"sk-") >= 0 or line.find(b"sg-") >= 0:
        return True
    # One byte is looked for in no time, and few lines have this one.
    if _CAPITAL_I in line and line.find(b"AIza") >= 0:
        return True
    if _SPACE not in line and _PERCENT not in line:
        # `Bearer` and `Basic` are told from the key by a space, or by `%20`.
        return False
    lower = line.lower()
    return lower.find(b"bearer") >= 0 or lower.find(b"basic") >= 0


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text[:_LONGEST_TEXT].encode("utf-8", "backslashreplace").decode()


def _escaped(found: re.Match[bytes]) -> bytes:
    return f"\\u{ord(found[0].decode()):04x}".encode()
