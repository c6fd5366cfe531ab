"""Words of the demo provider: what it says, and how it counts tokens.

A token is a run of up to 20 letters, digits and underscores, or any other single character that is not a space. Spaces
belong to the token after them. The rule is simple so that a test can count by hand.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import struct
from array import array
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from sidegate.contract import Content, Message, ReasoningContent, Request, TextContent, ToolResult, ToolUse

Words: TypeAlias = str | tuple[int, ...]
"""A text, or one that is tokens already."""

_TOKEN = re.compile(r"\w{1,20}|[^\w\s]")
_BREATH = 4096
"""Tokens counted before other calls get their turn."""

_OPENINGS = ("Happy to help!", "Of course!", "Good question!", "Gladly!")
_QUOTED_WORDS = 12
_QUOTED_LETTERS = 160


def pieces(text: str) -> Iterator[str]:
    """The tokens of a text with the spaces before them; joined they are the text."""
    start = 0
    end = 0
    for found in _TOKEN.finditer(text):
        if end:
            yield text[start:end]
            start = end
        end = found.end()
    if start < len(text):
        yield text[start:]


def size(text: Words) -> int:
    """Bytes of a text in UTF-8; of a token array, four for each."""
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 4 * len(text)


async def count(texts: Iterable[Words]) -> int:
    """Tokens in all texts. Lets other calls run in between: a prompt may be megabytes."""
    total = 0
    for text in texts:
        if not isinstance(text, str):
            total += len(text)
            continue
        for _ in _TOKEN.finditer(text):
            total += 1
            if total % _BREATH == 0:
                await asyncio.sleep(0)
    return total


def prompt(request: Request) -> list[Words]:
    """What counts as input: texts of messages, tool calls and results, and what to embed. Tools, images: nothing."""
    said = [text for message in request.messages for content in message.content for text in _texts(content)]
    return [*said, *request.input]


def _texts(content: Content) -> tuple[str, ...]:
    match content:
        case TextContent() | ReasoningContent():
            return (content.text,)
        case ToolUse():
            return (content.name, content.arguments)
        case ToolResult():
            return tuple(part.text for part in content.content if isinstance(part, TextContent))
        case _:
            return ()


def asked(request: Request) -> str:
    """The last text a user wrote; empty if there is none."""
    texts = (message.text for message in reversed(request.messages) if message.role == "user")
    return next((text for text in texts if text), "")


def tool_results(request: Request) -> list[ToolResult]:
    """The results in the last turn: what a second answer is made from."""
    last: Message | None = request.messages[-1] if request.messages else None
    return [content for content in last.content if isinstance(content, ToolResult)] if last is not None else []


def answer(question: str, choice: int) -> str:
    """A friendly paragraph of about forty words, the same for the same question."""
    about = f'You asked: "{_quoted(question)}" That' if question.strip() else "You sent no text, and that"
    return (
        f"{_OPENINGS[choice % len(_OPENINGS)]} {about} has reached the built-in demo provider, the gateway's little "
        "café: it serves canned sentences, and no model was asked. Name a real provider in the config when you like."
    )


def thought(question: str) -> str:
    """What it pretends to think first."""
    return f'The question is "{_quoted(question)}". A short, friendly answer will do.'


def answer_from(results: list[ToolResult]) -> str:
    """What it makes of the results of tools."""
    said = "; ".join(_quoted(" ".join(_texts(result))) or "nothing" for result in results[:4])
    verb = "failed and said" if any(result.is_error for result in results) else "answered"
    return f"The tool {verb}: {said}. That is all the built-in demo provider needs for a reply - voilà."


def _quoted(text: str) -> str:
    """The first words, on one line."""
    head = text[: 4 * _QUOTED_LETTERS].split()
    quote = " ".join(head[:_QUOTED_WORDS])[:_QUOTED_LETTERS]
    return quote + "..." if len(head) > _QUOTED_WORDS or len(quote) == _QUOTED_LETTERS else quote


def vector(text: Words, dimensions: int) -> tuple[float, ...]:
    """A unit vector from the hash of a text or a token array: equal inputs are equal, others unrelated.

    The numbers are exact in 32 bits, so that both encodings of a reply say the same.
    """
    # Hex has no limit of digits, as decimal has in CPython.
    plain = text if isinstance(text, str) else " ".join(f"{token:x}" for token in text)
    digest = hashlib.shake_256(plain.encode("utf-8", "surrogatepass")).digest(4 * dimensions)
    # Half a step off the integers: no component, and so no length, is ever zero.
    numbers = [number + 0.5 for number in struct.unpack(f"<{dimensions}i", digest)]
    length = math.sqrt(math.fsum(number * number for number in numbers))
    return tuple(array("f", (number / length for number in numbers)))
