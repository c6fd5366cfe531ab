"""A kept reply in the other delivery: what came as a stream becomes one whole, and a whole becomes a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from sidegate.contract import Chunk, End, Part, Reasoning, RefusalText, Report, Text, ToolCall


def as_whole(chunks: Sequence[Chunk]) -> list[Chunk]:
    """One chunk that says all of it, pieces of a block put together."""
    if len(chunks) == 1 and chunks[0].whole:
        return list(chunks)
    said = folded(part for chunk in chunks for part in chunk.parts)
    return [Chunk(parts=tuple(said), whole=True, closing=True)]


def as_stream(chunks: Sequence[Chunk]) -> list[Chunk]:
    """An event for each thing that is said."""
    if not any(chunk.whole for chunk in chunks):
        return list(chunks)
    parts = [part for chunk in chunks for part in chunk.parts if type(part) is not End]
    return [*(about_usage(Chunk.of(part), (part,)) for part in parts), Chunk.of(End())]


def about_usage(chunk: Chunk, parts: tuple[Part, ...]) -> Chunk:
    """`hidden` where it says these parts, and they are only what was used: not every client has asked for that."""
    chunk.hidden = bool(parts) and all(type(part) is Report for part in parts)
    return chunk


def folded(parts: Iterable[Part]) -> list[Part]:
    """Pieces of one block joined in the place of the first; usage told in several steps is told once, at the end."""
    said: list[Part] = []
    places: dict[tuple[type[Part], int, int], int] = {}
    usage: Report | None = None
    ends: list[Part] = []
    for part in parts:
        if type(part) is Report:
            usage = part if usage is None else Report(usage.usage.merge(part.usage))
        elif type(part) is End:
            ends = [part]
        elif isinstance(part, Text | Reasoning | RefusalText | ToolCall):
            key = (type(part), part.choice, part.block)
            place = places.get(key)
            joined = None if place is None else _joined(said[place], part)
            if place is None or joined is None:
                places[key] = len(said)
                said.append(part)
            else:
                said[place] = joined
        else:
            said.append(part)
    return [*said, *([] if usage is None else [usage]), *ends]


def _joined(first: Part, then: Part) -> Part | None:
    """Both as one; `None` where they are two things."""
    match first, then:
        case Text(), Text():
            return replace(first, text=first.text + then.text)
        case RefusalText(), RefusalText():
            return replace(first, text=first.text + then.text)
        # Some providers put several calls into one block.
        case ToolCall(), ToolCall() if then.id in (None, first.id) or first.id is None:
            return replace(
                first,
                arguments=first.arguments + then.arguments,
                id=first.id or then.id,
                name=first.name or then.name,
            )
        case Reasoning(), Reasoning() if first.redacted is None is then.redacted:
            if first.signature is not None and (then.text or then.signature is not None):
                return None
            return replace(
                first,
                text=first.text + then.text,
                signature=first.signature if then.signature is None else then.signature,
                vendor=first.vendor or then.vendor,
            )
        case _:
            return None
