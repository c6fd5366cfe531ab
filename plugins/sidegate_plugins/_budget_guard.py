"""The guard of budgets: holds what an attempt may cost before its provider is reached, refuses what may go over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache
from typing import TypeAlias

from sidegate.contract import NANO, NOTHING, BudgetLimit, Call, Caller, Claim, Host, Model, Rates, Standing, spent
from sidegate.errors import Refusal, SidegateError
from sidegate_plugins._budget import Budget, By, Ready, allowed, subject
from sidegate_plugins._budget_bound import bound, bounded

Find: TypeAlias = Callable[[str, str], Rates | None]
"""By provider and the provider's model: what is paid."""

Places: TypeAlias = tuple[tuple[Ready, str, str, str], ...]
"""Of one call: budget, subject, period and the first period that counts."""

MOST_BEARERS = 1024
"""Callers with budgets of their own that are remembered, for whoever administers."""

REMAINING = "x-sidegate-budget-remaining-usd"
WARNING = "x-sidegate-budget-warning"


class Budgets:
    """All budgets of a pipeline, and those that keys bring. Raises `ValueError` where one cannot work."""

    def __init__(self, budgets: Iterable[Budget], default_tokens: int, host: Host, find: Find) -> None:
        self._budgets = tuple(Ready(budget) for budget in budgets)
        names = [budget.name for budget in self._budgets]
        if len(names) != len(set(names)):
            raise ValueError("budgets: two have the same name")
        self.default_tokens = default_tokens
        self.host = host
        self.find = find
        self._allowed = lru_cache(1024)(allowed)
        self._bearers: dict[str, Caller] = {}
        """Callers whose allowance has brought budgets, by key or name."""
        self._warnings = host.metrics.counter("budget_warnings", "Calls over a soft budget.", ("budget",))
        self._refusals = host.metrics.counter("budget_refusals", "Calls refused by a hard budget.", ("budget",))
        self._overshoots = host.metrics.counter(
            "budget_overshoots", "Calls that cost more than they held.", ("budget",)
        )

    def check(self, models: Iterable[Model]) -> None:
        """Refuse a hard budget over what has no price. What a pattern stands for is seen call by call."""
        for model in models:
            hard = next((budget for budget in self._budgets if budget.hard and budget.covers(model.name)), None)
            if hard is None or model.name.endswith("*"):
                continue
            for provider, target in model.targets:
                if self.find(provider, target) is None:
                    raise ValueError(f"budgets.{hard.name}: {model.name} has no price ({provider}/{target})")

    def account(self, call: Call) -> Account | None:
        """What watches one call, where a budget covers it."""
        covering = [budget for budget in self._budgets if budget.covers(call.model)]
        caller = call.caller
        if caller.allowance is not None and caller.allowance.budgets:
            covering += self._brought(caller)
            self._remember(caller)
        if not covering:
            return None
        now = self.host.clock.now()
        places = tuple((each, who, *each.period(now)) for each in covering for who in each.subjects(call))
        return Account(self, call, places)

    def limits(self, now: datetime, caller: Caller | None) -> list[BudgetLimit]:
        """What all allow that are known here; or those of this caller."""
        if caller is not None:
            return self._of_bearer(caller, now)
        own = [budget.stands(now) for budget in self._budgets]
        return own + [limit for each in self._bearers.values() for limit in self._of_bearer(each, now)]

    def _of_bearer(self, caller: Caller, now: datetime) -> list[BudgetLimit]:
        who = subject(caller.name if caller.key_id is None else caller.key_id)
        return [budget.stands(now, who) for budget in self._brought(caller)]

    def _brought(self, caller: Caller) -> tuple[Ready, ...]:
        allowance = caller.allowance
        return () if allowance is None else self._allowed(allowance.budgets, _by(caller))

    def _remember(self, caller: Caller) -> None:
        """The last ones: there is no end of tokens."""
        name = caller.key_id or caller.name
        if name not in self._bearers and len(self._bearers) >= MOST_BEARERS:
            del self._bearers[next(iter(self._bearers))]
        self._bearers[name] = caller

    def refused(self, standing: Standing) -> Refusal:
        """What the client is told. It is final: the same call has no better luck until the period is over."""
        name = standing.claim.budget
        self._refusals.add(budget=name)
        self.host.log.write("budget_refused", _told(standing))
        refusal = Refusal(
            429,
            "insufficient_quota",
            f"The budget `{name}` has no room for what this call may cost.",
            headers={"x-should-retry": "false", REMAINING: usd(standing.remaining)},
        )
        refusal.type = "insufficient_quota"
        return refusal

    def warned(self, call: Call, standing: Standing) -> None:
        """A soft budget is used up: say so, once a call."""
        if WARNING not in call.reply_headers:
            self._warnings.add(budget=standing.claim.budget)
            self.host.log.write("budget_warning", {"call": call.id, **_told(standing)})
        used, limit = usd(standing.used), usd(standing.claim.limit)
        call.reply_headers[WARNING] = f"{standing.claim.budget}: {used} of {limit} USD"

    def overshot(self, call: Call, name: str, held: int, cost: int) -> None:
        """A call cost more than it held: its provider reported more than was bounded."""
        self._overshoots.add(budget=name)
        fields = {"call": call.id, "budget": name, "held_nano_usd": held, "cost_nano_usd": cost}
        self.host.log.write("budget_overshoot", fields)


def _by(caller: Caller) -> By:
    return "caller" if caller.key_id is None else "key"


class Account:
    """One call and its budgets."""

    def __init__(self, budgets: Budgets, call: Call, places: Places) -> None:
        self._budgets = budgets
        self._call = call
        # Fixed here: what a call costs is charged to the period it began in, retries over midnight too.
        self._places = places
        self._hard = any(place[0].hard for place in places)
        self._plugin = call.notes.frame.name if call.notes.frame is not None else None
        self._bounds: dict[int, int] = {}
        self._held = 0

    async def reserve(self, call: Call) -> None:
        """Hold what this attempt may cost, and what those before it did. `call` is the attempt's own."""
        try:
            await self._reserve(call)
        except SidegateError as error:
            error.plugin = error.plugin or self._plugin
            raise

    def closed(self, cost: int | None) -> None:
        """The call is over."""
        if cost is not None and self._bounds and cost > self._held:
            for name in dict.fromkeys(place[0].name for place in self._places):
                self._budgets.overshot(self._call, name, self._held, cost)

    async def _reserve(self, call: Call) -> None:
        amount = self._before() + self._bound(call)
        # What has begun already is spent: it is charged, and then refused.
        begun = call.asked.begun
        claims = [
            Claim(budget.name, subject, period, since, amount, budget.limit, budget.hard and not begun)
            for budget, subject, period, since in self._places
        ]
        standings = await self._budgets.host.ledger.reserve(call, claims)
        for place, standing in zip(self._places, standings, strict=True):
            if not standing.granted or (begun and place[0].hard and not standing.room):
                raise self._budgets.refused(standing)
        self._held = amount
        self._tell(standings)

    def _bound(self, call: Call) -> int:
        attempt = call.attempt
        assert attempt is not None
        rates = self._budgets.find(attempt.provider, attempt.target)
        if self._hard and not call.asked.begun:
            if rates is None:
                raise Refusal(400, "model_not_priced", f"The model `{call.model[:200]}` has no price.", param="model")
            bounded(call, self._budgets.default_tokens)
        self._bounds[attempt.number] = 0 if rates is None else bound(call, rates, self._budgets.default_tokens)
        return self._bounds[attempt.number]

    def _before(self) -> int:
        """What earlier attempts cost; what may have been, where nobody knows."""
        total = 0
        for attempt in self._call.attempts[:-1]:
            used = spent(attempt, self._call.operation)
            rates = self._budgets.find(attempt.provider, attempt.target)
            cost = 0 if used is NOTHING else rates.cost(used) if rates is not None else None
            total += self._bounds.get(attempt.number, 0) if cost is None else cost
        return total

    def _tell(self, standings: tuple[Standing, ...]) -> None:
        left = [standing.remaining for standing in standings if standing.claim.hard]
        if left:
            self._call.reply_headers[REMAINING] = usd(min(left))
        for standing in standings:
            if not standing.claim.hard and standing.used >= standing.claim.limit:
                self._budgets.warned(self._call, standing)


def usd(nano: int) -> str:
    """Exact, with nine places."""
    return f"{nano // NANO}.{nano % NANO:09d}"


def _told(standing: Standing) -> dict[str, object]:
    claim = standing.claim
    return {
        "budget": claim.budget,
        "subject": claim.subject,
        "period": claim.period,
        "limit_nano_usd": claim.limit,
        "used_nano_usd": standing.used,
        "asked_nano_usd": claim.amount,
    }
