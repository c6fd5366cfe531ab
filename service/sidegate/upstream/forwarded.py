"""Forwarded: which headers pass the gateway, either way. Two allow-lists; `docs/headers.md` has them as a table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from sidegate.contract.host import Clock
from sidegate.errors import ProviderError
from sidegate.upstream.headers import Headers
from sidegate.upstream.retry import SHOULD_RETRY
from sidegate.wire import limit_headers

ASKED: Final = {"openai": ("openai-beta",), "anthropic": ("anthropic-version", "anthropic-beta")}
"""Headers of a client that its provider is sent, by the vendor whose dialect both speak: what version of it, and
nothing else. Which account, project or user is asked for is the gateway's to say."""

OWN_LIMITS = "ratelimit"
"""Header of a reply by which a plugin says that the gateway has limits of its own."""

LONGEST_ID = 128
"""Characters of a provider's id of a request."""

_PREFIXES: Final = {"openai": limit_headers.OPENAI.encode(), "anthropic": limit_headers.ANTHROPIC.encode()}
_WORDS = frozenset({"true", "false"})


@cache
def _asked(dialect: str) -> tuple[str, ...]:
    return ASKED.get(dialect.partition(".")[0], ())


@cache
def _prefix(dialect: str) -> bytes | None:
    """What names of limits begin with in a head, as a provider of the dialect says them."""
    prefix = _PREFIXES.get(dialect.partition(".")[0])
    return None if prefix is None else b"\r\n" + prefix


def forwarded(dialect: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Of a client's headers, what goes on to a provider of the same dialect. One that came several times is a list."""
    found: dict[str, str] = {}
    for name in _asked(dialect):
        if name in headers:
            every = getattr(headers, "getall", None)
            found[name] = headers[name] if every is None else ", ".join(every(name))
    return found


def joined(own: Mapping[str, str], asked: Mapping[str, str]) -> dict[str, str]:
    """What the config sends, with what the client asks for: its version takes the place, its betas are some more."""
    headers = dict(asked)
    for name, value in own.items():
        lower = name.lower()
        if lower not in asked:
            headers[name] = value
        elif lower.endswith("-beta"):
            headers[lower] = f"{value}, {headers[lower]}"
    return headers


def told(
    headers: Mapping[str, str], provider: str, client: str, own: Mapping[str, str], clock: Clock
) -> dict[str, str] | None:
    """Of a good reply's headers, what its client may know: the rate limits, unless the gateway has limits of its own,
    which are then the client's. `provider` and `client` are dialects, `own` the reply's headers so far."""
    prefix = _prefix(provider)
    if prefix is None or OWN_LIMITS in own or (type(headers) is Headers and not headers.has(prefix)):
        return None
    return limit_headers.told(headers, provider, client, clock.now) or None


def request_id(headers: Mapping[str, str]) -> str | None:
    """By which the provider finds a request. For the log; clients have the gateway's own."""
    if type(headers) is Headers and not headers.has(b"request-id:"):
        return None
    found = headers.get("x-request-id") or headers.get("request-id") or headers.get("apim-request-id")
    return None if found is None else found[:LONGEST_ID]


def explain(
    error: ProviderError, headers: Mapping[str, str], provider: str, client: str, own: Mapping[str, str], clock: Clock
) -> None:
    """Of a refusal's headers, what its client may know, into the error: also the provider's word on another try."""
    word = headers.get(SHOULD_RETRY, "").strip().lower()
    if word in _WORDS:
        error.headers[SHOULD_RETRY] = word
    # The limit that has refused is the provider's.
    if error.provider_status == 429 or OWN_LIMITS not in own:
        error.headers.update(limit_headers.told(headers, provider, client, clock.now))
