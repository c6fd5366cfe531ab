"""How `redact` changes a reply: values are put back where their placeholders stand, and what must not be seen goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from msgspec.structs import replace

from sidegate.contract import BlockEnd, Chunk, Citation, Ending, Finish, Opaque, Reasoning, RefusalText, Text, ToolCall
from sidegate_plugins._redact_request import Rewriting, looks_like_json
from sidegate_plugins._text_window import JsonWindow, Patterns, Replaced, Rewriter, Window, rewritten

Said: TypeAlias = Text | RefusalText | Reasoning | ToolCall | Opaque
_Key: TypeAlias = tuple[int, int | None, type[Said]]


class Rewording:
    """The edit of one reply. Each text of a choice and block has a window of its own."""

    def __init__(self, patterns: Patterns, replaced: Replaced, *, reasoning: bool, is_json: bool) -> None:
        self._patterns = patterns
        self._replaced = replaced
        self._edited = (Text, RefusalText, ToolCall, Reasoning) if reasoning else (Text, RefusalText, ToolCall)
        self._is_json = is_json
        self._windows: dict[_Key, Rewriter] = {}
        self._began: dict[_Key, Said] = {}
        """The first piece of each."""
        self._whole = Rewriting(
            lambda text: rewritten(text, patterns, replaced),
            lambda text: rewritten(text, patterns, replaced, is_json=True),
        )

    def see(self, chunk: Chunk) -> Iterable[Chunk]:
        part = chunk.parts[0] if chunk.parts else None
        match part:
            case Text() | RefusalText() | ToolCall() | Reasoning() if type(part) in self._edited:
                return self._said(chunk, part)
            case BlockEnd():
                return [*self._closed(part.choice, part.block), chunk]
            case Finish():
                return [*self._closed(part.choice), chunk]
            case Citation():
                cited = replace(part, **{name: self._cited(part, name) for name in ("url", "title", "quote")})
                data = {"data": None} if cited != part else {}
                return [*self._flushed(part.choice), self._with(chunk, part, replace(cited, **data))]
            case Opaque() if part.said:
                beside = replace(part, data=self._whole.values(part.saying("").data))
                return self._said(chunk, beside.saying(part.said))
            case Opaque():
                said = replace(part, data=self._whole.values(part.data))
                return [*self._flushed(part.choice), self._with(chunk, part, said)]
            case Reasoning():
                return [*self._flushed(part.choice), chunk]
            case _:
                return [chunk]

    def end(self, ending: Ending) -> Iterable[Chunk]:
        return [piece for choice in sorted({key[0] for key in self._windows}) for piece in self._closed(choice)]

    def _said(self, chunk: Chunk, part: Said) -> list[Chunk]:
        key = (part.choice, part.block, type(part))
        before = self._flushed(part.choice, but=key) if len(self._windows) > 1 or key not in self._windows else []
        window = self._windows.get(key)
        if window is None:
            kind = JsonWindow if self._holds_json(part) else Window
            window = self._windows[key] = kind(self._patterns, self._replaced)
            self._began[key] = part
        text = _text(part)
        said = window.feed(text)
        if isinstance(part, Reasoning) and (part.signature or part.redacted):
            said += window.flush()
        if said == text and part in chunk.parts:
            return [*before, chunk]
        if not said and type(part) in (Text, RefusalText):
            return before
        return [*before, chunk.with_parts([_saying(part, said)])]

    def _holds_json(self, part: Said) -> bool:
        match part:
            case ToolCall(custom=custom):
                return not custom
            case Text():
                return self._is_json
            case Opaque():
                return looks_like_json(part.said)
            case _:
                return False

    def _flushed(self, choice: int, but: _Key | None = None) -> list[Chunk]:
        """What is held of a choice's other texts: they stand before what comes now."""
        held = [(key, window) for key, window in self._windows.items() if key[0] == choice and key != but]
        return [self._rest(key, said) for key, window in held if window.held and (said := window.flush())]

    def _closed(self, choice: int, block: int | None = None) -> list[Chunk]:
        """No more of it comes."""
        keys = [key for key in self._windows if key[0] == choice and block in (None, key[1])]
        rest = [(key, self._windows.pop(key).flush()) for key in keys]
        return [self._rest(key, said) for key, said in rest if said]

    def _rest(self, key: _Key, said: str) -> Chunk:
        return Chunk.of(_saying(_bare(self._began[key]), said))

    def _cited(self, part: Citation, name: str) -> str | None:
        text = getattr(part, name)
        return None if text is None else self._whole.plain(text)

    def _with(self, chunk: Chunk, part: Citation | Opaque, said: Citation | Opaque) -> Chunk:
        return chunk if said == part else chunk.with_parts([said])


def _text(part: Said) -> str:
    match part:
        case ToolCall():
            return part.arguments
        case Opaque():
            return part.said
        case _:
            return part.text


def _saying(part: Said, said: str) -> Said:
    match part:
        case ToolCall():
            return replace(part, arguments=said)
        case Opaque():
            return part.saying(said)
        case _:
            return replace(part, text=said)


def _bare(part: Said) -> Said:
    """A later piece of the same."""
    match part:
        case ToolCall():
            return replace(part, id=None, name=None)
        case Reasoning():
            return replace(part, signature=None, redacted=None, vendor=None)
        case _:
            return part
