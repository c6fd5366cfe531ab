"""Frames: events of a reply, numbered. An id is `generation-number`, so that no two runs of a job are ever mixed.

A number is an id of server-sent events (WHATWG HTML, section 9.2): what a browser gives back as `Last-Event-ID`.
"""

from __future__ import annotations

import re

from sidegate.wire import sse

Position = tuple[int, int]
"""Generation and number."""

START: Position = (0, 0)

_OWN = re.compile(rb"^(?:id|retry)(?::[^\n]*)?\n", re.MULTILINE)
_ID = re.compile(rb"^id: [0-9]+-[0-9]+\n")
_POSITION = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


def numbered(data: bytes, generation: int, last: int) -> tuple[bytes, int]:
    """Whole events with their ids, and the number of the last. An id that the provider gave is left out, and so is what
    has no data; a comment is a line of the event behind it."""
    frames = []
    comments = b""
    for event in _events(data):
        if not (event.startswith(b"data") or b"\ndata" in event):
            # Some clients take an id, or what follows one, for an event although it has no data.
            comments += b"".join([line + b"\n" for line in event.split(b"\n") if line.startswith(b":")])
            continue
        last += 1
        frames.append(b"id: %d-%d\n%b%b" % (generation, last, comments, event))
        comments = b""
    return b"".join(frames), last


def whole(body: bytes, generation: int, last: int) -> tuple[bytes, int]:
    """A body as the one event `result`; each of its lines is one of data."""
    lines = b"".join([b"data: %b\n" % line for line in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")])
    return b"id: %d-%d\nevent: result\n%b\n" % (generation, last + 1, lines), last + 1


def body_of(frames: bytes) -> bytes:
    """The body that `whole` made a frame of."""
    return sse.data(frames) or b""


def without_ids(frames: bytes) -> bytes:
    """The events as they came, for a client that did not ask for a job's."""
    return b"".join([_ID.sub(b"", frame) + b"\n\n" for frame in frames.split(b"\n\n") if frame])


def after(frames: bytes, first: int, last_seen: int) -> bytes:
    """Those behind `last_seen`, where the first one's number is `first`."""
    seen = last_seen - first + 1
    if seen <= 0:
        return frames
    return b"".join([frame + b"\n\n" for frame in frames.split(b"\n\n")[seen:] if frame])


def event(name: str, data: bytes, position: Position) -> bytes:
    """An event of the gateway's own."""
    return b"id: %d-%d\n%b" % (*position, sse.frame(data, name))


def read_position(text: str) -> Position | None:
    """What a reader has seen last, by its `Last-Event-ID`; `None` where that says nothing."""
    found = _POSITION.fullmatch(text.strip())
    return None if found is None else (int(found[1]), int(found[2]))


def _events(data: bytes) -> list[bytes]:
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    splitter = sse.Splitter()
    events = splitter.feed(data)
    if rest := splitter.close():
        events.append(rest.rstrip(b"\n") + b"\n\n")
    return [_OWN.sub(b"", event) if b"id" in event or b"retry" in event else event for event in events]
