"""Keys: those that `sidegate keys` and the admin API issue. What `host.keys` is to a plugin that names callers.

A plugin that looks keys up there has a boolean setting `issued`: by it, whoever issues a key is told whether a pipeline
lets an issued key in.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Annotated, Protocol, TypeAlias

from msgspec import Meta

from sidegate.contract.caller import Caller

Label: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+$",
    ),
]
"""A name of a caller, an owner, a team, or a tag: one line that acts on no terminal."""

PREFIX = "sg-"
"""How keys begin: so that logs, and scanners of repositories, know one when they see it."""


def new_key() -> str:
    """A fresh key: `sg-` and 43 URL-safe characters, 256 random bits."""
    return f"{PREFIX}{secrets.token_urlsafe(32)}"


def key_digest(key: str) -> str:
    """The SHA-256 of a key, in hex. A fast hash is enough: `new_key` has 256 random bits, which nobody can try out."""
    return sha256(key.encode()).hexdigest()


class Keys(Protocol):
    """The keys that were issued, by digest; never by the key itself."""

    async def find(self, digest: str) -> Caller | None:
        """Whose key it is, or `None`: there is none, it has expired, or it was revoked.

        A key that was used lately is found without waiting. Other digests are looked up in the store together, so that
        a flood of them costs it no more than a few requests a second. A change made by this process counts at once, by
        another one within 2 seconds. While the store does not answer, keys in memory go on for as long as the config
        says (`issued_keys.outage`).

        Raises `Refusal` 503 `key_store_unavailable` where the store is needed and does not answer.
        """
        ...


class NoKeys:
    """No key was issued: where only settings are looked at, and where there is no store."""

    async def find(self, digest: str) -> Caller | None:
        return None
