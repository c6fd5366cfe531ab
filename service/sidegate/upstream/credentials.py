"""Credentials: the keys of a provider. They are used in turn, and one that the provider turns away rests a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from sidegate.contract.host import Clock
from sidegate.errors import ProviderError
from sidegate.wire.anthropic.dialect import TRANSLATED_VERSION

REFUSED: Final = frozenset({401, 402, 403, 407})
"""A provider's statuses for a key, or an account, that it does not accept."""

_KEY_HEADERS: Final = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
"""Where those keep a key that do not in `Authorization`."""

Rested = Callable[[str], None]
"""Told why a key was put to rest: `auth`, `quota` or `rate_limit`. Never which."""


class Credential:
    """One key, as the headers it is sent in."""

    __slots__ = ("headers", "number", "until")

    def __init__(self, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        """From 0, in the order of the config."""
        self.headers = headers
        self.until = 0.0
        """Monotonic seconds until when it rests."""

    @property
    def mark(self) -> str:
        """Tells it from the other keys of its provider, by a digest of which nobody gets the key."""
        return sha256(repr(sorted(self.headers.items())).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _ignore(reason: str) -> None:
    """Nobody counts."""


class Credentials:
    """The keys of one provider. Without any there is one credential that says nothing.

    `take` gives the next that does not rest. Where all rest it gives the one that comes back first: a provider that
    turned one call away may take another (a shorter one, under a limit of tokens), and where it does not, its own
    answer tells the client more than the gateway's could.
    """

    def __init__(
        self,
        headers: Sequence[Mapping[str, str]],
        clock: Clock,
        *,
        rest: float = 300,
        limited_rest: float = 10,
        rested: Rested = _ignore,
    ) -> None:
        self.all = tuple(Credential(number, each) for number, each in enumerate(headers or [{}]))
        self._clock = clock
        self._rest = rest
        self._limited_rest = limited_rest
        self._rested = rested
        self._turn = -1
        self._quiet_until = 0.0
        """Until when at least one rests: before that, and only then, they are looked at one by one."""

    def take(self) -> Credential:
        """The key for the next attempt."""
        every = self.all
        if len(every) == 1:
            return every[0]
        now = self._clock.monotonic() if self._quiet_until else 0.0
        for _ in every:
            self._turn = (self._turn + 1) % len(every)
            credential = every[self._turn]
            if credential.until <= now:
                return credential
        return min(every, key=_until)

    def marked(self, mark: str) -> Credential:
        """The key of that mark, though it rest; the next one, where the config has it no longer."""
        return next((each for each in self.all if each.mark == mark), None) or self.take()

    def failed(self, credential: Credential, error: ProviderError) -> None:
        """The attempt with `credential` failed: it rests where the provider's answer was about the key."""
        status = error.provider_status
        if status in REFUSED:
            self._put_to_rest(credential, self._rest, "auth")
        elif is_spent(error):
            self._put_to_rest(credential, self._rest, "quota")
        elif status == 429:
            wait = self._limited_rest if error.retry_after is None else min(error.retry_after, 86_400)
            self._put_to_rest(credential, wait, "rate_limit")

    def worked(self, credential: Credential, until: float) -> None:
        """An attempt with a key that rested until `until` when it was taken went well: it need not rest."""
        if until and credential.until == until:
            credential.until = 0.0

    def rest_as(self, before: Credentials) -> None:
        """Keys that were known before a reload rest as long as they would have."""
        resting = {repr(each.headers): each.until for each in before.all if each.until}
        for credential in self.all:
            credential.until = resting.get(repr(credential.headers), 0.0)
            self._quiet_until = max(self._quiet_until, credential.until)

    def has_another(self) -> bool:
        """Whether there are several keys, and one of them does not rest."""
        return len(self.all) > 1 and not self.all_rest()

    def all_rest(self) -> bool:
        """Whether no key is free, so that another target should be tried first."""
        if not self._quiet_until:
            return False
        now = self._clock.monotonic()
        if self._quiet_until <= now:
            self._quiet_until = 0.0
            return False
        return all(credential.until > now for credential in self.all)

    def _put_to_rest(self, credential: Credential, seconds: float, reason: str) -> None:
        credential.until = max(credential.until, self._clock.monotonic() + seconds)
        self._quiet_until = max(self._quiet_until, credential.until)
        self._rested(reason)


def is_about_key(error: ProviderError) -> bool:
    """Whether another key may fare better at once."""
    return error.provider_status in REFUSED or error.provider_status == 429


def is_spent(error: ProviderError) -> bool:
    """Whether the account has nothing left: a 429 that no wait will mend, such as OpenAI's `insufficient_quota`."""
    return error.provider_status == 429 and not error.retryable


def auth_headers(dialect: str, key: str, header: str = "", scheme: str | None = None) -> dict[str, str]:
    """How a kind of provider is sent a key: in its dialect's own way, or in `header` behind the word `scheme`.

    https://platform.openai.com/docs/api-reference/authentication, https://docs.anthropic.com/en/api/versioning,
    https://ai.google.dev/gemini-api/docs/api-key
    """
    versions = {"anthropic-version": TRANSLATED_VERSION} if dialect == "anthropic" else {}
    header = header or _KEY_HEADERS.get(dialect, "Authorization")
    if not key and dialect != "anthropic":
        return versions
    if scheme is None:
        scheme = "Bearer" if header.lower() == "authorization" else ""
    return {header: f"{scheme} {key}" if scheme else key, **versions}


def _until(credential: Credential) -> float:
    return credential.until
