"""Words that several parts of the OpenAPI document share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidegate.http.openapi.spec import Json, parameter

CALL_ID = parameter("id", "path", "The call.", {"type": "string", "pattern": "^[0-9a-f]{32}$"})

USAGE_PARAMETERS = [
    parameter("by", "query", "What to tell apart, with commas: `model,day`.", {"type": "string", "default": "model"}),
    parameter("since", "query", "`7d`, `24h`, a date, or a date and time.", {"type": "string", "default": "7d"}),
    parameter("until", "query", "The same; not included. Now, if left out."),
    parameter("timezone", "query", "Whose days and hours.", {"type": "string", "default": "UTC"}),
    parameter(
        "where",
        "query",
        "Only such calls: `caller=ann`. As often as needed.",
        {"type": "array", "items": {"type": "string"}, "maxItems": 20},
        explode=True,
    ),
    parameter("format", "query", "How it is told.", {"type": "string", "enum": ["json"]}),
]


def operation(id: str, tag: str, summary: str, responses: Json, parameters: Sequence[Json] = (), **more: Any) -> Json:
    """An operation without a body, unless `more` brings one."""
    made: Json = {"operationId": id, "tags": [tag], "summary": summary}
    if parameters:
        made["parameters"] = list(parameters)
    return {**made, **more, "responses": dict(sorted(responses.items()))}
