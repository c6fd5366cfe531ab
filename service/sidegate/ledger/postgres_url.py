"""The URL of a PostgreSQL ledger: read as libpq reads it, and kept out of what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidegate.errors import ConfigError
from sidegate.ledger.database import PLACE

if TYPE_CHECKING:
    from types import ModuleType

_SECRET = ("password", "sslpassword", "oauth_client_secret")
_EXPECTED = (
    "is no PostgreSQL URL: expected postgresql://host:port/database?option=value, `user:password@` before the host"
)

_DEFAULTS: dict[str, str | int] = {
    # Seconds to reach the server; milliseconds until the kernel gives up what is not acknowledged.
    "connect_timeout": 5,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "fallback_application_name": "sidegate",
}


def driver() -> ModuleType:
    """psycopg, imported when a URL first needs it. Raises `ConfigError` where it is not installed."""
    try:
        import psycopg
    except ImportError as error:
        raise ConfigError(PLACE, "PostgreSQL needs its driver: pip install 'sidegate[postgres]'") from error
    return psycopg


def parameters(url: str) -> dict[str, str | int]:
    """What to connect with; what the URL says goes before the defaults. Raises `ConfigError`, which tells no part of a
    URL that cannot be read: it may be of the password."""
    driver()
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    authority, _, rest = url.partition("://")[2].partition("/")
    if "@" in rest.partition("?")[0] or authority.count("@") > 1 or "#" in authority:
        raise ConfigError(PLACE, f"{_EXPECTED}; `@ : / ? #` in a password are written %40 %3A %2F %3F %23")
    try:
        found = conninfo_to_dict(url)
    except ProgrammingError:
        # Not as the cause, either: its text shows what could not be read.
        raise ConfigError(PLACE, _EXPECTED) from None
    if not all(port.isdigit() for port in str(found.get("port") or "0").split(",") if port):
        raise ConfigError(PLACE, _EXPECTED)
    return {**_DEFAULTS, **{name: value for name, value in found.items() if value is not None}}


def secrets_of(found: dict[str, str | int]) -> list[str]:
    """What must not be said."""
    return [str(found[name]) for name in _SECRET if found.get(name)]


def place_of(found: dict[str, str | int]) -> str:
    """The database's name and where it is, for messages: `postgresql://host:5432/sidegate`."""
    host = str(found.get("host") or found.get("hostaddr") or "localhost").replace("\n", " ")
    port = f":{found['port']}" if found.get("port") else ""
    name = str(found.get("dbname") or found.get("user") or "").replace("\n", " ")
    return f"postgresql://{host}{port}/{name}"
