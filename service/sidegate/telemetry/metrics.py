"""Metrics of the gateway, for Prometheus; names and buckets after OpenTelemetry's GenAI conventions.

Released set of semantic conventions 1.44: `gen_ai.client.operation.duration`, `.time_to_first_chunk`,
`.time_per_output_chunk` and `gen_ai.client.token.usage`. Labels are bounded: model names as the config spells them
(an unknown one is `unknown`), never a key, a caller or a path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sidegate.contract.call import Call
from sidegate.contract.host import Counter as CounterProtocol
from sidegate.contract.reply import Attempt, Reply

DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
OWN_TIME = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
STORE_TIME = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_CALL = ("gen_ai_operation_name", "gen_ai_request_model", "gen_ai_provider_name")
_KINDS = (
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("cache_read", "cache_read_tokens"),
    ("cache_write", "cache_write_tokens"),
    ("reasoning", "reasoning_tokens"),
)

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


class Metrics:
    """One set per gateway, in a registry of its own; children of labels are looked up once and kept."""

    def __init__(self, models: Callable[[str], str]) -> None:
        self.registry = CollectorRegistry()
        self._model = models
        self._children: dict[tuple[str, ...], _Children] = {}
        own = self.registry
        self._calls = Counter("sidegate_calls", "Calls by how they ended.", (*_CALL, "ending"), registry=own)
        self._tokens = Counter("sidegate_tokens", "Tokens, all attempts.", (*_CALL, "gen_ai_token_type"), registry=own)
        self._cost = Counter("sidegate_cost_usd", "Cost of priced attempts.", _CALL, registry=own)
        self._unpriced = Counter("sidegate_unpriced_attempts", "Attempts whose cost is unknown.", _CALL, registry=own)
        self._duration = Histogram(
            "gen_ai_client_operation_duration_seconds", "Duration of calls.", _CALL, buckets=DURATION, registry=own
        )
        self._first = Histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "Time to the first token.",
            _CALL,
            buckets=FIRST_TOKEN,
            registry=own,
        )
        self._per_token = Histogram(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            "Time per output token after the first.",
            _CALL,
            buckets=PER_TOKEN,
            registry=own,
        )
        self.in_flight = Gauge("sidegate_calls_in_flight", "Calls being processed.", registry=own)
        self.lag = Histogram(
            "sidegate_event_loop_lag_seconds", "How late the loop runs a timer.", buckets=LAG, registry=own
        )
        self._plugin = Histogram(
            "sidegate_plugin_seconds", "A plugin's own time per call.", ("plugin",), buckets=OWN_TIME, registry=own
        )
        self._failures = Counter("sidegate_plugin_failures", "Exceptions in plugins.", ("plugin",), registry=own)
        self._retried = Counter(
            "sidegate_provider_reconnects", "Requests sent again on a fresh connection.", registry=own
        )
        self._attempts = Counter(
            "sidegate_attempts", "Tries at a provider, by what went wrong.", ("provider", "error_type"), registry=own
        )
        self._tries: dict[tuple[str, str], Counter] = {}
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
        self._store_failures, self._store_seconds = _of_store(own)
        self._plugins: dict[str, Histogram] = {}

    def plugin_failed(self, plugin: str) -> None:
        self._failures.labels(plugin).inc()

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

    def watch_ledger(self, waiting: Callable[[], int]) -> None:
        self._settled.set_function(waiting)

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
        children.ending(reply.ending.value).inc()
        children.duration.observe(seconds)
        for attempt in attempts:
            self._tried(attempt)
        self._tokens_and_cost(call, children)
        self._pace(call, reply, seconds, children)
        for name, own in call.notes.plugin_seconds.items():
            histogram = self._plugins.get(name)
            if histogram is None:
                histogram = self._plugins[name] = self._plugin.labels(name)
            histogram.observe(own)

    def _tried(self, attempt: Attempt) -> None:
        """A provider may say any code: only the gateway's own words become labels, the rest is its ending."""
        ending = attempt.ending.value if attempt.ending is not None else "failed"
        error = attempt.error if attempt.error in _ERRORS else ending
        key = (attempt.provider, "" if ending == "complete" else str(error))
        counter = self._tries.get(key)
        if counter is None:
            counter = self._tries[key] = self._attempts.labels(*key)
        counter.inc()

    def _tokens_and_cost(self, call: Call, children: _Children) -> None:
        for attempt in call.attempts:
            if attempt.cost is None:
                children.unpriced.inc()
            else:
                children.cost.inc(attempt.cost / 1e9)
            if attempt.usage is None:
                continue
            for kind, field in _KINDS:
                if amount := getattr(attempt.usage, field):
                    children.token(kind).inc(amount)

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
        return _PluginCounter(cast("Counter", known), bool(labels))

    def child(self, which: str, labels: tuple[str, ...]) -> Counter | Histogram:
        """The child of one of the metrics by call, for these labels."""
        metric: Counter | Histogram = getattr(self, which)
        return metric.labels(*labels)


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
        self.duration = cast("Histogram", metrics.child("_duration", labels))
        self.first = cast("Histogram", metrics.child("_first", labels))
        self.per_token = cast("Histogram", metrics.child("_per_token", labels))
        self.cost = cast("Counter", metrics.child("_cost", labels))
        self.unpriced = cast("Counter", metrics.child("_unpriced", labels))
        self._endings: dict[str, Counter] = {}
        self._kinds: dict[str, Counter] = {}

    def ending(self, ending: str) -> Counter:
        if ending not in self._endings:
            self._endings[ending] = cast("Counter", self._metrics.child("_calls", (*self._labels, ending)))
        return self._endings[ending]

    def token(self, kind: str) -> Counter:
        if kind not in self._kinds:
            self._kinds[kind] = cast("Counter", self._metrics.child("_tokens", (*self._labels, kind)))
        return self._kinds[kind]


class _PluginCounter:
    def __init__(self, counter: Counter, labelled: bool) -> None:
        self._counter = counter
        self._labelled = labelled

    def add(self, amount: float = 1, **labels: str) -> None:
        (self._counter.labels(**labels) if self._labelled else self._counter).inc(amount)
