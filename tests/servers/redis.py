"""Redis for tests, and Valkey where the machine has it: one server of each kind for all tests, emptied for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from tests.servers.process import folder, found, served, spare_port

MISSING = "there is no redis-server here (Debian: apt-get install redis-server)"
KINDS = ("redis-server", *(["valkey-server"] if found("valkey-server") else []))
"""Redis always, so that it is missed where it is missing; Valkey, which few machines have, where it is found."""


@contextmanager
def redis_server(program: str, port: int | None = None) -> Iterator[str]:
    """A server that keeps all in memory; its URL. Raises `FileNotFoundError` where the machine has none."""
    command = found(program)
    if command is None:
        raise FileNotFoundError(MISSING)
    port = port or spare_port()
    url = f"redis://127.0.0.1:{port}/0"
    with folder("sidegate-redis-", "redis") as place:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(place)]
        with served([command, *options], place / "log", lambda: answers(url), user="redis"):
            yield url


def answers(url: str) -> bool:
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def empty(url: str) -> None:
    """Forget all that is stored, and every script."""
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        client.flushall()
        client.script_flush()
