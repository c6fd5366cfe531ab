"""The keys of `api_key`: what is known of each, and the file they may be kept in."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sidegate.contract import Allowance, Caller, Label, key_digest, unenforced

_DIGEST = re.compile(r"[0-9a-f]{64}")

Instant = Annotated[datetime, Meta(tz=True)]


class Key(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key, by its digest. Several may bear one name: that is how a key is replaced without a gap."""

    name: Annotated[Label, Meta(description="The caller: the name that limits, ledger and log use.")]
    digest: Annotated[str, Meta(description="`sha256:` and 64 hex digits, of the key's UTF-8 bytes.")]
    id: Annotated[str, Meta(max_length=64, description="Public name of the key; 12 digits of the digest if empty.")] = (
        ""
    )
    owner: Annotated[Label | None, Meta(description="Who answers for it, for records only.")] = None
    team: Annotated[Label | None, Meta(description="The team the caller belongs to.")] = None
    tags: Annotated[tuple[Label, ...], Meta(description="Labels for reports.")] = ()
    names_end_users: Annotated[bool, Meta(description="Believe what it says about its end user.")] = False
    expires: Annotated[Instant | None, Meta(description="No longer valid from then on.")] = None
    allowance: Annotated[Allowance | None, Meta(description="What it may use: models, limits, budgets.")] = None

    def caller(self) -> Caller:
        """Who calls with it."""
        return Caller(
            name=self.name,
            key_id=self.id or plain_digest(self)[:12],
            team=self.team,
            tags=self.tags,
            names_end_users=self.names_end_users,
            owner=self.owner,
            allowance=self.allowance,
        )


def plain_digest(key: Key) -> str:
    """The hex digits alone."""
    return key.digest.removeprefix("sha256:").lower()


def by_digest(keys: Iterable[Key]) -> dict[str, Key]:
    """For looking them up. Raises `ValueError` for a digest that is none, or stands twice."""
    found: dict[str, Key] = {}
    for key in keys:
        digest = plain_digest(key)
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"the digest of key {key.name!r} is not sha256: and 64 hex digits")
        if digest in found:
            raise ValueError(f"keys {found[digest].name!r} and {key.name!r} have the same digest")
        found[digest] = key
    return found


def check_enforced(place: str, key: Key, enforced: Iterable[str]) -> None:
    """Raises `ValueError` where a key restricts what nothing further in holds it to."""
    missing = unenforced(key.allowance, enforced)
    if missing is not None:
        raise ValueError(f"{place}: key {key.name!r} has an allowance of which nothing further in enforces {missing}")


def read_keys(path: Path, may_be_missing: bool) -> list[Key]:
    """One JSON object a line. Raises `ValueError` where the file is not there, not right, or open to others."""
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


def keep_first(path: Path, secret: str) -> Path | None:
    """Write the digest of a first key to `path`, and the key itself to `first.key` beside it, for its owner alone.

    Gives the latter; `None` where another process, started together with this one, has made its own meanwhile.
    """
    key = Key(name="first", digest=f"sha256:{key_digest(secret)}")
    plain = path.with_name("first.key")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.read().strip():
                return None
            plain.unlink(missing_ok=True)
            with open(os.open(plain, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as shown:
                shown.write(secret.encode() + b"\n")
            file.write(msgspec.json.encode(key) + b"\n")
    except OSError as error:
        raise ValueError(f"{path.parent} cannot be written: {error.strerror}") from None
    return plain


def _line(path: Path, number: int, line: bytes) -> Key:
    try:
        return msgspec.json.decode(line, type=Key)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}, line {number}: {error}") from None
