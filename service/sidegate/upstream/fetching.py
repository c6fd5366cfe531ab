"""Fetching: what a provider of OpenAI's Responses keeps, asked for by its id.

https://platform.openai.com/docs/api-reference/responses: retrieve, delete, cancel, and the items of the input.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.reply import Attempt
from sidegate.errors import ReplyError
from sidegate.wire.dialect import Dialect
from sidegate.wire.openai_responses.usage import read_usage

KEEPING: Final = "openai.responses"
"""The dialect whose providers keep what they said."""


class _Way(NamedTuple):
    method: str
    below: str
    """Of the response's own path."""
    queries: tuple[str, ...]
    """What of a client's query goes on."""


FETCHES: Final = {
    "get_response": _Way("GET", "", ("stream", "starting_after", "include", "include[]", "include_obfuscation")),
    "delete_response": _Way("DELETE", "", ()),
    "cancel_response": _Way("POST", "/cancel", ()),
    "list_input_items": _Way("GET", "/input_items", ("after", "before", "limit", "order", "include", "include[]")),
}
"""By operation."""

_WHOLE: Final = frozenset({"get_response", "cancel_response"})
"""They answer with the response itself."""
_OVER: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})


class Fetch(NamedTuple):
    """A request for what is kept."""

    method: str
    path: str
    query: str
    body: bytes | None


class _Response(Struct, gc=False):
    status: str | None = None
    model: str | None = None
    usage: dict[str, object] | None = None
    output: list[msgspec.Raw] | None = None


_read = msgspec.json.Decoder(_Response).decode
_values = msgspec.json.Decoder(list[str]).decode


def fetch_of(call: Call, dialect: Dialect) -> Fetch:
    """`call.subject` is the response's id, its fields are what the query says, each a list of texts."""
    way = FETCHES[call.operation]
    fields = call.asked.fields
    asked = [(name, value) for name in way.queries if name in fields for value in _values(fields[name])]
    path = f"{dialect.path}/{quote(call.subject, safe='')}{way.below}"
    return Fetch(way.method, path, urlencode(asked), b"" if way.method == "POST" else None)


async def tell(call: Call, attempt: Attempt, dialect: Dialect, body: bytes) -> None:
    """Pass a whole answer on. A response is told like one that was just made, so that edits hold in it too.

    One that has failed is no failure of whoever fetches it, where nobody looks at what it said.
    """
    try:
        response = _read(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ReplyError("The provider sent something that is not a reply of its dialect.") from error
    whole = call.operation in _WHOLE
    if whole:
        attempt.model = response.model
        if response.status in _OVER:
            attempt.finish = "stop"
            attempt.usage = read_usage(response.usage)
    if call.takes_raw(dialect.name, whole=True):
        await call.send_raw(body, meaningful=True)
    elif whole and response.output:
        reader = dialect.read_whole
        await call.send(Chunk(body, reader=reader, dialect=dialect.name, whole=True, closing=True, meaningful=True))
    else:
        await call.send(Chunk(body, dialect=dialect.name, whole=True, closing=True, meaningful=True, parts=()))
