"""The process at the other end of a Unix socket, as the kernel knows it; read once a connection."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Protocol

from sidegate.contract.peer import Peer, Process

_LINUX = struct.Struct("=iII")
"""pid, uid, gid: `struct ucred` of unix(7), for SO_PEERCRED."""
_GROUPS = 59
"""SO_PEERGROUPS of Linux 4.13 and later, which Python has no name for; on some rare machines it is another, and says
nothing."""
_MOST_GROUPS = 256
"""Python reads no more of an option. Of whoever is in more, none is known."""

_BSD = struct.Struct("=IIhxx16I")
"""version, uid, how many groups, the groups: `struct xucred` of macOS and FreeBSD, for LOCAL_PEERCRED."""
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1


class Connection(Protocol):
    """What event loops give for the socket of a connection."""

    @property
    def family(self) -> int: ...
    def getsockopt(self, level: int, name: int, length: int, /) -> bytes: ...


def read_process(connection: Connection) -> Peer | None:
    """Who connected; `None` where it is no Unix socket, or the kernel does not say: then nobody is named."""
    if connection.family != getattr(socket, "AF_UNIX", None):
        return None
    try:
        return Peer(process=_linux(connection) if sys.platform == "linux" else _bsd(connection))
    except (OSError, struct.error, ValueError):
        return None


def _linux(connection: Connection) -> Process:
    pid, uid, gid = _LINUX.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _LINUX.size))
    return Process(uid=uid, gid=gid, groups=_groups(connection), pid=pid or None)


def _groups(connection: Connection) -> tuple[int, ...]:
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, _GROUPS, 4 * _MOST_GROUPS)
    except OSError:
        return ()
    return struct.unpack(f"={len(found) // 4}I", found)


def _bsd(connection: Connection) -> Process:
    found = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _BSD.size)
    version, uid, count, *groups = _BSD.unpack(found[: _BSD.size])
    if version != 0 or not 0 < count <= len(groups):
        raise ValueError
    return Process(uid=uid, gid=groups[0], groups=tuple(groups[1:count]))
