"""A plugin that keeps who called, for tests that look at the other end of a connection."""

from __future__ import annotations

from sidegate.contract import Call, Handler, Peer, Plugin, Reply


class Seen(Plugin[None]):
    """Keeps the peer of each call."""

    peers: list[Peer | None] = []

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        self.peers.append(call.peer)
        return await handler(call)


SEEN = {"use": f"{__name__}:Seen"}
