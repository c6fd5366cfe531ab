"""The router: which targets of a model are asked, in which order, and how often. The core of every pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Attempt, Reply
from sidegate.contract.timeouts import Timeouts
from sidegate.errors import BadRequest, Ending, PhaseTimeout, ProviderError, SidegateError
from sidegate.gate import Gate
from sidegate.settings import Retry
from sidegate.upstream.choice import Catalogue, Chosen
from sidegate.upstream.circuit import GOOD, UNKNOWN, Circuit, Circuits, Outcome
from sidegate.upstream.credentials import Credentials, is_about_key
from sidegate.upstream.provider import DROPPED, Provider
from sidegate.upstream.retry import Budget, CircuitOpen, Verdict, judge, more_telling, outcome, pause, told
from sidegate.wire.translation import Untranslatable

Sleep = Callable[[float], Awaitable[None]]

_COMPLETE = Ending.COMPLETE


@dataclass(slots=True, eq=False, kw_only=True)
class Upstream:
    """A provider with all that calls to it share."""

    name: str
    provider: Provider
    credentials: Credentials
    retry: Retry
    budget: Budget
    timeouts: Timeouts


class _Leg:
    """A target on the way of one call."""

    __slots__ = ("circuit", "due", "model", "passed", "strict", "ticket", "timeouts", "tries", "upstream")

    def __init__(
        self, upstream: Upstream, model: str, circuit: Circuit | None, timeouts: Timeouts, strict: bool
    ) -> None:
        self.upstream = upstream
        self.model = model
        self.circuit = circuit
        self.timeouts = timeouts
        self.strict = strict
        """Nothing of the request may be left out for it."""
        self.tries = 0
        self.due = 0.0
        """Monotonic seconds before which it is not to be tried again."""
        self.passed = False
        """It was left for the end, once, because its keys rest."""
        self.ticket = 0
        """Of its circuit, while an attempt is under way."""


class _Run:
    """One call on its way through its targets."""

    __slots__ = ("asked", "attempts", "call", "error", "legs", "unsaid", "wait")

    def __init__(self, call: Call, legs: list[_Leg]) -> None:
        self.call = call
        self.legs = legs
        self.asked: list[Upstream] = []
        self.attempts = 0
        self.error: ProviderError | None = None
        self.unsaid: Untranslatable | None = None
        """What the first target that could not be asked this has no word for."""
        self.wait = float("inf")
        """Seconds until the first of the targets that are left alone may be asked."""

    def allows(self, leg: _Leg, when: float) -> bool:
        """Whether an attempt may still be begun then. `total` is of all attempts of a call together."""
        return not self.attempts or when < self.call.attempts[0].started + leg.timeouts.total

    def failure(self) -> SidegateError:
        """What the client hears when no target is left."""
        if self.unsaid is not None and self.error is None and self.wait == float("inf"):
            return self.unsaid
        return told(self.error or CircuitOpen(self.wait), self.attempts)


class Router:
    """Opens attempts until one has committed or none may be opened. Shared by all calls of a pipeline."""

    def __init__(
        self,
        catalogue: Catalogue,
        upstreams: Mapping[str, Upstream],
        circuits: Circuits,
        attempt_handler: Handler,
        clock: Clock,
        *,
        random: Random,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._catalogue = catalogue
        self.upstreams = upstreams
        self._circuits = circuits
        self._attempt_handler = attempt_handler
        self._clock = clock
        self._random = random
        self._sleep = sleep

    async def __call__(self, call: Call) -> Reply:
        run = self._run(call)
        while run.legs:
            leg = run.legs.pop(0)
            if leg.due:
                await self._wait(leg.due)
            if not self._admit(run, leg):
                continue
            attempt = self._open(call, leg)
            run.attempts += 1
            try:
                return await self._try(call, leg, attempt)
            except Untranslatable as error:
                # Its dialect has no word for what is asked: nothing was sent, and another target may have one.
                run.unsaid = run.unsaid or error
            except ProviderError as error:
                if attempt.committed or call.notes.abandoned:
                    raise
                self._weigh(run, leg, error)
                call.reply_headers.pop(DROPPED, None)
        raise run.failure()

    def _run(self, call: Call) -> _Run:
        chosen = self._catalogue.find(call)
        legs: list[_Leg] = []
        pinned = call.notes.pinned
        for target in chosen.order(self._random):
            if pinned is not None and target.provider != pinned[0]:
                continue
            model = target.model or call.model
            circuit = self._circuits.of(target.provider, model, target.model or chosen.name)
            upstream = self.upstreams[target.provider]
            legs.append(_Leg(upstream, model, circuit, _timeouts(call, upstream, chosen), chosen.strict))
        if not legs:
            raise _elsewhere(call)
        return _Run(call, legs)

    async def direct(self, call: Call, provider: str, model: str) -> Reply:
        """One attempt at this provider, wherever the call's model leads: no other has what is asked for. Its circuit
        is not heeded, and there is no other try."""
        upstream = self.upstreams[provider]
        patience = call.patience
        leg = _Leg(
            upstream, model, None, upstream.timeouts if patience is None else patience.of(upstream.timeouts), False
        )
        attempt = self._open(call, leg)
        try:
            return await self._try(call, leg, attempt)
        except ProviderError as error:
            told(error, 1)
            raise

    async def _wait(self, due: float) -> None:
        seconds = due - self._clock.monotonic()
        if seconds > 0:
            await self._sleep(seconds)

    def _admit(self, run: _Run, leg: _Leg) -> bool:
        """Whether the target may be tried now. It is not where its keys rest and another is left, where its circuit
        is open, or where its provider has had its share of retries."""
        upstream = leg.upstream
        if run.legs and not leg.passed and upstream.credentials.all_rest():
            leg.passed = True
            run.legs.append(leg)
            return False
        if run.attempts and not run.allows(leg, self._clock.monotonic()):
            return False
        again = upstream in run.asked
        if again and not upstream.budget.left():
            return False
        if leg.circuit is not None:
            leg.ticket = leg.circuit.admit()
            if not leg.ticket:
                run.wait = min(run.wait, leg.circuit.wait())
                return False
        if again:
            upstream.budget.take()
        else:
            upstream.budget.called()
            run.asked.append(upstream)
        return True

    def _weigh(self, run: _Run, leg: _Leg, error: ProviderError) -> None:
        """Put the target back on the way where it may be tried again. Raises where nothing may be."""
        run.error = more_telling(run.error, error)
        leg.tries += 1
        verdict = judge(error)
        if verdict is Verdict.FAIL:
            raise told(error, run.attempts)
        upstream = leg.upstream
        if leg.tries >= upstream.retry.attempts or not upstream.budget.left():
            return
        if is_about_key(error) and upstream.credentials.has_another():
            leg.due = 0.0
            run.legs.insert(0, leg)
        elif verdict is not Verdict.NEXT and self._schedule(run, leg, error):
            run.legs.insert(0 if verdict is Verdict.AGAIN else len(run.legs), leg)

    def _schedule(self, run: _Run, leg: _Leg, error: ProviderError) -> bool:
        """Set when the target may be tried again; false where the call cannot wait for that."""
        retry = leg.upstream.retry
        if error.retry_after is not None and error.retry_after > retry.longest_wait:
            return False
        leg.due = self._clock.monotonic() + pause(retry, leg.tries, error, self._random)
        return run.allows(leg, leg.due)

    def _open(self, call: Call, leg: _Leg) -> Attempt:
        attempt = Attempt(
            number=len(call.attempts) + 1,
            provider=leg.upstream.name,
            target=leg.model,
            system=leg.upstream.provider.system,
            started=self._clock.monotonic(),
            started_at=self._clock.now(),
            timeouts=leg.timeouts,
            strict=leg.strict,
        )
        call.attempts.append(attempt)
        return attempt

    async def _try(self, call: Call, leg: _Leg, attempt: Attempt) -> Reply:
        says = UNKNOWN
        try:
            reply = await self._attempt_handler(call.child(attempt, self._gate(call, leg, attempt)))
            attempt.ending = _COMPLETE
            says = GOOD if attempt.sent else UNKNOWN
            return reply
        except SidegateError as error:
            attempt.ending, attempt.error = error.ending, error.code
            if isinstance(error, ProviderError):
                attempt.status = error.provider_status or attempt.status
                says = _says(call, error)
            raise
        except asyncio.CancelledError:
            attempt.ending = call.notes.stop.ending if call.notes.stop is not None else Ending.CANCELLED
            raise
        finally:
            attempt.ended = self._clock.monotonic()
            attempt.ending = attempt.ending or Ending.FAILED
            if leg.circuit is not None and leg.ticket:
                leg.circuit.record(leg.ticket, _with_pace(says, call, leg.circuit, attempt))
                leg.ticket = 0

    def _gate(self, call: Call, leg: _Leg, attempt: Attempt) -> Gate:
        """A probe has proved its target when its reply begins: a long stream does not keep the others out."""
        circuit, ticket = leg.circuit, leg.ticket
        if circuit is None or not circuit.open:
            return Gate(call, attempt)

        def began() -> None:
            leg.ticket = 0
            says = GOOD if attempt.sent else UNKNOWN
            circuit.record(ticket, _with_pace(says, call, circuit, attempt))

        return Gate(call, attempt, began)


def _elsewhere(call: Call) -> BadRequest:
    message = f"The model `{call.model[:200]}` does not lead to the provider that keeps the previous response."
    return BadRequest(message, param="previous_response_id", code="previous_response_elsewhere")


def _timeouts(call: Call, upstream: Upstream, chosen: Chosen) -> Timeouts:
    """The provider's, then the model's, then the route's; the client may ask for less, or for what it is allowed."""
    configured = upstream.timeouts if chosen.timeouts is None else upstream.timeouts.changed(chosen.timeouts)
    return configured if call.patience is None else call.patience.of(configured)


def _says(call: Call, error: ProviderError) -> Outcome:
    """What the failure says of the target to all: not that one client would not wait as long as it is configured."""
    impatient = call.patience is not None and call.patience.client is not None
    return UNKNOWN if impatient and isinstance(error, PhaseTimeout) else outcome(error)


def _with_pace(says: Outcome, call: Call, circuit: Circuit, attempt: Attempt) -> Outcome:
    """A good stream whose first token came late is slow. Of a whole body the first token is not known."""
    limit = circuit.settings.slow_after
    if not limit or says is not GOOD or not call.streams or attempt.first_token is None:
        return says
    return Outcome.SLOW if attempt.first_token - attempt.started > limit else says


def answer(upstreams: Mapping[str, Upstream], call: Call) -> Awaitable[Reply]:
    """The innermost handler of an attempt: its provider."""
    assert call.attempt is not None
    return upstreams[call.attempt.provider].provider(call)
