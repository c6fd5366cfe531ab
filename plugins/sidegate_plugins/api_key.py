"""Who calls, by API key. Only digests are known here; whoever has no key, or a wrong or expired one, gets 401.

A key comes as `Authorization: Bearer KEY`, `x-api-key`, `x-goog-api-key` or `api-key`: what the SDKs send. Never in the
URL, where proxies would log it. Put it first but for `log`: plugins further in go by the caller it finds. Behind one
more that names callers, such as `jwt` with `pass_others`, it needs `skip_named`.

Keys stand in the config, in a file, or are issued while the gateway runs (`sidegate keys`), with `issued: true`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from sidegate.contract import (
    ANONYMOUS,
    Call,
    Caller,
    Handler,
    Host,
    NoKeys,
    Plugin,
    Reply,
    key_digest,
    new_key,
    require_enforced,
)
from sidegate.errors import Refusal
from sidegate_plugins._credential import header_values, named_end_user
from sidegate_plugins._keys import Key, by_digest, check_enforced, keep_first, plain_digest, read_keys

__all__ = ["ApiKey", "Key", "Settings", "key_digest", "new_key"]

_KEY_HEADERS = ("x-api-key", "x-goog-api-key", "api-key")
_LONGEST_KEY = 512
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sidegate"'}


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    keys: Annotated[tuple[Key, ...], Meta(description="The keys that are let in.")] = ()
    file: Annotated[
        str,
        Meta(description="More keys: a file with one JSON object a line, read at start; relative to the state folder."),
    ] = ""
    issued: Annotated[bool, Meta(description="Let in keys that are issued while it runs, too.")] = False
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

    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job", "socket"})
    names_callers = True

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if not settings.keys and not settings.file and not settings.issued:
            raise ValueError("neither keys nor file is set, nor issued: nobody could call")
        if settings.first_key and not settings.file:
            raise ValueError("first_key needs a file to keep it in")
        self._keys = by_digest(settings.keys)
        for index, key in enumerate(settings.keys):
            check_enforced(f"keys[{index}].allowance", key, host.enforced)
        self._callers = _callers(self._keys)

    async def start(self) -> None:
        """Read the file of keys. Raises `ValueError` where it is missing, wrong, or open to others, or nobody could
        call."""
        if self.settings.file:
            path = self.host.state / self.settings.file
            found = await asyncio.to_thread(read_keys, path, self.settings.first_key)
            if self.settings.first_key and not found and not self.settings.keys:
                found = await self._first_key(path)
            for key in found:
                check_enforced(self.settings.file, key, self.host.enforced)
            self._keys = by_digest([*self.settings.keys, *found])
            self._callers = _callers(self._keys)
        if self.settings.issued and isinstance(self.host.keys, NoKeys):
            if not self._keys:
                raise ValueError("issued needs a ledger to keep keys in (ledger.url), and there is no other key")
            self.host.tell("no keys can be issued: there is no ledger to keep them in (ledger.url)")

    async def _first_key(self, path: Path) -> list[Key]:
        secret = new_key()
        kept = await asyncio.to_thread(keep_first, path, secret)
        if kept is not None:
            told = f"API key: {secret}  (made now and shown this once; kept in {kept}, which only you can read)"
            self.host.tell(told)
        return await asyncio.to_thread(read_keys, path, False)

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if self.settings.skip_named and call.caller is not ANONYMOUS:
            return await handler(call)
        caller = call.caller = await self._caller(key_digest(_credential(call.headers)))
        if caller.allowance is not None:
            require_enforced(caller.allowance, self.host.enforced)
        call.end_user = named_end_user(call, self.settings.end_user_header) if caller.names_end_users else None
        return await handler(call)

    async def _caller(self, digest: str) -> Caller:
        key = self._keys.get(digest)
        if key is None:
            return await self._issued(digest)
        if not hmac.compare_digest(plain_digest(key), digest):
            raise _wrong()
        if key.expires is not None and key.expires <= self.host.clock.now():
            raise _wrong()
        return self._callers[digest]

    async def _issued(self, digest: str) -> Caller:
        caller = await self.host.keys.find(digest) if self.settings.issued else None
        if caller is None:
            raise _wrong()
        return caller


def _callers(keys: Mapping[str, Key]) -> dict[str, Caller]:
    """Made once: a call only looks its own up."""
    return {digest: key.caller() for digest, key in keys.items()}


def _credential(headers: Mapping[str, str]) -> str:
    """The one key the request brings, whichever way. Raises `Refusal` 401."""
    found: list[str] = []
    for name in _KEY_HEADERS:
        if name in headers:
            found += header_values(headers, name)
    for value in header_values(headers, "authorization"):
        scheme, _, rest = value.partition(" ")
        if scheme.lower() != "bearer":
            raise _wrong()
        found.append(rest.strip())
    if not found:
        raise Refusal(401, "missing_api_key", "An API key is needed: Authorization: Bearer KEY.", headers=_CHALLENGE)
    key = found[0]
    if found.count(key) < len(found) or not 0 < len(key) <= _LONGEST_KEY or not key.isascii():
        raise _wrong()
    return key


def _wrong() -> Refusal:
    return Refusal(401, "invalid_api_key", "The API key is not valid.", headers=_CHALLENGE)
