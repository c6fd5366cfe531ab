"""Chat Completions replies, gathered: parts into a whole body, fresh or on the body a provider sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from sidegate.contract.meaning import (
    Citation,
    Finish,
    FinishReason,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.wire import openai
from sidegate.wire.body import UNREADABLE
from sidegate.wire.citing import Cited
from sidegate.wire.dialect import Envelope
from sidegate.wire.openai_chat.details import Details
from sidegate.wire.openai_chat.reply import OPAQUE, choice_index, read_whole, sealed_details
from sidegate.wire.openai_chat.writer import PREFIX, Calls, call_id, written_call, written_citations
from sidegate.wire.openai_writer import Head


class Gathered:
    """What one choice said."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls: list[list[Any]] = []
        self.opaque: dict[str, Any] = {}
        self.finish: FinishReason | None = None
        self.details: list[dict[str, Any]] = []
        self._details = Details()
        self._places = Calls()

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def reasoning_text(self) -> str:
        return "".join(self.reasoning)

    @property
    def refusal_text(self) -> str:
        return "".join(self.refusal)

    def add(self, part: Part) -> None:
        match part:
            case Text(text):
                self.texts.append(text)
            case Reasoning(text):
                self.reasoning.append(text)
                if (detail := self._details.take(part)) is not None:
                    self.details.append(detail)
            case RefusalText(text):
                self.refusal.append(text)
            case ToolCall():
                self._call(part)
            case Finish(reason):
                self.finish = reason
            case Opaque(kind, data=data) if kind.startswith(OPAQUE):
                self._opaque(kind.removeprefix(OPAQUE), data)
            case _:
                pass

    def _call(self, call: ToolCall) -> None:
        placed = self._places.place(call)
        if placed is None:
            return
        place, first = placed
        if first:
            self.calls.append([None, None, [], call.custom])
        known = self.calls[place]
        known[0] = known[0] or call.id
        known[1] = known[1] or call.name
        known[2].append(call.arguments)

    def _opaque(self, key: str, data: Any) -> None:
        before = self.opaque.get(key)
        self.opaque[key] = [*before, *data] if isinstance(before, list) and isinstance(data, list) else data

    def tool_calls(self, envelope_id: str, choice: int) -> list[dict[str, Any]]:
        return [
            written_call(id or call_id(envelope_id, choice, index), name, "".join(arguments), custom=custom)
            for index, (id, name, arguments, custom) in enumerate(self.calls)
        ]


class ChatAssembler:
    """`Assembler` of Chat Completions."""

    def __init__(self, envelope: Envelope) -> None:
        self._id = envelope.id
        self._head = Head(envelope, PREFIX)
        self._started = False
        self._usage: Usage | None = None
        self._choices: dict[int, Gathered] = {}
        self._cited = Cited()

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, Start):
                if not self._started:
                    self._head.take(part)
                self._started = True
            elif isinstance(part, Report):
                self._usage = openai.merged(self._usage, part.usage)
            elif isinstance(part, Text | Reasoning | RefusalText | ToolCall | Finish | Opaque):
                self._choices.setdefault(part.choice, Gathered()).add(part)
                if isinstance(part, Text):
                    self._cited.say(part.text, part.choice, part.block)
            elif isinstance(part, Citation):
                self._cited.cite(part)

    def body(self, base: bytes | None = None) -> bytes:
        """The whole body; on `base`, what the parts say otherwise is replaced, and the rest stays."""
        if base is not None:
            return self._rewritten(base)
        usage = openai.write_usage(self._usage) if self._usage is not None else None
        whole = {
            **self._head.fields("chat.completion"),
            "choices": [self._fresh(index) for index in sorted(self._choices)],
            **({} if usage is None else {"usage": usage}),
        }
        return openai.ENCODER.encode(whole)

    def _fresh(self, index: int) -> dict[str, Any]:
        said = self._choices[index]
        message: dict[str, Any] = {"role": "assistant"}
        message["content"] = said.text or (None if said.calls or said.refusal else "")
        message["refusal"] = said.refusal_text or None
        if said.reasoning_text:
            message["reasoning_content"] = said.reasoning_text
        if said.details:
            message["reasoning_details"] = said.details
        if said.calls:
            message["tool_calls"] = said.tool_calls(self._id, index)
        message.update(said.opaque)
        if annotations := self._annotations(index):
            message["annotations"] = annotations
        finish = openai.write_finish(said.finish or "stop")
        return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}

    def _annotations(self, choice: int) -> list[Any]:
        rest = self._choices[choice].opaque.get("annotations") if choice in self._choices else None
        return [*written_citations(self._cited, choice), *(rest if isinstance(rest, list) else ())]

    def _rewritten(self, base: bytes) -> bytes:
        try:
            whole = msgspec.json.decode(base)
        except UNREADABLE as error:
            raise openai.bad_event(error) from error
        before = ChatAssembler(Envelope(id=self._id, model="", created=0))
        before.add(read_whole(base))
        choices = whole["choices"] = [choice for choice in whole.get("choices") or [] if isinstance(choice, dict)]
        places = [choice_index(choice.get("index"), place) for place, choice in enumerate(choices)]
        for index, choice in zip(places, choices, strict=True):
            self._rewrite(index, choice, before._choices.get(index, Gathered()))
        choices.extend(self._fresh(index) for index in sorted(self._choices.keys() - set(places)))
        return openai.ENCODER.encode(whole)

    def _rewrite(self, index: int, choice: dict[str, Any], before: Gathered) -> None:
        after = self._choices.get(index, Gathered())
        message = choice.get("message")
        if not isinstance(message, dict):
            message = {"role": "assistant"}
        if _rewrite_words(message, before, after):
            choice.pop("logprobs", None)
        annotations = self._annotations(index)
        if message.get("annotations") and annotations != message["annotations"]:
            message["annotations"] = annotations
        _rewrite_aside(message, before, after)
        self._rewrite_calls(message, index, before, after)
        if after.finish is not None and after.finish != before.finish:
            choice["finish_reason"] = openai.write_finish(after.finish)
        if len(message) > 1:
            choice["message"] = message

    def _rewrite_calls(self, message: dict[str, Any], index: int, before: Gathered, after: Gathered) -> None:
        calls = after.tool_calls(self._id, index)
        if calls == before.tool_calls(self._id, index):
            return
        # Many servers write `function_call: null` beside `tool_calls`.
        if message.get("function_call") is not None and len(calls) == 1 and (given := calls[0].get("function")):
            message["function_call"] = given
            return
        message.pop("function_call", None)
        message.pop("tool_calls", None)
        if calls:
            message["tool_calls"] = calls


def _rewrite_aside(message: dict[str, Any], before: Gathered, after: Gathered) -> None:
    """What has no word: sound, tools that the provider ran."""
    for name in (before.opaque.keys() - after.opaque.keys()) - {"annotations"}:
        message.pop(name, None)
    said = {name: value for name, value in after.opaque.items() if before.opaque.get(name) != value}
    message.update({name: value for name, value in said.items() if name != "annotations"})


def _rewrite_words(message: dict[str, Any], before: Gathered, after: Gathered) -> bool:
    """Puts what was said otherwise; whether the text or the refusal was, which log probabilities would repeat."""
    reasoned = before.reasoning_text != after.reasoning_text
    spoken = before.text != after.text
    refused = before.refusal_text != after.refusal_text
    # Mistral's list holds text and thinking together: changed in one, it is told apart.
    apart = isinstance(message.get("content"), list) and (spoken or reasoned)
    if spoken or apart:
        message["content"] = after.text or (None if after.calls or after.refusal else "")
    if refused:
        message["refusal"] = after.refusal_text or None
    if reasoned or (apart and after.reasoning):
        _replace_reasoning(message, after.reasoning_text)
    return spoken or refused


def _replace_reasoning(message: dict[str, Any], text: str) -> None:
    """Under the names the provider used; what repeats the text goes."""
    names = [name for name in ("reasoning_content", "reasoning") if message.get(name)]
    for name in names or ["reasoning_content"]:
        message[name] = text
    if "reasoning_details" in message:
        message["reasoning_details"] = sealed_details(message["reasoning_details"])
