"""Parts into a whole message of Anthropic Messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Raw
from msgspec.json import Decoder
from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import (
    Citation,
    Finish,
    Opaque,
    Reasoning,
    RefusalText,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.wire.anthropic.block import MESSAGES, Key, Keys, gather_fields, is_delta, own, write_citation
from sidegate.wire.anthropic.reply import read_whole
from sidegate.wire.anthropic.usage import stop_fields, write_usage
from sidegate.wire.body import UNREADABLE
from sidegate.wire.custom_calls import in_object
from sidegate.wire.seals import ANTHROPIC, marked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidegate.contract.meaning import Part
    from sidegate.wire.dialect import Envelope

_json = JsonEncoder().encode
_object = Decoder(dict[str, Raw]).decode
_list = Decoder(list[Raw]).decode
_decode = Decoder(dict[str, Any]).decode


class AnthropicAssembler:
    """An `Assembler` for one reply. Only choice 0 can be said."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._start = Start()
        self._usage = Usage()
        self._finish: Finish | None = None
        self._fields: dict[str, dict[str, Any]] = {}
        self._of_call: dict[int, dict[str, Any]] = {}
        self._blocks: dict[Key, _Block] = {}
        self._keys = Keys(self._blocks.__contains__)

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self._take(part)

    def body(self, base: bytes | None = None) -> bytes:
        if base is not None:
            return self._over(base)
        message = {
            "id": self._start.id or f"msg_{self._envelope.id}",
            "type": "message",
            "role": "assistant",
            "model": self._start.model or self._envelope.model,
            "content": [content for block in self._blocks.values() if (content := block.content()) is not None],
            **stop_fields(self._finish, self._fields),
            "usage": {**write_usage(self._usage), **self._fields.get("usage", {})},
            **self._fields.get("event", {}),
        }
        return _json(message)

    def _take(self, part: Part) -> None:
        match part:
            case Start():
                self._start = part
            case Report():
                self._usage = self._usage.merge(part.usage)
            case Finish(choice=0):
                self._finish = part
            case Opaque(kind="message", block=None) if own(part):
                gather_fields(part, self._fields)
            case Opaque(kind="block", block=int(source)) if own(part):
                self._of_call[source] = {key: value for key, value in part.data.items() if key != "type"}
            case _ if getattr(part, "choice", None) == 0:
                self._place(part)
            case _:
                return

    def _place(self, part: Part) -> None:
        key = self._keys.of(part)
        if key is None:
            return
        if key not in self._blocks:
            self._blocks[key] = _Block(
                key, self._of_call.pop(key.source, {}), f"toolu_{self._envelope.id}_{key.source}"
            )
        self._blocks[key].add(part)

    def _over(self, base: bytes) -> bytes:
        """The parts over the body they were once read from: what they leave as it was keeps its bytes."""
        before = AnthropicAssembler(self._envelope)
        before.add(read_whole(base))
        fields: dict[str, Any] = dict(_object(base))
        old = _list(fields["content"])
        fields["content"] = [
            content for block in self._blocks.values() if (content := block.over(before._blocks, old)) is not None
        ]
        if self._finish != before._finish:
            fields |= stop_fields(self._finish, self._fields)
        if self._usage != before._usage:
            usage = _decode(fields["usage"]) if "usage" in fields else {}
            fields["usage"] = {**usage, **write_usage(self._usage)}
        if self._start != before._start:
            fields["id"] = self._start.id or fields.get("id")
            fields["model"] = self._start.model or fields.get("model")
        return _json(fields)


class _Block:
    """What was said of one block."""

    __slots__ = (
        "arguments",
        "citations",
        "custom",
        "data",
        "id",
        "key",
        "made",
        "name",
        "redacted",
        "signature",
        "text",
    )

    def __init__(self, key: Key, data: dict[str, Any], made: str) -> None:
        self.key = key
        self.made = made
        """The id of a call that came without one. No other reply has it: clients send the turns of several."""
        self.text: list[str] = []
        self.arguments: list[str] = []
        self.citations: list[Any] = []
        self.signature: str | None = None
        self.redacted: str | None = None
        self.id: str | None = None
        self.name: str | None = None
        self.data = data
        self.custom = False

    def add(self, part: Part) -> None:
        match part:
            case Text() | RefusalText():
                self.text.append(part.text)
            case Reasoning():
                self.text.append(part.text)
                self.signature = marked(ANTHROPIC, part.vendor, part.signature) or self.signature
                self.redacted = part.redacted if part.redacted is not None else self.redacted
            case ToolCall():
                self.arguments.append(part.arguments)
                self.id, self.name = self.id or part.id, self.name or part.name
                self.custom = self.custom or part.custom
            case Citation() if (citation := write_citation(part)) is not None:
                if part.origin == MESSAGES or citation not in self.citations:
                    self.citations.append(citation)
            case Opaque():
                self._add_opaque(part)
            case _:
                return

    def content(self) -> dict[str, Any] | None:
        """The block; `None` where nothing was said in it, or a call has no name."""
        text = "".join(self.text)
        match self.key.kind:
            case "text":
                cited = {"citations": self.citations} if self.citations else {}
                return {"type": "text", "text": text, **cited} if text or cited else None
            case "thinking":
                said = text or self.signature
                return {"type": "thinking", "thinking": text, "signature": self.signature or ""} if said else None
            case "redacted":
                return {"type": "redacted_thinking", "data": self.redacted}
            case "tool":
                return self._call()
            case "opaque":
                arguments = "".join(self.arguments)
                return {**self.data, "input": _arguments(arguments)} if arguments else self.data

    def over(self, before: dict[Key, _Block], old: list[Raw]) -> Raw | dict[str, Any] | None:
        """The block over the one it was read from."""
        was = before.get(self.key)
        if was is None:
            return self.content()
        raw = old[self.key.source]
        same = self._said() == was._said()
        if same and self.citations == was.citations:
            return raw
        said = self.content()
        if said is None:
            return None
        kept = _decode(raw)
        if self.key.kind == "text":
            # What is cited as it was would say of the old text what is no longer said.
            kept.pop("citations", None)
            cited = [citation for citation in said.pop("citations", ()) if same or citation not in was.citations]
            said |= {"citations": cited} if cited else {}
        return kept | said

    def _said(self) -> tuple[Any, ...]:
        texts = "".join(self.text), "".join(self.arguments)
        return (*texts, self.signature, self.redacted, self.id, self.name, self.data)

    def _call(self) -> dict[str, Any] | None:
        if self.name is None:
            return None
        text = "".join(self.arguments)
        given = _arguments(in_object(text) if self.custom else text)
        return {"type": "tool_use", "id": self.id or self.made, "name": self.name, "input": given, **self.data}

    def _add_opaque(self, part: Opaque) -> None:
        if not is_delta(part):
            self.data = dict(part.data)
            return
        for name, value in part.data.items():
            if name != "type":
                was = self.data.get(name)
                self.data[name] = was + value if isinstance(was, str) and isinstance(value, str) else value


def _arguments(text: str) -> Any:
    """The `input` of a call.

    What is no object, cut short or misspelt, is not to be taken for a call without arguments: it stands in an object,
    as Anthropic advises to hand on such arguments (its page on fine-grained tool streaming).
    """
    try:
        return _decode(text.encode("utf-8", "surrogatepass")) if text.strip() else {}
    except UNREADABLE:
        return {"INVALID_JSON": text}
