"""Which content block a part belongs to, when parts become Anthropic's.

Elsewhere a block number may serve for text and thinking at once, so that what a block is counts as well: `Key`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sidegate.contract.meaning import Citation, Opaque, Reasoning, RefusalText, Text, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidegate.contract.meaning import Part

Kind = Literal["text", "thinking", "redacted", "tool", "opaque"]
MESSAGES = "anthropic.messages"
_OTHER: tuple[Kind, ...] = ("opaque", "text", "thinking", "tool")


class Key(NamedTuple):
    """A block: what it is, and its number among the parts."""

    kind: Kind
    source: int
    turn: int = 0
    """Some servers send parallel calls under one number: an id that is new, with a name, begins another call."""


class Keys:
    """Finds the blocks of the parts of one reply."""

    def __init__(self, begun: Callable[[Key], bool]) -> None:
        self._begun = begun
        self._calls: dict[int, tuple[Key, str | None]] = {}

    def of(self, part: Part) -> Key | None:
        """The block of a part; `None` for what cannot be placed, or is no content."""
        match part:
            case Text() | RefusalText() | Citation():
                return Key("text", part.block)
            case Reasoning():
                return Key("thinking" if part.redacted is None else "redacted", part.block)
            case ToolCall():
                return self._call(part)
            case Opaque(block=int(source)) if own(part):
                return self._opaque(part, source)
            case _:
                return None

    def _call(self, call: ToolCall) -> Key:
        # Without a name it may be input of a server's own tool: see `reply._block_delta`.
        opaque = Key("opaque", call.block)
        if call.name is None and self._begun(opaque):
            return opaque
        key, id = self._calls.get(call.block, (Key("tool", call.block), None))
        if id is not None and call.id is not None and call.name is not None and call.id != id:
            key, id = key._replace(turn=key.turn + 1), None
        self._calls[call.block] = key, id or call.id
        return key

    def _opaque(self, part: Opaque, source: int) -> Key | None:
        if not is_delta(part):
            return Key("opaque", source)
        return next((key for kind in _OTHER if self._begun(key := Key(kind, source))), None)


def is_delta(part: Opaque) -> bool:
    """Whether it is a piece of a block, and not the block itself."""
    return part.kind.endswith("_delta")


def own(part: Opaque) -> bool:
    """Whether it was read from this dialect: there, `data` is an object that says its kind itself."""
    kind = part.data.get("type") if isinstance(part.data, dict) else None
    return isinstance(kind, str) and (kind == part.kind or f"{kind}_delta" == part.kind)


def read_citation(told: Any, index: int) -> Citation:
    """https://platform.claude.com/docs/en/build-with-claude/citations: of the whole block, in any of its forms."""
    said = told if isinstance(told, dict) else {}
    title, source = said.get("title", said.get("document_title")), said.get("url", said.get("source"))
    quote = said.get("cited_text")
    return Citation(
        url=source if isinstance(source, str) and source.startswith(("http://", "https://")) else None,
        title=title if isinstance(title, str) else None,
        quote=quote if isinstance(quote, str) else None,
        block=index,
        origin=MESSAGES,
        data=told,
    )


def write_citation(part: Citation) -> dict[str, Any] | None:
    """As it came, or as a page that was found; `None` for what has no address."""
    if part.origin == MESSAGES and isinstance(part.data, dict):
        return dict(part.data)
    if part.url is None:
        return None
    said = {"url": part.url, "title": part.title, "cited_text": part.quote or part.words or "", "encrypted_index": ""}
    return {"type": "web_search_result_location", **said}


def gather_fields(part: Opaque, found: dict[str, dict[str, Any]]) -> None:
    """Adds the fields that a `message` part holds: see `reply._fields`."""
    for place in ("event", "delta", "usage"):
        fields = part.data.get(place)
        if isinstance(fields, dict):
            found.setdefault(place, {}).update(fields)
