"""Events that are read again: of jobs, and of streams whose client has come back. They have passed their pipeline once,
and go out as they are."""

from __future__ import annotations

from aiohttp import web

from sidegate.contract.call import Asked, Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock
from sidegate.errors import SidegateError
from sidegate.http.exchange import Exchange
from sidegate.http.intake import check_head
from sidegate.http.replies import reply_headers
from sidegate.http.server import peer_of
from sidegate.http.sinks import StreamSink
from sidegate.outlet import BufferOutlet, StreamOutlet


class EventsSink(StreamSink):
    """Its sign of life is a line, and no block of lines: where ids are, some clients take that for an event."""

    def __init__(self, request: web.Request, clock: Clock, *, comments: bool) -> None:
        super().__init__(request, clock, comments=comments)
        self._ping = b": ping\n" if comments else b""


class EventsOutlet(BufferOutlet):
    """Events out as they are: they have passed their pipeline when the job ran."""

    def __init__(self, sink: StreamSink, clock: Clock) -> None:
        super().__init__("sidegate", None, clock)
        self.sink = sink
        self.over = False
        """There is nothing to read any more."""

    async def chunks(self, chunks: list[Chunk]) -> None:
        self._begin()
        await self.sink.write(b"".join([chunk.raw or b"" for chunk in chunks]))


class Reader(Exchange):
    """204 where there is nothing to read any more."""

    async def _finish(
        self, error: SidegateError | None, call: Call, outlet: StreamOutlet | BufferOutlet, sink: StreamSink | None
    ) -> web.StreamResponse:
        if error is None and sink is not None and isinstance(outlet, EventsOutlet) and outlet.over:
            sink.leave()
            # What tells a browser not to come again.
            return web.Response(status=204, headers=reply_headers(self._voice, call.id, call.reply_headers))
        return await super()._finish(error, call, outlet, sink)


def plain_asked(request: web.Request) -> Asked:
    """A request without a body."""
    wrong: SidegateError | None = None
    try:
        check_head(request)
    except SidegateError as error:
        wrong = error
    return Asked(headers=request.headers, wrong=wrong, peer=peer_of(request))
