"""Retry: what a failed attempt calls for, when, and how often a provider may be asked again in all."""

from __future__ import annotations

from enum import Enum
from random import Random

from sidegate.contract.host import Clock
from sidegate.errors import ConnectError, PhaseTimeout, ProviderError
from sidegate.settings import Retry
from sidegate.upstream.circuit import Outcome
from sidegate.upstream.credentials import REFUSED, is_spent

SHOULD_RETRY = "x-should-retry"
"""Reply header: `false` keeps OpenAI's and Anthropic's SDKs from multiplying the gateway's retries by their own."""

_CROWDED = frozenset({429, 503, 529})
"""A provider's statuses that ask for fewer calls."""
_MINUTE = 60.0


class ProviderBusy(ProviderError):
    """As many calls as the config allows are with the provider. It was not asked, and nothing is said about it."""

    status = 503
    code = "provider_busy"
    retryable = True

    def __init__(self) -> None:
        super().__init__("The provider has too many calls.", retry_after=1)


class CircuitOpen(ProviderError):
    """Every target of the model has failed lately, and is left alone."""

    status = 503
    code = "circuit_open"
    retryable = True

    def __init__(self, wait: float) -> None:
        super().__init__("The model is unavailable: its providers failed again and again.", retry_after=wait)


class Verdict(Enum):
    """What a failed attempt calls for, while the client has seen nothing of it."""

    FAIL = 1
    """The client hears of it: another try would fail as well."""
    NEXT = 2
    """This target will not do for the call."""
    LATER = 3
    """The other targets first: this one needs time."""
    AGAIN = 4
    """The same target, after a pause."""


def judge(error: ProviderError) -> Verdict:
    """By what the provider said or did; the table is in `docs/routing.md`."""
    if isinstance(error, ProviderBusy) or error.provider_status in REFUSED or is_spent(error):
        return Verdict.NEXT
    if not error.retryable:
        return Verdict.FAIL
    if error.headers.get(SHOULD_RETRY) == "false":
        # The provider itself has said so.
        return Verdict.NEXT
    if isinstance(error, ConnectError | PhaseTimeout) or error.provider_status in _CROWDED:
        return Verdict.LATER
    return Verdict.AGAIN


def outcome(error: ProviderError) -> Outcome:
    """What the failure says about its target.

    A client's own mistake was answered well. A key that is turned away and a rate limit are no illness: the key rests,
    and a lone target that answers every second call is worth more than one that is left alone.
    """
    if isinstance(error, ProviderBusy) or error.provider_status in REFUSED or error.provider_status == 429:
        return Outcome.UNKNOWN
    return Outcome.FAILED if error.retryable else Outcome.GOOD


def pause(retry: Retry, tries: int, error: ProviderError, random: Random) -> float:
    """Seconds until the target may be asked again, `tries` having failed: full jitter, or what it asked for.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/. On top of `Retry-After` a little is
    drawn too, or all calls that wait would come back at once.
    """
    if error.retry_after is not None:
        return error.retry_after + random.uniform(0, retry.base)
    return random.uniform(0, min(retry.cap, retry.base * 2 ** (tries - 1)))


def more_telling(one: ProviderError | None, other: ProviderError) -> ProviderError:
    """Which of two failures the client should hear of: the later one, unless the earlier one helps more."""
    return other if one is None or _telling(other) >= _telling(one) else one


def _telling(error: ProviderError) -> int:
    """When to come back, then what the provider said, then that it kept silent, then that it could not be asked."""
    if error.provider_status in REFUSED or is_spent(error):
        return 0
    if isinstance(error, ProviderBusy):
        return 1
    if error.retry_after is not None:
        return 5
    if isinstance(error, ConnectError):
        return 2
    return 3 if isinstance(error, PhaseTimeout) else 4


def told(error: ProviderError, attempts: int) -> ProviderError:
    """The error as the client is to hear it: where the gateway has retried, the time of the whole call is over, or a
    key or quota is to blame that is not the client's, its SDK need not try again."""
    over = isinstance(error, PhaseTimeout) and error.phase == "total"
    if attempts > 1 or over or error.provider_status in REFUSED or is_spent(error):
        error.headers[SHOULD_RETRY] = "false"
    return error


class Budget:
    """Bounds the retries of a provider to a share of its calls and a reserve, so that they never multiply an outage.

    A token bucket: each call brings `share`, time brings `reserve` a minute, it holds at most `reserve`, and a retry
    takes 1. So in any stretch retries are at most `reserve + share * calls + reserve * minutes`. After Finagle's
    RetryBudget, https://twitter.github.io/finagle/guide/Clients.html#retries.
    """

    def __init__(self, share: float, reserve: int, clock: Clock) -> None:
        self._share = share
        self._most = float(reserve)
        self._clock = clock
        self._tokens = float(reserve)
        self._filled = clock.monotonic()

    def called(self) -> None:
        """A call has come to the provider for the first time."""
        if self._tokens < self._most:
            self._tokens = min(self._most, self._tokens + self._share)

    def left(self) -> bool:
        """Whether there is room for a retry."""
        now = self._clock.monotonic()
        if self._tokens < self._most:
            self._tokens = min(self._most, self._tokens + (now - self._filled) * self._most / _MINUTE)
        self._filled = now
        return self._tokens >= 1

    def take(self) -> bool:
        """Take one, where there is room."""
        if not self.left():
            return False
        self._tokens -= 1
        return True
