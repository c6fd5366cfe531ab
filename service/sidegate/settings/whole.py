"""The whole config."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from sidegate.settings.conversations import Conversations
from sidegate.settings.jobs import Jobs
from sidegate.settings.listeners import Admin, CallListener
from sidegate.settings.providers import Provider
from sidegate.settings.reload import Reload
from sidegate.settings.routing import Choice, Pipeline, Route, Target, Translation
from sidegate.settings.server import Server
from sidegate.settings.sockets import Sockets
from sidegate.settings.stores import Counters, IssuedKeys, Ledger
from sidegate.settings.streams import Streams
from sidegate.settings.strict import Name, Strict


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
