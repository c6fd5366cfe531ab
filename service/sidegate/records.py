"""Records: the operations that answer from what the gateway knows itself: models, calls and usage."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock
from sidegate.contract.reply import Reply
from sidegate.errors import BadRequest, Cancelled, Ending, Refusal
from sidegate.ledger.report_query import read_query
from sidegate.ledger.report_text import as_json
from sidegate.ledger.reports import Reports
from sidegate.ledger.store import Ledger
from sidegate.live import Live, LiveCall
from sidegate.upstream.choice import Catalogue
from sidegate.wire.models import write_list, write_one

CANCEL_SECONDS = 5.0
"""How long a cancellation is waited for before it is answered as still under way."""


async def answer_models(call: Call, catalogue: Catalogue, created: int) -> Reply:
    """The models the caller may see, or the one it asks for; those a pattern covers are known but not listed."""
    if call.model:
        catalogue.find(call)
        return await _send(call, write_one(call.dialect, call.model, created))
    names = [name for name in catalogue.names if call.sees_model(name)]
    return await _send(call, write_list(call.dialect, names, created))


async def answer_calls(call: Call, live: Live, ledger: Ledger, clock: Clock) -> Reply:
    """The caller's own calls in flight; or one by id, in flight or as the ledger has it. Others' do not exist."""
    own = _own(call, live)
    if not call.subject:
        rows = [_in_flight(running.call, clock) for running in own.values()]
        return await _send(call, msgspec.json.encode({"object": "list", "data": rows}))
    wanted = call.subject
    if wanted in own:
        return await _send(call, msgspec.json.encode(_in_flight(own[wanted].call, clock)))
    found = await ledger.call(wanted)
    if found is None or found[0].caller != call.caller.name:
        raise Refusal(404, "call_not_found", "There is no such call.")
    row, attempts = found
    body = {**msgspec.to_builtins(row), "attempts": msgspec.to_builtins(attempts)}
    return await _send(call, msgspec.json.encode(body))


async def cancel_call(call: Call, live: Live) -> Reply:
    """Stop one of the caller's own calls in flight. Answers when it has ended; its reader is told by an error event."""
    running = _own(call, live).get(call.subject)
    if running is None:
        raise Refusal(404, "call_not_found", "There is no such call in flight.")
    running.stop(Cancelled(Ending.CANCELLED))
    await asyncio.wait([running.done], timeout=CANCEL_SECONDS)
    ending = running.reply.ending.value if running.reply is not None else None
    body = {"id": call.subject, "state": "in_flight" if ending is None else "ended", "ending": ending}
    return await _send(call, msgspec.json.encode(body))


async def answer_usage(call: Call, reports: Reports, clock: Clock) -> Reply:
    """What the caller itself has used, whatever else is asked for."""
    asked = {name: msgspec.json.decode(values, type=list[str]) for name, values in call.asked.fields.items()}
    if asked.pop("format", ["json"]) != ["json"]:
        raise BadRequest("`format` can only be json here.", param="format")
    query = read_query(asked, clock.now(), caller=call.caller.name)
    return await _send(call, as_json(await reports.report(query)))


def _own(call: Call, live: Live) -> dict[str, LiveCall]:
    """The calls in flight of whoever asks, without the asking itself."""
    return {
        running.call.id: running
        for running in live.all()
        if running.call is not call and running.call.caller.name == call.caller.name
    }


def _in_flight(call: Call, clock: Clock) -> dict[str, Any]:
    attempt = call.attempts[-1] if call.attempts else None
    return {
        "id": call.id,
        "state": "in_flight",
        "operation": call.operation,
        "model": call.model,
        "delivery": call.delivery,
        "end_user": call.end_user,
        "provider": attempt.provider if attempt else None,
        "attempts": len(call.attempts),
        "started_at": call.started_at,
        "duration": clock.monotonic() - call.started,
        "first_token": None if call.notes.first_token is None else call.notes.first_token - call.started,
    }


async def _send(call: Call, body: bytes) -> Reply:
    await call.send(Chunk(body, dialect=call.dialect, whole=True, closing=True, meaningful=True, parts=()))
    return Reply()
