"""Turn: one answer. A call of its own through the whole pipeline, in the name of who asked, told to all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from sidegate.contract.call import Asked, Call, Notes
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock
from sidegate.contract.ids import new_call_id
from sidegate.contract.meaning import Finish, FinishReason, Reasoning, RefusalText, Request, Text, ToolCall
from sidegate.contract.timeouts import Patience
from sidegate.conversations.member import Member
from sidegate.conversations.words import Used
from sidegate.outlet import NullSink, Sink
from sidegate.wire.body import check_duplicates, read_fields
from sidegate.wire.openai_chat.writer import written_call
from sidegate.wire.registry import DIALECTS
from sidegate.wire.unsaid import unsaid

DIALECT = "openai.chat"
"""In whose words messages and options are."""

KEPT = ("traceparent", "tracestate", "user-agent")
"""Headers of the handshake that turns have, too. No credential is on the list, and no key of one request."""

OWNED = frozenset({"messages", "model", "n", "stream", "stream_options"})
"""Fields that are not options."""

Say = Callable[[Text | Reasoning | ToolCall], None]


class Answer:
    """What has been said of an answer, as it is to be remembered."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, dict[str, Any]] = {}
        self.finish: FinishReason | None = None

    def message(self, *, whole: bool) -> Raw | None:
        """Of the assistant; `None` where nothing was said. Calls of tools that are not whole are left out."""
        said: dict[str, Any] = {"role": "assistant", "content": "".join(self.text) or None}
        if self.calls and whole:
            said["tool_calls"] = [written_call(**call) for call in self.calls.values()]
        return Raw(msgspec.json.encode(said)) if self.text or "tool_calls" in said else None


class TurnOutlet:
    """A `ClientOutlet`: what climbs out of the pipeline, as parts. It goes at the pace of who reads fastest."""

    def __init__(self, say: Say, room: Callable[[], Awaitable[None]], answer: Answer, clock: Clock) -> None:
        """`room` returns when at least one who takes part is not far behind, or nobody does."""
        self.notes = Notes()
        self.sink: Sink = NullSink()
        self._say = say
        self._room = room
        self._answer = answer
        self._clock = clock

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return False

    async def raw(self, data: bytes, meaningful: bool) -> None:
        raise TypeError("an answer of a conversation is told as parts")

    async def chunks(self, chunks: list[Chunk]) -> None:
        text: list[str] = []
        for chunk in chunks:
            if chunk.meaningful and self.notes.first_token is None:
                self.notes.first_token = self._clock.monotonic()
            for part in () if chunk.hidden else chunk.parts:
                match part:
                    case Text() | RefusalText():
                        text.append(part.text)
                        continue
                    case Reasoning() if part.text:
                        self._flush(text)
                        self._answer.reasoning.append(part.text)
                        self._say(part)
                    case ToolCall():
                        self._flush(text)
                        self._called(part)
                        self._say(part)
                    case Finish():
                        self._answer.finish = part.reason
                    case _:
                        pass
        self._flush(text)
        await self._room()

    def detach(self) -> None:
        """Nobody in particular reads."""

    def _flush(self, text: list[str]) -> None:
        said = "".join(text)
        text.clear()
        if said:
            self._answer.text.append(said)
            self._say(Text(said))

    def _called(self, part: ToolCall) -> None:
        new = {"id": "", "name": "", "arguments": "", "custom": part.custom}
        call = self._answer.calls.setdefault(part.block, new)
        call["id"] = part.id or call["id"]
        call["name"] = part.name or call["name"]
        call["arguments"] += part.arguments


def make_call(
    member: Member, model: str, messages: Sequence[Raw], options: Mapping[str, Raw], outlet: TurnOutlet
) -> Call:
    """The call of one turn, as a client of Chat Completions would have made it."""
    seat = member.seat
    service, route, clock = seat.service, seat.route, seat.service.clock
    now = clock.now()
    body = write_body(model, messages, options)
    fields = read_fields(body)
    asked = Asked(
        headers={name: value for name in KEPT if (value := seat.call.headers.get(name)) is not None},
        body=body,
        fields=fields,
        read=lambda: read_request(body),
        unsaid=partial(unsaid, DIALECT, fields),
        peer=seat.call.peer,
    )
    call = Call(
        id=new_call_id(now),
        operation="chat",
        dialect=DIALECT,
        model=model,
        delivery="socket",
        outlet=outlet,
        started=clock.monotonic(),
        started_at=now,
        asked=asked,
        route=route.name,
        hold_limit=service.settings.server.max_held_bytes,
        edit_timeout=service.settings.server.plugin_timeout,
    )
    call.streams = True
    call.caller, call.end_user = seat.call.caller, seat.call.end_user
    # What the key may see was said when it came in.
    call.notes.visible.extend(seat.call.notes.visible)
    outlet.notes = call.notes
    if route.timeouts is not None:
        call.patience = Patience(route.timeouts, None, service.settings.server.client_timeouts)
    return call


def write_body(model: str, messages: Sequence[Raw], options: Mapping[str, Raw]) -> bytes:
    """The request, in the words of Chat Completions."""
    told = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode({**told, **options})


def read_request(body: bytes) -> Request:
    """Its meaning. Raises `BadRequest`."""
    check_duplicates(body)
    return DIALECTS[DIALECT].read_request(read_fields(body))


def used(call: Call) -> tuple[Used | None, int | None]:
    """Tokens and cost of a call that has been settled; `None` where no provider was asked, or nobody knows."""
    usages = [attempt.usage for attempt in call.attempts]
    if not usages:
        return None, 0
    found = Used(
        _sum([None if usage is None else usage.input_tokens for usage in usages]),
        _sum([None if usage is None else usage.output_tokens for usage in usages]),
        any(usage is not None and usage.estimated for usage in usages),
    )
    return found, _sum([attempt.cost for attempt in call.attempts])


def _sum(values: Sequence[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
