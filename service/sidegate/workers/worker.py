"""A worker: one of several processes on one port. `python -m sidegate.workers.worker FD` is run by the supervisor."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace as changed

from sidegate.errors import ConfigError
from sidegate.workers.lifeline import Ready, line, receive

if TYPE_CHECKING:
    from sidegate.config import Loaded
    from sidegate.gateway import Gateway


def main(descriptor: int) -> int:
    """Serve until told to stop, or until the supervisor is gone. A mistake in the config is one line, as ever."""
    lifeline = socket.socket(fileno=descriptor)
    try:
        task = receive(lifeline)
        from sidegate.gateway import serve

        sockets = tuple(socket.socket(fileno=number) for number in task.sockets)
        from sidegate.workers.minding import Minding

        minding = Minding(lifeline, partial(own, task.number))
        return serve(own(task.number, task.loaded), partial(_announce, lifeline), sockets, minding.mind)
    except EOFError:
        return 1
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2


def own(number: int, loaded: Loaded) -> Loaded:
    """The config as it is for this worker: its admin listener has a port, and a socket, of its own, so that each can be
    scraped."""
    settings = loaded.settings
    admin = settings.admin
    if admin is not None and number:
        port = admin.tcp + number if admin.tcp else admin.port
        unix = admin.unix and changed(admin.unix, path=f"{admin.unix.path}.{number}")
        settings = changed(settings, admin=changed(admin, port=port, unix=unix))
    return replace(loaded, settings=settings)


def _announce(lifeline: socket.socket, gateway: Gateway) -> None:
    from sidegate.commands.welcome import lines

    lifeline.sendall(line(Ready(gateway.url, gateway.admin_url, lines(gateway))))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
