"""One line of JSON for each call: who asked what, who answered, how it ended, what it took and cost.

Put it first, so that refusals are logged too. Never a key, never a header. What was said is logged only if you turn
`bodies` on: texts of the request and of the reply, bounded, with what `redact` matches taken out.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from sidegate.contract import Call, Chunk, Handler, Host, Observer, Reply, Text
from sidegate.errors import SidegateError
from sidegate_plugins._log_line import line_of

_REDACTED = "[redacted]"
_MARGIN = 1024
"""Characters read beyond the bound, so that a match which the bound would cut in two is still found whole."""
_NESTED = re.compile(r"\((?:[^()\\]|\\.)*(?<!\\)[+*](?:[^()\\]|\\.)*\)(?:[+*]|\{\d*,\})")
"""`(a+)+`: a repeat in a repeat, which takes longer than the universe on the wrong text."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    bodies: Annotated[bool, Meta(description="Log the texts of requests and replies.")] = False
    max_body_bytes: Annotated[
        int, Meta(ge=1, le=2**20, description="Bytes of text kept of a request, and of a reply.")
    ] = 8192
    redact: Annotated[
        tuple[Annotated[str, Meta(max_length=1000)], ...],
        Meta(description="Regular expressions; what they match in bodies is replaced."),
    ] = ()


class Log(Observer[Settings]):
    """Writes the line when the call is over, however it ended."""

    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job", "socket"})

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        self._redact = tuple(_compiled(number, pattern) for number, pattern in enumerate(settings.redact))

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        said = _Said(self.settings.max_body_bytes + _MARGIN) if self.settings.bodies else None
        if said is not None:
            call.tap(said.see)
        try:
            reply = await handler(call)
        except BaseException as error:
            self._write(call, call.reply_for(error), said)
            raise
        self._write(call, reply, said)
        return reply

    def _write(self, call: Call, reply: Reply, said: _Said | None) -> None:
        line = line_of(call, reply, self.host.clock.monotonic())
        # Who could not say who it is must not fill the log with what it says.
        if said is not None and reply.status != 401:
            line["request_texts"] = self._bounded(_asked(call))
            line["reply_texts"] = self._bounded(said.texts)
        self.host.log.write("call", line)

    def _bounded(self, texts: list[str]) -> list[str]:
        """The texts, redacted, then cut to the bound in all."""
        room = self.settings.max_body_bytes
        kept: list[str] = []
        for text in texts:
            if room <= 0:
                break
            text = text[: room + _MARGIN]
            for pattern in self._redact:
                text = pattern.sub(_REDACTED, text)
            data = text.encode("utf-8", "replace")[:room]
            room -= len(data)
            kept.append(data.decode("utf-8", "ignore"))
        return kept


class _Said:
    """Gathers the visible text of a reply, a string for each choice, no more than `room` characters in all."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._choices: dict[int, list[str]] = {}

    def see(self, chunk: Chunk) -> None:
        if self._room <= 0:
            return
        for part in chunk.parts:
            if type(part) is Text:
                self._choices.setdefault(part.choice, []).append(part.text[: self._room])
                self._room -= len(part.text)
                if self._room <= 0:
                    return

    @property
    def texts(self) -> list[str]:
        return ["".join(self._choices[choice]) for choice in sorted(self._choices)]


def _asked(call: Call) -> list[str]:
    """The texts of the request, as the plugins further in have left it."""
    try:
        request = call.request
    except SidegateError:
        return []
    return [f"{m.role}: {m.text}" for m in request.messages] + [text for text in request.input if type(text) is str]


def _compiled(number: int, pattern: str) -> re.Pattern[str]:
    try:
        found = re.compile(pattern)
    except (re.error, RecursionError) as error:
        raise ValueError(f"redact[{number}] is no regular expression: {error}") from None
    if _NESTED.search(pattern):
        raise ValueError(f"redact[{number}] repeats a repeat, such as (a+)+, and could freeze the gateway")
    return found
