"""The OpenAPI document of a listener: of every path that its application serves, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from sidegate import __version__
from sidegate.http.openapi import admin as of_admin
from sidegate.http.openapi import records, streams
from sidegate.http.openapi.calls import DIALECTS, GEMINI_PATHS, call, gemini
from sidegate.http.openapi.spec import PLAIN, TEXT, Json, Spec, nothing
from sidegate.http.openapi.words import operation
from sidegate.http.paths import OPERATIONS as ALL_OPERATIONS
from sidegate.service import Service
from sidegate.settings import Route

VERSION = "3.1.0"

_UNDESCRIBED: Json = {"summary": "Not described", "responses": {"default": {"description": "Not described."}}}
_TAGS = (
    ("OpenAI", "Calls by OpenAI's APIs"),
    ("Anthropic", "Calls by Anthropic's API"),
    ("Gemini", "Calls by Google's API"),
    ("AI SDK", "Calls of pages, by the AI SDK's hooks"),
    ("Models", "Which models there are"),
    ("Calls", "A caller's own calls in flight and on record"),
    ("Usage", "What a caller has used"),
    ("Jobs", "Calls that outlive their connection"),
    ("Streams", "Streams that outlive their connection"),
    ("Sockets", "Calls over WebSockets"),
    ("Console", "The page of whoever operates it"),
    ("Health", "Whether it runs and takes calls"),
    ("Administration", "For whoever operates it, on the admin listener"),
)
_CLIENT_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key or a token, as OpenAI's clients send it."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's clients do."},
    "x-goog-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-goog-api-key",
        "description": "As Google's clients do.",
    },
}
_ADMIN_SCHEMES = {"adminKey": {"type": "http", "scheme": "bearer", "description": "`admin.key` of the config."}}


def document(service: Service, app: web.Application, *, admin: bool) -> Json:
    """What `app` serves. `admin`: it is that of the admin listener."""
    spec = Spec()
    paths: dict[str, Json] = {}
    for route in app.router.routes():
        if route.resource is not None and route.method != "OPTIONS":
            for path, described in _described(spec, service, route.method, route.resource.canonical):
                paths.setdefault(path, {})[route.method.lower()] = described
    schemes = _ADMIN_SCHEMES if admin else _CLIENT_SCHEMES
    return {
        "openapi": VERSION,
        "info": {
            "title": "Sidegate, the admin listener" if admin else "Sidegate",
            "version": __version__,
            "description": "A sidecar gateway for LLM calls.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": _security(service, admin=admin),
        "tags": [{"name": name, "description": text} for name, text in _TAGS],
        "paths": dict(sorted(paths.items())),
        "components": spec.components(schemes, paths),
    }


def _security(service: Service, *, admin: bool) -> list[Json]:
    """What a request must bring: any one of these."""
    settings = service.settings
    if admin:
        return [{"adminKey": []}] if settings.admin is not None and settings.admin.key else []
    named = [any(loaded.plugin.names_callers for loaded in pipeline.plugins) for pipeline in service.plugins.values()]
    known: list[Json] = [{name: []} for name in _CLIENT_SCHEMES]
    return known if all(named) else [*known, {}] if any(named) else []


def _described(spec: Spec, service: Service, method: str, canonical: str) -> Iterable[tuple[str, Json]]:
    """What is served there: a path of the router may be several of the document."""
    known = _HEALTH.get(canonical) or of_admin.OPERATIONS.get((method, canonical))
    if known is not None or method == "HEAD":
        made = (known or of_admin.OPERATIONS[("GET", canonical)])(spec)
        yield canonical, _without_body(spec, made) if method == "HEAD" else made
        return
    if canonical == "/openapi.json":
        yield canonical, _itself(spec)
        return
    for route in sorted(service.settings.routes, key=lambda route: -len(route.prefix)):
        rest = canonical.removeprefix(route.prefix)
        is_known = rest in DIALECTS or rest in GEMINI_PATHS or (method, rest) in _BELOW
        if canonical.startswith(route.prefix) and is_known:
            for path, made in _of_route(spec, service, route, method, rest):
                yield route.prefix + path, _named(made, route)
            return
    yield canonical, _UNDESCRIBED


def _of_route(spec: Spec, service: Service, route: Route, method: str, path: str) -> Iterable[tuple[str, Json]]:
    served = route.operations or ALL_OPERATIONS
    jobs = service.jobs is not None and "jobs" in served and "job" in (route.deliveries or ("job",))
    if path in GEMINI_PATHS:
        yield from gemini(spec, path, served, jobs=jobs)
    elif path in DIALECTS and method == "POST":
        yield path, call(spec, path, jobs=jobs)
    else:
        yield path, _BELOW[method, path](spec)


def _named(made: Json, route: Route) -> Json:
    """Ids are of one operation each, however many routes serve it."""
    return made if not route.prefix else {**made, "operationId": f"{made['operationId']}_{route.name}"}


def _without_body(spec: Spec, made: Json) -> Json:
    said = {status: nothing(spec.resolved(response)["description"]) for status, response in made["responses"].items()}
    return {**made, "operationId": f"{made['operationId']}Head", "responses": said}


def _probe(id: str, summary: str, *, fails: bool) -> Any:
    def make(spec: Spec) -> Json:
        text = f"{TEXT}; charset=utf-8"
        said = {"200": spec.said("It does.", str, text), **spec.errors(PLAIN, (400, 421))}
        if fails:
            said["503"] = spec.said("It does not.", str, text)
        return {**operation(id, "Health", summary, said), "security": []}

    return make


_HEALTH: Mapping[str, Any] = {
    "/livez": _probe("getLive", "Whether the process runs", fails=False),
    "/readyz": _probe("getReady", "Whether it takes calls", fails=True),
    "/healthz": _probe("getHealth", "The same as `/readyz`", fails=True),
}
_BELOW: Mapping[tuple[str, str], Any] = {**records.OPERATIONS, **streams.OPERATIONS}


def _itself(spec: Spec) -> Json:
    said = {"200": spec.said("OpenAPI 3.1.", dict[str, Any]), **spec.errors(PLAIN, (400, 401, 403, 421))}
    return operation("getOpenAPI", "Health", "This document", said)


def encoded(service: Service, app: web.Application, *, admin: bool) -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document(service, app, admin=admin))
