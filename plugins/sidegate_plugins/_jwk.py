"""A key of an issuer, read from what it publishes: RFC 7517, only as far as it verifies signatures."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, OctKey
from joserfc.jws import JWSRegistry
from msgspec import Raw, Struct

_MOST_KEYS = 64
_MODULUS_BITS = range(2048, 8193)
"""Of RSA: shorter is weak (NIST SP 800-131A), verifying by a longer one takes long."""
_EXPONENT_BITS = range(2, 65)


class Key:
    """A key, and what it verifies."""

    def __init__(self, kid: str | None, key: Any) -> None:
        self.kid = kid
        self._key = key

    def fits(self, algorithm: str) -> bool:
        """Whether kind, curve, use and `alg` of the key let it verify such a signature."""
        try:
            JWSRegistry.algorithms[algorithm].check_key(self._key)
        except (JoseError, AttributeError):
            return False
        return True

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """The algorithm is one of the config's, never the token's own choice."""
        try:
            return self.fits(algorithm) and JWSRegistry.algorithms[algorithm].verify(signed, signature, self._key)
        except (JoseError, ValueError):
            return False


def hmac_key(secret: str) -> Key:
    """The key of an issuer that signs by HMAC. Raises `ValueError` for what is a public key."""
    return Key(None, OctKey.import_key(secret.encode()))


class Jwk(Struct, frozen=True, omit_defaults=True):
    """The public part of a JWK, RFC 7517 and 7518; what else it says is left out: a private part, a secret."""

    kty: str
    kid: str | None = None
    use: str | None = None
    key_ops: tuple[str, ...] | None = None
    alg: str | None = None
    crv: str | None = None
    x: str | None = None
    y: str | None = None
    n: str | None = None
    e: str | None = None


class _Set(Struct):
    keys: list[Raw]


_sets = msgspec.json.Decoder(_Set)
_jwks = msgspec.json.Decoder(Jwk)


def read_keys(body: bytes, known: Mapping[Jwk, Key]) -> dict[Jwk, Key]:
    """The keys of a JWK Set that can verify signatures; those that were known stay the same objects.

    One that is not understood is left out, RFC 7517, 5. Raises `ValueError` where none is left: an issuer without keys
    is taken for one that is broken.
    """
    try:
        raws: Sequence[Raw] = _sets.decode(body).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError("its key set is none") from None
    found: dict[Jwk, Key] = {}
    for raw in raws[:_MOST_KEYS]:
        try:
            jwk = _jwks.decode(raw)
            found[jwk] = known.get(jwk) or _key(jwk)
        except Exception:  # joserfc has many ways to say no: of an unknown curve a KeyError
            continue
    if not found:
        raise ValueError("its key set has no key that can be used")
    return found


def _key(jwk: Jwk) -> Key:
    if (jwk.use or "sig") != "sig":
        raise ValueError("not for signatures")
    if jwk.kty == "RSA" and not _is_sound(jwk.n or "", jwk.e or ""):
        raise ValueError("too short, or too long")
    # By way of JSON, so that tuples are lists: joserfc wants them.
    return Key(jwk.kid, JWKRegistry.import_key(msgspec.json.decode(msgspec.json.encode(jwk))))


def _is_sound(modulus: str, exponent: str) -> bool:
    return _bits(modulus) in _MODULUS_BITS and _bits(exponent) in _EXPONENT_BITS


def _bits(number: str) -> int:
    """Of a Base64urlUInt, RFC 7518, 2; zeros in front count for nothing."""
    return int.from_bytes(urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()
