"""The keys of an issuer: fetched, kept, replaced in time. One fetch at a time, and nobody waits longer than for one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from sidegate.contract import Host
from sidegate.errors import ConnectError, PhaseTimeout, ProviderError, SidegateError
from sidegate_plugins._jwk import Jwk, Key, hmac_key, read_keys
from sidegate_plugins._jwt_issuer import check_url, is_loopback

RETRY_SECONDS = 5.0
"""Between a fetch that failed and the next."""
UNKNOWN_KID_SECONDS = 30.0
"""Between two fetches for a key that is not there: a stranger can make up names without end."""

_DISCOVERY = "/.well-known/openid-configuration"
_MAX_BYTES = 256 * 1024


class KeySource(Protocol):
    """Where the keys of an issuer come from."""

    look_at: float
    """Monotonic seconds from which on `ready` has to be asked before a key is used."""

    async def ready(self) -> bool:
        """Whether there are keys that may be used; waits for them where there are none, or only old ones."""
        ...

    async def seek(self) -> None:
        """A key is missing: look whether the issuer has new ones."""
        ...

    def candidates(self, kid: str | None, algorithm: str) -> list[Key]:
        """The keys a token may have been signed by."""
        ...

    def knows(self, kid: str | None) -> bool:
        """Whether there is a key of this name; nobody knows a key without one."""
        ...

    def holds(self, key: Key) -> bool:
        """Whether the key is still the issuer's."""
        ...


class SecretKey:
    """The one key of an issuer that signs by HMAC."""

    look_at = math.inf

    def __init__(self, secret: str) -> None:
        self._key = hmac_key(secret)

    async def ready(self) -> bool:
        return True

    async def seek(self) -> None:
        """There is no other."""

    def candidates(self, kid: str | None, algorithm: str) -> list[Key]:
        return [self._key]

    def knows(self, kid: str | None) -> bool:
        return True

    def holds(self, key: Key) -> bool:
        return key is self._key


class Times(Struct, frozen=True):
    """How long keys are good, in seconds."""

    ttl: float
    stale_for: float
    timeout: float


class _Document(Struct):
    issuer: str
    jwks_uri: str


_documents = msgspec.json.Decoder(_Document)


class IssuerKeys:
    """The published keys of one issuer. A call that finds them due has them fetched; an idle gateway asks nobody."""

    def __init__(self, issuer: str, jwks_url: str, host: Host, times: Times, tell: Callable[[str], None]) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._host = host
        self._times = times
        self._tell = tell
        self._found_url = ""
        self._keys: dict[Jwk, Key] = {}
        self._held: frozenset[Key] = frozenset()
        self._flight: asyncio.Task[None] | None = None
        self._expire = self._stale = self._sought = self._retry = -math.inf
        self.look_at = -math.inf
        self.problem = ""
        """Why the last fetch failed; empty where it did not."""

    async def ready(self) -> bool:
        now = self._now()
        if now >= self.look_at:
            flight = self._fetch(now)
            # Old keys with an issuer that is known to be down: calls go on, and the fetch does too.
            if flight is not None and now >= (self._stale if self.problem else self._expire):
                await asyncio.wait((flight,))
        return self._now() < self._stale

    async def seek(self) -> None:
        now = self._now()
        if self._flight is None:
            if now < self._sought + UNKNOWN_KID_SECONDS:
                return
            self._sought = now
        if (flight := self._fetch(now)) is not None:
            await asyncio.wait((flight,))

    def candidates(self, kid: str | None, algorithm: str) -> list[Key]:
        found = [key for key in self._keys.values() if (kid is None or key.kid == kid) and key.fits(algorithm)]
        # Without a name only where there is no choice.
        return found if kid is not None or len(found) == 1 else []

    def knows(self, kid: str | None) -> bool:
        return kid is not None and any(key.kid == kid for key in self._held)

    def holds(self, key: Key) -> bool:
        return key in self._held

    def go_on_from(self, before: IssuerKeys) -> None:
        """Keys that were fetched for a config before, and are not due yet, need not be fetched for this one."""
        if (before._issuer, before._jwks_url) != (self._issuer, self._jwks_url) or before.problem:
            return
        self._keys, self._held, self._found_url = before._keys, before._held, before._found_url
        self._expire = min(before._expire, self._now() + self._times.ttl)
        self._stale = self._expire + self._times.stale_for
        self.look_at = min(before.look_at, self._now() + self._times.ttl * 0.8)

    def start(self) -> asyncio.Task[None] | None:
        """Begin the first fetch, where one is due."""
        return self._fetch(self._now()) if self._now() >= self.look_at else None

    async def stop(self) -> None:
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait((self._flight,))

    # --- fetching -----------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._host.clock.monotonic()

    def _fetch(self, now: float) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one; `None` where the last has just failed."""
        if self._flight is None and now >= self._retry:
            self._flight = asyncio.get_running_loop().create_task(self._fly(), name=f"keys of {self._issuer}")
            # Until it ends nobody need look again, but those who would use keys that are too old.
            self.look_at = self._stale if self.problem else self._expire
        return self._flight

    async def _fly(self) -> None:
        try:
            async with asyncio.timeout(self._times.timeout):
                keys = await self._load()
        except Exception as error:
            self._failed(_why(error))
        else:
            self._keep(keys)
        finally:
            self._flight = None

    async def _load(self) -> dict[Jwk, Key]:
        url = self._jwks_url or self._found_url or await self._discover()
        body = await self._get(url)
        return read_keys(body, self._keys)

    async def _discover(self) -> str:
        """OpenID Connect Discovery 1.0, 4: the document says by `issuer` whose it is, or is not believed."""
        try:
            document = _documents.decode(await self._get(self._issuer.rstrip("/") + _DISCOVERY))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise ValueError("its OpenID configuration is none") from None
        if document.issuer != self._issuer:
            raise ValueError("its OpenID configuration is another issuer's")
        check_url(document.jwks_uri, "its jwks_uri", loopback=is_loopback(self._issuer))
        self._found_url = document.jwks_uri
        return document.jwks_uri

    async def _get(self, url: str) -> bytes:
        return await self._host.http.get(url, timeout=self._times.timeout, max_bytes=_MAX_BYTES)

    def _keep(self, keys: dict[Jwk, Key]) -> None:
        now = self._now()
        self._keys = keys
        self._held = frozenset(keys.values())
        self._expire = now + self._times.ttl
        self._stale = self._expire + self._times.stale_for
        self.look_at = now + self._times.ttl * 0.8
        if self.problem:
            self.problem = ""
            self._tell("")

    def _failed(self, problem: str) -> None:
        self._retry = self._now() + RETRY_SECONDS
        self.look_at = min(self._retry, self._stale)
        # The keys may have moved.
        self._found_url = ""
        self.problem = problem
        self._tell(problem)


def _why(error: Exception) -> str:
    match error:
        case PhaseTimeout() | TimeoutError():
            return "it took too long"
        case ConnectError():
            return "it cannot be reached, or its certificate is not valid"
        case ProviderError(provider_status=int(status)):
            return f"it answered with status {status}"
        case SidegateError() | ValueError():
            return str(error)
        case _:
            return type(error).__name__
