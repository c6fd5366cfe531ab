"""One answer for one `Idempotency-Key`: a call sent twice reaches the provider once, and is paid once.

Put it inside `api_key` and `model_access`, since a key is a caller's own, and outside `rate_limit`, `concurrency` and
`cost`: an answer that is told again takes nothing from a limit, holds no slot and costs nothing. Calls without the
header pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from sidegate.contract import Call, Chunk, Ending, Handler, Host, Plugin, Reply
from sidegate.errors import BadRequest, Cancelled, Refusal, SidegateError
from sidegate_plugins._kept_replies import BATCH, Bounds, KeptReplies, KeptReply, Scope, tell

HEADER = "idempotency-key"
REPLAYED = "idempotent-replayed"
NOT_KEPT = "x-sidegate-idempotency"

_OPERATIONS = frozenset(("chat", "text_completion", "embeddings"))
_KEY = re.compile(r"[!-~]{1,255}")
_VERSIONS = ("anthropic-version", "anthropic-beta")
"""Headers that change what a provider answers to the same body."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    in_flight: Annotated[
        Literal["attach", "conflict"],
        Meta(description="A second call while the first is under way: reads along from the beginning, or gets 409."),
    ] = "attach"
    keep: Annotated[float, Meta(ge=1, le=7 * 86_400, description="Seconds a complete reply can be told again.")] = 3600
    max_entries: Annotated[int, Meta(ge=1, le=10**7, description="Keys that are kept at a time.")] = 10_000
    max_bytes: Annotated[int, Meta(ge=65_536, le=2**40, description="Memory of all replies, in bytes.")] = 64 * 2**20
    max_reply_bytes: Annotated[
        int, Meta(ge=4096, le=2**32, description="Memory of one reply; a larger one is not kept.")
    ] = 4 * 2**20


class Idempotency(Plugin[Settings]):
    """Runs the first call with a key, and tells its reply to the others."""

    replays: ClassVar[Literal["retries"]] = "retries"

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if host.workers > 1:
            raise ValueError("replies are kept by one process: with several workers a retry may reach another")
        if settings.max_reply_bytes > settings.max_bytes:
            raise ValueError("max_reply_bytes is more than max_bytes: no reply of that size could be kept")
        self._bounds = Bounds(settings.keep, settings.max_entries, settings.max_bytes, settings.max_reply_bytes)
        self.replies = KeptReplies(host.clock, self._bounds)

    def inherit(self, before: Idempotency) -> None:
        """What is kept outlives a reload, and so does what is under way: a retry is not paid twice."""
        self.replies = before.replies

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if HEADER not in call.headers or call.operation not in _OPERATIONS:
            return await handler(call)
        # Both configs of a reload hold the same replies: the bounds are those that new calls meet.
        self.replies.bound(self._bounds)
        scope = (call.caller.name, call.end_user, _key(call.headers))
        if call.asked.wrong is not None or not call.sees_model(call.model):
            return await handler(call)
        digest = _digest(call)
        while True:
            kept = self.replies.find(scope)
            if kept is None:
                return await self._lead(call, handler, scope, digest)
            self._check(kept, digest)
            reply = await self._follow(call, kept)
            if reply is not None:
                return reply

    def _check(self, kept: KeptReply, digest: bytes) -> None:
        if kept.digest != digest:
            raise Refusal(422, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
        if kept.state == "too_large" or (kept.state == "open" and self.settings.in_flight == "conflict"):
            message = "A call with this Idempotency-Key is under way."
            raise Refusal(409, "idempotency_in_flight", message, retry_after=1)

    # --- the first call -----------------------------------------------------------------------------------------------

    async def _lead(self, call: Call, handler: Handler, scope: Scope, digest: bytes) -> Reply:
        """Run the call and keep what it says. Followers read at their own pace: nothing here waits for them."""
        kept = self.replies.open(scope, digest, call.naming)

        def see(chunk: Chunk) -> None:
            kept.edited = call.notes.edited
            if not self.replies.add(kept, chunk):
                self._not_kept(call)

        call.tap(see)
        try:
            reply = await handler(call)
        except BaseException as error:
            self.replies.fail(kept, _cause(call.reply_for(error)))
            raise
        # A cancellation that somebody further in has swallowed does not make the reply complete.
        if reply.complete and call.notes.stop is None and (kept.closed or kept.state == "too_large"):
            self.replies.complete(kept, reply)
        else:
            self.replies.fail(kept, _cause(reply))
        return reply

    def _not_kept(self, call: Call) -> None:
        """Said in a header, which a stream has already sent, and in the log."""
        call.reply_headers[NOT_KEPT] = "not-kept"
        self.host.log.write(
            "idempotency_not_kept",
            {"call": call.id, "caller": call.caller.name, "max_reply_bytes": self.settings.max_reply_bytes},
        )

    # --- those after it -----------------------------------------------------------------------------------------------

    async def _follow(self, call: Call, kept: KeptReply) -> Reply | None:
        """Tell what is kept, as it comes; `None` where the first call failed before anything of it was told here."""
        told = 0
        with self.replies.reading(kept), call.waiting():
            while True:
                if kept.state == "too_large":
                    raise _too_large()
                if kept.state == "failed" and not told:
                    return None
                if told < len(kept.chunks) and (kept.state == "complete" or call.streams):
                    call.reply_headers[REPLAYED] = "true"
                    batch = kept.chunks[told : told + BATCH]
                    await tell(call, kept, batch)
                    told += len(batch)
                elif kept.state == "complete":
                    return kept.reply
                elif kept.state == "failed":
                    raise _again(kept.error)
                else:
                    await kept.changed.wait()


def _key(headers: Mapping[str, str]) -> str:
    getall = getattr(headers, "getall", None)
    keys = [headers[HEADER]] if getall is None else [str(key) for key in getall(HEADER)]
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise BadRequest(
            "Idempotency-Key must be one value of 1 to 255 printable ASCII characters without spaces.",
            code="invalid_idempotency_key",
        )
    return keys[0]


def _digest(call: Call) -> bytes:
    """What was asked: two calls with the same one would get the same answer, but for chance."""
    body = call.asked.body
    digest = sha256(b"%d\n" % len(body))
    digest.update(body)
    words = [call.operation, call.dialect, "stream" if call.streams else "buffered", call.route, call.model]
    for word in (*words, *(call.headers.get(name, "") for name in _VERSIONS)):
        data = word.encode("utf-8", "surrogatepass")
        digest.update(b"%d\n" % len(data))
        digest.update(data)
    return digest.digest()


def _cause(reply: Reply) -> SidegateError:
    """Why a call failed, as its followers are told: that its client has gone is no news about theirs."""
    error = reply.error
    if error is not None and not isinstance(error, Cancelled):
        return error
    stopped = SidegateError(
        "The call with this Idempotency-Key that was under way was stopped.",
        status=503,
        code="idempotency_stopped",
        retry_after=1,
    )
    stopped.ending = Ending.CUT
    return stopped


def _again(error: SidegateError | None) -> SidegateError:
    """The same error for another call: one exception is not raised in two tasks."""
    assert error is not None
    same = SidegateError(
        error.message,
        status=error.status,
        code=error.code,
        type=error.type,
        param=error.param,
        retry_after=error.retry_after,
        headers=error.headers,
    )
    same.ending = error.ending
    return same


def _too_large() -> Refusal:
    message = "The reply to the call with this Idempotency-Key is too large to be told twice."
    return Refusal(503, "idempotency_reply_too_large", message)
