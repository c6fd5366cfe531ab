"""Calls: who may see and stop those in flight, here and at the other gateways that share a store.

Each gateway answers for its own calls, and only to their caller. Another's call does not exist: it is looked for like
one that nobody has ever made, and answered in the same words.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.reply import Reply
from sidegate.errors import Cancelled, Ending, Refusal
from sidegate.in_flight import InFlight, in_flight, own_in_flight
from sidegate.ledger.rows import Settled
from sidegate.ledger.store import Ledger
from sidegate.live import Live, LiveCall
from sidegate.records import send
from sidegate.signals.asking import Claim, Heard, Question, Signals

CANCEL_SECONDS = 5.0
"""How long a cancellation is waited for before it is answered as still under way."""
MOST_LISTED = 1000
"""Calls that another gateway tells of."""


_row_decoder = msgspec.json.Decoder(InFlight)
_rows_decoder = msgspec.json.Decoder(list[InFlight])


class Calls:
    """Answers operations on calls, to clients and to other gateways."""

    def __init__(self, live: Live, ledger: Ledger, clock: Clock, signals: Signals) -> None:
        self._live = live
        self._ledger = ledger
        self._clock = clock
        self._signals = signals

    async def start(self) -> None:
        await self._signals.start(self.hear)

    async def stop(self) -> None:
        await self._signals.stop()

    # --- for clients --------------------------------------------------------------------------------------------------

    async def answer(self, call: Call) -> Reply:
        """The caller's own calls in flight; or one by id, in flight or as the ledger has it."""
        caller, wanted = call.caller.name, call.subject
        if not wanted:
            return await send(call, await self._list(call))
        found = await self._one(caller, wanted)
        if found is None:
            found = await self._elsewhere(Question("call", caller, wanted), "There is no such call.")
        return await send(call, found)

    async def cancel(self, call: Call) -> Reply:
        """Stop one of the caller's own calls. Answers when it has ended; its reader is told by an error event."""
        caller, wanted = call.caller.name, call.subject
        running = self._own(caller).get(wanted)
        if running is not None:
            return await send(call, await self._stopped(running))
        question = Question("cancel", caller, wanted)
        return await send(call, await self._elsewhere(question, "There is no such call in flight."))

    async def _list(self, asking: Call) -> bytes:
        rows = self._rows(asking.caller.name, asking)
        heard = await self._signals.ask(Question("calls", asking.caller.name), first=False)
        for answer in heard.answers:
            rows += msgspec.json.decode(answer)
        rows.sort(key=lambda row: str(row["started_at"]))
        return msgspec.json.encode({"object": "list", "data": rows, "complete": heard.complete})

    # --- for whoever administers --------------------------------------------------------------------------------------

    def here(self) -> list[InFlight]:
        """Those of all callers in this process, oldest first."""
        return [in_flight(running.call, self._clock) for running in self._live.all()]

    async def everywhere(self) -> tuple[list[InFlight], bool]:
        """Those of all gateways, oldest first; and whether that is all there are."""
        rows = self.here()
        heard = await self._signals.ask(Question("any_calls", ""), first=False)
        complete = heard.complete
        for answer in heard.answers:
            try:
                rows += _rows_decoder.decode(answer)
            except msgspec.ValidationError:
                complete = False  # of a gateway of another version
        return sorted(rows, key=lambda row: row.id), complete

    async def find_any(self, wanted: str) -> InFlight | Settled:
        """One of any caller, in flight wherever, or as the ledger has it."""
        running = self._live.get(wanted)
        if running is not None:
            return in_flight(running.call, self._clock)
        found = await self._ledger.call(wanted)
        if found is not None:
            return found
        answer = await self._elsewhere(Question("any_call", "", wanted), "There is no such call.")
        return _row_decoder.decode(answer)

    async def stop_any(self, wanted: str) -> bytes:
        """Stop one of any caller, wherever. Answers when it has ended."""
        running = self._live.get(wanted)
        if running is not None:
            return await self._stopped(running)
        return await self._elsewhere(Question("any_cancel", "", wanted), "There is no such call in flight.")

    async def _elsewhere(self, question: Question, absent: str) -> bytes:
        heard: Heard = await self._signals.ask(question, first=True)
        if heard.answers:
            return heard.answers[0]
        if not heard.complete:
            message = "It is not here, and not every other gateway or worker can be asked at the moment."
            raise Refusal(503, "calls_unreachable", message, retry_after=1)
        raise Refusal(404, "call_not_found", absent)

    # --- for other gateways -------------------------------------------------------------------------------------------

    async def hear(self, question: Question, claim: Claim) -> bytes | None:
        """What another gateway asks in its caller's name."""
        match question.about:
            case "calls":
                rows = self._rows(question.caller)
                return msgspec.json.encode(rows[:MOST_LISTED]) if rows else None
            case "call":
                return await self._one(question.caller, question.call)
            case "cancel":
                running = self._own(question.caller).get(question.call)
                if running is None:
                    return None
                claim()
                return await self._stopped(running)
            case "any_calls":
                found = self.here()
                return msgspec.json.encode(found[:MOST_LISTED]) if found else None
            case "any_call":
                running = self._live.get(question.call)
                return None if running is None else msgspec.json.encode(in_flight(running.call, self._clock))
            case "any_cancel":
                running = self._live.get(question.call)
                if running is None:
                    return None
                claim()
                return await self._stopped(running)

    # --- this gateway's own -------------------------------------------------------------------------------------------

    def _own(self, caller: str) -> dict[str, LiveCall]:
        return {running.call.id: running for running in self._live.all() if running.call.caller.name == caller}

    def _rows(self, caller: str, asking: Call | None = None) -> list[dict[str, Any]]:
        """The calls in flight of whoever asks, without the asking itself."""
        own = self._own(caller).values()
        return [own_in_flight(running.call, self._clock) for running in own if running.call is not asking]

    async def _one(self, caller: str, wanted: str) -> bytes | None:
        running = self._own(caller).get(wanted)
        if running is not None:
            return msgspec.json.encode(own_in_flight(running.call, self._clock))
        found = await self._ledger.call(wanted)
        if found is None or found[0].caller != caller:
            return None
        row, attempts = found
        return msgspec.json.encode({**msgspec.to_builtins(row), "attempts": msgspec.to_builtins(attempts)})

    async def _stopped(self, running: LiveCall) -> bytes:
        running.stop(Cancelled(Ending.CANCELLED))
        await asyncio.wait([running.done], timeout=CANCEL_SECONDS)
        ending = running.reply.ending.value if running.reply is not None else None
        body = {"id": running.call.id, "state": "in_flight" if ending is None else "ended", "ending": ending}
        return msgspec.json.encode(body)
