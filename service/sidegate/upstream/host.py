"""Host: where a provider differs from the vendor of its dialect, as data of its settings; most of it from a preset.

Azure's paths: https://learn.microsoft.com/azure/foundry/openai/reference
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec
from msgspec import Raw

from sidegate.errors import BadRequest
from sidegate.wire.body import UNREADABLE, encode

if TYPE_CHECKING:
    from sidegate.settings import Provider
    from sidegate.wire.dialect import Dialect, Fields

_DEPLOYED: Final = frozenset({"openai.chat", "openai.completions", "openai.embeddings"})
"""Those whose classic paths on Azure name the deployment; Responses have it in the body alone."""

_MESSAGES: Final = msgspec.json.Decoder(list[dict[str, Raw]])
_DEVELOPER: Final = b'"developer"'
_SYSTEM: Final = encode("system")
_NOTHING: Final = Raw(b"")

_SYSTEMS: Final = {"openai_responses": "openai", "gemini": "gcp.gemini"}
"""OpenTelemetry's names of vendors, where they are not those of their dialects."""


class Host:
    """The ways of one host: where requests go, and what becomes of their fields."""

    def __init__(self, settings: Provider) -> None:
        self.system: str = settings.system or _SYSTEMS.get(settings.dialect, settings.dialect)
        """OpenTelemetry's name of the vendor."""
        self._base = settings.base_url.rstrip("/")
        self._query = f"?api-version={settings.api_version}" if settings.api_version else ""
        self._deployments = settings.deployment_paths
        self._renamed = tuple(settings.renamed_fields.items())
        self._is_asked = settings.stream_usage
        self._knows_developers = settings.developer_role
        self._takes_all = self._is_asked and self._knows_developers and not self._renamed

    def url(self, dialect: Dialect, model: str, stream: bool) -> str:
        """Raises `BadRequest` for a model that no path can hold."""
        path = dialect.locate(model, stream) if dialect.in_path else dialect.path
        if self._deployments and dialect.name in _DEPLOYED:
            if not model.strip("."):
                raise BadRequest("This is no name of a deployment.", param="model", code="model_not_found")
            path = f"/deployments/{quote(model, safe='')}{path}"
        return self._base + path + self._query

    def at(self, path: str, query: str = "") -> str:
        """The URL of a path below the base, with what is asked of it."""
        own = self._query
        return self._base + path + own + (("&" if own else "?") + query if query else "")

    def fit(self, fields: Fields) -> Fields:
        """A request with the fields that the host knows. One that stands there by the other name already stays."""
        if self._takes_all:
            return fields
        fitting = dict(fields)
        if not self._is_asked:
            fitting.pop("stream_options", None)
        for name, other in self._renamed:
            if name in fitting and other not in fitting:
                fitting[other] = fitting.pop(name)
        if not self._knows_developers and _DEVELOPER in bytes(said := fitting.get("messages", _NOTHING)):
            fitting["messages"] = _of_the_system(said)
        return fitting


def _of_the_system(messages: Raw) -> Raw:
    """Messages of which those of a developer are the system's: the older word for the same."""
    try:
        turns = _MESSAGES.decode(messages)
    except UNREADABLE:
        return messages  # is told by whoever reads it
    for turn in turns:
        if bytes(turn.get("role", _NOTHING)) == _DEVELOPER:
            turn["role"] = _SYSTEM
    return encode(turns)
