"""Desk: who may go on from a response that a provider keeps, fetch it, and delete it: the caller that it was made for.

Callers share the gateway's account at a provider, which gives any response of it to whoever knows its id. So the id is
noted with its caller when the provider has named it, and what is asked by id is asked of that provider alone. Another's
response is answered like one that nobody has ever made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Attempt, Reply
from sidegate.contract.spending import sane
from sidegate.errors import BadRequest, Refusal, SidegateError
from sidegate.ledger.database import Unfit
from sidegate.ledger.rows import stamp
from sidegate.responses.kept import Bill, Kept, KeptStore, MemoryStore, Recent
from sidegate.upstream.fetching import KEEPING
from sidegate.upstream.provider import HttpProvider
from sidegate.upstream.router import Router, Upstream

MOST_WAITING = 10_000
"""Responses, and bills, that wait for a store that takes nothing; beyond them the oldest is given up."""
BILL_SECONDS = 60.0
"""How long the record of a call is waited for, which a response is to be added to."""
PATIENCE = (0.0, 0.15, 0.35)
"""Seconds between looks for an id that is not known: another process may be about to note it."""

_logger = logging.getLogger("sidegate.responses")

Sleep = Callable[[float], Awaitable[None]]


class Responses:
    """The responses of all callers of a gateway."""

    def __init__(
        self,
        url: str,
        upstreams: Mapping[str, Upstream],
        clock: Clock,
        unknown: Literal["refuse", "pass"],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`url` is the ledger's; `unknown` what becomes of ids that nobody has noted. Opens nothing."""
        self._url = url
        self._upstreams = upstreams
        self._clock = clock
        self._passes_unknown = unknown == "pass"
        self._sleep = sleep
        self._store: KeptStore | None = None
        self._recent = Recent()
        self._running: set[Call] = set()
        self._waiting: list[Kept] = []
        self._bills: list[tuple[float, Bill]] = []
        """Each with when it is given up, monotonic seconds."""
        self._flushing: asyncio.Task[None] | None = None
        self._troubled = False

    def lead(self, upstreams: Mapping[str, Upstream], unknown: Literal["refuse", "pass"]) -> None:
        """Other providers, from now on: what one that is gone keeps is not reached any more."""
        self._upstreams = upstreams
        self._passes_unknown = unknown == "pass"

    # --- calls that make responses ------------------------------------------------------------------------------------

    async def ask(self, call: Call, router: Handler) -> Reply:
        """A call of the dialect: pinned to the provider that keeps what it goes on from, and noted."""
        await self._pin(call)
        fields = call.asked.fields
        if fields.get("store") == Raw(b"false") and not _is_true(fields, "background"):
            return await router(call)
        self._running.add(call)
        try:
            return await router(call)
        finally:
            self._running.discard(call)
            self._note(call)
            if _is_true(fields, "background"):
                self._leave_open(call)

    def tick(self) -> None:
        """Note what has been named since, and write what waits. Called by the gateway's ticker."""
        for call in self._running:
            self._note(call)
        if (self._waiting or self._bills) and self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def stop(self) -> None:
        """Write what waits, as far as the store takes it."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        if self._waiting or self._bills:
            await self._flush()
        if self._store is not None:
            await self._store.close()
            self._store = None

    async def _pin(self, call: Call) -> None:
        fields = call.asked.fields
        previous = _text(fields, "previous_response_id")
        if previous is not None:
            kept = await self._find(previous, call.caller.name)
            if kept is not None:
                call.notes.pinned = kept.provider, kept.credential
            elif not self._passes_unknown or await self._look(previous):
                message = f"previous_response_id: there is no response '{previous[:200]}'."
                raise BadRequest(message, param="previous_response_id", code="previous_response_not_found")
        if not self._passes_unknown and fields.get("conversation", _NULL) != _NULL:
            raise BadRequest(
                "conversation: whose it is is not known here.", param="conversation", code="conversation_not_found"
            )

    def _note(self, call: Call) -> None:
        """Every response of the call that its client may have heard of."""
        for attempt in call.attempts:
            if attempt.committed and attempt.provider_id and self._speaks(attempt.provider):
                kept = Kept(
                    id=attempt.provider_id[:256],
                    provider=attempt.provider,
                    target=attempt.target,
                    model=call.model,
                    caller=call.caller.name,
                    call_id=call.id,
                    credential=attempt.tags.get("credential", ""),
                    background=_is_true(call.asked.fields, "background"),
                    kept_at=stamp(attempt.started_at),
                )
                if self._recent.add(kept):
                    self._waiting.append(kept)

    def _leave_open(self, call: Call) -> None:
        """What a provider goes on with after the call has ended is not known, and not nothing, until it is fetched."""
        for attempt in call.attempts:
            if attempt.provider_id and attempt.usage is None and self._speaks(attempt.provider):
                attempt.background = True

    async def _flush(self) -> None:
        waiting, bills = self._waiting[-MOST_WAITING:], self._bills[-MOST_WAITING:]
        self._waiting, self._bills = [], []
        try:
            if waiting:
                await self._add(waiting)
                waiting = []
            bills = [due for due in bills if not await self._settled(due[1])]
            self._troubled = False
        except Exception as error:
            # Also for a fault of this code: what waits is not to be lost without a word.
            if not self._troubled:
                known = isinstance(error, SidegateError)
                _logger.warning("responses: the store takes nothing; they wait in memory", exc_info=not known)
            self._troubled = True
        finally:
            self._flushing = None
        now = self._clock.monotonic()
        self._waiting[:0], self._bills[:0] = waiting, [due for due in bills if self._troubled or due[0] > now]

    async def _add(self, kept: list[Kept]) -> None:
        """Note them; one that no store can take keeps no other from it."""
        try:
            await self._stored().add(kept)
        except Unfit as error:
            if len(kept) == 1:
                _logger.error("responses: one of call %s cannot be noted: %s", kept[0].call_id, error)
                return
            for one in kept:
                await self._add([one])

    async def _settled(self, bill: Bill) -> bool:
        """Whether there is nothing more to do about it."""
        try:
            return await self._stored().settle(bill)
        except Unfit as error:
            _logger.error("responses: call %s cannot be settled: %s", bill.kept.call_id, error)
            return True

    # --- responses that were made -------------------------------------------------------------------------------------

    async def serve(self, call: Call, router: Router) -> Reply:
        """Fetch, cancel or delete one, or list what it was asked. `call.subject` is its id."""
        kept = await self._find(call.subject, call.caller.name)
        if kept is None or not call.sees_model(kept.model):
            raise Refusal(404, "response_not_found", f"Response with id '{call.subject[:200]}' not found.")
        if not self._speaks(kept.provider) or kept.provider not in router.upstreams:
            raise Refusal(410, "response_gone", "The provider that keeps this response is no longer asked.")
        call.model = kept.model
        call.notes.pinned = kept.provider, kept.credential
        try:
            reply = await router.direct(call, kept.provider, kept.target)
        finally:
            self._bill(call, kept)
        if call.operation == "delete_response":
            await self._forget(kept)
        return Reply(model=reply.model, finish=reply.finish)

    def _bill(self, call: Call, kept: Kept) -> None:
        """Fetching costs nothing. What the response itself has used is its own call's, where that is not settled."""
        if not call.attempts:
            return
        attempt = call.attempts[-1]
        usage, finish = sane(attempt.usage), attempt.finish
        attempt.usage, attempt.output_bytes, attempt.sent = None, 0, False
        if not kept.background or usage is None or not usage.known or finish is None:
            return
        priced = replace(attempt, usage=usage, started_at=datetime.fromisoformat(kept.kept_at), tags={})
        cost = _cost(call, priced)
        now = stamp(self._clock.now())
        bill = Bill(kept=kept, usage=usage, route=call.route, rates=priced.tags.get("rates"), cost=cost, now=now)
        self._bills.append((self._clock.monotonic() + BILL_SECONDS, bill))

    async def _forget(self, kept: Kept) -> None:
        self._recent.forget(kept)
        if self._flushing is not None:
            # It may be about to be written.
            await asyncio.wait([self._flushing])
        self._waiting = [each for each in self._waiting if (each.id, each.provider) != (kept.id, kept.provider)]
        await self._stored().remove(kept)

    async def _find(self, id: str, caller: str) -> Kept | None:
        for pause in PATIENCE:
            if pause:
                await self._sleep(pause)
            found = [kept for kept in await self._look(id) if kept.caller == caller]
            if found:
                return found[0]
        return None

    async def _look(self, id: str) -> list[Kept]:
        """Those of all callers; where this process made it, the store is not asked."""
        for call in self._running:
            self._note(call)
        return self._recent.find(id) or await self._stored().find(id)

    def _stored(self) -> KeptStore:
        """Opened when it is first asked: most gateways never need it."""
        if self._store is None:
            if not self._url:
                self._store = MemoryStore()
            else:
                from sidegate.ledger.opening import database_of
                from sidegate.responses.sql import SqlStore

                self._store = SqlStore(database_of(self._url))
        return self._store

    def _speaks(self, provider: str) -> bool:
        upstream = self._upstreams.get(provider)
        return (
            upstream is not None and isinstance(upstream.provider, HttpProvider) and upstream.provider.speaks(KEEPING)
        )


_NULL = Raw(b"null")


def _is_true(fields: Mapping[str, Raw], name: str) -> bool:
    return fields.get(name) == Raw(b"true")


def _text(fields: Mapping[str, Raw], name: str) -> str | None:
    """Raises `BadRequest` for what is no text."""
    raw = fields.get(name, _NULL)
    if raw == _NULL:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"{name} must be a text.", param=name) from error


def _cost(call: Call, attempt: Attempt) -> int | None:
    if call.notes.price is None:
        return None
    try:
        return call.notes.price(attempt)
    except Exception:
        # The price is a plugin's: what was used is on record without it.
        _logger.exception("response %s could not be priced", attempt.provider_id)
        return None
