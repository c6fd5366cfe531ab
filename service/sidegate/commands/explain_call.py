"""`sidegate explain --call`: what each plugin did to a call and how long it took, as a running gateway remembers it."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from sidegate.commands.explain_call_lines import lines
from sidegate.config import Loaded, read_config
from sidegate.errors import ConfigError
from sidegate.settings import Admin

SECONDS = 10.0
"""The longest that a gateway is waited for."""

_ID = re.compile(r"[0-9a-f]{32}")
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What a listener on all addresses is called by on its own machine."""


def run(path: Path, call: str, as_json: bool, url: str | None = None) -> int:
    """Print it. Raises `ConfigError` where no gateway of this config knows the call."""
    wanted = call.strip().replace("-", "").lower()
    if not _ID.fullmatch(wanted):
        raise ConfigError("--call", "is the id of a call: 32 hexadecimal digits, as in x-request-id")
    loaded = read_config(path, os.environ)
    found = ask(loaded, wanted, url)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print("\n".join(lines(found)))
    return 0


def ask(loaded: Loaded, call: str, url: str | None) -> dict[str, Any]:
    """The call as the gateway has it; of several workers, as the one that served it."""
    admin = loaded.settings.admin
    if admin is None:
        raise ConfigError("admin", "is off, so no gateway of this config can be asked")
    found: dict[str, Any] | None = None
    for connection in _connections(loaded, admin, url):
        told = _told(connection, admin, call)
        if told is not None and (told.get("trail") is not None or told.get("state") == "in_flight"):
            return told
        found = found or told
    if found is None:
        raise ConfigError("--call", f"{call} is no call that this gateway knows")
    return found


def _told(connection: HTTPConnection, admin: Admin, call: str) -> dict[str, Any] | None:
    """What one process says of it; `None` where it knows no such call."""
    headers = {"Authorization": f"Bearer {admin.key}"} if admin.key else {}
    try:
        connection.request("GET", f"/admin/calls/{call}", headers=headers)
        reply = connection.getresponse()
        body = reply.read()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        where = f"{connection.host}:{connection.port}"
        raise ConfigError("admin", f"no gateway answers at {where} ({reason}): is it running?") from error
    finally:
        connection.close()
    if reply.status == 404:
        return None
    try:
        told: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError("admin", f"what answers there is no gateway (status {reply.status})") from error
    if reply.status != 200:
        raise ConfigError("admin", f"the gateway says: {told.get('detail', reply.status)}")
    if told.get("id") != call or "operation" not in told:
        raise ConfigError("admin", "what answers there is no gateway")
    return told


# --- where to ask -----------------------------------------------------------------------------------------------------


def _connections(loaded: Loaded, admin: Admin, url: str | None) -> Iterator[HTTPConnection]:
    """One for each process of the gateway."""
    if url is not None:
        yield _by_url(url, loaded, admin)
        return
    if not admin.port:
        if admin.unix is None:
            raise ConfigError("admin.port", "is 0, so its address is not known here: say it with --admin URL")
        yield _Unix(str(loaded.base / admin.unix.path))
        return
    host = _EVERYWHERE.get(admin.host, admin.host)
    for number in range(loaded.settings.workers):
        yield _tcp(host, admin.port + number, loaded, admin)


def _by_url(url: str, loaded: Loaded, admin: Admin) -> HTTPConnection:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError("--admin", "is a URL such as http://127.0.0.1:8081")
    if parts.scheme == "http":
        return HTTPConnection(host, port or 80, timeout=SECONDS)
    return HTTPSConnection(host, port or 443, timeout=SECONDS, context=_trust(loaded, admin))


def _tcp(host: str, port: int, loaded: Loaded, admin: Admin) -> HTTPConnection:
    if admin.tls is None:
        return HTTPConnection(host, port, timeout=SECONDS)
    return HTTPSConnection(host, port, timeout=SECONDS, context=_trust(loaded, admin))


def _trust(loaded: Loaded, admin: Admin) -> ssl.SSLContext:
    """The machine's authorities, and the gateway's own certificate, by whatever name it is asked here."""
    context = ssl.create_default_context()
    if admin.tls is not None:
        context.load_verify_locations(loaded.base / admin.tls.certificate)
        # It counts by itself, whoever has signed it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
    return context


class _Unix(HTTPConnection):
    """A connection through a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)
