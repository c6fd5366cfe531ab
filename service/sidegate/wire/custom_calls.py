"""What a custom tool is given, words of any form, in dialects whose tools take objects: `{"input": words}`.

Source of the name: https://platform.openai.com/docs/guides/function-calling#custom-tools
"""

from __future__ import annotations

from msgspec.json import Encoder

BEGUN = '{"input":"'
ENDED = '"}'

_json = Encoder().encode


def inside(words: str) -> str:
    """A piece of the words, as it stands between `BEGUN` and `ENDED`."""
    return _json(words)[1:-1].decode()


def in_object(words: str) -> str:
    """All of the words, as JSON text."""
    return BEGUN + inside(words) + ENDED
