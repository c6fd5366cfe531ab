"""A spec in the making: operations ask for schemas and error responses, which are gathered once each.

OpenAPI 3.1 (spec.openapis.org/oas/v3.1.1), whose schemas are JSON Schema 2020-12: those that msgspec makes of types.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from msgspec import inspect as types

Json: TypeAlias = dict[str, Any]

JSON = "application/json"
PROBLEM = "application/problem+json"
EVENTS = "text/event-stream"
TEXT = "text/plain"

STATUSES: Mapping[int, str] = {
    400: "The request cannot be understood, or its provider refused it.",
    401: "No key, or one that is not valid.",
    403: "What is asked for is not allowed here.",
    404: "There is nothing of this name: no such model, call, job, or operation.",
    408: "The body did not arrive in time.",
    409: "Not in this state.",
    410: "It was here, and has been dropped.",
    413: "The body is larger than is allowed.",
    415: "The body is no JSON, or is compressed.",
    417: "Only `100-continue` can be expected.",
    421: "The listener does not answer to this name.",
    422: "The request is well formed and cannot be done.",
    426: "Only a WebSocket is spoken here.",
    429: "A limit or a budget is used up, the gateway's or the provider's.",
    499: "The call was stopped by its id before anything of its reply had left.",
    500: "The gateway failed.",
    501: "The gateway keeps no ledger.",
    502: "The provider failed, or answered what is no reply.",
    503: "Not at the moment: stopping, full, or something it needs is away.",
    504: "The provider took too long.",
    505: "Another version of HTTP.",
}

_RETRY = frozenset((409, 429, 502, 503, 504))
_HEADERS = {
    "RequestId": {
        "description": "The call's id, as in the log and the ledger.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Seconds until another try may succeed, where that is known.",
        "schema": {"type": "string"},
    },
}


class Voice(Struct, frozen=True, kw_only=True):
    """In whose words errors are said."""

    name: str
    body: Any
    """The type of the body."""
    media: str = JSON


class Spec:
    """What operations need, by name."""

    def __init__(self) -> None:
        self.schemas: dict[str, Json] = {}
        self.responses: dict[str, Json] = {}
        self._plain: dict[str, Json] = {}
        self._notes = Notes()

    def schema(self, of: Any) -> Json:
        """The schema of a type; what it is made of becomes components."""
        (schema,), found = msgspec.json.schema_components([of], ref_template="#/components/schemas/{name}")
        classes = {_name(each): each for each in _structs(types.type_info(of))}
        for name, component in found.items():
            if name not in self._plain:
                self._plain[name] = component
                self.schemas[name] = self._noted(component, classes.get(name))
            elif self._plain[name] != component:
                raise ValueError(f"two types are called {name}")
        return schema

    def _noted(self, component: Json, cls: type | None) -> Json:
        """With what stands below each field in the code as its description."""
        if cls is None:
            return component
        noted = {**component, "properties": dict(component.get("properties", {}))}
        spelled = {field.name: field.encode_name for field in msgspec.structs.fields(cls)}
        for name, note in self._notes.of(cls).items():
            place = spelled.get(name, name)
            if (field := noted["properties"].get(place)) is not None and "description" not in field:
                noted["properties"][place] = {"description": note, **field}
        return noted

    def content(self, of: Any, media: str = JSON) -> Json:
        """A body of this type."""
        return {media: {"schema": self.schema(of)}}

    def said(self, description: str, of: Any = None, media: str = JSON) -> Json:
        """A response, with the body of a type; further contents are its maker's to add."""
        content = {} if of is None else self.content(of, media)
        return {"description": description, "headers": _headers("RequestId"), "content": content}

    def errors(self, voice: Voice, statuses: Iterable[int]) -> Json:
        """Responses by status."""
        return {str(status): self._error(voice, status) for status in statuses}

    def resolved(self, response: Json) -> Json:
        """A response, where it is only referred to."""
        reference = response.get("$ref")
        return response if reference is None else self.responses[reference.rpartition("/")[2]]

    def _error(self, voice: Voice, status: int) -> Json:
        name = f"{voice.name}{status}"
        if name not in self.responses:
            content = self.content(voice.body, voice.media)
            if status == 400 and voice.media != PROBLEM:
                # What is no HTTP is answered before anybody knows whose words the client reads.
                content |= self.content(Problem, PROBLEM)
            headers = _headers("RequestId", *(("RetryAfter",) if status in _RETRY else ()))
            self.responses[name] = {"description": STATUSES[status], "headers": headers, "content": content}
        return {"$ref": f"#/components/responses/{name}"}

    def components(self, schemes: Json, paths: Json) -> Json:
        """All that was asked for, and is used."""
        used = _referred(paths, self.responses)
        return {
            "schemas": dict(sorted(self.schemas.items())),
            "responses": dict(sorted(used.items())),
            "headers": _HEADERS,
            "securitySchemes": schemes,
        }


class Problem(Struct, kw_only=True):
    """What is wrong, as problem details (RFC 9457)."""

    type: str
    title: str
    """The status in words."""
    status: int
    detail: str
    """What happened, for people."""
    code: str | msgspec.UnsetType = msgspec.UNSET
    """What happened, for programs."""
    request_id: str | msgspec.UnsetType = msgspec.UNSET


PLAIN = Voice(name="Problem", body=Problem, media=PROBLEM)


def parameter(name: str, where: str, description: str, schema: Json | None = None, **more: Any) -> Json:
    """A parameter; those of paths are required."""
    made: Json = {"name": name, "in": where, "description": description, "schema": schema or {"type": "string"}}
    if where == "path":
        made["required"] = True
    return {**made, **more}


def events(description: str) -> Json:
    """A stream of server-sent events; the schema is of each of them."""
    fields = {name: {"type": "string"} for name in ("data", "event", "id")} | {"retry": {"type": "integer"}}
    return {EVENTS: {"schema": {"type": "object", "description": description, "properties": fields}}}


def nothing(description: str) -> Json:
    """A response without a body."""
    return {"description": description, "headers": _headers("RequestId")}


def _referred(paths: Json, responses: Json) -> Json:
    names = {
        response["$ref"].rpartition("/")[2]
        for item in paths.values()
        for described in item.values()
        for response in described["responses"].values()
        if "$ref" in response
    }
    return {name: response for name, response in responses.items() if name in names}


def _headers(*names: str) -> Json:
    spelled = {"RequestId": "x-request-id", "RetryAfter": "Retry-After"}
    return {spelled[name]: {"$ref": f"#/components/headers/{name}"} for name in names}


# --- what the fields of a Struct say of themselves --------------------------------------------------------------------


def _structs(info: types.Type) -> Iterable[type]:
    """Every Struct that a type is made of."""
    pending, seen = [info], set[int]()
    while pending:
        found = pending.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, types.StructType):
            yield found.cls
            pending += [field.type for field in found.fields]
        elif isinstance(found, types.UnionType):
            pending += found.types
        else:
            inner = (getattr(found, name, None) for name in ("type", "item_type", "value_type"))
            pending += [each for each in inner if isinstance(each, types.Type)]
            pending += getattr(found, "item_types", ())


def _name(cls: type) -> str:
    """As msgspec names the component of a class."""
    return cls.__name__


class Notes:
    """What stands below the fields of Structs, in their source; each module is read once."""

    def __init__(self) -> None:
        self._modules: dict[str, dict[str, dict[str, str]]] = {}

    def of(self, cls: type) -> dict[str, str]:
        """By the field's name, those of its bases too."""
        found: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            if issubclass(base, Struct) and base is not Struct:
                found |= self._module(base.__module__).get(base.__name__, {})
        return found

    def _module(self, name: str) -> dict[str, dict[str, str]]:
        if name not in self._modules:
            try:
                body = ast.parse(inspect.getsource(sys.modules[name])).body
            except (OSError, TypeError, SyntaxError):  # no source is shipped: then there are no notes
                body = []
            self._modules[name] = {line.name: _below(line) for line in body if isinstance(line, ast.ClassDef)}
        return self._modules[name]


def _below(cls: ast.ClassDef) -> dict[str, str]:
    found = {}
    for line, below in zip(cls.body, cls.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
            value = below.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[line.target.id] = " ".join(value.value.split())
    return found
