"""The text and calls of `scripts` as providers of Responses and of Gemini say them; and all speakers by dialect."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from sidegate.testing import Exchange, Script
from tests.relaying import event
from tests.sdk.scripts import CALLS, TEXT, USED, anthropic_says, in_pieces, openai_says

SIGNATURE = "c2lnbmVkIGJ5IGl0"


def responses_whole() -> dict[str, Any]:
    text = {"type": "output_text", "text": TEXT, "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
    calls = [
        {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": name, "arguments": arguments}
        for call_id, name, arguments in CALLS
    ]
    usage = {"input_tokens": USED[0], "output_tokens": USED[1], "total_tokens": sum(USED)}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "real-1", "parallel_tool_calls": True}
    return {
        **head,
        "status": "completed",
        "output": [message, *({**call, "status": "completed"} for call in calls)],
        "usage": {**usage, "input_tokens_details": {"cached_tokens": 3}, "output_tokens_details": {}},
        "tools": [],
        "tool_choice": "auto",
        "from_tomorrow": {"kept": True},
    }


def responses_events() -> list[bytes]:
    whole = responses_whole()
    message, *calls = whole["output"]
    found: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": {**whole, "output": [], "usage": None, "status": "in_progress"}})
    ]
    where: dict[str, Any] = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": []}
    found += [
        ("response.output_item.added", {"output_index": 0, "item": {**message, "content": []}}),
        ("response.content_part.added", {**where, "part": part}),
        *(("response.output_text.delta", {**where, "delta": letter, "logprobs": []}) for letter in TEXT),
        ("response.output_text.done", {**where, "text": TEXT, "logprobs": []}),
        ("response.content_part.done", {**where, "part": {**part, "text": TEXT}}),
        ("response.output_item.done", {"output_index": 0, "item": message}),
    ]
    for index, call in enumerate(calls, 1):
        of = {"item_id": call["id"], "output_index": index}
        arguments = call["arguments"]
        found.append(("response.output_item.added", {"output_index": index, "item": {**call, "arguments": ""}}))
        for start in range(0, len(arguments), 5):
            found.append(("response.function_call_arguments.delta", {**of, "delta": arguments[start : start + 5]}))
        found.append(("response.function_call_arguments.done", {**of, "arguments": arguments}))
        found.append(("response.output_item.done", {"output_index": index, "item": call}))
    found.append(("response.completed", {"response": whole}))
    return [event({"type": kind, "sequence_number": number, **said}, kind) for number, (kind, said) in enumerate(found)]


async def responses_says(exchange: Exchange) -> None:
    """Text and two parallel tool calls, as Responses says them."""
    assert exchange.path.endswith("/responses")
    if exchange.json.get("stream"):
        await in_pieces(exchange, b"".join(responses_events()))
    else:
        await exchange.reply(msgspec.json.encode(responses_whole()))


def reply_of(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    reason = {} if finish is None else {"finishReason": finish}
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0, **reason}
    return {"candidates": [candidate], **more, "modelVersion": "real-1", "responseId": "g1"}


def calls() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"functionCall": {"name": name, "args": json.loads(arguments), "id": call_id}}
        for call_id, name, arguments in CALLS
    ]
    return [{**made[0], "thoughtSignature": SIGNATURE}, *made[1:]]


COUNTS = {"promptTokenCount": USED[0], "candidatesTokenCount": USED[1], "totalTokenCount": sum(USED)}


async def gemini_says(exchange: Exchange) -> None:
    """Text and two parallel calls, as Gemini says them."""
    if ":streamGenerateContent?alt=sse" not in exchange.path:
        await exchange.reply(
            msgspec.json.encode(reply_of({"text": TEXT}, *calls(), finish="STOP", usageMetadata=COUNTS))
        )
        return
    letters = [event(reply_of({"text": letter})) for letter in TEXT]
    made = [event(reply_of(call)) for call in calls()]
    end = event(reply_of({"text": ""}, finish="STOP", usageMetadata=COUNTS))
    await in_pieces(exchange, b"".join([*letters, *made, end]).replace(b"\n", b"\r\n"))


SPEAKERS: dict[str, Script] = {
    "openai": openai_says,
    "openai_responses": responses_says,
    "anthropic": anthropic_says,
    "gemini": gemini_says,
}
