"""Records: the operations that answer from what the gateway knows itself, models and calls."""

from __future__ import annotations

from typing import Any

import msgspec

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.reply import Reply
from sidegate.errors import Refusal
from sidegate.ledger.store import Ledger
from sidegate.live import Live
from sidegate.upstream.router import Catalogue
from sidegate.wire.models import write_list, write_one


async def answer_models(call: Call, catalogue: Catalogue, created: int) -> Reply:
    """The models the caller may see, or the one it asks for; those a pattern covers are known but not listed."""
    if call.model:
        catalogue.find(call)
        return await _send(call, write_one(call.dialect, call.model, created))
    names = [name for name in catalogue.names if call.sees_model(name)]
    return await _send(call, write_list(call.dialect, names, created))


async def answer_calls(call: Call, live: Live, ledger: Ledger) -> Reply:
    """One call of the caller's own, by id: in flight, or as the ledger has it. Anybody else's does not exist."""
    wanted = call.subject
    running = live.get(wanted)
    if running is not None and running.call is not call and running.call.caller.name == call.caller.name:
        body: dict[str, Any] = {"id": wanted, "state": "in_flight", "attempts": len(running.call.attempts)}
        return await _send(call, msgspec.json.encode(body))
    found = await ledger.call(wanted)
    if found is None or found[0].caller != call.caller.name:
        raise Refusal(404, "call_not_found", "There is no such call.")
    row, attempts = found
    body = {**msgspec.to_builtins(row), "attempts": msgspec.to_builtins(attempts)}
    return await _send(call, msgspec.json.encode(body))


async def _send(call: Call, body: bytes) -> Reply:
    await call.send(Chunk(body, dialect=call.dialect, whole=True, closing=True, meaningful=True, parts=()))
    return Reply()
