"""Settings of the way of a call: models and their targets, pipelines and their plugins, routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType, field

from sidegate.contract.timeouts import TimeoutChanges
from sidegate.settings.streams import Delivery
from sidegate.settings.strict import Name, Strict

Translation: TypeAlias = Literal["lenient", "strict"]


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
