"""What each call costs, exactly: integer nano-USD, told to the client and written to the ledger. Unknown is never 0.

Prices come from the lists that the gateway knows; yours, in USD per million tokens, go before them. Put it outside
whatever may answer in the provider's place or ask it twice (a cache, a repair), so that every attempt is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, ClassVar, TypeAlias

import msgspec
from msgspec import Meta, Struct

from sidegate.contract import (
    NANO,
    Attempt,
    BudgetLimit,
    Call,
    Caller,
    Chunk,
    Enforced,
    Handler,
    Host,
    Plugin,
    Rates,
    Reply,
    billed,
)
from sidegate_plugins._budget import Budget
from sidegate_plugins._budget_guard import Budgets

_SAID_ALOUD = frozenset(("realtime_response", "realtime_transcription"))
"""Of a session: their events pass as they are, and nothing is told between."""
_PRICED = frozenset(("chat", "text_completion", "embeddings")) | _SAID_ALOUD
_FETCHED = frozenset(("get_response", "cancel_response"))
"""What they bring has a price, though they have none themselves: it is charged to the call that made it."""
_MOST_USD = 100_000
_RECORD = msgspec.json.Encoder()

Amount: TypeAlias = Annotated[str | int | float, Meta(description="USD per million tokens; a string is a decimal.")]


class Price(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model's tokens cost. A kind left out costs what it is part of: the input, or the output."""

    input: Amount
    output: Amount = 0
    cache_read: Amount | None = None
    cache_write: Amount | None = None
    reasoning: Amount | None = None
    audio_input: Amount | None = None
    audio_output: Amount | None = None
    audio_cache_read: Amount | None = None
    image_input: Amount | None = None
    image_cache_read: Amount | None = None


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    prices: Annotated[
        dict[str, Price],
        Meta(description="By the provider's model name, or `provider/model`; a name may end in `*`. The longest wins."),
    ] = msgspec.field(default_factory=dict)
    headers: Annotated[bool, Meta(description="Tell tokens and cost in the headers of a buffered reply.")] = True
    comment: Annotated[bool, Meta(description="Tell them in a comment before the end of a stream.")] = True
    budgets: Annotated[tuple[Budget, ...], Meta(description="What may be spent, by whom, in which time.")] = ()
    default_max_tokens: Annotated[
        int, Meta(ge=1, le=10**6, description="Set under a hard budget, where a client does not limit its reply.")
    ] = 4096


class Cost(Plugin[Settings]):
    """Prices every attempt of a call, and tells the sum."""

    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job", "socket"})
    accounts: ClassVar[bool] = True
    enforces: ClassVar[frozenset[Enforced]] = frozenset({"budgets"})

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        priced = {name: _priced(name, price) for name, price in settings.prices.items()}
        self._exact = {name: rates for name, rates in priced.items() if not name.endswith("*")}
        patterns = [(name[:-1], rates) for name, rates in priced.items() if name.endswith("*")]
        self._patterns = sorted(patterns, key=lambda pattern: -len(pattern[0]))
        self._own = lru_cache(maxsize=1024)(self._find)
        self._record = lru_cache(maxsize=1024)(_recorded)
        self._budgets = Budgets(settings.budgets, settings.default_max_tokens, host, self.find_rates)

    async def start(self) -> None:
        """Read the price lists, where the config names a model that it has no price for, and say what stays unknown."""
        unpriced = [
            (model, *target) for model in self.host.models for target in model.targets if self._own(*target) is None
        ]
        if unpriced:
            await self.host.prices.load()
        for model, provider, target in unpriced:
            if not self._listed_at_start(provider, target):
                self.host.log.write("price_unknown", {"model": model.name, "provider": provider, "target": target})
                self.host.tell(f"model {model.name}: price unknown ({provider}/{target})")
        self._budgets.check(self.host.models)

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.operation in _FETCHED or call.operation == "realtime":
            call.notes.price = self.price
        if call.operation not in _PRICED:
            return await handler(call)
        call.notes.price = self.price
        account = self._budgets.account(call)
        if account is None:
            return await self._told(call, handler)
        call.notes.reserve = account.reserve
        try:
            return await self._told(call, handler)
        finally:
            account.closed(self._spent(call)[0])

    def budgets(self, now: datetime, caller: Caller | None = None) -> Sequence[BudgetLimit]:
        return self._budgets.limits(now, caller)

    async def _told(self, call: Call, handler: Handler) -> Reply:
        if call.operation in _SAID_ALOUD:
            return await handler(call)
        if call.streams:
            if self.settings.comment:
                call.at_end(lambda _: (Chunk.comment(self._comment(call)),))
            return await handler(call)
        try:
            return await handler(call)
        finally:
            # Also where the call failed: what was spent was spent.
            if self.settings.headers:
                call.reply_headers.update(self._headers(call))

    def price(self, attempt: Attempt) -> int | None:
        """Nano-USD of an attempt by its `usage`. The core settles by it; notes the rates in the attempt's tags."""
        rates = self._rates(attempt)
        if rates is None or attempt.usage is None:
            return None
        attempt.tags["rates"] = self._record(rates.applied(attempt.usage))
        return rates.cost(attempt.usage)

    def find_rates(self, provider: str, model: str, at: datetime | None = None) -> Rates | None:
        """The config's price, else that of the price lists."""
        return self._own(provider, model) or self.host.prices.find(provider, model, at)

    def _rates(self, attempt: Attempt) -> Rates | None:
        names = (attempt.target, attempt.model)
        for name in names:
            if name and (own := self._own(attempt.provider, name)) is not None:
                return own
        for name in names:
            if name and (listed := self.host.prices.find(attempt.provider, name, attempt.started_at)) is not None:
                return listed
        return None

    def _listed_at_start(self, provider: str, target: str) -> bool:
        """A pattern is, where there is a price list of the provider: each name is looked up when it is called."""
        prices = self.host.prices
        return prices.knows(provider) if target.endswith("*") else prices.find(provider, target) is not None

    def _find(self, provider: str, model: str) -> Rates | None:
        own = f"{provider}/"
        for name in (own + model, model):
            if (exact := self._exact.get(name)) is not None:
                return exact
        for prefix, rates in self._patterns:
            # `gpt*` is about models, not about a provider called gpt.
            if model.startswith(prefix) or (prefix.startswith(own) and (own + model).startswith(prefix)):
                return rates
        return None

    def _spent(self, call: Call) -> tuple[int | None, int | None, int | None]:
        """Cost, input and output so far, of all attempts: what the ledger will say."""
        if len(call.attempts) == 1:
            usage, cost = billed(call, call.attempts[0])
            return cost, usage.input_tokens, usage.output_tokens
        bills = [billed(call, attempt) for attempt in call.attempts]
        return (
            _sum([cost for _, cost in bills]),
            _sum([usage.input_tokens for usage, _ in bills]),
            _sum([usage.output_tokens for usage, _ in bills]),
        )

    def _headers(self, call: Call) -> Mapping[str, str]:
        cost, inputs, outputs = self._spent(call)
        return {
            "x-sidegate-cost-usd": _usd(cost),
            "x-sidegate-cost-nano-usd": _said(cost),
            "x-sidegate-input-tokens": _said(inputs),
            "x-sidegate-output-tokens": _said(outputs),
        }

    def _comment(self, call: Call) -> str:
        cost, inputs, outputs = self._spent(call)
        return f"sidegate cost_usd={_usd(cost)} input_tokens={_said(inputs)} output_tokens={_said(outputs)}"


def _recorded(rates: Rates) -> str:
    """What the ledger keeps of a price. There are few, so that each is written once and not for every call."""
    return _RECORD.encode(rates).decode()


def _priced(name: str, price: Price) -> Rates:
    amounts = {kind: _nano(name, kind, getattr(price, kind)) for kind in price.__struct_fields__}
    inputs, outputs = amounts["input"] or 0, amounts["output"] or 0

    def of(kind: str, whole: int) -> int:
        amount = amounts[kind]
        return whole if amount is None else amount

    return Rates(
        inputs,
        outputs,
        of("cache_read", inputs),
        of("cache_write", inputs),
        of("reasoning", outputs),
        of("audio_input", inputs),
        of("audio_output", outputs),
        audio_cache_read=amounts["audio_cache_read"],
        image_input=amounts["image_input"],
        image_cache_read=amounts["image_cache_read"],
    )


def _nano(name: str, kind: str, amount: str | int | float | None) -> int | None:
    """Exact or refused: a float counts as the decimal it is written as."""
    if amount is None:
        return None
    try:
        nano = Decimal(str(amount)) * NANO
    except InvalidOperation as error:
        raise ValueError(f"prices.{name}.{kind}: not a number") from error
    if not nano.is_finite() or nano < 0 or nano > _MOST_USD * NANO:
        raise ValueError(f"prices.{name}.{kind}: must be from 0 to {_MOST_USD:,} USD per million tokens")
    if nano != nano.to_integral_value():
        raise ValueError(f"prices.{name}.{kind}: finer than 0.000000001 USD per million tokens")
    return int(nano)


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _usd(nano: int | None) -> str:
    return "unknown" if nano is None else f"{nano // NANO}.{str(nano % NANO).zfill(9)}"


def _said(value: int | None) -> str:
    return "unknown" if value is None else str(value)
