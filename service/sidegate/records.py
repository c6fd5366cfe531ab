"""Records: the operations that answer from what the gateway knows itself: models and usage."""

from __future__ import annotations

import msgspec

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock
from sidegate.contract.reply import Reply
from sidegate.errors import BadRequest
from sidegate.ledger.report_query import read_query
from sidegate.ledger.report_text import as_json
from sidegate.ledger.reports import Reports
from sidegate.upstream.choice import Catalogue
from sidegate.wire.models import write_list, write_one


async def answer_models(call: Call, catalogue: Catalogue, created: int) -> Reply:
    """The models the caller may see, or the one it asks for; those a pattern covers are known but not listed."""
    if call.model:
        catalogue.find(call)
        return await send(call, write_one(call.dialect, call.model, created))
    names = [name for name in catalogue.names if call.sees_model(name)]
    return await send(call, write_list(call.dialect, names, created))


async def answer_usage(call: Call, reports: Reports, clock: Clock) -> Reply:
    """What the caller itself has used, whatever else is asked for."""
    asked = {name: msgspec.json.decode(values, type=list[str]) for name, values in call.asked.fields.items()}
    if asked.pop("format", ["json"]) != ["json"]:
        raise BadRequest("`format` can only be json here.", param="format")
    query = read_query(asked, clock.now(), caller=call.caller.name)
    return await send(call, as_json(await reports.report(query)))


async def send(call: Call, body: bytes) -> Reply:
    """Answer with a body that is whole."""
    await call.send(Chunk(body, dialect=call.dialect, whole=True, closing=True, meaningful=True, parts=()))
    return Reply()
