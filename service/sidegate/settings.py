"""Settings: the config as types. What stands here is what a config may say; the loader reads it strictly."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Unknown keys are errors: a typo must not be a silent default."""


class Listener(Strict, frozen=True, kw_only=True):
    """Where the gateway listens."""

    host: Annotated[str, Meta(min_length=1, description="Address to bind; loopback unless others must reach it.")] = (
        "127.0.0.1"
    )
    port: Annotated[Port, Meta(description="TCP port; 0 takes a free one.")] = 8080


class Server(Strict, frozen=True, kw_only=True):
    """Bounds on what clients may do."""

    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**30, description="Largest request body.")] = 8 * 2**20
    body_timeout: Annotated[Seconds, Meta(description="Seconds a client may take to send a body.")] = 30
    keepalive_timeout: Annotated[Seconds, Meta(description="Seconds for request headers and between requests.")] = 20
    send_timeout: Annotated[Seconds, Meta(description="Seconds a reader may stand still before it is cut.")] = 60
    heartbeat: Annotated[Seconds, Meta(description="Seconds until a silent stream shows a sign of life.")] = 15
    drain: Annotated[Seconds, Meta(description="Seconds that running calls get when the gateway stops.")] = 30
    max_calls: Annotated[int, Meta(ge=1, description="Calls in flight; more are refused with 503.")] = 10_000
    plugin_timeout: Annotated[Seconds, Meta(description="Seconds of its own a plugin may take for one call.")] = 10
    max_held_bytes: Annotated[int, Meta(ge=1024, description="Bytes of one reply that plugins may hold back.")] = (
        8 * 2**20
    )


class Timeouts(Strict, frozen=True, kw_only=True):
    """How long a provider may take, by phase, in seconds."""

    connect: Seconds = 5
    first_token: Annotated[Seconds, Meta(description="From the request sent to the first token, or the body.")] = 120
    idle: Annotated[Seconds, Meta(description="Between two signs of life of a stream.")] = 60
    total: Seconds = 1800


class Provider(Strict, frozen=True, kw_only=True):
    """An upstream: what it speaks, where it is, which key it takes."""

    dialect: Annotated[Literal["openai", "anthropic", "demo"], Meta(description="What the provider speaks.")]
    base_url: Annotated[str, Meta(description="Without the dialect's own path; the vendor's if left out.")] = ""
    api_key: Annotated[str, Meta(description="The key sent to the provider; `${NAME}` or `api_key_file`.")] = ""
    api_key_file: Annotated[str, Meta(description="A file that holds the key.")] = ""
    optional: Annotated[bool, Meta(description="Leave the provider and its models out while it has no key.")] = False
    headers: Annotated[dict[str, str], Meta(description="Further request headers.")] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: Annotated[int, Meta(ge=1, description="Calls at a time; more are refused with 503.")] = 1000
    settings: Annotated[dict[str, Any], Meta(description="Of the demo provider: pace, failures.")] = field(
        default_factory=dict
    )


class Target(Strict, frozen=True, kw_only=True):
    """A provider with a model. `model` left out: the name that was asked for."""

    provider: Name
    model: str = ""


class Use(Strict, frozen=True, kw_only=True):
    """A plugin in a pipeline: an entry point, or an import path `package.module:Class`."""

    use: Annotated[str, Meta(min_length=1, description="Name of an entry point, or `module:Class`.")]
    name: Annotated[str | UnsetType, Meta(description="What logs and metrics call it; `use` if left out.")] = UNSET
    settings: dict[str, Any] = field(default_factory=dict)


class Pipeline(Strict, frozen=True, kw_only=True):
    """Plugins in order, outermost first. `attempt` is run once per try, inside them."""

    plugins: tuple[Use, ...] = ()
    attempt: tuple[Use, ...] = ()


class Route(Strict, frozen=True, kw_only=True):
    """Which calls take which pipeline. The first route that fits is taken."""

    name: Name
    pipeline: Name
    prefix: Annotated[
        str, Meta(pattern=r"^(/[A-Za-z0-9_.-]+)*$", description="Path before the API's own, such as /team-a.")
    ] = ""
    operations: Annotated[
        tuple[Literal["chat", "text_completion", "embeddings", "models", "calls"], ...],
        Meta(description="All if left out."),
    ] = ()
    on_disconnect: Literal["cancel", "drain", "continue"] = "cancel"


class Ledger(Strict, frozen=True, kw_only=True):
    """Where the record of calls is kept."""

    url: Annotated[str, Meta(description="`sqlite:///path`, or empty for none.")] = "sqlite:///{state}/sidegate.db"
    batch_seconds: Annotated[float, Meta(ge=0, le=10, description="Longest a settled row waits in memory.")] = 0.2


class Settings(Strict, frozen=True, kw_only=True):
    """The whole config."""

    listen: Listener = field(default_factory=Listener)
    admin: Annotated[Listener | None, Meta(description="Metrics, health and administration; null for none.")] = field(
        default_factory=lambda: Listener(port=8081)
    )
    state: Annotated[str, Meta(description="The directory that outlives a restart; relative to the config file.")] = (
        "var"
    )
    server: Server = field(default_factory=Server)
    ledger: Ledger = field(default_factory=Ledger)
    providers: dict[Name, Provider]
    models: Annotated[
        dict[str, Target | tuple[Target, ...]],
        Meta(description="Model names callers use, each a target or an ordered list. A name may end in `*`."),
    ]
    pipelines: dict[Name, Pipeline]
    routes: tuple[Route, ...] = ()
    plugin_prefixes: Annotated[
        tuple[str, ...] | None, Meta(description="Import paths that `use` may name; any if left out.")
    ] = None
