"""What a reply says, for comparing replies across dialects: the text, the calls, the finish and the usage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sidegate.contract.chunk import Chunk
from sidegate.contract.cited import Texts
from sidegate.contract.meaning import Finish, Part, Reasoning, RefusalText, Report, Text, ToolCall, Usage
from sidegate.wire.dialect import Dialect, Envelope
from sidegate.wire.sse import Splitter

ENVELOPE = Envelope(id="call1", model="asked-model", created=1_700_000_000)


@dataclass
class Said:
    """The reply as its reader has it; arguments as JSON values, a custom tool's words in an object."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[tuple[str | None, str | None, Any]] = field(default_factory=list)
    finish: str | None = None
    usage: Usage | None = None


def said(parts: Iterable[Part]) -> Said:
    """What choice 0 says. A piece of a call that never said its id or name is no call of the client's."""
    found = Said()
    calls: dict[tuple[int, int], list[Any]] = {}
    turns: dict[int, int] = {}
    for part in parts:
        match part:
            case Text(choice=0):
                found.text += part.text
            case RefusalText(choice=0):
                found.refusal += part.text
            case Reasoning(choice=0):
                found.reasoning += part.text
            case Finish(choice=0):
                found.finish = found.finish or part.reason
            case Report():
                found.usage = part.usage if found.usage is None else found.usage.merge(part.usage)
            case ToolCall(choice=0):
                key = part.block, turns.get(part.block, 0)
                if key in calls and part.id and part.name and calls[key][0] not in (None, part.id):
                    turns[part.block] = key[1] + 1
                    key = part.block, key[1] + 1
                call = calls.setdefault(key, [part.id, part.name, "", part.custom])
                call[2] += part.arguments
            case _:
                pass
    found.calls = [
        (id, name, {"input": text} if custom else _value(text))
        for id, name, text, custom in calls.values()
        if id is not None or name is not None
    ]
    return found


def stream_parts(dialect: Dialect, body: bytes) -> list[tuple[Part, ...]]:
    """The parts of a recorded stream, event by event."""
    return [dialect.read_event(event) for event in events(body)]


def events(body: bytes) -> list[bytes]:
    """The events of a stream."""
    splitter = Splitter()
    found = splitter.feed(body)
    rest = splitter.close()
    return found if rest is None else [*found, rest]


def written(dialect: Dialect, batches: Iterable[Iterable[Part]]) -> bytes:
    """The batches as a stream of the dialect."""
    encoder = dialect.encoder(ENVELOPE)
    return b"".join([encoder.encode(batch) for batch in batches])


def reread(dialect: Dialect, batches: Iterable[Iterable[Part]]) -> list[Part]:
    """The batches written as a stream of the dialect and read back."""
    return flat(stream_parts(dialect, written(dialect, batches)))


def assembled(dialect: Dialect, batches: Iterable[Iterable[Part]], base: bytes | None = None) -> bytes:
    """The batches as a whole body of the dialect."""
    assembler = dialect.assembler(ENVELOPE)
    for batch in batches:
        assembler.add(batch)
    return assembler.body(base)


def changed(parts: Iterable[Part], change: Callable[[str], str]) -> list[Part]:
    """What an edit makes of the parts that changes each text so."""
    texts, found = Texts(), list[Part]()
    for part in parts:
        chunk = Chunk.of(part)
        for piece in texts.checked(chunk, [chunk.with_text(change)]):
            found += piece.parts
    return found


def flat(batches: Iterable[Iterable[Part]]) -> list[Part]:
    return [part for batch in batches for part in batch]


def _value(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text
