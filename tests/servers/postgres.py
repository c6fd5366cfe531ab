"""PostgreSQL for tests: one server for all of them, an empty database for each.

It does not sync to the disk: the tests kill gateways, never this server, and what it has committed survives that.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import psycopg

from tests.servers.process import folder, found, served, spare_port, unprivileged

MISSING = "there is no PostgreSQL server here (Debian: apt-get install postgresql)"
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "autovacuum": "off",
    "log_min_messages": "warning",
}


@dataclass
class Postgres:
    """A server that runs; its databases are made with `database`."""

    port: int
    pid: int
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database, which goes with the block and whoever is connected to it."""
        name = f"test_{next(self._numbers)}"
        self._say(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield self.url(name)
        finally:
            self._say(f"DROP DATABASE {name} WITH (FORCE)")

    def _say(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A new cluster on a spare port. Raises `FileNotFoundError` where the machine has no PostgreSQL."""
    initdb, server = found("initdb"), found("postgres")
    if initdb is None or server is None:
        raise FileNotFoundError(MISSING)
    with folder("sidegate-postgres-", "postgres") as place:
        data, log = place / "data", place / "log"
        make = [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(make, check=True, capture_output=True, cwd=place, timeout=100, **unprivileged("postgres"))
        port = spare_port()
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        running = Postgres(port, 0)
        # SIGINT is its fast shutdown: connections are closed, not waited for.
        command = [server, "-D", str(data), "-p", str(port), *settings]
        with served(command, log, running.answers, signal.SIGINT, "postgres") as process:
            running.pid = process.pid
            yield running
