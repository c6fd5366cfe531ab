"""Address: where the shared store is, from one URL, and a client for it. Its password is never shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidegate.errors import ConfigError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}

_DATABASE = re.compile(r"/?[0-9]{0,5}")

CONNECT_SECONDS = 2.0
"""How long making a connection may take, TLS and password included. No call waits for it."""


def check_url(url: str) -> None:
    """Raises `ValueError`, without the URL in it, where it is none of a Redis or Valkey."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("not a URL") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(f'{scheme}://' for scheme in _SCHEMES)}")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("unix:// needs the path of a socket")
    if parts.scheme != "unix" and not parts.hostname:
        raise ValueError("names no host")
    if parts.scheme != "unix" and not _DATABASE.fullmatch(parts.path):
        # The driver would take database 0 for it.
        raise ValueError("the path is the number of a database, as in redis://host/2")


def shown(url: str) -> str:
    """The URL for logs: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connect(url: str) -> Redis:
    """A client that tries once, and waits for ever for an answer: bound it by `asyncio.timeout`.

    With a timeout of its own redis-py 8.1 sends by `asyncio.wait_for`, which on Python 3.11 loses a cancellation that
    comes when all is sent: a task that was stopped in that moment would run on. It also costs a task each time.

    Nothing is opened yet. Raises `ConfigError` where the driver is not installed or the URL has an option it does not
    know. What it raises later may quote the server: tell nobody's client.
    """
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
    except ImportError:
        raise ConfigError("counters.url", "needs `pip install 'sidegate[redis]'`") from None
    scheme, _, rest = url.partition("://")
    try:
        client: Redis = Redis.from_url(
            f"{_SCHEMES[scheme]}://{rest}",
            socket_timeout=None,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            protocol=2,
        )
        # Options are looked at only when a connection is made; this one is never opened.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        return client
    except (ValueError, TypeError, RedisError):
        raise ConfigError("counters.url", "has an option that the driver does not know") from None
