"""Settings of a provider: who answers, where, under which key, and how long and how often it is asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from sidegate.contract.timeouts import Seconds, Timeouts
from sidegate.settings.strict import Strict


class Retry(Strict, frozen=True, kw_only=True):
    """How often, how soon and how much in all a provider is asked again for what it failed to answer."""

    attempts: Annotated[int, Meta(ge=1, le=10, description="Tries at one target for one call; 1 is no retry.")] = 2
    base: Annotated[Seconds, Meta(description="The first pause is drawn from 0 to this, and doubles.")] = 0.25
    cap: Annotated[Seconds, Meta(description="The longest pause that is drawn.")] = 8
    longest_wait: Annotated[
        Seconds, Meta(description="The longest `Retry-After` that is waited for; a longer one is the client's to wait.")
    ] = 10
    share: Annotated[float, Meta(ge=0, le=1, description="Retries a provider may get, as a share of its calls.")] = 0.2
    reserve: Annotated[int, Meta(ge=1, le=100_000, description="Retries beyond that share, at once and a minute.")] = 10


class Circuit(Strict, frozen=True, kw_only=True):
    """When a target that fails is left alone, and for how long."""

    window: Annotated[Seconds, Meta(description="The last seconds that are looked at.")] = 30
    min_calls: Annotated[int, Meta(ge=1, description="With fewer tries in them nothing is concluded.")] = 20
    error_rate: Annotated[float, Meta(gt=0, le=1, description="Share of failed tries that opens it.")] = 0.5
    slow_after: Annotated[
        float, Meta(ge=0, le=86_400, description="Seconds after which a stream's first token is slow; 0: none is.")
    ] = 0
    slow_rate: Annotated[float, Meta(gt=0, le=1, description="Share of slow tries that opens it.")] = 0.8
    open_seconds: Annotated[Seconds, Meta(description="How long it is left alone; doubles while probes fail.")] = 10
    longest_open: Annotated[Seconds, Meta(description="The longest that grows to.")] = 300
    probes: Annotated[int, Meta(ge=1, le=1000, description="Calls let through after that; all must succeed.")] = 1


class Provider(Strict, frozen=True, kw_only=True):
    """An upstream: what it speaks, where it is, which key it takes."""

    dialect: Annotated[
        Literal["openai", "openai_responses", "anthropic", "gemini", "demo"],
        Meta(description="What the provider speaks; a preset says it."),
    ]
    preset: Annotated[
        str, Meta(description="A host whose settings are known; what stands here besides comes first.")
    ] = ""
    base_url: Annotated[str, Meta(description="Without the dialect's own path; the vendor's if left out.")] = ""
    resource: Annotated[
        str, Meta(description="What takes the place of `{resource}` in the URL, as in the presets for Azure.")
    ] = ""
    key_header: Annotated[str, Meta(description="The header that bears the key; the dialect's if left out.")] = ""
    key_scheme: Annotated[
        str | None, Meta(description="The word before the key; if left out, `Bearer` in `Authorization`, else none.")
    ] = None
    api_version: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9._-]*$", description="Sent as `?api-version=`, as Azure wants it.")
    ] = ""
    deployment_paths: Annotated[
        bool, Meta(description="Whether one of `openai` has the model in its paths, as `/deployments/MODEL`.")
    ] = False
    responses: Annotated[
        bool | None,
        Meta(description="Whether one of `openai` serves `/responses` too; if left out, only OpenAI itself does."),
    ] = None
    max_tokens_field: Annotated[
        Literal["max_tokens", "max_completion_tokens"] | None,
        Meta(description="What one of `openai` calls the longest reply; if left out, only OpenAI itself the newer."),
    ] = None
    completions: Annotated[
        bool, Meta(description="Whether one of `openai` serves `/completions`; if not, they are asked as chats.")
    ] = True
    embeddings: Annotated[
        bool, Meta(description="Whether one of `openai` or `openai_responses` serves `/embeddings`.")
    ] = True
    stream_usage: Annotated[
        bool, Meta(description="Whether one of `openai` is asked for the usage of streams, by `stream_options`.")
    ] = True
    developer_role: Annotated[
        bool, Meta(description="Whether one of `openai` knows messages of a `developer`; if not, the system says them.")
    ] = True
    renamed_fields: Annotated[
        dict[str, str],
        Meta(description="Fields of requests that one of `openai` or `openai_responses` knows by another name."),
    ] = field(default_factory=dict)
    system: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}$", description="The vendor's name in metrics; the dialect's if left out."),
    ] = ""
    api_key: Annotated[str, Meta(description="The key sent to the provider; `${NAME}` or `api_key_file`.")] = ""
    api_key_file: Annotated[str, Meta(description="A file that holds the key.")] = ""
    api_keys: Annotated[tuple[str, ...], Meta(description="Several keys, used in turn; empty ones are left out.")] = ()
    api_keys_file: Annotated[str, Meta(description="A file of several keys, one a line.")] = ""
    key_rest: Annotated[Seconds, Meta(description="Seconds a key rests that was not accepted.")] = 300
    limited_key_rest: Annotated[
        Seconds, Meta(description="Seconds a rate-limited key rests without `Retry-After`.")
    ] = 10
    optional: Annotated[bool, Meta(description="Leave the provider and its models out while it has no key.")] = False
    headers: Annotated[dict[str, str], Meta(description="Further request headers.")] = field(default_factory=dict)
    timeouts: Annotated[Timeouts, Meta(description="How long it may take, by phase.")] = field(default_factory=Timeouts)
    retry: Annotated[Retry, Meta(description="How often it is asked again.")] = field(default_factory=Retry)
    circuit: Annotated[Circuit | None, Meta(description="Leaves a failing target alone; null for never.")] = field(
        default_factory=Circuit
    )
    max_connections: Annotated[int, Meta(ge=1, description="Calls at a time; more are refused with 503.")] = 1000
    settings: Annotated[dict[str, Any], Meta(description="Of the demo provider: pace, failures.")] = field(
        default_factory=dict
    )

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys, wherever they were written, each once."""
        return tuple(dict.fromkeys(key for key in (self.api_key, *self.api_keys) if key))
