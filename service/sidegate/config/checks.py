"""Checks: what the types of a config cannot say, because it concerns more than one place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args, get_type_hints
from urllib.parse import urlsplit

from msgspec import UNSET

from sidegate.config.deliveries import delivery_mistakes
from sidegate.config.mistakes import Mistakes, Path, nearest, render
from sidegate.config.stores import store_mistakes
from sidegate.settings import Admin, Choice, Listener, Provider, Route, Settings, Target, as_choice
from sidegate.settings.sockets import NAMED_ONLY

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A field name, RFC 9110 section 5.6.2."""
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_KEY = re.compile(r"[\x21-\x7e]*")
_SHORTEST_KEY = 16
_MODEL_NAME = re.compile(r"[\x21-\x7e]{1,256}")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_KEY_HEADERS = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
_OPENAI: Mapping[str, tuple[str, ...]] = {
    "responses": ("openai",),
    "max_tokens_field": ("openai",),
    "completions": ("openai",),
    "stream_usage": ("openai",),
    "developer_role": ("openai",),
    "deployment_paths": ("openai",),
    "embeddings": ("openai", "openai_responses"),
    "renamed_fields": ("openai", "openai_responses"),
    "api_version": ("openai", "openai_responses"),
}
"""Settings of a provider that mean nothing in other dialects."""
_OWNED_FIELDS = frozenset({"model", "messages", "input", "prompt", "contents", "stream", "stream_options"})
"""Fields of a request that the gateway reads or writes itself."""
_OWNED_HEADERS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Hop by hop (RFC 9110 section 7.6.1), or written by the gateway itself."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the file declares, also where it is wrong in itself: so that one mistake is not told twice."""

    providers: tuple[str, ...]
    pipelines: tuple[str, ...] | None
    """`None` where the file has no such block."""
    routes: tuple[int, ...]
    """The indexes of the routes that are right in themselves."""
    has_routes: bool


class Checks:
    """Looks at settings of which each part is right by itself."""

    def __init__(self, settings: Settings, declared: Declared, mistakes: Mistakes) -> None:
        self._settings = settings
        self._declared = declared
        self._mistakes = mistakes
        self.warnings: list[str] = []

    def all(self) -> None:
        self._listeners()
        self._prefixes()
        for place, problem in store_mistakes(self._settings):
            self._mistakes.add(place, problem)
        for name, provider in self._settings.providers.items():
            self._provider(("providers", name), provider)
        for name, targets in self._settings.models.items():
            self._model(name, targets)
        self._routes()

    # --- where it listens, and what it may load -----------------------------------------------------------------------

    def _listeners(self) -> None:
        listen, admin = self._settings.listen, self._settings.admin
        if admin is None:
            return
        first, last = admin.tcp or 0, (admin.tcp or 0) + self._settings.workers - 1
        if first and listen.tcp is not None and first <= listen.tcp <= last and _overlap(listen, admin):
            self._mistakes.add("admin", f"listens where `listen` does, on port {listen.tcp}")
        elif last > 65_535:
            self._mistakes.add("admin.port", f"leaves no ports for {self._settings.workers} workers")
        if listen.unix is not None and admin.unix is not None and listen.unix.path == admin.unix.path:
            self._mistakes.add("admin.unix.path", "is the path of `listen.unix`")
        self._admin(admin)

    def _admin(self, admin: Admin) -> None:
        place = "admin.key_file" if admin.key_file else "admin.key"
        if not _KEY.fullmatch(admin.key):
            self._mistakes.add(place, "a key is visible ASCII without spaces or line breaks")
        elif 0 < len(admin.key) < _SHORTEST_KEY:
            self._mistakes.add(place, f"is shorter than {_SHORTEST_KEY} characters")
        elif not admin.key and not admin.loopback and admin.without_key == "refuse":
            self._mistakes.add(
                place, f"is needed where others can reach it (admin.host: {admin.host}), or `without_key: metrics`"
            )

    def _prefixes(self) -> None:
        for index, prefix in enumerate(self._settings.plugin_prefixes or ()):
            if not _MODULE.fullmatch(prefix):
                self._mistakes.add(("plugin_prefixes", index), "expected the name of a package, such as acme.plugins")

    # --- providers ----------------------------------------------------------------------------------------------------

    def _provider(self, path: Path, provider: Provider) -> None:
        if provider.base_url and (problem := _url_problem(provider.base_url)):
            self._mistakes.add((*path, "base_url"), problem)
        self._keys(path, provider)
        self._patience(path, provider)
        self._quirks(path, provider)
        if provider.settings and provider.dialect != "demo":
            self._mistakes.add((*path, "settings"), "only the demo provider has settings")
        seen: set[str] = set()
        for name, value in provider.headers.items():
            if problem := _header_problem(name, value, provider, seen):
                self._mistakes.add((*path, "headers", name), problem)
            seen.add(name.lower())
        if provider.dialect != "demo" and not provider.keys and not provider.optional and _needs_key(provider):
            self.warnings.append(f"providers.{path[-1]}: has no api_key; calls are sent without one")

    def _quirks(self, path: Path, provider: Provider) -> None:
        """What holds only where the dialect is OpenAI's, and how a key is sent."""
        usual = Provider(dialect=provider.dialect)
        for name, dialects in _OPENAI.items():
            if provider.dialect not in dialects and getattr(provider, name) != getattr(usual, name):
                said = " or ".join(f"`{dialect}`" for dialect in dialects)
                self._mistakes.add((*path, name), f"is for those whose dialect is {said}")
        for name, other in provider.renamed_fields.items():
            if not name or not other or {name, other} & _OWNED_FIELDS:
                self._mistakes.add((*path, "renamed_fields", name), "is read or written by the gateway itself")
        if provider.key_header and (problem := _key_header_problem(provider.key_header)):
            self._mistakes.add((*path, "key_header"), problem)
        if not _KEY.fullmatch(provider.key_scheme or ""):
            self._mistakes.add((*path, "key_scheme"), "a scheme is one word of visible ASCII")

    def _keys(self, path: Path, provider: Provider) -> None:
        problem = "a key is visible ASCII without spaces or line breaks"
        if not _KEY.fullmatch(provider.api_key):
            self._mistakes.add((*path, "api_key_file" if provider.api_key_file else "api_key"), problem)
        where = "api_keys_file" if provider.api_keys_file else "api_keys"
        for index, key in enumerate(provider.api_keys):
            place = (*path, where) if provider.api_keys_file else (*path, where, index)
            if not _KEY.fullmatch(key):
                self._mistakes.add(place, problem)
            elif key and key in provider.api_keys[:index]:
                self.warnings.append(f"{render(place)}: key {index + 1} stands there twice, and is used once")

    def _patience(self, path: Path, provider: Provider) -> None:
        """How long pauses and rests grow to is no less than what they start with."""
        if provider.retry.cap < provider.retry.base:
            self._mistakes.add((*path, "retry", "cap"), "is shorter than `base`")
        circuit = provider.circuit
        if circuit is not None and circuit.longest_open < circuit.open_seconds:
            self._mistakes.add((*path, "circuit", "longest_open"), "is shorter than `open_seconds`")

    # --- models -------------------------------------------------------------------------------------------------------

    def _model(self, name: str, leads: Choice | tuple[Target, ...]) -> None:
        if not _MODEL_NAME.fullmatch(name):
            self._mistakes.add(("models", name), "a model name is visible ASCII without spaces, up to 256 characters")
        if "*" in name[:-1]:
            self._mistakes.add(("models", name), "a wildcard stands only at the end")
        choice = as_choice(leads)
        if choice.targets is UNSET:
            self._target(("models", name), choice.leads_to[0])
            if choice.strategy != "ordered":
                self._mistakes.add(("models", name, "strategy"), "needs `targets`, a list")
            return
        place: Path = ("models", name) if isinstance(leads, tuple) else ("models", name, "targets")
        for index, target in enumerate(choice.targets):
            self._target((*place, index), target)
        self._weights(place, choice)

    def _weights(self, place: Path, choice: Choice) -> None:
        weights = [target.weight for target in choice.leads_to]
        if not weights:
            self._mistakes.add(place, "the list of targets is empty")
        elif choice.strategy == "weighted" and not any(weights):
            self._mistakes.add(place, "one target at least needs a weight above 0")
        elif choice.strategy == "ordered" and set(weights) != {1}:
            self.warnings.append(f"{render(place)}: weights mean nothing without `strategy: weighted`")

    def _target(self, path: Path, target: Target) -> None:
        known = self._declared.providers
        if target.provider not in known:
            hint = nearest(target.provider, known)
            self._mistakes.add((*path, "provider"), f"no provider `{target.provider}` is declared{hint}")
        if target.model and not _MODEL_NAME.fullmatch(target.model):
            self._mistakes.add((*path, "model"), "a model name is visible ASCII without spaces, up to 256 characters")
        if "*" in target.model:
            self._mistakes.add((*path, "model"), "a target has no wildcard: leave `model` out to pass the name on")

    # --- routes -------------------------------------------------------------------------------------------------------

    def _routes(self) -> None:
        pipelines = self._declared.pipelines
        if pipelines is None:
            return
        if not pipelines:
            self._mistakes.add("pipelines", "declare at least one pipeline")
        elif not self._declared.has_routes and len(pipelines) > 1:
            self._mistakes.add("routes", f"say which of the {len(pipelines)} pipelines takes which calls")
        reached: dict[str, set[str]] = {}
        names: set[str] = set()
        for index, route in zip(self._declared.routes, self._settings.routes, strict=True):
            if route.pipeline not in pipelines and pipelines:
                hint = nearest(route.pipeline, pipelines)
                self._mistakes.add(("routes", index, "pipeline"), f"no pipeline `{route.pipeline}` is declared{hint}")
            if route.name in names:
                self._mistakes.add(("routes", index, "name"), f"another route has the name `{route.name}`")
            names.add(route.name)
            for setting, problem in delivery_mistakes(self._settings, route):
                self._mistakes.add(("routes", index, setting), problem)
            if route.default_model and not self._is_model(route.default_model):
                self._mistakes.add(("routes", index, "default_model"), f"no model is named `{route.default_model}`")
            self._reach(index, route, reached.setdefault(route.prefix, set()))

    def _is_model(self, name: str) -> bool:
        models = self._settings.models
        return name in models or any(one.endswith("*") and name.startswith(one[:-1]) for one in models)

    def _reach(self, index: int, route: Route, taken: set[str]) -> None:
        operations = set(route.operations) or _operations() - NAMED_ONLY
        if operations <= taken:
            self._mistakes.add(
                ("routes", index), f"is never reached: earlier routes take all its calls below `{route.prefix or '/'}`"
            )
        taken |= operations


def _operations() -> set[str]:
    """Every operation a route can name."""
    hints = get_type_hints(Route)
    return set(get_args(get_args(hints["operations"])[0]))


def _overlap(one: Listener, other: Listener) -> bool:
    hosts = {"127.0.0.1" if listener.host == "localhost" else listener.host for listener in (one, other)}
    return len(hosts) == 1 or bool(hosts & {"0.0.0.0", "::"})


def _url_problem(url: str) -> str | None:
    """What keeps `url` from being the base of a provider; never quotes it, for what stands in it."""
    if not _KEY.fullmatch(url) or "\\" in url:
        return "a URL is visible ASCII without spaces"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL: its host or port makes no sense"
    if parts.scheme not in ("http", "https"):
        return "expected a URL with http:// or https://"
    if "@" in parts.netloc:
        return "credentials do not belong into a URL: use api_key or headers"
    if not parts.hostname or port == 0:
        return "expected a URL with a host and a port that can be reached"
    if "?" in url or "#" in url:
        return "a base URL has no query and no fragment"
    return None


def _needs_key(provider: Provider) -> bool:
    """Whether calls without a key are likely a mistake: not to a server of one's own."""
    if not provider.preset:
        return True
    from sidegate.presets import PRESETS

    return bool(PRESETS[provider.preset].key) if provider.preset in PRESETS else False


def _key_header_problem(name: str) -> str | None:
    if not _TOKEN.fullmatch(name):
        return "is no name of a header"
    lower = name.lower()
    return "is written by the gateway" if lower in _OWNED_HEADERS and lower != "authorization" else None


def _header_problem(name: str, value: str, provider: Provider, seen: set[str]) -> str | None:
    lower = name.lower()
    if not _TOKEN.fullmatch(name):
        return "is no name of a header"
    bears_key = provider.key_header.lower() or _KEY_HEADERS.get(provider.dialect)
    if lower in _OWNED_HEADERS or lower == bears_key:
        return "is written by the gateway: it cannot be set"
    if lower in seen:
        return "stands twice, in other letters"
    if not _HEADER_VALUE.fullmatch(value):
        return "a value is printable ASCII without line breaks"
    return None
