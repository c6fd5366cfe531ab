"""Client: the HTTP that plugins are lent. It shares no connection, no header and no bound with calls to providers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from sidegate import __version__
from sidegate.contract.host import NO_HEADERS
from sidegate.errors import PhaseTimeout, ReplyError
from sidegate.upstream.response import Response
from sidegate.upstream.transport import Transport

CONNECT_SECONDS = 5.0

_HEADERS = {
    "Accept": "application/json",
    # A small compressed body can grow to any size: bounds are on what is read, so nothing is inflated.
    "Accept-Encoding": "identity",
    "User-Agent": f"sidegate/{__version__}",
}


class Client:
    """A `sidegate.contract.host.Http`. Usable between `start` and `stop`."""

    def __init__(self) -> None:
        self._transport = Transport()

    async def start(self) -> None:
        await self._transport.start()

    async def stop(self) -> None:
        await self._transport.stop()

    async def get(self, url: str, headers: Mapping[str, str] = NO_HEADERS, *, timeout: float, max_bytes: int) -> bytes:
        asked = self._transport.get(url, {**_HEADERS, **headers}, connect_timeout=min(timeout, CONNECT_SECONDS))
        return await _body(asked, timeout, max_bytes)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS, *, timeout: float, max_bytes: int
    ) -> bytes:
        asked = self._transport.post(url, {**_HEADERS, **headers}, body, connect_timeout=min(timeout, CONNECT_SECONDS))
        return await _body(asked, timeout, max_bytes)


async def _body(asked: AbstractAsyncContextManager[Response], timeout: float, max_bytes: int) -> bytes:
    try:
        async with asyncio.timeout(timeout), asked as response:
            if not 200 <= response.status < 300:
                raise ReplyError(
                    f"The service answered with status {response.status}.", provider_status=response.status
                )
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise ReplyError("The service answered in an encoding that was not asked for.")
            return await response.read(max_bytes)
    except TimeoutError as error:
        raise PhaseTimeout("total", timeout) from error
