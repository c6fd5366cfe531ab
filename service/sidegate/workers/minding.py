"""Minding: what a worker hears of its supervisor while it serves, and what it says."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from sidegate.config import Loaded
from sidegate.errors import ConfigError, Refusal, SidegateError
from sidegate.gateway import Gateway
from sidegate.reloading.reloader import refusal
from sidegate.telemetry.reloads import Reloaded
from sidegate.workers.lifeline import Again, Asked, Followed, Refused, line, read_down


class Minding:
    """The worker's end of the lifeline, once it is ready."""

    def __init__(self, lifeline: socket.socket, own: Callable[[Loaded], Loaded]) -> None:
        """`own` makes of a config the one of this worker."""
        self._lifeline = lifeline
        self._own = own
        self._asking: deque[asyncio.Future[Followed]] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._gone = False

    async def mind(self, gateway: Gateway, stop: Callable[[], None]) -> None:
        """Do as it says. Calls `stop` when the supervisor is gone."""
        reader, self._writer = await asyncio.open_connection(sock=self._lifeline)
        gateway.ground.reload = self._ask
        following: asyncio.Task[None] | None = None
        try:
            while True:
                match await read_down(reader):
                    case Again() as again:
                        # The supervisor sends the next one when it has heard of this one.
                        following = asyncio.create_task(self._follow(gateway, again))
                    case Refused(error):
                        gateway.ground.reloads.failed(error)
                    case Followed() as told if self._asking:
                        self._tell(self._asking.popleft(), told)
        except (asyncio.IncompleteReadError, ConnectionError):
            stop()
        finally:
            self._gone = True
            while self._asking:
                self._tell(self._asking.popleft(), Followed(error="The supervisor is gone.", status=503, code="gone"))
            if following is not None:
                following.cancel()

    async def _ask(self, why: str) -> Reloaded:
        """All workers are to reload, and this one with them."""
        if self._gone or self._writer is None:
            raise Refusal(503, "gateway_stopping", "The gateway is about to stop: nothing is reloaded.")
        told: asyncio.Future[Followed] = asyncio.get_running_loop().create_future()
        self._asking.append(told)
        self._writer.write(line(Asked(why)))
        followed = await asyncio.shield(told)
        if followed.error is not None:
            raise Refusal(followed.status, followed.code, followed.error)
        return Reloaded(followed.generation, followed.changed)

    def _tell(self, asking: asyncio.Future[Followed], told: Followed) -> None:
        if not asking.done():
            asking.set_result(told)

    async def _follow(self, gateway: Gateway, again: Again) -> None:
        assert self._writer is not None
        with suppress(ConnectionError):
            self._writer.write(line(await _followed(gateway, again, self._own)))


async def _followed(gateway: Gateway, again: Again, own: Callable[[Loaded], Loaded]) -> Followed:
    try:
        done = await gateway.reload(again.why, lambda: own(again.loaded))
    except ConfigError as error:
        refused = refusal(error)
        return Followed(error=refused.message, status=refused.status, code=refused.code)
    except SidegateError as error:
        return Followed(error=error.message, status=error.status, code=error.code)
    return Followed(done.generation, done.changed)
