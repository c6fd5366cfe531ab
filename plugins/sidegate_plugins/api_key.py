"""Who calls, by API key. The config knows digests only; whoever has no key, or a wrong or expired one, gets 401.

A key comes as `Authorization: Bearer KEY`, `x-api-key`, `x-goog-api-key` or `api-key`: what the SDKs send. Never in the
URL, where proxies would log it. Put it first but for `log`: plugins further in go by the caller it finds.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sidegate.contract import Call, Caller, Handler, Host, Plugin, Reply
from sidegate.errors import BadRequest, Refusal

_LONGEST_KEY = 512
_LONGEST_USER = 256
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sidegate"'}

Label = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Instant = Annotated[datetime, Meta(tz=True)]


class Key(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key, by its digest. Several may bear one name: that is how a key is replaced without a gap."""

    name: Annotated[Label, Meta(description="The caller: the name that limits, ledger and log use.")]
    digest: Annotated[str, Meta(description="`sha256:` and 64 hex digits, of the key's UTF-8 bytes.")]
    id: Annotated[str, Meta(max_length=64, description="Public name of the key; 12 digits of the digest if empty.")] = (
        ""
    )
    team: Annotated[Label | None, Meta(description="The team the caller belongs to.")] = None
    tags: Annotated[tuple[Label, ...], Meta(description="Labels for reports.")] = ()
    names_end_users: Annotated[bool, Meta(description="Believe what it says about its end user.")] = False
    expires: Annotated[Instant | None, Meta(description="No longer valid from then on.")] = None


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


class ApiKey(Plugin[Settings]):
    """Sets `call.caller` and `call.end_user`, or refuses."""

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if not settings.keys and not settings.file:
            raise ValueError("neither keys nor file is set: nobody could call")
        if settings.first_key and not settings.file:
            raise ValueError("first_key needs a file to keep it in")
        self._keys = _by_digest(settings.keys)

    async def start(self) -> None:
        """Read the file of keys. Raises `ValueError` where it is missing, wrong, or open to others."""
        if self.settings.file:
            path = self.host.state / self.settings.file
            found = await asyncio.to_thread(_read, path, self.settings.first_key)
            if self.settings.first_key and not found and not self.settings.keys:
                found = [await self._first_key(path)]
            self._keys = _by_digest([*self.settings.keys, *found])

    async def _first_key(self, path: Path) -> Key:
        secret = new_key()
        key = Key(name="first", digest=f"sha256:{key_digest(secret)}")
        await asyncio.to_thread(_append, path, key)
        self.host.tell(f"API key: {secret}  (made now, not shown again; its digest is in {path})")
        return key

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        key = self._key(_credential(call.headers))
        call.caller = Caller(
            name=key.name,
            key_id=key.id or _digest(key)[:12],
            team=key.team,
            tags=key.tags,
            names_end_users=key.names_end_users,
        )
        call.end_user = self._end_user(call) if key.names_end_users else None
        return await handler(call)

    def _key(self, credential: str) -> Key:
        digest = key_digest(credential)
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(_digest(key), digest):
            raise _wrong()
        if key.expires is not None and key.expires <= self.host.clock.now():
            raise _wrong()
        return key

    def _end_user(self, call: Call) -> str | None:
        name = call.headers.get(self.settings.end_user_header)
        if not name and call.operation in ("chat", "text_completion", "embeddings"):
            name = call.request.user
        if not name:
            return None
        if len(name) > _LONGEST_USER or not name.isprintable():
            raise BadRequest("The end user's name must be at most 256 printable characters.", code="invalid_end_user")
        return name


def key_digest(key: str) -> str:
    """The SHA-256 of a key, in hex. A fast hash is enough: `new_key` has 256 random bits, which nobody can try out."""
    return sha256(key.encode()).hexdigest()


def new_key() -> str:
    """A fresh key: `sg-` and 43 URL-safe characters."""
    return f"sg-{secrets.token_urlsafe(32)}"


def _credential(headers: Mapping[str, str]) -> str:
    """The one key the request brings, whichever way. Raises `Refusal` 401."""
    found = [*_values(headers, "x-api-key"), *_values(headers, "x-goog-api-key"), *_values(headers, "api-key")]
    for value in _values(headers, "authorization"):
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


def _values(headers: Mapping[str, str], name: str) -> Iterable[str]:
    getall = getattr(headers, "getall", None)
    if getall is not None:
        return [str(value) for value in getall(name, ())]
    return [headers[name]] if name in headers else []


def _wrong() -> Refusal:
    return Refusal(401, "invalid_api_key", "The API key is not valid.", headers=_CHALLENGE)


def _digest(key: Key) -> str:
    return key.digest.removeprefix("sha256:").lower()


def _by_digest(keys: Iterable[Key]) -> dict[str, Key]:
    found: dict[str, Key] = {}
    for key in keys:
        digest = _digest(key)
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"the digest of key {key.name!r} is not sha256: and 64 hex digits")
        if digest in found:
            raise ValueError(f"keys {found[digest].name!r} and {key.name!r} have the same digest")
        found[digest] = key
    return found


def _read(path: Path, may_be_missing: bool) -> list[Key]:
    if may_be_missing and not path.exists():
        return []
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ValueError(f"{path} is open to others than its owner: chmod 600 it")
            lines = file.read().splitlines()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return [_line(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _append(path: Path, key: Key) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as file:
            file.write(msgspec.json.encode(key) + b"\n")
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None


def _line(path: Path, number: int, line: bytes) -> Key:
    try:
        return msgspec.json.decode(line, type=Key)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}, line {number}: {error}") from None
