"""Prices: what a model's tokens cost, as integers. From the price lists that the gateway knows, or from a config."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable

from msgspec import Struct
from msgspec.structs import replace

from sidegate.contract.meaning import Usage

_MILLION = 10**6


class Rates(Struct, frozen=True, omit_defaults=True):
    """A price, in nano-USD per million tokens. A kind that has no price of its own costs what it is part of."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    audio_input: int
    audio_output: int
    request: int = 0
    """Nano-USD for each call, beside its tokens."""
    above: int = 0
    """Of a tier: it counts for inputs of more tokens than this."""
    tiers: tuple[Rates, ...] = ()
    """Other rates for longer inputs, by `above`, the lowest first. A tier counts for all tokens of such a call."""
    source: str = ""
    """Where the price comes from, such as `genai-prices 0.2.3`; empty for a config's own."""
    audio_cache_read: int | None = None
    """Of sound that was cached; as `cache_read` where it has no price of its own."""
    image_input: int | None = None
    image_cache_read: int | None = None

    def applied(self, usage: Usage) -> Rates:
        """What counts for this usage, by the length of its input: the base or one tier, and no further tiers."""
        if not self.tiers:
            return self
        inputs = usage.input_tokens or 0
        for tier in reversed(self.tiers):
            if inputs > tier.above:
                return tier
        return replace(self, tiers=())

    def cost(self, usage: Usage) -> int | None:
        """Nano-USD, a half rounded up, once; `None` where the input or the output is unknown."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        rates = self.applied(usage) if self.tiers else self
        if not _told_apart(usage):
            total = usage.input_tokens * rates.input + usage.output_tokens * rates.output
            return (total + _MILLION // 2) // _MILLION + rates.request
        total = _shared(
            usage.input_tokens,
            rates.input,
            *_cached(usage, rates),
            (usage.cache_write_tokens, rates.cache_write),
            (usage.audio_input_tokens, rates.audio_input),
        ) + _shared(
            usage.output_tokens,
            rates.output,
            (usage.reasoning_tokens, rates.reasoning),
            (usage.audio_output_tokens, rates.audio_output),
        )
        return (total + _MILLION // 2) // _MILLION + rates.request


class Prices(Protocol):
    """The price lists a gateway knows. `await prices.load()` in a plugin's `start`; before that nothing is found."""

    async def load(self) -> None:
        """Have them ready. Never raises for prices that cannot be had: it is said at the start, and none is found."""
        ...

    def find(self, provider: str, model: str, at: datetime | None = None) -> Rates | None:
        """The price of a model at a time, now if left out; `None` where it is unknown. Never waits.

        `provider` is a name of the config, `model` the provider's own.
        """
        ...

    def knows(self, provider: str) -> bool:
        """Whether there is a price list of that provider at all, so that a pattern of models may be priced."""
        ...


@runtime_checkable
class Pricing(Protocol):
    """A plugin that prices calls, so that `sidegate prices` can ask it."""

    def find_rates(self, provider: str, model: str, at: datetime | None = None) -> Rates | None:
        """By what a call to this model is priced; `None` where that is unknown."""
        ...


class NoPrices:
    """Knows none."""

    async def load(self) -> None:
        """Nothing to load."""

    def find(self, provider: str, model: str, at: datetime | None = None) -> Rates | None:
        return None

    def knows(self, provider: str) -> bool:
        return False


def _told_apart(usage: Usage) -> bool:
    """Whether there are tokens of a finer kind."""
    return bool(
        usage.cache_read_tokens
        or usage.reasoning_tokens
        or usage.cache_write_tokens
        or usage.audio_input_tokens
        or usage.audio_output_tokens
        or usage.audio_cache_read_tokens
        or usage.image_input_tokens
        or usage.image_cache_read_tokens
    )


def _cached(usage: Usage, rates: Rates) -> tuple[tuple[int | None, int], ...]:
    """What was cached; and of the input the kinds that few models price apart."""
    sound, image = usage.audio_cache_read_tokens or 0, usage.image_cache_read_tokens or 0
    shown = usage.image_input_tokens or 0
    if not (sound or image or shown):
        return ((usage.cache_read_tokens, rates.cache_read),)
    return (
        (max(0, (usage.cache_read_tokens or 0) - sound - image), rates.cache_read),
        (sound, _own(rates.audio_cache_read, rates.cache_read)),
        (image, _own(rates.image_cache_read, rates.cache_read)),
        (shown, _own(rates.image_input, rates.input)),
    )


def _own(rate: int | None, whole: int) -> int:
    return whole if rate is None else rate


def _shared(tokens: int, rate: int, *kinds: tuple[int | None, int]) -> int:
    """The kinds at their own rates, the rest at the whole's; more of a kind than there are tokens is not believed."""
    total = 0
    for count, own in kinds:
        taken = min(count or 0, tokens)
        total += taken * own
        tokens -= taken
    return total + tokens * rate
