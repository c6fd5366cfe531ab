"""Masking: which values of a config are secrets, and how they are kept out of everything that is printed."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

MASK = "***"
_SECRET_NAME = re.compile(
    r"(?:^|[_\-A-Za-z])(?:keys?|secrets?|token|passwords?|passwd|digests?|sha256|authorization|cookie|credentials?)$",
    re.IGNORECASE,
)
_NO_SECRETS = frozenset({"first_token", "of_keys", "without_key"})
"""Settings whose names end like that of a secret, and hold none."""
_USER_INFORMATION = re.compile(r"(://)[^/@\s]+(?=@)")
_PASSWORD = re.compile(r"([?&](?:ssl)?password=)[^&\s]+")
_SHORTEST = 4


class Interpolated(str):
    """Text that came from the environment, wholly or in part."""

    __slots__ = ("secrets", "whole")

    whole: bool
    """It was `${NAME}` and nothing else, so it may stand for a number."""
    secrets: frozenset[str]
    """What came from variables whose names say that they are secret."""

    def __new__(cls, text: str, whole: bool, secrets: frozenset[str] = frozenset()) -> Interpolated:
        made = super().__new__(cls, text)
        made.whole = whole
        made.secrets = secrets
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Interpolated, (str(self), self.whole, self.secrets)


def is_secret_name(name: str) -> bool:
    """Whether a setting, header or variable of this name holds a secret: `api_key`, `X-Auth-Token`, `digests`."""
    return bool(_SECRET_NAME.search(name)) and name not in _NO_SECRETS


def secrets_in(value: Any, name: str = "") -> set[str]:
    """Every secret below `value`: by the name of its key, or because a secret variable went into it."""
    found: set[str] = set()
    _gather(value, is_secret_name(name), found)
    return {secret for secret in found if secret}


def _gather(value: Any, secret: bool, found: set[str]) -> None:
    if isinstance(value, str):
        if isinstance(value, Interpolated):
            found |= value.secrets
        if secret:
            found.add(str(value))
    elif isinstance(value, dict):
        for key, item in value.items():
            _gather(item, _item_is_secret(key, item, secret), found)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _gather(item, secret and not isinstance(item, dict), found)


def _item_is_secret(key: object, item: Any, inside: bool) -> bool:
    """Strings right below `keys:` are secrets too (`keys: {alice: ...}`); a mapping in it goes by its own names."""
    return is_secret_name(str(key)) or (inside and not isinstance(item, dict))


def mask(value: Any, secrets: Collection[str] = (), name: str = "") -> Any:
    """`value` fit to be shown: secrets as `***`, by the name of their key and by what they are."""
    return _masked(value, secrets, is_secret_name(name))


def _masked(value: Any, secrets: Collection[str], secret: bool) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item, secrets, _item_is_secret(key, item, secret)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item, secrets, secret and not isinstance(item, dict)) for item in value]
    if not isinstance(value, str):
        return value
    if secret or value in secrets:
        return MASK if value else value
    return scrub(str(value), secrets)


def scrub(text: str, secrets: Collection[str]) -> str:
    """`text` without the secrets in it, and without passwords in URLs. Very short ones are told from words by nothing,
    so they are left to whoever masks whole values."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    return _PASSWORD.sub(rf"\1{MASK}", _USER_INFORMATION.sub(rf"\1{MASK}", text))
