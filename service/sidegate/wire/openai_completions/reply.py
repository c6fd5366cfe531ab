"""Text completions replies: read, measured, written and gathered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from sidegate.contract.meaning import End, Finish, Part, Report, Start, Text, Usage
from sidegate.wire import openai, sse
from sidegate.wire.body import UNREADABLE
from sidegate.wire.dialect import Envelope, Sign
from sidegate.wire.openai_chat.meter import Tally, no_reply, raise_stated
from sidegate.wire.openai_chat.reply import choice_index, start_of
from sidegate.wire.openai_writer import Head, StreamWriter

PREFIX = "cmpl-"


class Choice(Struct, gc=False):
    text: Any = None
    finish_reason: Any = None
    index: Any = None
    usage: Any = None


class Reply(Struct, gc=False):
    """An event or a whole body: they have one shape."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    id: Any = None
    model: Any = None
    created: Any = None
    object: Any = None
    x_groq: Any = None


_REPLY = msgspec.json.Decoder(Reply)


def _decode(data: bytes) -> Reply:
    try:
        return _REPLY.decode(data)
    except UNREADABLE as error:
        raise openai.bad_event(error) from error


class CompletionsMeter(Tally):
    """`Meter` of text completions."""

    def event(self, raw: bytes) -> Sign:
        data = sse.data(raw)
        if data is None:
            return Sign.NOTHING
        if data.strip() == openai.DONE_DATA:
            return Sign.END
        event = _decode(data)
        reported = self.report(event.usage, event.x_groq)
        raise_stated(event, data, raw)
        self.name(event.id, event.model)
        content = self._choices(event.choices or [])
        return self.sign(data, content=content, usage=reported or event.usage is not None, bare=not event.choices)

    def whole(self, raw: bytes) -> None:
        whole = _decode(raw)
        self.report(whole.usage, whole.x_groq)
        if whole.error is not None:
            raise openai.failed(whole.error, raw)
        if whole.choices is None:
            raise no_reply(raw)
        self.name(whole.id, whole.model)
        self._choices(whole.choices)
        self.started = bool(whole.choices)
        self.finished = True

    def _choices(self, choices: list[Choice]) -> bool:
        content = False
        for place, choice in enumerate(choices):
            if choice.text and isinstance(choice.text, str):
                self.output_bytes += openai.text_size(choice.text)
                content = True
            if self.choice(choice_index(choice.index, place), choice.finish_reason):
                content = True
        return content


def read_event(raw: bytes) -> tuple[Part, ...]:
    data = sse.data(raw)
    if data is None:
        return ()
    return (End(),) if data.strip() == openai.DONE_DATA else tuple(_parts(_decode(data)))


def read_whole(raw: bytes) -> tuple[Part, ...]:
    whole = _decode(raw)
    return (start_of(whole.id, whole.model, whole.created), *_parts(whole, whole=True), End())


def _parts(reply: Reply, whole: bool = False) -> Iterator[Part]:
    for place, choice in enumerate(reply.choices or []):
        index = choice_index(choice.index, place)
        if choice.text and isinstance(choice.text, str):
            yield Text(choice.text, index)
        reason = openai.read_finish(choice.finish_reason) or ("other" if whole else None)
        if reason is not None:
            yield Finish(reason, index)
    usage = openai.read_usage(reply.usage, reply.x_groq)
    if usage is not None:
        yield Report(usage)


class CompletionsWriter(StreamWriter):
    """`Encoder` of text completions: text and its end, nothing else."""

    kind = "text_completion"
    prefix = PREFIX

    def choice(self, part: Part) -> dict[str, Any] | None:
        match part:
            case Text(text, choice):
                return _choice(choice, text, None)
            case Finish(reason, choice):
                return _choice(choice, "", openai.write_finish(reason))
            case _:
                return None


class CompletionsAssembler:
    """`Assembler` of text completions."""

    def __init__(self, envelope: Envelope) -> None:
        self._head = Head(envelope, PREFIX)
        self._started = False
        self._usage: Usage | None = None
        self._texts: dict[int, list[str]] = {}
        self._finish: dict[int, str] = {}

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            match part:
                case Start() if not self._started:
                    self._started = True
                    self._head.take(part)
                case Text(text, choice):
                    self._texts.setdefault(choice, []).append(text)
                case Finish(reason, choice):
                    self._texts.setdefault(choice, [])
                    self._finish[choice] = openai.write_finish(reason)
                case Report(usage):
                    self._usage = openai.merged(self._usage, usage)
                case _:
                    pass

    def body(self, base: bytes | None = None) -> bytes:
        if base is not None:
            return self._rewritten(base)
        usage = openai.write_usage(self._usage) if self._usage is not None else None
        return openai.ENCODER.encode(
            {
                **self._head.fields("text_completion"),
                "choices": [self._fresh(index) for index in sorted(self._texts)],
                **({} if usage is None else {"usage": usage}),
            }
        )

    def _fresh(self, index: int) -> dict[str, Any]:
        return _choice(index, "".join(self._texts[index]), self._finish.get(index, "stop"))

    def _rewritten(self, base: bytes) -> bytes:
        try:
            whole = msgspec.json.decode(base, type=dict[str, Any])
        except UNREADABLE as error:
            raise openai.bad_event(error) from error
        choices = whole["choices"] = [choice for choice in whole.get("choices") or [] if isinstance(choice, dict)]
        places = [choice_index(choice.get("index"), place) for place, choice in enumerate(choices)]
        for index, choice in zip(places, choices, strict=True):
            text = "".join(self._texts.get(index, []))
            if text != choice.get("text"):
                choice["text"] = text
                choice.pop("logprobs", None)
            before = openai.write_finish(openai.read_finish(choice.get("finish_reason")) or "other")
            if self._finish.get(index, before) != before:
                choice["finish_reason"] = self._finish[index]
        choices.extend(self._fresh(index) for index in sorted(self._texts.keys() - set(places)))
        return openai.ENCODER.encode(whole)


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
