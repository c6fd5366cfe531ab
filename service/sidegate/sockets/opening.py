"""Opening: the handshake of a WebSocket (RFC 6455 section 4), as far as a gateway has a say in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from multidict import CIMultiDict, CIMultiDictProxy

from sidegate.cors import Origins
from sidegate.errors import BadRequest, Refusal, SidegateError
from sidegate.settings import Settings

KEY_PROTOCOLS: Final = ("openai-insecure-api-key.", "sidegate-api-key.")
"""Subprotocols that bear a key: a browser's WebSocket can send no header. OpenAI's libraries send the first."""

_LONGEST_LIST: Final = 4096


class Opening(NamedTuple):
    """What a handshake says."""

    protocols: tuple[str, ...]
    """The subprotocols that are offered, without those that bear a key."""
    headers: Mapping[str, str]
    """The request's headers, with the key where plugins look for one."""
    wrong: SidegateError | None = None
    """Why it is no handshake, or not one for that page."""


def read_opening(headers: CIMultiDictProxy[str], origins: Origins | None, *, upgrades: bool) -> Opening:
    """Read the headers of a request. `upgrades`: they are those of a handshake."""
    try:
        offered = _offered(headers)
    except SidegateError as error:
        return Opening((), headers, error)
    keys = [(name, start) for name in offered for start in KEY_PROTOCOLS if name.startswith(start)]
    rest = tuple(name for name in offered if not name.startswith(KEY_PROTOCOLS))
    known: Mapping[str, str] = headers
    wrong = _wrong(headers, origins, upgrades)
    if len(keys) > 1 or (keys and "Authorization" in headers):
        wrong = wrong or BadRequest("The request brings more than one key.", code="ambiguous_credentials")
    elif keys:
        name, start = keys[0]
        changed = CIMultiDict(headers)
        changed["Authorization"] = f"Bearer {name[len(start) :]}"
        known = CIMultiDictProxy(changed)
    return Opening(rest, known, wrong)


def allowed_origins(settings: Settings) -> Origins | None:
    """The pages that may open sockets; `None` for those of the gateway's own host alone."""
    named = settings.sockets.origins
    if not named and settings.listen.cors is not None:
        named = settings.listen.cors.origins
    return Origins(named) if named else None


def _wrong(headers: CIMultiDictProxy[str], origins: Origins | None, upgrades: bool) -> SidegateError | None:
    if not upgrades:
        return Refusal(
            426,
            "upgrade_required",
            "This is a WebSocket: send a handshake of RFC 6455, version 13.",
            headers={"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
        )
    for origin in headers.getall("Origin", ()):
        if not _own(origin, headers.get("Host", "")) and (origins is None or not origins.allow(origin)):
            return Refusal(403, "origin_not_allowed", "Pages of this origin may not open sockets here.")
    return None


def _own(origin: str, host: str) -> bool:
    """A page of the gateway's own host. Whoever is no browser can say anything here, and needs a key all the same."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and parts.netloc.lower() == host.lower()


def _offered(headers: CIMultiDictProxy[str]) -> list[str]:
    said = ",".join(headers.getall("Sec-WebSocket-Protocol", ()))
    if len(said) > _LONGEST_LIST:
        raise BadRequest("Sec-WebSocket-Protocol is too long.")
    return [name for part in said.split(",") if (name := part.strip(" \t"))]
