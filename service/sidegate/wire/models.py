"""Model lists, in each vendor's shape.

Sources: platform.openai.com/docs/api-reference/models, platform.claude.com/docs/en/api/models-list,
ai.google.dev/api/models.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

_METHODS = ("generateContent", "countTokens", "embedContent")
"""What may be asked of a model; which of them it serves is known to its provider alone."""


def write_list(dialect: str, names: Sequence[str], created: int) -> bytes:
    """All models a caller may see. `created` is Unix seconds."""
    models = [_model(dialect, name, created) for name in names]
    if dialect.startswith("anthropic."):
        first, last = (names[0], names[-1]) if names else (None, None)
        return msgspec.json.encode({"data": models, "has_more": False, "first_id": first, "last_id": last})
    if dialect.startswith("gemini."):
        return msgspec.json.encode({"models": models})
    return msgspec.json.encode({"object": "list", "data": models})


def write_one(dialect: str, name: str, created: int) -> bytes:
    return msgspec.json.encode(_model(dialect, name, created))


def _model(dialect: str, name: str, created: int) -> dict[str, Any]:
    if dialect.startswith("anthropic."):
        made = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"type": "model", "id": name, "display_name": name, "created_at": made}
    if dialect.startswith("gemini."):
        return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": _METHODS}
    return {"id": name, "object": "model", "created": created, "owned_by": "sidegate"}
