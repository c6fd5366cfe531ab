"""Settings: the config as types. What stands here is what a config may say; the loader reads it strictly."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType, field

from sidegate.contract.timeouts import Seconds, TimeoutChanges
from sidegate.conversation_settings import Conversations as Conversations
from sidegate.listener_settings import Admin as Admin
from sidegate.listener_settings import CallListener as CallListener
from sidegate.listener_settings import Listener as Listener
from sidegate.listener_settings import Tls as Tls
from sidegate.provider_settings import Circuit as Circuit
from sidegate.provider_settings import Provider as Provider
from sidegate.provider_settings import Retry as Retry
from sidegate.reload_settings import Reload as Reload
from sidegate.shared.address import check_url
from sidegate.socket_settings import Sockets as Sockets
from sidegate.stream_settings import Delivery as Delivery
from sidegate.stream_settings import Streams as Streams
from sidegate.strict import Name as Name
from sidegate.strict import Strict as Strict

Translation: TypeAlias = Literal["lenient", "strict"]
CREDENTIALS = frozenset(
    ("api-key", "authorization", "cookie", "proxy-authorization", "x-api-key", "x-goog-api-key", "x-amz-security-token")
)
"""Headers that bear them, in lower case."""


class Server(Strict, frozen=True, kw_only=True):
    """Bounds on what clients may do."""

    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**30, description="Largest request body.")] = 8 * 2**20
    body_timeout: Annotated[Seconds, Meta(description="Seconds a client may take to send a body.")] = 30
    keepalive_timeout: Annotated[Seconds, Meta(description="Seconds for request headers and between requests.")] = 20
    send_timeout: Annotated[Seconds, Meta(description="Seconds a reader may stand still before it is cut.")] = 60
    heartbeat: Annotated[Seconds, Meta(description="Seconds until a silent stream shows a sign of life.")] = 15
    drain: Annotated[Seconds, Meta(description="Seconds that running calls get when the gateway stops.")] = 30
    client_timeouts: Annotated[
        TimeoutChanges, Meta(description="The longest that a client may ask for by header; else what is configured.")
    ] = field(default_factory=TimeoutChanges)
    max_calls: Annotated[int, Meta(ge=1, description="Calls in flight; more are refused with 503.")] = 10_000
    plugin_timeout: Annotated[Seconds, Meta(description="Seconds of its own a plugin may take for one call.")] = 10
    unknown_responses: Annotated[
        Literal["refuse", "pass"],
        Meta(description="What goes on from a response or a conversation that no call of its caller has made."),
    ] = "refuse"
    server_timing: Annotated[bool, Meta(description="Tell clients by `Server-Timing` where the time went.")] = False
    max_held_bytes: Annotated[int, Meta(ge=1024, description="Bytes of one reply that plugins may hold back.")] = (
        8 * 2**20
    )


class Target(Strict, frozen=True, kw_only=True):
    """A provider with a model. `model` left out: the name that was asked for."""

    provider: Annotated[Name, Meta(description="One of `providers`.")]
    model: Annotated[str, Meta(description="The provider's own name of it; the name asked for if left out.")] = ""
    weight: Annotated[int, Meta(ge=0, le=1000, description="Its share, where targets are weighted; 0: only last.")] = 1


class Choice(Strict, frozen=True, kw_only=True):
    """Where a model name leads: to one target (`provider`, `model`), or to several (`targets`, `strategy`)."""

    provider: Annotated[Name | UnsetType, Meta(description="Of the one target.")] = UNSET
    model: Annotated[str, Meta(description="Of the one target; the name that was asked for if left out.")] = ""
    targets: Annotated[tuple[Target, ...] | UnsetType, Meta(description="Several, each as in a plain list.")] = UNSET
    strategy: Annotated[
        Literal["ordered", "weighted"], Meta(description="Tried in the order of the list, or drawn by weight.")
    ] = "ordered"
    timeouts: Annotated[TimeoutChanges | None, Meta(description="Other timeouts than the provider's.")] = None
    translation: Annotated[
        Translation | None, Meta(description="What may be lost on the way to a provider of another dialect.")
    ] = None

    def __post_init__(self) -> None:
        if self.provider is UNSET and self.targets is UNSET:
            raise ValueError("missing required field `provider` (or `targets`, a list)")
        if self.targets is not UNSET and (self.provider is not UNSET or self.model):
            raise ValueError("`targets` stands alone: `provider` and `model` belong into its items")

    @property
    def leads_to(self) -> tuple[Target, ...]:
        """Its targets, in the order of the config."""
        if self.targets is not UNSET:
            return self.targets
        assert self.provider is not UNSET
        return (Target(provider=self.provider, model=self.model),)


def as_choice(leads: Choice | tuple[Target, ...]) -> Choice:
    """A plain list is an ordered one."""
    return Choice(targets=leads) if isinstance(leads, tuple) else leads


class Use(Strict, frozen=True, kw_only=True):
    """A plugin in a pipeline: an entry point, or an import path `package.module:Class`."""

    use: Annotated[str, Meta(min_length=1, description="Name of an entry point, or `module:Class`.")]
    name: Annotated[str | UnsetType, Meta(description="What logs and metrics call it; `use` if left out.")] = UNSET
    settings: Annotated[dict[str, Any], Meta(description="The plugin's own; strictly its keys.")] = field(
        default_factory=dict
    )


class Pipeline(Strict, frozen=True, kw_only=True):
    """Plugins in order, outermost first. `attempt` is run once per try, inside them."""

    plugins: Annotated[tuple[Use, ...], Meta(description="Run once per call, outermost first.")] = ()
    attempt: Annotated[tuple[Use, ...], Meta(description="Run once per try at a provider, inside them.")] = ()


class Route(Strict, frozen=True, kw_only=True):
    """Which calls take which pipeline. The first route that fits is taken."""

    name: Annotated[Name, Meta(description="What logs, ledger and limits call it.")]
    pipeline: Annotated[Name, Meta(description="One of `pipelines`.")]
    prefix: Annotated[
        str, Meta(pattern=r"^(/[A-Za-z0-9_.-]+)*$", description="Path before the API's own, such as /team-a.")
    ] = ""
    operations: Annotated[
        tuple[
            Literal[
                "chat",
                "text_completion",
                "embeddings",
                "count_tokens",
                "models",
                "calls",
                "usage",
                "jobs",
                "responses",
                "realtime",
            ],
            ...,
        ],
        Meta(description="All but `realtime` if left out."),
    ] = ()
    on_disconnect: Annotated[
        Literal["cancel", "drain", "continue"],
        Meta(description="A call whose client left: stopped; read on for its usage, trying nothing anew; or finished."),
    ] = "cancel"
    resumable: Annotated[
        bool, Meta(description="Streams outlive their connection: their client may come back for the rest.")
    ] = False
    deliveries: Annotated[
        tuple[Delivery, ...],
        Meta(description="How chats may be delivered; others are refused. All but `socket` if left out."),
    ] = ()
    job_after: Annotated[
        float, Meta(ge=0, le=600, description="What `wait=` is where `Prefer: respond-async` says none; seconds.")
    ] = 0
    timeouts: Annotated[TimeoutChanges | None, Meta(description="Other timeouts than the model's.")] = None
    default_model: Annotated[
        str, Meta(description="What `/api/chat` and `/api/completion` are answered by where a page names no model.")
    ] = ""


class Ledger(Strict, frozen=True, kw_only=True):
    """Where the record of calls is kept."""

    url: Annotated[str, Meta(description="`sqlite:///path`, `postgresql://user@host/database`, or empty for none.")] = (
        "sqlite:///{state}/sidegate.db"
    )
    batch_seconds: Annotated[float, Meta(ge=0, le=10, description="Longest a settled row waits in memory.")] = 0.2
    on_start_failure: Annotated[
        Literal["exit", "wait"],
        Meta(description="Where PostgreSQL cannot be used at the start: end, or refuse calls until it can."),
    ] = "exit"


class IssuedKeys(Strict, frozen=True, kw_only=True):
    """How keys that are issued are known to this process; they are kept in the ledger's database."""

    refresh: Annotated[
        float, Meta(ge=0.1, le=60, description="Seconds after which what another process changed counts here, too.")
    ] = 1.0
    outage: Annotated[
        float, Meta(ge=0, le=86_400, description="Seconds that keys in use go on while the store does not answer.")
    ] = 600.0


class Counters(Strict, frozen=True, kw_only=True):
    """Where limits are counted: in this process, or in a store that all replicas share."""

    url: Annotated[
        str,
        Meta(description="`redis://`, `rediss://`, `valkey://`, `valkeys://`, `unix://`; empty: in the process."),
    ] = ""
    timeout: Annotated[float, Meta(ge=0.001, le=10, description="Seconds that the store may cost a call.")] = 0.1
    prefix: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="What keys in the store begin with, by deployment."),
    ] = "sidegate"
    lease: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds after which slots of a gateway that was killed come free.")
    ] = 30

    signal_wait: Annotated[
        float, Meta(ge=0.01, le=10, description="Seconds that the other gateways have to say whether a call is theirs.")
    ] = 0.5

    def __post_init__(self) -> None:
        if self.url:
            check_url(self.url)


class Jobs(Strict, frozen=True, kw_only=True):
    """Calls that are accepted and fetched later, by `Prefer: respond-async`; they are kept in the ledger's database."""

    concurrency: Annotated[int, Meta(ge=1, le=10_000, description="Jobs that this process runs at a time.")] = 16
    per_caller: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Jobs of one caller that run at a time, wherever.")
    ] = None
    per_model: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Jobs of one model name that run at a time, wherever.")
    ] = None
    max_queued: Annotated[int, Meta(ge=1, description="Jobs of one caller that may wait; more are refused.")] = 1000
    most_urgent: Annotated[
        int, Meta(ge=0, le=7, description="The most urgent that `Priority: u=` may ask for; 0 is the most, 3 usual.")
    ] = 0
    max_wait: Annotated[float, Meta(ge=0, le=600, description="The longest that `wait=` counts, in seconds.")] = 60
    time_to_live: Annotated[
        float, Meta(ge=1, le=30 * 86_400, description="Seconds after which one that has not ended is given up.")
    ] = 86_400
    keep: Annotated[
        float, Meta(ge=1, le=365 * 86_400, description="Seconds that what it said is kept after its end.")
    ] = 86_400
    max_kills: Annotated[
        int, Meta(ge=1, le=100, description="So often a gateway may die while it runs; then it is not tried again.")
    ] = 3
    lease: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds after which a gateway that is silent has lost its jobs.")
    ] = 5
    batch_seconds: Annotated[
        float, Meta(ge=0, le=10, description="Longest an event waits in memory before it is durable, and can be read.")
    ] = 0.1
    max_result_bytes: Annotated[int, Meta(ge=1024, le=2**30, description="Largest reply of a job, as events.")] = (
        16 * 2**20
    )
    ticket_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="Seconds that a ticket opens the events of its job.")
    ] = 300
    headers: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+$")], ...],
        Meta(description="Further request headers that plugins need when it runs; never one that bears a credential."),
    ] = ()

    def __post_init__(self) -> None:
        for name in self.headers:
            if name.lower() in CREDENTIALS:
                raise ValueError(f"`headers`: {name} bears a credential, and those are never kept")


class Settings(Strict, frozen=True, kw_only=True):
    """The whole config."""

    listen: Annotated[CallListener, Meta(description="Where clients call.")] = field(default_factory=CallListener)
    admin: Annotated[Admin | None, Meta(description="Metrics, health and administration; null for none.")] = field(
        default_factory=Admin
    )
    state: Annotated[str, Meta(description="The directory that outlives a restart; relative to the config file.")] = (
        "var"
    )
    workers: Annotated[
        int, Meta(ge=1, le=64, description="Processes that serve `listen`; each has an admin port of its own.")
    ] = 1
    server: Annotated[Server, Meta(description="Bounds on what clients may do.")] = field(default_factory=Server)
    ledger: Annotated[Ledger, Meta(description="Where the record of calls is kept.")] = field(default_factory=Ledger)
    issued_keys: Annotated[IssuedKeys, Meta(description="Keys that are issued.")] = field(default_factory=IssuedKeys)
    reload: Annotated[Reload, Meta(description="How the config is read again.")] = field(default_factory=Reload)
    counters: Annotated[Counters, Meta(description="Where limits are counted.")] = field(default_factory=Counters)
    jobs: Annotated[Jobs | None, Meta(description="Accept jobs; null for none, `{}` for all defaults.")] = None
    streams: Annotated[Streams, Meta(description="Streams of routes that are `resumable`.")] = field(
        default_factory=Streams
    )
    conversations: Annotated[
        Conversations, Meta(description="Conversations over the chat socket, where a route delivers by `socket`.")
    ] = field(default_factory=Conversations)
    sockets: Annotated[Sockets, Meta(description="WebSockets, where a route serves them.")] = field(
        default_factory=Sockets
    )
    providers: Annotated[dict[Name, Provider], Meta(description="Upstreams, by names of your choice.")]
    models: Annotated[
        dict[str, Choice | tuple[Target, ...]],
        Meta(description="Model names callers use: each a target, a list, or `targets`. A name may end in `*`."),
    ]
    translation: Annotated[
        Translation,
        Meta(description="Fields that a provider's dialect has no word for: dropped and named, or refused."),
    ] = "lenient"
    pipelines: Annotated[dict[Name, Pipeline], Meta(description="What calls pass, by names of your choice.")]
    routes: Annotated[
        tuple[Route, ...], Meta(description="Which calls take which pipeline; all the only one if left out.")
    ] = ()
    plugin_prefixes: Annotated[
        tuple[str, ...] | None, Meta(description="Import paths that `use` may name; any if left out.")
    ] = None
