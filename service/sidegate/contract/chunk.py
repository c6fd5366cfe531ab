"""Chunk: one whole event of a reply, or the whole of a buffered one; its meaning is decoded when first read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from sidegate.contract.meaning import (
    CONTENT,
    Comment,
    End,
    Finish,
    FinishReason,
    Part,
    Report,
    Text,
    ToolCall,
    Usage,
)

Reader: TypeAlias = Callable[[bytes], tuple[Part, ...]]
"""Bytes of one event, or of a whole body, into parts. Stateless: any chunk can be read without those before it."""


class Chunk:
    """A piece of a reply on its way to the client: never a TCP read, always a whole event.

    `parts` is what it says, in no dialect; the properties are the usual questions. A chunk is not changed in place: an
    edit gives back another one, made by `with_text`, `with_parts` or `Chunk.of`.
    """

    __slots__ = ("_meaningful", "_parts", "_reader", "base", "closing", "dialect", "hidden", "raw", "whole")

    def __init__(
        self,
        raw: bytes | None = None,
        *,
        parts: tuple[Part, ...] | None = None,
        reader: Reader | None = None,
        dialect: str = "",
        whole: bool = False,
        closing: bool = False,
        meaningful: bool | None = None,
    ) -> None:
        self.raw = raw
        """The bytes as the provider sent them, while nobody has changed them; `None` for a chunk made of parts."""
        self.dialect = dialect
        """Whose words `raw` is in; empty where there is no `raw`."""
        self.whole = whole
        """True for a buffered reply: one chunk that is everything, and closes it too."""
        self.closing = closing
        """True for the end of the reply (`[DONE]`, `message_stop`, or the whole of a buffered one)."""
        self.base: tuple[str, bytes] | None = None
        """Dialect and bytes of the whole body this one was changed from: fields nobody knows are taken from there."""
        self.hidden = False
        """True for an event the client did not ask for: plugins see it, the client does not."""
        self._parts = parts
        self._reader = reader
        self._meaningful = meaningful

    @classmethod
    def of(cls, *parts: Part) -> Chunk:
        """A chunk that says these parts."""
        return cls(parts=parts, closing=any(type(part) is End for part in parts))

    @classmethod
    def comment(cls, text: str) -> Chunk:
        """A line for people, such as the cost; left out where the client's dialect bears no comments."""
        return cls(parts=(Comment(text),), meaningful=False)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the chunk says, in order. Decoded once."""
        if self._parts is None:
            self._parts = self._reader(self.raw) if self._reader is not None and self.raw is not None else ()
        return self._parts

    @property
    def meaningful(self) -> bool:
        """Whether it holds something the reader waits for: not a role, a ping, a lead-in or a bare usage report."""
        if self._meaningful is None:
            self._meaningful = any(isinstance(part, CONTENT) for part in self.parts)
        return self._meaningful

    @property
    def text(self) -> str:
        """The visible text, all choices joined; empty if there is none."""
        return "".join(part.text for part in self.parts if type(part) is Text)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Tool calls, or the pieces of them that this event brings."""
        return tuple(part for part in self.parts if type(part) is ToolCall)

    @property
    def usage(self) -> Usage | None:
        """Usage as far as this event tells it."""
        found: Usage | None = None
        for part in self.parts:
            if type(part) is Report:
                found = part.usage if found is None else found.merge(part.usage)
        return found

    @property
    def finish(self) -> FinishReason | None:
        """Why the first choice that this event ends has ended."""
        return next((part.reason for part in self.parts if type(part) is Finish), None)

    def copy(self) -> Chunk:
        """The same piece, to be kept, or told in another reply; what was decoded of its bytes is not kept with it."""
        readable = self.raw is not None and self._reader is not None
        copied = Chunk(
            self.raw,
            parts=None if readable else self._parts,
            reader=self._reader,
            dialect=self.dialect,
            whole=self.whole,
            closing=self.closing,
            meaningful=self._meaningful,
        )
        copied.base, copied.hidden = self.base, self.hidden
        return copied

    def with_parts(self, parts: Iterable[Part]) -> Chunk:
        """The same place in the reply, saying something else."""
        changed = Chunk(parts=tuple(parts), whole=self.whole, closing=self.closing)
        changed.base = self.base if self.raw is None else (self.dialect, self.raw)
        return changed

    def with_text(self, change: Callable[[str], str]) -> Chunk:
        """The chunk with `change` applied to each piece of visible text; itself where nothing came out different."""
        parts = tuple(
            Text(change(part.text), part.choice, part.block) if type(part) is Text else part for part in self.parts
        )
        return self if parts == self.parts else self.with_parts(parts)

    def __repr__(self) -> str:
        said = self.raw if self._parts is None else self._parts
        return f"Chunk({said!r}{', whole' if self.whole else ''}{', closing' if self.closing else ''})"
