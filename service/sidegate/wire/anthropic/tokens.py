"""How many tokens a request has: Anthropic's `count_tokens`.

Source: https://platform.claude.com/docs/en/api/messages-count-tokens. It takes what bears on the count and refuses the
rest.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from sidegate.contract.meaning import Request
from sidegate.wire.anthropic.dialect import AnthropicMessages
from sidegate.wire.anthropic.event import error_inside
from sidegate.wire.body import encode
from sidegate.wire.counting import Counts, count_of, read_object
from sidegate.wire.dialect import Fields

_COUNTED = frozenset(("model", "messages", "system", "tools", "tool_choice", "thinking"))


class AnthropicCountTokens(Counts, AnthropicMessages):
    """The `Dialect`: requests as for a message, without what only bears on its reply."""

    name = "anthropic.count_tokens"
    operation = "count_tokens"
    key = "input_tokens"
    terminator = b""
    path = "/v1/messages/count_tokens"

    def read_request(self, fields: Fields) -> Request:
        return replace(super().read_request({"max_tokens": encode(1), **fields}), max_tokens=None)

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        written = super().write_request(request, dropped)
        return {name: value for name, value in written.items() if name in _COUNTED}

    def read_count(self, raw: bytes) -> int:
        said = read_object(raw)
        if said.get("type") == "error":
            raise error_inside(raw)
        return count_of(said.get(self.key))
