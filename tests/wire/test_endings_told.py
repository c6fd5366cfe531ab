"""How a reply ended, in the words of each dialect: what `docs/dialects/translation.md` says of it is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from sidegate.contract.meaning import End, Finish, FinishReason, RefusalText, Start, Text
from sidegate.wire.dialect import Envelope
from sidegate.wire.registry import DIALECTS

PAGE = Path(__file__).parents[2] / "docs" / "dialects" / "translation.md"
CLIENTS = ("openai.chat", "openai.responses", "anthropic.messages", "gemini.generate")
ROWS: dict[FinishReason, str] = {
    "stop": "by itself",
    "length": "at its longest",
    "tool_calls": "with calls of tools",
    "content_filter": "stopped by a filter",
    "refusal": "declined by the model",
    "error": "failed, such as `MALFORMED_FUNCTION_CALL`",
    "other": "otherwise",
}


def ended(client: str, reason: FinishReason, said: Text | RefusalText) -> Any:
    """The words of a whole reply for its end."""
    assembler = DIALECTS[client].assembler(Envelope(id="1", model="m", created=1))
    assembler.add([Start(), said, Finish(reason), End()])
    body = msgspec.json.decode(assembler.body())
    match client:
        case "openai.chat":
            return body["choices"][0]["finish_reason"]
        case "openai.responses":
            return body["status"], (body["incomplete_details"] or {}).get("reason")
        case "anthropic.messages":
            return body["stop_reason"]
        case _:
            return body["candidates"][0]["finishReason"]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("reason", get_args(FinishReason))
def test_the_table_of_endings_is_true(client: str, reason: FinishReason) -> None:
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {ROWS[reason]} |")]
    cell = row.split(" | ")[1 + CLIENTS.index(client)]
    told = ended(client, reason, Text("no"))
    words = re.findall(r"`([^`]+)`", cell)
    if client == "openai.responses" and reason == "refusal":
        assert told == ("incomplete", "content_filter")
        assert ended(client, reason, RefusalText("no")) == ("completed", None)
    elif client == "openai.responses":
        assert [word for word in told if word] == words
    else:
        assert told == (words[0] if words else None)
