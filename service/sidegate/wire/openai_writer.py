"""What the writers of OpenAI's streams and bodies share: the head of every chunk, and the usage told at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sidegate.contract.meaning import Comment, End, Part, Report, Start, Usage
from sidegate.wire import openai, sse
from sidegate.wire.dialect import Envelope


class Head:
    """The name of a reply: the provider's where a `Start` told it before anything was written, else the gateway's."""

    def __init__(self, envelope: Envelope, prefix: str) -> None:
        self.id = prefix + envelope.id
        self.model = envelope.model
        self.created = envelope.created

    def take(self, start: Start) -> None:
        self.id = start.id or self.id
        self.model = start.model or self.model
        self.created = start.created or self.created

    def fields(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


class StreamWriter:
    """Parts into events. A dialect says what a chunk is called, and how a part becomes a choice of one."""

    kind = ""
    prefix = ""

    def __init__(self, envelope: Envelope) -> None:
        self._head = Head(envelope, self.prefix)
        self._include_usage = envelope.include_usage
        self._usage: Usage | None = None
        self._opened = False
        self._ended = False

    def encode(self, parts: Iterable[Part]) -> bytes:
        """The events that say `parts`. Nothing follows an `End`."""
        return b"".join([event for part in parts if (event := self._event(part))])

    def choice(self, part: Part) -> dict[str, Any] | None:
        """The choice that says `part`, `None` where the dialect has no word for it."""
        raise NotImplementedError

    def opening(self) -> bytes:
        """What a `Start` is in the dialect, when it is the first part."""
        return b""

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return openai.write_event({**self._head.fields(self.kind), "choices": choices, **more})

    def _event(self, part: Part) -> bytes:
        if self._ended:
            return b""
        if isinstance(part, Comment):
            return sse.comment(part.text)
        if isinstance(part, Report):
            self._usage = openai.merged(self._usage, part.usage)
            return b""
        if isinstance(part, Start):
            return self._start(part)
        if isinstance(part, End):
            return self._end()
        choice = self.choice(part)
        if choice is None:
            return b""
        self._opened = True
        return self.chunk([choice])

    def _start(self, start: Start) -> bytes:
        if self._opened:
            return b""
        self._opened = True
        self._head.take(start)
        return self.opening()

    def _end(self) -> bytes:
        self._ended = True
        usage = openai.write_usage(self._usage) if self._usage is not None and self._include_usage else None
        told = self.chunk([], usage=usage) if usage is not None else b""
        return told + openai.DONE
