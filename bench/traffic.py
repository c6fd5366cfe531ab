"""Traffic: what is asked and answered in every run. The model's name tells the mock provider how to answer.

Replies look like OpenAI's own, event for event: a role chunk, one token an event, a finish reason, the usage where it
was asked for, `[DONE]` (https://platform.openai.com/docs/api-reference/chat-streaming).
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

PATH = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"

_WORDS = (
    "the",
    "gate",
    "is",
    "open",
    "and",
    "what",
    "you",
    "ask",
    "goes",
    "out",
    "while",
    "each",
    "word",
    "comes",
    "back",
)
_HEAD = (
    '{{"id":"chatcmpl-CkA1b2C3d4E5f6G7h8I9j0K1l2M3n","object":"{kind}","created":1764000000,"model":"{model}",'
    '"service_tier":"default","system_fingerprint":"fp_560af6e559"'
)
_TOLD = (
    '{{"prompt_tokens":{asked},"completion_tokens":{said},"total_tokens":{both},"prompt_tokens_details":'
    '{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,'
    '"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}'
)
_ROLE = '{"role":"assistant","content":"","refusal":null}'
_ASKED = 57
_PROMPT = (
    "Summarise what a sidecar is for a colleague who knows containers, in three sentences, without a list, and say at "
    "the end when you would not use one. Keep the tone friendly and the words plain."
)


class Shape(NamedTuple):
    """How the provider answers: so many tokens, one every so many milliseconds; 0 is flat out. A timed token says in
    the place of a word when it was sent."""

    tokens: int
    interval: int = 0
    timed: bool = False

    @property
    def model(self) -> str:
        return f"bench-{self.tokens}-{self.interval}{'-timed' if self.timed else ''}"


BUFFERED = Shape(tokens=96)
"""About 1 KB of reply."""

_MODEL = re.compile(rb'"model"\s*:\s*"bench-(\d{1,7})-(\d{1,6})(-timed)?"')
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')


class Asked(NamedTuple):
    """What the provider needs of a request."""

    shape: Shape
    stream: bool
    usage: bool


def request_body(shape: Shape, *, stream: bool) -> bytes:
    """A chat request of some 350 bytes, the usage asked for as clients do."""
    body = {
        "model": shape.model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": _PROMPT},
        ],
        "temperature": 0.7,
        "max_tokens": 4096,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(body)


def read_request(body: bytes) -> Asked | None:
    """By three searches, since the provider must be cheaper than anything it is asked by."""
    named = _MODEL.search(body)
    if named is None:
        return None
    shape = Shape(int(named[1]), int(named[2]), named[3] is not None)
    return Asked(shape, _STREAM.search(body) is not None, _USAGE.search(body) is not None)


UNSENT = " t0000000000.000000"
"""In the place of a word, until the token is sent."""

SENT = re.compile(rb'"content"\s*:\s*" t(\d+\.\d+)"')


def sent_at(piece: bytes, now: float) -> bytes:
    """A timed token with its time, `time.monotonic`, in the same number of bytes."""
    return piece.replace(UNSENT.encode(), b" t%017.6f" % now)


def word(number: int) -> str:
    """The text of a token. It begins with a space, which tells it from the empty text of the role chunk."""
    return " " + _WORDS[number % len(_WORDS)]


def reply_body(shape: Shape) -> bytes:
    """A whole reply."""
    text = "".join(map(word, range(shape.tokens)))
    message = f'{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}}'
    choice = f'{{"index":0,"message":{message},"logprobs":null,"finish_reason":"stop"}}'
    head = _HEAD.format(kind="chat.completion", model=shape.model)
    return f'{head},"choices":[{choice}],"usage":{_told(shape)}}}'.encode()


def stream_events(asked: Asked) -> list[bytes]:
    """The events of a stream, each whole: the first is the role's, the second the first token's."""
    head = "data: " + _HEAD.format(kind="chat.completion.chunk", model=asked.shape.model)
    usage = ',"usage":null' if asked.usage else ""
    events = [f'{head},"choices":[{_choice(_ROLE)}]{usage}}}\n\n']
    for number in range(asked.shape.tokens):
        delta = f'{{"content":"{UNSENT if asked.shape.timed else word(number)}"}}'
        events.append(f'{head},"choices":[{_choice(delta)}]{usage}}}\n\n')
    events.append(f'{head},"choices":[{_choice("{}", "stop")}]{usage}}}\n\n')
    if asked.usage:
        events.append(f'{head},"choices":[],"usage":{_told(asked.shape)}}}\n\n')
    return [*(event.encode() for event in events), DONE]


def _choice(delta: str, finish: str = "") -> str:
    reason = f'"{finish}"' if finish else "null"
    return f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}'


def _told(shape: Shape) -> str:
    return _TOLD.format(asked=_ASKED, said=shape.tokens, both=_ASKED + shape.tokens)
