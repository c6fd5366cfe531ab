"""Who calls, by API key. The config knows digests only; whoever has no key, or a wrong or expired one, gets 401.

A key comes as `Authorization: Bearer KEY`, `x-api-key`, `x-goog-api-key` or `api-key`: what the SDKs send. Never in the
URL, where proxies would log it. Put it first but for `log`: plugins further in go by the caller it finds. Behind one
more that names callers, such as `jwt` with `pass_others`, it needs `skip_named`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from sidegate.contract import ANONYMOUS, Call, Caller, Handler, Host, Plugin, Reply
from sidegate.errors import Refusal
from sidegate_plugins._credential import header_values, named_end_user
from sidegate_plugins._keys import Key, by_digest, keep_first, key_digest, new_key, plain_digest, read_keys

__all__ = ["ApiKey", "Key", "Settings", "key_digest", "new_key"]

_LONGEST_KEY = 512
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sidegate"'}


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    keys: Annotated[tuple[Key, ...], Meta(description="The keys that are let in.")] = ()
    file: Annotated[
        str,
        Meta(description="More keys: a file with one JSON object a line, read at start; relative to the state folder."),
    ] = ""
    first_key: Annotated[bool, Meta(description="Where there is no key yet: make one at start and show it once.")] = (
        False
    )
    end_user_header: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9-]+$", description="Where a key that may do so names its end user.")
    ] = "x-end-user"
    skip_named: Annotated[
        bool, Meta(description="Let calls pass whose caller an earlier plugin named; their keys are not looked at.")
    ] = False


class ApiKey(Plugin[Settings]):
    """Sets `call.caller` and `call.end_user`, or refuses."""

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if not settings.keys and not settings.file:
            raise ValueError("neither keys nor file is set: nobody could call")
        if settings.first_key and not settings.file:
            raise ValueError("first_key needs a file to keep it in")
        self._keys = by_digest(settings.keys)

    async def start(self) -> None:
        """Read the file of keys. Raises `ValueError` where it is missing, wrong, or open to others."""
        if self.settings.file:
            path = self.host.state / self.settings.file
            found = await asyncio.to_thread(read_keys, path, self.settings.first_key)
            if self.settings.first_key and not found and not self.settings.keys:
                found = await self._first_key(path)
            self._keys = by_digest([*self.settings.keys, *found])

    async def _first_key(self, path: Path) -> list[Key]:
        secret = new_key()
        kept = await asyncio.to_thread(keep_first, path, secret)
        self.host.tell(f"API key: {secret}  (made now and shown this once; kept in {kept}, which only you can read)")
        return await asyncio.to_thread(read_keys, path, False)

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if self.settings.skip_named and call.caller is not ANONYMOUS:
            return await handler(call)
        key = self._key(_credential(call.headers))
        call.caller = Caller(
            name=key.name,
            key_id=key.id or plain_digest(key)[:12],
            team=key.team,
            tags=key.tags,
            names_end_users=key.names_end_users,
        )
        call.end_user = named_end_user(call, self.settings.end_user_header) if key.names_end_users else None
        return await handler(call)

    def _key(self, credential: str) -> Key:
        digest = key_digest(credential)
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(plain_digest(key), digest):
            raise _wrong()
        if key.expires is not None and key.expires <= self.host.clock.now():
            raise _wrong()
        return key


def _credential(headers: Mapping[str, str]) -> str:
    """The one key the request brings, whichever way. Raises `Refusal` 401."""
    found = [
        *header_values(headers, "x-api-key"),
        *header_values(headers, "x-goog-api-key"),
        *header_values(headers, "api-key"),
    ]
    for value in header_values(headers, "authorization"):
        scheme, _, rest = value.partition(" ")
        if scheme.lower() != "bearer":
            raise _wrong()
        found.append(rest.strip())
    if not found:
        raise Refusal(401, "missing_api_key", "An API key is needed: Authorization: Bearer KEY.", headers=_CHALLENGE)
    key = found[0]
    if any(other != key for other in found) or not 0 < len(key) <= _LONGEST_KEY or not key.isascii():
        raise _wrong()
    return key


def _wrong() -> Refusal:
    return Refusal(401, "invalid_api_key", "The API key is not valid.", headers=_CHALLENGE)
