"""What Gemini is asked to embed: one text at a time, with how it is to be done, and several of them as one request."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from sidegate.contract.meaning import Request
from sidegate.errors import BadRequest
from sidegate.wire.gemini.fields import read_as, several

_Dimensions = Annotated[int, Meta(ge=1, lt=2**31)]


class _Text(Struct):
    text: str


class _Content(Struct):
    parts: Any = None


class One(Struct, rename="camel"):
    """A text to embed, and how."""

    content: Any
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: _Dimensions | None = None


def read_one(one: Any, place: str) -> tuple[str, One]:
    """The text at a place of the request, and what is said of it. Raises `BadRequest`, naming the place, for any other
    content and for an empty text."""
    read = read_as(one, One, place)
    where = f"{place}.content" if place else "content"
    content = read_as(read.content, _Content, where)
    texts = []
    for index, part in enumerate(several(content.parts, f"{where}.parts")):
        texts.append(read_as(part, _Text, f"{where}.parts[{index}]").text)
    text = "".join(texts)
    if not text:
        raise BadRequest(f"{where}: An empty text cannot be embedded.", param=where)
    return text, read


def request_of(model: str, read: list[tuple[str, One]], extra: dict[str, Any]) -> Request:
    """The texts as one request. Raises `BadRequest` where they are to have vectors of several lengths."""
    first = read[0][1]
    same = all(each.output_dimensionality == first.output_dimensionality for _, each in read)
    if not same:
        raise BadRequest("outputDimensionality: All texts of a call have the same.", param="outputDimensionality")
    return Request(
        model=model, input=tuple(text for text, _ in read), dimensions=first.output_dimensionality, extra=extra
    )


def more_of(requests: list[Any]) -> dict[str, Any]:
    """What has no word, such as `taskType`: by name, for each of the texts where they differ."""
    known = ("content", "model", "outputDimensionality", "output_dimensionality")
    names = {name for one in requests if isinstance(one, dict) for name in one if name not in known}
    found: dict[str, Any] = {}
    for name in sorted(names):
        values = [one.get(name) for one in requests]
        found[name] = values[0] if all(each == values[0] for each in values) else values
    return found


def write_all(request: Request, dropped: list[str]) -> list[dict[str, Any]]:
    """A request for each text; what is left out is named in `dropped`. Raises `BadRequest` for tokens."""
    requests: list[dict[str, Any]] = []
    own = {name: request.extra[name] for name in ("taskType", "task_type", "title") if name in request.extra}
    lost = [name for name in request.extra if name not in own]
    lost += ["user"] if request.user is not None else []
    dropped.extend(name for name in lost if name not in dropped)
    for index, text in enumerate(request.input):
        if not isinstance(text, str):
            raise BadRequest("input: This provider embeds texts, no tokens.", param="input")
        one: dict[str, Any] = {"content": {"parts": [{"text": text}]}}
        if request.dimensions is not None:
            one["outputDimensionality"] = request.dimensions
        for name, said in own.items():
            one[name] = said[index] if isinstance(said, list) and index < len(said) else said
        requests.append(one)
    return requests
