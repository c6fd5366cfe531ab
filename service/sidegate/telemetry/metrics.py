"""Metrics of the gateway, for Prometheus; names and buckets after OpenTelemetry's GenAI conventions.

Released set of semantic conventions 1.44: `gen_ai.client.operation.duration`, `.time_to_first_chunk`,
`.time_per_output_chunk` and `gen_ai.client.token.usage`. Labels are bounded: model names as the config spells them
(an unknown one is `unknown`), never a key, a caller or a path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import NamedTuple, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sidegate.contract.call import Call
from sidegate.contract.host import Counter as CounterProtocol
from sidegate.contract.reply import Attempt, Reply
from sidegate.errors import Ending
from sidegate.telemetry.tally import Count, Counts, Spread, Spreads

DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
OWN_TIME = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
STORE_TIME = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_COMPLETE = Ending.COMPLETE
_CALL = ("gen_ai_operation_name", "gen_ai_request_model", "gen_ai_provider_name")
_ERRORS = frozenset(
    {
        "connect_timeout",
        "first_token_timeout",
        "idle_timeout",
        "total_timeout",
        "provider_unreachable",
        "provider_bad_reply",
        "provider_cut",
        "provider_auth",
        "provider_overloaded",
        "provider_busy",
        "rate_limit_exceeded",
        "insufficient_quota",
    }
)


class PluginDone(NamedTuple):
    """What a plugin did: calls, seconds of its own, failures."""

    calls: int
    seconds: float
    failures: int


class Metrics:
    """One set per gateway, in a registry of its own; children of labels are looked up once and kept."""

    def __init__(self, models: Callable[[str], str]) -> None:
        self.registry = CollectorRegistry()
        self._model = models
        self._children: dict[tuple[str, ...], _Children] = {}
        self._plugins: dict[str, Spread] = {}
        own = self.registry
        self.calls = Counts("sidegate_calls", "Calls by how they ended.", (*_CALL, "ending"), own)
        self.tokens = Counts("sidegate_tokens", "Tokens, all attempts.", (*_CALL, "gen_ai_token_type"), own)
        self.cost = Counts("sidegate_cost_usd", "Cost of priced attempts.", _CALL, own)
        self.unpriced = Counts("sidegate_unpriced_attempts", "Attempts whose cost is unknown.", _CALL, own)
        self.duration = Spreads("gen_ai_client_operation_duration_seconds", "Duration of calls.", _CALL, DURATION, own)
        self.first = Spreads(
            "gen_ai_client_operation_time_to_first_chunk_seconds", "Time to the first token.", _CALL, FIRST_TOKEN, own
        )
        self.per_token = Spreads(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            "Time per output token after the first.",
            _CALL,
            PER_TOKEN,
            own,
        )
        self.in_flight = Gauge("sidegate_calls_in_flight", "Calls being processed.", registry=own)
        self.lag = Histogram(
            "sidegate_event_loop_lag_seconds", "How late the loop runs a timer.", buckets=LAG, registry=own
        )
        self._plugin = Spreads("sidegate_plugin_seconds", "A plugin's own time per call.", ("plugin",), OWN_TIME, own)
        self._failures = Counter("sidegate_plugin_failures", "Exceptions in plugins.", ("plugin",), registry=own)
        self._retried = Counter(
            "sidegate_provider_reconnects", "Requests sent again on a fresh connection.", registry=own
        )
        self._attempts = Counts(
            "sidegate_attempts", "Tries at a provider, by what went wrong.", ("provider", "error_type"), own
        )
        self._key_rests = Counter(
            "sidegate_provider_key_rests",
            "Keys put to rest, by what the provider said of them.",
            ("provider", "reason"),
            registry=own,
        )
        self._target_open = Gauge(
            "sidegate_target_open", "Targets left alone because they fail.", ("provider", "model"), registry=own
        )
        self._settled = Gauge("sidegate_ledger_waiting_rows", "Settled rows not yet durable.", registry=own)
        self._unsettled = Gauge(
            "sidegate_ledger_unsettled_calls", "Calls whose cost nobody knows, to be reconciled.", registry=own
        )
        self._store_failures, self._store_seconds = _of_store(own)

    def plugin_failed(self, plugin: str) -> None:
        self._failures.labels(plugin).inc()

    def of_plugin(self, plugin: str) -> PluginDone:
        """What it did since the start."""
        spread = self._plugin.seen(plugin)
        failures = 0
        for family in self._failures.collect():
            for sample in family.samples:
                if sample.name.endswith("_total") and sample.labels["plugin"] == plugin:
                    failures = int(sample.value)
        if spread is None:
            return PluginDone(0, 0.0, failures)
        return PluginDone(sum(spread.counts), spread.sum, failures)

    def reconnected(self) -> None:
        self._retried.inc()

    def key_rested(self, provider: str, reason: str) -> None:
        self._key_rests.labels(provider, reason).inc()

    def watch_target(self, provider: str, model: str) -> Callable[[int], None]:
        """What is told +1 when the target's circuit opens and -1 when it closes; 0 until then."""
        return self._target_open.labels(provider, model).inc

    def store_failed(self, operation: str) -> None:
        self._store_failures.labels(operation).inc()

    def store_took(self, seconds: float) -> None:
        self._store_seconds.observe(seconds)

    def watch_ledger(self, waiting: Callable[[], int], unsettled: Callable[[], int | None]) -> None:
        self._settled.set_function(waiting)
        self._unsettled.set_function(lambda: nan if (count := unsettled()) is None else count)

    def watch_jobs(self, running: Callable[[], int], queued: Callable[[], int]) -> None:
        """For a gateway that accepts jobs."""
        for name, help, count in (
            ("running", "Jobs that run in this process.", running),
            ("queued", "Jobs that wait, of all gateways.", queued),
        ):
            Gauge(f"sidegate_jobs_{name}", help, registry=self.registry).set_function(count)

    def ended(self, call: Call, reply: Reply, seconds: float) -> None:
        """Record a call that is over, its attempts priced and settled."""
        attempts = call.attempts
        system = attempts[-1].system if attempts else "none"
        children = self._for(call.operation, self._model(call.model), system)
        children.ending(reply.ending).value += 1
        children.duration.observe(seconds)
        for attempt in attempts:
            self._tried(attempt)
            _tokens_and_cost(attempt, children)
        self._pace(call, reply, seconds, children)
        plugins = self._plugins
        for name, own in call.notes.plugin_seconds.items():
            if name not in plugins:
                plugins[name] = self._plugin.child(name)
            plugins[name].observe(own)

    def _tried(self, attempt: Attempt) -> None:
        """A provider may say any code: only the gateway's own words become labels, the rest is its ending."""
        if attempt.ending is _COMPLETE:
            self._attempts.child(attempt.provider, "").value += 1
            return
        ending = attempt.ending.value if attempt.ending is not None else "failed"
        error = attempt.error if attempt.error in _ERRORS else ending
        self._attempts.child(attempt.provider, str(error)).value += 1

    def _pace(self, call: Call, reply: Reply, seconds: float, children: _Children) -> None:
        first = call.notes.first_token
        if first is None or call.delivery != "stream":
            return
        children.first.observe(first - call.started)
        output = reply.usage.output_tokens if reply.usage else None
        if output and output > 1:
            children.per_token.observe((seconds - (first - call.started)) / (output - 1))

    def _for(self, *labels: str) -> _Children:
        children = self._children.get(labels)
        if children is None:
            children = self._children[labels] = _Children(self, labels)
        return children

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> CounterProtocol:
        """A counter of a plugin's own, named `sidegate_plugin_NAME_total`; asking twice gives the same one."""
        full = f"sidegate_plugin_{name}"
        known = self.registry._names_to_collectors.get(full)
        if known is None:
            known = Counter(full, help, tuple(labels), registry=self.registry)
        elif tuple(known._labelnames) != tuple(labels):  # type: ignore[attr-defined]
            raise ValueError(f"the counter {name} has other labels until the gateway is restarted")
        return _PluginCounter(cast("Counter", known), bool(labels))


def _tokens_and_cost(attempt: Attempt, children: _Children) -> None:
    if attempt.cost is None:
        children.unpriced.value += 1
    else:
        children.cost.value += attempt.cost / 1e9
    usage = attempt.usage
    if usage is None:
        return
    for kind, amount in (
        ("input", usage.input_tokens),
        ("output", usage.output_tokens),
        ("cache_read", usage.cache_read_tokens),
        ("cache_write", usage.cache_write_tokens),
        ("reasoning", usage.reasoning_tokens),
    ):
        if amount:
            children.token(kind).value += amount


def _of_store(registry: CollectorRegistry) -> tuple[Counter, Histogram]:
    failures = Counter(
        "sidegate_counter_store_failures",
        "Checks of limits that the shared store did not answer, and outages (`connection`).",
        ("operation",),
        registry=registry,
    )
    seconds = Histogram(
        "sidegate_counter_store_seconds",
        "Round trips to the shared store of limits.",
        buckets=STORE_TIME,
        registry=registry,
    )
    return failures, seconds


class _Children:
    """The metrics of one (operation, model, provider), resolved."""

    def __init__(self, metrics: Metrics, labels: tuple[str, ...]) -> None:
        self._metrics = metrics
        self._labels = labels
        self.duration = metrics.duration.child(*labels)
        self.first = metrics.first.child(*labels)
        self.per_token = metrics.per_token.child(*labels)
        self.cost = metrics.cost.child(*labels)
        self.unpriced = metrics.unpriced.child(*labels)
        self._endings: dict[Ending, Count] = {}
        self._kinds: dict[str, Count] = {}

    def ending(self, ending: Ending) -> Count:
        if ending not in self._endings:
            self._endings[ending] = self._metrics.calls.child(*self._labels, ending.value)
        return self._endings[ending]

    def token(self, kind: str) -> Count:
        if kind not in self._kinds:
            self._kinds[kind] = self._metrics.tokens.child(*self._labels, kind)
        return self._kinds[kind]


class _PluginCounter:
    def __init__(self, counter: Counter, labelled: bool) -> None:
        self._counter = counter
        self._labelled = labelled

    def add(self, amount: float = 1, **labels: str) -> None:
        (self._counter.labels(**labels) if self._labelled else self._counter).inc(amount)
