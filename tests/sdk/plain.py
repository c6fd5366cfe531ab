"""Requests as clients that are not installed here send them: byte for byte what they say, and nothing that helps."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[dict[str, str]]:
        """The fields of each event of a stream, as they stand on its lines; a comment has the name `""`."""
        blocks = self.body.decode().replace("\r\n", "\n").strip("\n").split("\n\n")
        return [dict(_field(line) for line in block.split("\n")) for block in blocks]


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.removeprefix(" ")


def asked(url: str, body: Any = None, **headers: str) -> Answer:
    """POST of a body as JSON, or GET without one. `x_api_key="k"` is the header `x-api-key`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **named})
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:  # our own loopback URL
            return Answer(reply.status, reply.headers, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())
