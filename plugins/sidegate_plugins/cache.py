"""The same question, asked again, is answered from memory: no provider, no cost, no wait.

Exact: another word is another question. Only complete answers are kept, and told in whichever delivery is asked for.
Put it inside `api_key`, `model_access`, guards and `cost`, and outside what checks or repairs replies. What is kept is
what callers were told: it is theirs alone, unless `scope` says otherwise.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from sidegate.contract import Call, Chunk, Finish, Handler, Host, Plugin, RefusalText, Reply
from sidegate.errors import BadRequest, Refusal, SidegateError
from sidegate_plugins._cache_key import Scope, key_of
from sidegate_plugins._cache_parts import about_usage, as_stream, as_whole
from sidegate_plugins._cache_stored import pack, unpack
from sidegate_plugins._cache_wishes import Wishes, wishes
from sidegate_plugins._kept_replies import BATCH, Bounds, KeptReplies, KeptReply, tell

STATUS = "cache-status"
"""RFC 9211."""
AGE = "age"
"""RFC 9111 section 5.1."""

_OPERATIONS = frozenset(("chat", "text_completion", "embeddings"))
_GOOD = frozenset(("stop", "length", "tool_calls", None))
"""Whoever was declined may ask again."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    scope: Annotated[
        Scope, Meta(description="Who shares answers: calls of one caller, of its team, or everyone who gets this far.")
    ] = "caller"
    when: Annotated[
        Literal["always", "deterministic"],
        Meta(description="`deterministic`: only what is asked with a temperature of 0, and embeddings."),
    ] = "always"
    keep: Annotated[float, Meta(ge=1, le=30 * 86_400, description="Seconds an answer can be told again.")] = 3600
    wait: Annotated[
        float,
        Meta(ge=0, le=3600, description="Seconds a call waits for the same one that is under way, before it asks too."),
    ] = 30
    store: Annotated[
        Literal["memory", "shared"],
        Meta(description="`memory` of this process, or `shared` by replicas in the store of `counters.url`."),
    ] = "memory"
    max_entries: Annotated[int, Meta(ge=1, le=10**7, description="Answers in memory at a time.")] = 10_000
    max_bytes: Annotated[int, Meta(ge=65_536, le=2**40, description="Memory of all answers, in bytes.")] = 64 * 2**20
    max_reply_bytes: Annotated[
        int, Meta(ge=4096, le=2**26, description="Memory of one answer; a larger one is not kept.")
    ] = 2**20
    version: Annotated[str, Meta(max_length=64, description="Another one, and all that was kept counts no more.")] = ""


class Cache(Plugin[Settings]):
    """Keeps complete answers, and tells them again to whoever asks the same."""

    replays: ClassVar[Literal["others"]] = "others"

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if settings.store == "shared" and not host.shared:
            raise ValueError("`store: shared` needs a store that replicas share: set `counters.url`")
        if settings.max_reply_bytes > settings.max_bytes:
            raise ValueError("max_reply_bytes is more than max_bytes: no answer of that size could be kept")
        self._bounds = Bounds(settings.keep, settings.max_entries, settings.max_bytes, settings.max_reply_bytes)
        self._shared = settings.store == "shared"
        self.replies = KeptReplies(host.clock, self._bounds)
        self._calls = host.metrics.counter("cache_calls", "Calls, by what the cache had for them.", ("result",))
        self._saved = host.metrics.counter("cache_saved_tokens", "Tokens of answers that were told again.", ("kind",))

    def inherit(self, before: Cache) -> None:
        """What is kept outlives a reload: what the config changes about models changes the names it is kept under."""
        self.replies = before.replies

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.operation not in _OPERATIONS or call.asked.wrong is not None or not call.sees_model(call.model):
            return await handler(call)
        # Both configs of a reload hold the same answers: the bounds are those that new calls meet.
        self.replies.bound(self._bounds)
        wished = wishes(call.headers, call.asked.fields)
        key = self._key(call) if wished.store else None
        if key is None:
            return await self._past(call, handler, wished, "bypass", "bypass" if wished.store else "request")
        until = self.host.clock.monotonic() + self.settings.wait
        while (kept := self._found(key, wished)) is not None:
            if kept.state == "too_large" or not wished.suit(0, self.settings.keep):
                break
            with self.replies.reading(kept), call.waiting():
                result = "hit" if kept.state == "complete" else "collapsed"
                ended = kept.state != "open" or await self._ended(kept, until)
                if kept.state == "complete":
                    return await self._told(call, kept, result)
            if not ended:
                break
        else:
            return await self._lead(call, handler, key, wished)
        return await self._past(call, handler, wished, "miss", "miss")

    def _key(self, call: Call) -> str | None:
        settings = self.settings
        try:
            if settings.when == "deterministic" and call.operation != "embeddings" and call.request.temperature != 0:
                return None
            return key_of(call, settings.scope, self.host.models, settings.version)
        except BadRequest:
            return None  # Whoever is asked says so better.

    def _found(self, key: str, wished: Wishes) -> KeptReply | None:
        """What is kept or under way, if it will do."""
        kept = self.replies.find((key, None, ""))
        if kept is None or kept.state != "complete":
            return kept
        age = self.host.clock.monotonic() - kept.since
        if wished.suit(age, self.settings.keep - age):
            return kept
        self.replies.drop(kept)
        return None

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _past(self, call: Call, handler: Handler, wished: Wishes, result: str, why: str) -> Reply:
        """Ask, and keep nothing."""
        if wished.only_kept:
            raise _not_kept()
        self._calls.add(result=result)
        call.reply_headers[STATUS] = f"sidegate; fwd={why}"
        return await handler(call)

    async def _lead(self, call: Call, handler: Handler, key: str, wished: Wishes) -> Reply:
        """Nobody here knows: others that share the store may, or else the provider does."""
        try:
            kept = self.replies.open((key, None, ""), b"", call.naming)
        except Refusal:  # Calls under way take all the room.
            return await self._past(call, handler, wished, "miss", "miss")
        try:
            known = self._shared and wished.reuse and await self._fetched(kept, key, wished)
            if not known and wished.only_kept:
                raise _not_kept()
        except BaseException:
            self.replies.fail(kept, _OVER)
            raise
        if not known:
            return await self._ask(call, handler, kept, key, "miss" if wished.reuse else "request")
        with self.replies.reading(kept):
            self.replies.drop(kept)
            return await self._told(call, kept, "hit")

    async def _fetched(self, kept: KeptReply, key: str, wished: Wishes) -> bool:
        """Whether the store had it, and it will do; then `kept` holds it."""
        data = await self.host.values.get(f"cache:{key}")
        found = None if data is None else unpack(data, key)
        if found is None:
            return False
        stored, chunks = found
        age = max(0.0, self.host.clock.now().timestamp() - stored.at)
        left = self.settings.keep - age
        if left <= 0 or not wished.suit(age, left):
            return False
        kept.naming, kept.edited = stored.naming, stored.edited
        if not all(self.replies.add(kept, chunk) for chunk in chunks):
            return False
        self.replies.complete(kept, stored.reply, age)
        return True

    async def _ask(self, call: Call, handler: Handler, kept: KeptReply, key: str, why: str) -> Reply:
        """Ask, and keep what is said if it is said to the end. Whoever waits for it here waits for that."""
        self._calls.add(result="miss")
        call.reply_headers[STATUS] = f"sidegate; fwd={why}"
        declined = False

        def see(chunk: Chunk) -> None:
            nonlocal declined
            declined = declined or _declines(chunk)
            kept.edited = call.notes.edited
            self.replies.add(kept, about_usage(chunk.copy(), chunk.parts))

        call.tap(see)
        try:
            reply = await handler(call)
        except BaseException:
            self.replies.fail(kept, _OVER)
            raise
        # A cancellation that somebody further in has swallowed does not make the reply complete.
        whole = reply.complete and call.notes.stop is None and (kept.closed or kept.state == "too_large")
        if not whole or declined:
            self.replies.fail(kept, _OVER)
            return reply
        self.replies.complete(kept, reply)
        if self._shared and kept.state == "complete":
            self._share(kept, key, reply)
        return reply

    def _share(self, kept: KeptReply, key: str, reply: Reply) -> None:
        """The store has the one copy: those who wait here read on, all others ask there."""
        data = pack(key, self.host.clock.now().timestamp(), kept.naming, kept.edited, reply, kept.chunks)
        if data is not None:
            self.host.values.put(f"cache:{key}", data, self.settings.keep)
        self.replies.drop(kept)

    # --- telling ------------------------------------------------------------------------------------------------------

    async def _ended(self, kept: KeptReply, until: float) -> bool:
        """Wait for the call that asks already; false where that takes too long."""
        try:
            async with asyncio.timeout(max(0.0, until - self.host.clock.monotonic())):
                while kept.state == "open":
                    await kept.changed.wait()
        except TimeoutError:
            return False
        return True

    async def _told(self, call: Call, kept: KeptReply, result: str) -> Reply:
        assert kept.reply is not None
        age = max(0.0, self.host.clock.monotonic() - kept.since)
        left = max(0, int(self.settings.keep - age))
        call.reply_headers[STATUS] = (
            f"sidegate; hit; ttl={left}" if result == "hit" else "sidegate; fwd=miss; collapsed"
        )
        call.reply_headers[AGE] = str(int(age))
        self._count(result, kept.reply)
        chunks = (as_stream if call.streams else as_whole)(kept.chunks)
        hide = call.streams and not call.asked.wants_usage
        with call.waiting():
            for start in range(0, len(chunks), BATCH):
                await tell(call, kept, [_shown(chunk, hide) for chunk in chunks[start : start + BATCH]])
        return kept.reply

    def _count(self, result: str, reply: Reply) -> None:
        self._calls.add(result=result)
        if reply.usage is not None:
            self._saved.add(reply.usage.input_tokens or 0, kind="input")
            self._saved.add(reply.usage.output_tokens or 0, kind="output")


_OVER = SidegateError("The call that asked first has ended otherwise.")
"""Told to nobody: whoever waited asks for itself."""


def _not_kept() -> Refusal:
    """RFC 9111 section 5.2.1.7."""
    return Refusal(504, "not_cached", "Only a cached answer was asked for, and there is none.")


def _declines(chunk: Chunk) -> bool:
    return any(type(part) is RefusalText or (type(part) is Finish and part.reason not in _GOOD) for part in chunk.parts)


def _shown(chunk: Chunk, hide: bool) -> Chunk:
    if not chunk.hidden or hide:
        return chunk
    shown = chunk.copy()
    shown.hidden = False
    return shown
