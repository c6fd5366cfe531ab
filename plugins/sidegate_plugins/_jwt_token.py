"""A JSON Web Token, read strictly: RFC 7515 and 7519, with what RFC 8725 warns of refused.

Read is not believed: nothing in a `Token` counts before its signature was verified by a key of its issuer.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from typing import Any

from msgspec import Struct

MAX_BYTES = 16 * 1024
"""Of a token."""

_LONGEST_KID = 256
_TYPES = frozenset({None, "jwt", "at+jwt", "application/at+jwt", "jose"})
"""RFC 8725, 3.11: a token of another type, such as one for logging out, was made to say something else."""
_LATEST = 2**53


class TokenError(Exception):
    """The token is not believed. `reason` is a word for the log, `detail` says more; neither is for the client."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Token(Struct, frozen=True):
    """The parts of a token, read and not yet believed."""

    algorithm: str
    kid: str | None
    issuer: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def looks_like_token(text: str) -> bool:
    """Whether somebody meant it as a JWT, signed or encrypted, however broken. An API key never does."""
    parts = text.split(".")
    if len(parts) not in (3, 5) or len(text) > MAX_BYTES:
        return len(text) > MAX_BYTES
    try:
        return isinstance(_object(_decoded(parts[0])), dict)
    except TokenError:
        return False


def read_token(text: str) -> Token:
    """Take a token apart. Raises `TokenError`."""
    if len(text) > MAX_BYTES:
        raise TokenError("too_large")
    parts = text.split(".")
    if len(parts) != 3:
        raise TokenError("malformed")
    header, claims = _object(_decoded(parts[0])), _object(_decoded(parts[1]))
    algorithm, kid, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if not isinstance(algorithm, str) or not isinstance(issuer, str):
        raise TokenError("malformed")
    if kid is not None and not (isinstance(kid, str) and len(kid) <= _LONGEST_KID):
        raise TokenError("malformed")
    if "crit" in header or "b64" in header:
        # Extensions that must be understood, RFC 7515, 4.1.11. None is.
        raise TokenError("critical_header")
    kind = header.get("typ")
    if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
        raise TokenError("type")
    signed = text[: len(parts[0]) + len(parts[1]) + 1].encode()
    return Token(algorithm, kid, issuer, claims, signed, _decoded(parts[2]))


def check_claims(token: Token, audience: Collection[str], leeway: float, now: float) -> float:
    """Whether the token is for us, and for now (Unix seconds). Gives when it ends. Raises `TokenError`."""
    claims = token.claims
    said = claims.get("aud")
    if not any(isinstance(each, str) and each in audience for each in (said if isinstance(said, list) else [said])):
        raise TokenError("audience")
    if "exp" not in claims:
        raise TokenError("no_expiry")
    expires = _instant(claims["exp"]) + leeway
    if expires <= now:
        raise TokenError("expired")
    if "nbf" in claims and _instant(claims["nbf"]) - leeway > now:
        raise TokenError("not_yet_valid")
    if "iat" in claims and _instant(claims["iat"]) - leeway > now:
        raise TokenError("issued_in_future")
    return expires


def _instant(value: Any) -> float:
    """A NumericDate: `true` is none, and nothing ends in infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LATEST:
        raise TokenError("malformed")
    return float(value)


def _decoded(part: str) -> bytes:
    """base64url without padding, in its one right spelling."""
    try:
        data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise TokenError("malformed") from None
    if urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise TokenError("malformed")
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise TokenError("malformed") from None
    if not isinstance(found, dict):
        raise TokenError("malformed")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7519, 4: of a name that stands twice one reader would see the first, and another the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
