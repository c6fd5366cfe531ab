"""Writes docs/api.md: every path that a gateway can serve, from its own OpenAPI documents.

`scripts/docs` writes the page; a test fails where the page differs from what this gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from sidegate.config import read_mapping
from sidegate.contract.host import SystemClock
from sidegate.gateway import Gateway
from sidegate.http.admin_app import make_admin_app
from sidegate.http.app import make_app
from sidegate.http.openapi.document import document
from sidegate.http.openapi.spec import STATUSES
from sidegate.http.paths import OPERATIONS
from sidegate.telemetry.logs import JsonLog

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
TEXT = Path(__file__).resolve().parent / "api.txt"

CONFIG: Mapping[str, Any] = {
    "providers": {"demo": {"dialect": "demo"}},
    "models": {"demo": {"provider": "demo"}},
    "pipelines": {"main": {}},
    "jobs": {},
    "listen": {"openapi": True},
    "routes": [
        {
            "name": "all",
            "pipeline": "main",
            "operations": [*OPERATIONS, "realtime"],
            "resumable": True,
            "deliveries": ["buffered", "stream", "job", "socket"],
        }
    ],
}
"""All that a config can have served."""

SAME = ("/v1alpha/", "/v1beta1/", "/v1/models/{model}:", "/models/{model}:")
"""What is served as below `/v1beta/`, too."""


def documents() -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the clients' listener and of the admin's."""
    gateway = Gateway(read_mapping(CONFIG, {}, Path("/")), JsonLog(BytesIO(), SystemClock()))
    service = gateway.service
    return document(service, make_app(service), admin=False), document(service, make_admin_app(service), admin=True)


def page() -> str:
    """The whole page: the text, with what is served in the place of each mark."""
    clients, admin = documents()
    bodies = {**clients["components"]["schemas"], **admin["components"]["schemas"]}
    text = TEXT.read_text()
    for mark, lines in (
        ("{statuses}", _table(["status", ""], [[str(status), said] for status, said in STATUSES.items()])),
        ("{clients}", _served(clients)),
        ("{admin}", _served(admin)),
        ("{bodies}", _bodies(bodies)),
    ):
        text = text.replace(mark, "\n".join(lines))
    return text


# --- paths ------------------------------------------------------------------------------------------------------------


def _served(found: Mapping[str, Any]) -> Iterator[str]:
    operations = [
        (path, method, operation)
        for path, item in found["paths"].items()
        for method, operation in item.items()
        if method != "head" and not path.startswith(SAME)
    ]
    lead = ""
    for tag in found["tags"]:
        own = [each for each in operations if each[2]["tags"] == [tag["name"]]]
        if own:
            yield f"{lead}### {tag['name']}"
            yield ""
            yield f"{tag['description']}."
            yield ""
            yield from _table(["", "what", "body", "answer", "other statuses"], [_row(*each) for each in own])
            yield from _parameters(own)
            lead = "\n"


def _row(path: str, method: str, operation: Mapping[str, Any]) -> list[str]:
    what = operation["summary"]
    if "externalDocs" in operation:
        what = f"[{what}]({operation['externalDocs']['url']})"
    body = _content(operation.get("requestBody", {}).get("content", {}))
    well = {status: said for status, said in operation["responses"].items() if status < "400"}
    others = [status for status in operation["responses"] if status not in well]
    return [f"`{method.upper()} {path}`", what, body, "<br>".join(_answers(well)), " ".join(others)]


def _answers(well: Mapping[str, Any]) -> Iterator[str]:
    for status, said in well.items():
        kinds = _content(said.get("content", {}))
        yield f"{status} {kinds}".strip()


def _content(content: Mapping[str, Any]) -> str:
    found = []
    for media, said in content.items():
        schema = said["schema"]
        kind = _type(schema)
        found.append(kind if media == "application/json" and kind != "anything" else f"`{media.partition(';')[0]}`")
    return ", ".join(dict.fromkeys(found))


def _parameters(operations: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Iterator[str]:
    places: dict[tuple[str, ...], list[str]] = {}
    for path, method, operation in operations:
        for each in operation.get("parameters", ()):
            key = (each["name"], each["in"], _type(each["schema"]), each["description"])
            places.setdefault(key, []).append(f"`{method.upper()} {path}`")
    if not places:
        return
    yield ""
    rows = [
        [f"`{name}`", where, kind, text, "all" if len(used) == len(operations) else "<br>".join(used)]
        for (name, where, kind, text), used in places.items()
    ]
    yield from _table(["parameter", "in", "type", "meaning", "of"], rows)


# --- bodies -----------------------------------------------------------------------------------------------------------


def _bodies(schemas: Mapping[str, Any]) -> Iterator[str]:
    lead = ""
    for name, schema in sorted(schemas.items()):
        if not schema.get("properties") or name.startswith("Page_"):
            continue
        yield f"{lead}### {name}"
        yield ""
        if "description" in schema:
            yield schema["description"].split("\n\n")[0].replace("\n", " ")
            yield ""
        required = set(schema.get("required", ()))
        rows = [
            [f"`{field}`{'' if field in required else ' (optional)'}", _type(said), said.get("description", "")]
            for field, said in schema["properties"].items()
        ]
        yield from _table(["field", "type", "meaning"], rows)
        lead = "\n"


def _type(schema: Mapping[str, Any]) -> str:
    """As a reader says it."""
    if "$ref" in schema:
        return _named(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(arm) for arm in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    words = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean", "null": "null"}
    if kind == "string" and schema.get("format") == "date-time":
        return "date and time"
    return words.get(str(kind), "object" if kind == "object" else "anything")


def _named(name: str) -> str:
    if name.startswith("Page_"):
        inner = name.removeprefix("Page_").removesuffix("_")
        return f"page of [{inner}](#{inner.lower()})"
    return f"[{name}](#{name.lower()})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
