"""Whole bodies: what a provider says at once, from its bytes to the call."""

from __future__ import annotations

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock
from sidegate.contract.reply import Attempt
from sidegate.errors import ProviderError, ReplyError
from sidegate.pump import Pump, Take
from sidegate.wire.body import value
from sidegate.wire.dialect import Dialect, Meter
from sidegate.wire.openai_embeddings import EMBEDDINGS, in_format
from sidegate.wire.surrogates import without_halves


async def relay_whole(
    call: Call, attempt: Attempt, dialect: Dialect, body: bytes, clock: Clock, *, hide_usage: bool
) -> None:
    """Meter a body that has come, and let it out. Raises `ReplyError` for one that says nothing of its dialect."""
    if not body:
        raise ReplyError("The provider's reply is empty.")
    if dialect.in_path and call.streams and body.lstrip()[:1] == b"[":
        # A stream that was not framed as one: a JSON array of its events.
        await Pump(call, attempt, dialect, clock, hide_usage=hide_usage).stream(_AtOnce(body))
        return
    if dialect.name == EMBEDDINGS == call.dialect:
        body = await _as_asked(call, attempt, dialect.meter(), body)
    read = _measured(attempt, dialect, body)
    if attempt.first_token is None:
        attempt.first_token = clock.monotonic()
    if call.takes_raw(dialect.name, whole=True):
        await call.send_raw(body, meaningful=True)
        return
    reader, name = dialect.read_whole, dialect.name
    await call.send(Chunk(read, reader=reader, dialect=name, whole=True, closing=True, meaningful=True))


def _measured(attempt: Attempt, dialect: Dialect, body: bytes) -> bytes:
    """Note what a body says and has used; the bytes that can be read as it."""
    meter = dialect.meter()
    try:
        meter.whole(body)
    except ProviderError as error:
        read = without_halves(body) if isinstance(error, ReplyError) else body
        if read is not body:
            return _measured(attempt, dialect, read)
        # What failed may have used something all the same, and say so.
        attempt.usage = meter.usage
        raise
    _note(attempt, meter)
    return body


def _note(attempt: Attempt, meter: Meter) -> None:
    attempt.usage = meter.usage
    attempt.output_bytes = meter.output_bytes
    attempt.finish = meter.finish
    attempt.model = meter.model
    attempt.provider_id = meter.id


async def _as_asked(call: Call, attempt: Attempt, meter: Meter, body: bytes) -> bytes:
    """Vectors in the encoding that their client reads. What they have used counts, even where they cannot be read."""
    try:
        return await in_format(body, value(call.asked.fields, "encoding_format", str))
    except ReplyError:
        meter.whole(body)
        attempt.usage = meter.usage
        raise


class _AtOnce:
    """A stream that has come as a whole."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def piece(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def drive(self, take: Take) -> None:
        """There is no shorter way."""
