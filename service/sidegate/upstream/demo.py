"""The demo provider: answers inside the gateway, at a set pace, with the failures a team wants to see.

It stands where any provider stands: the router opens an attempt, `Demo` sends the reply's parts and keeps the attempt's
record true at every moment, so that a cut, a stall and a cancel are accounted for like a real one's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sidegate.contract import (
    Attempt,
    Call,
    Chunk,
    Clock,
    Embedding,
    End,
    Finish,
    Part,
    Reasoning,
    Reply,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.errors import ConnectError, CutError, ProviderError, ReplyError
from sidegate.settings import Strict
from sidegate.upstream import demo_script, demo_words
from sidegate.upstream.deadline import Deadline, spent
from sidegate.wire.bound import check_translatable
from sidegate.wire.faults import provider_error

Failure = Literal["none", "overloaded", "rate_limit", "server_error", "auth", "bad_reply", "connect"]
Sleep = Callable[[float], Awaitable[None]]

_BREATH = 16
"""Parts sent flat out before other calls get their turn."""


class DemoSettings(Strict, frozen=True, kw_only=True):
    """How the demo provider answers."""

    tokens_per_second: Annotated[float, Meta(ge=0, le=1e6, description="Pace of a reply; 0 is flat out.")] = 50
    first_token: Annotated[float, Meta(ge=0, le=3600, description="Seconds until the first token.")] = 0.2
    answer: Annotated[str, Meta(description="A fixed answer, whatever is asked; made from the prompt if empty.")] = ""
    fail: Annotated[Failure, Meta(description="How it fails before it says anything.")] = "none"
    fail_rate: Annotated[float, Meta(ge=0, le=1, description="Share of calls that fail, where `fail` is set.")] = 1
    seed: Annotated[int, Meta(description="Which calls fail: the same seed, the same ones in order.")] = 0
    cut_after: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="Tokens after which the connection breaks.")
    ] = None
    stall_after: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="Tokens after which it falls silent for good.")
    ] = None
    dimensions: Annotated[
        int, Meta(ge=1, le=demo_script.MAX_DIMENSIONS, description="Length of an embedding, where none is asked for.")
    ] = 256


_BREAK_AFTER = 8
"""Tokens that `demo-cut` and `demo-stall` say where the settings set no number."""


class Demo:
    """A provider in the process. `sleep` and `clock` go together: a test sets both."""

    def __init__(
        self,
        settings: DemoSettings,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.system = "demo"
        self.clock = clock
        self.sleep = sleep
        self._settings = settings
        self._named = _by_model(settings)
        self._random = random.Random(settings.seed)  # no secret hangs on it

    async def __call__(self, call: Call) -> Reply:
        """Answer the attempt `call`, or raise the `ProviderError` its settings or its model name ask for."""
        attempt = call.attempt
        if attempt is None:
            raise TypeError("the demo provider answers attempts only")
        check_translatable(call.dialect, call.request)
        settings = self._named.get(attempt.target, self._settings)
        self._maybe_fail(settings, attempt)
        with Deadline(attempt.timeouts, spent(call, attempt)) as deadline:
            return await _Answer(call, attempt, settings, self, deadline).tell()

    def _maybe_fail(self, settings: DemoSettings, attempt: Attempt) -> None:
        if settings.fail == "none" or self._random.random() >= settings.fail_rate:
            return
        error = _failure(settings.fail)
        attempt.sent = not isinstance(error, ConnectError)
        attempt.status = error.provider_status
        raise error


class _Answer:
    """One reply in the making."""

    def __init__(self, call: Call, attempt: Attempt, settings: DemoSettings, demo: Demo, deadline: Deadline) -> None:
        self._call = call
        self._attempt = attempt
        self._settings = settings
        self._demo = demo
        self._deadline = deadline
        self._tokens = 0
        self._reasoning = 0
        self._input = 0
        self._began = demo.clock.monotonic()

    async def tell(self) -> Reply:
        attempt, request = self._attempt, self._call.request
        attempt.sent = True
        texts = demo_words.prompt(request)
        self._input = await demo_words.count(texts)
        attempt.input_bytes = attempt.input_bytes or sum(map(demo_words.size, texts))
        if self._call.operation == "count_tokens":
            return await self._counted()
        try:
            parts = self._parts()
        except ProviderError as error:
            attempt.status = error.provider_status
            raise
        attempt.status, attempt.model = 200, attempt.target
        self._record()
        await self._call.send(Chunk.of(Start(model=attempt.target)))
        await self._say(parts)
        if attempt.usage is not None:
            await self._call.send(Chunk.of(Report(attempt.usage)))
        await self._call.send(Chunk.of(End()))
        return Reply(usage=attempt.usage, finish=attempt.finish, model=attempt.model)

    async def _counted(self) -> Reply:
        """How many tokens the request has. The counting itself uses none."""
        attempt = self._attempt
        attempt.status, attempt.model, attempt.usage = 200, attempt.target, Usage(0, 0)
        await self._call.send(Chunk.of(Start(model=attempt.target), Report(Usage(self._input, 0)), End()))
        return Reply(usage=attempt.usage, model=attempt.model)

    def _parts(self) -> Iterator[Part]:
        request = self._call.request
        if self._call.operation == "embeddings":
            return demo_script.vectors(request, self._settings.dimensions)
        echo = self._attempt.target == "demo-echo"
        scripts = demo_script.scripts(request, self._settings.answer, echo)
        id, limit = self._call.id, request.max_tokens
        return _in_turn([demo_script.told(script, id, choice, limit) for choice, script in enumerate(scripts)])

    async def _say(self, parts: Iterator[Part]) -> None:
        for number, part in enumerate(parts):
            if number % _BREATH == 0:
                await asyncio.sleep(0)
            await self._await_turn()
            self._note(part)
            await self._call.send(Chunk.of(part))

    async def _await_turn(self) -> None:
        first, timeouts = self._attempt.first_token is None, self._attempt.timeouts
        self._deadline.wait("first_token" if first else "idle", timeouts.first_token if first else timeouts.idle)
        await self._await_due()
        self._deadline.pause()

    async def _await_due(self) -> None:
        """Until the next part is due. By the clock, so that a slow reader does not slow the provider down."""
        settings = self._settings
        if settings.cut_after is not None and self._tokens >= settings.cut_after:
            raise CutError("The provider's reply stopped before its end.")
        if settings.stall_after is not None and self._tokens >= settings.stall_after:
            await asyncio.get_running_loop().create_future()
        pace = settings.tokens_per_second
        due = self._began + settings.first_token + (self._tokens / pace if pace else 0)
        delay = due - self._demo.clock.monotonic()
        if delay > 0:
            await self._demo.sleep(delay)

    def _note(self, part: Part) -> None:
        """Keep the record true: what has been said so far, and what it cost."""
        attempt = self._attempt
        if attempt.first_token is None and isinstance(part, Text | Reasoning | ToolCall | Embedding | Finish):
            attempt.first_token = self._demo.clock.monotonic()
        match part:
            case Text(text) | Reasoning(text) | ToolCall(text) if text:
                self._tokens += 1
                self._reasoning += isinstance(part, Reasoning)
                attempt.output_bytes += demo_words.size(text)
                self._record()
            case Finish() if attempt.finish is None:
                attempt.finish = part.reason
            case _:
                pass

    def _record(self) -> None:
        self._attempt.usage = Usage(self._input, self._tokens, reasoning_tokens=self._reasoning or None)


def _by_model(settings: DemoSettings) -> dict[str, DemoSettings]:
    """The model names that stand for a behaviour. `demo-echo` is one too, but of words, not of settings."""
    changed = msgspec.structs.replace
    cut = _BREAK_AFTER if settings.cut_after is None else settings.cut_after
    stall = _BREAK_AFTER if settings.stall_after is None else settings.stall_after
    return {
        "demo-slow": changed(settings, tokens_per_second=5, first_token=2),
        "demo-fail": changed(settings, fail="server_error", fail_rate=1),
        "demo-overloaded": changed(settings, fail="overloaded", fail_rate=1),
        "demo-cut": changed(settings, cut_after=cut, stall_after=None),
        "demo-stall": changed(settings, stall_after=stall, cut_after=None),
    }


def _in_turn(choices: list[Iterator[Part]]) -> Iterator[Part]:
    """A part of each choice in turn, as providers mix them on a stream."""
    while choices:
        going: list[Iterator[Part]] = []
        for choice in choices:
            for part in choice:
                yield part
                going.append(choice)
                break
        choices = going


_STATUS = {"overloaded": 503, "rate_limit": 429, "auth": 401, "server_error": 500}


def _failure(kind: Failure) -> ProviderError:
    """The error that the same failure of a real provider gives."""
    if kind == "connect":
        return ConnectError("The provider could not be reached.")
    if kind == "bad_reply":
        return ReplyError("The provider answered something that is no reply.", provider_status=200)
    headers = {"retry-after": "1"} if kind in ("overloaded", "rate_limit") else {}
    return provider_error(_STATUS.get(kind, 500), headers, message="The demo provider was told to refuse this call.")
