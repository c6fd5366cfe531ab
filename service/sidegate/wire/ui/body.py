"""Parts into a whole UI message, as a client would have gathered it from the stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import Part
from sidegate.wire.dialect import Envelope
from sidegate.wire.ui.writer import UIWriter

_json = JsonEncoder().encode


class UIAssembler(UIWriter):
    """An `Assembler` for one reply: `{"id", "role", "metadata", "parts"}`."""

    def __init__(self, envelope: Envelope, message_id: str | None = None) -> None:
        super().__init__(envelope, message_id)
        self._message: dict[str, Any] = {}
        self._made: dict[str, dict[str, Any]] = {}
        self._called: dict[str, dict[str, Any]] = {}

    def add(self, parts: Iterable[Part]) -> None:
        self.take(parts)

    def body(self, base: bytes | None = None) -> bytes:
        """There is never a `base`: no provider speaks this dialect."""
        if not self._opened:
            self._open()
        return _json(self._message)

    def say(self, kind: str, **fields: Any) -> None:
        match kind:
            case "start":
                metadata = fields["messageMetadata"]
                self._message = {"id": fields["messageId"], "role": "assistant", "metadata": metadata, "parts": []}
            case "finish":
                told = fields.get("messageMetadata", {})
                self._message["metadata"] |= {"finishReason": fields["finishReason"], **told}
            case "start-step":
                self._message["parts"].append({"type": "step-start"})
            case "finish-step":
                return
            case _ if "toolCallId" in fields:
                self._tell_call(kind, fields)
            case _ if kind.startswith(("text-", "reasoning-")):
                self._tell_text(kind, fields)
            case _:
                self._message["parts"].append({"type": kind, **fields})

    def _tell_text(self, kind: str, fields: dict[str, Any]) -> None:
        what, _, step = kind.partition("-")
        if step == "start":
            part = self._made[fields["id"]] = {"type": what, "text": "", "state": "streaming"}
            self._message["parts"].append(part)
            return
        part = self._made[fields["id"]]
        if step == "delta":
            part["text"] += fields["delta"]
            return
        metadata = fields.get("providerMetadata")
        part |= {"state": "done"} if metadata is None else {"state": "done", "providerMetadata": metadata}

    def _tell_call(self, kind: str, fields: dict[str, Any]) -> None:
        id = fields["toolCallId"]
        if kind == "tool-input-start":
            part = {"type": f"tool-{fields['toolName']}", "toolCallId": id, "state": "input-streaming"}
            if "providerMetadata" in fields:
                part["callProviderMetadata"] = fields["providerMetadata"]
            self._called[id] = part
            self._message["parts"].append(part)
        elif kind == "tool-input-available":
            self._called[id] |= {"state": "input-available", "input": fields["input"]}
        elif kind == "tool-input-error":
            told = {"input": fields["input"], "errorText": fields["errorText"]}
            self._called[id] |= {"state": "output-error", **told}
