"""Words as the house writes them: `acme corp` becomes `ACME Corp`, however a reply is cut into events."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from sidegate.contract import BlockEnd, Call, Chunk, Ending, Finish, Handler, Host, Plugin, Reply, Text, ToolCall

Word = Annotated[str, Meta(min_length=1, max_length=100)]


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    words: Annotated[
        dict[Word, str],
        Meta(min_length=1, max_length=100, description="Whole words or phrases, in any case, and what to say instead."),
    ]


class Shout(Plugin[Settings]):
    """Replaces words in the visible text of replies; tool calls and reasoning pass as they are."""

    contract: ClassVar[int] = 1

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if len({word.casefold() for word in settings.words}) < len(settings.words):
            raise ValueError("two words are the same but for their case")
        self._words = Words(settings.words)

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.operation in ("chat", "text_completion"):
            call.change(Rewording(self._words))
        return await handler(call)


class Words:
    """What to look for, compiled once: whole words, and their beginnings at the end of what has come so far."""

    def __init__(self, words: dict[str, str]) -> None:
        # The longest first, so that `acme corp` wins over `acme`.
        ordered = sorted(words, key=len, reverse=True)
        self._said = [words[word] for word in ordered]
        self._longest = len(ordered[0])
        whole = "|".join(f"({re.escape(word)})" for word in ordered)
        self._whole = re.compile(rf"(?<!\w)(?:{whole})(?!\w)", re.I)
        self._begun = re.compile(rf"(?<!\w)(?:{'|'.join(map(_beginnings, ordered))})\Z", re.I)

    def replace(self, text: str, start: int, last: bool) -> tuple[str, int]:
        """The text from `start` with words replaced, and where what may still become a word begins."""
        said: list[str] = []
        while True:
            begun = None if last else self._begun.search(text, max(start, len(text) - self._longest))
            stop = begun.start() if begun else len(text)
            found = self._whole.search(text, start)
            if found is None or found.start() >= stop:
                return "".join([*said, text[start:stop]]), stop
            said += [text[start : found.start()], self._said[(found.lastindex or 1) - 1]]
            start = found.end()


class Rewording:
    """The edit of one reply. What is held back, and the letter before it, are kept for each choice and block."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._held: dict[tuple[int, int], tuple[str, int]] = {}

    def see(self, chunk: Chunk) -> list[Chunk]:
        part = chunk.parts[0] if chunk.parts else None
        if isinstance(part, BlockEnd | Finish | ToolCall):
            return [*self._rest(part.choice), chunk]
        if not isinstance(part, Text):
            return [chunk]
        before = self._rest(part.choice, but=part.block)
        text, start = self._held.get((part.choice, part.block), ("", 0))
        text += part.text
        said, stop = self._words.replace(text, start, last=False)
        context = max(stop - 1, 0)
        self._held[part.choice, part.block] = text[context:], stop - context
        if said == part.text:
            return [*before, chunk]
        return [*before, chunk.with_parts([Text(said, part.choice, part.block)])] if said else before

    def end(self, ending: Ending) -> list[Chunk]:
        return [piece for choice in sorted({choice for choice, _ in self._held}) for piece in self._rest(choice)]

    def _rest(self, choice: int, but: int | None = None) -> list[Chunk]:
        """What is held back of a choice's blocks, all but one: no more text of them will come."""
        done = [key for key in self._held if key[0] == choice and key[1] != but]
        said = [(self._words.replace(*self._held.pop(key), last=True)[0], key) for key in done]
        return [Chunk.of(Text(text, *key)) for text, key in said if text]


def _beginnings(word: str) -> str:
    """`acme` gives `a(?:c(?:m(?:e)?)?)?`: each beginning of the word, and all of it."""
    first, *rest = (re.escape(letter) for letter in word)
    return first + "".join(f"(?:{letter}" for letter in rest) + ")?" * len(rest)
