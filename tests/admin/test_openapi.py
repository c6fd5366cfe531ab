"""The OpenAPI document says what is served, all of it and nothing else, and is a document of its version."""

from __future__ import annotations

import asyncio
import re
import runpy
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from sidegate.http.admin_app import make_admin_app
from sidegate.http.app import make_app
from sidegate.http.openapi.calls import GEMINI_PATHS
from sidegate.http.openapi.document import document
from sidegate.http.paths import OPERATIONS
from sidegate.testing import demo_config, gateway
from tests.admin.ground import administered, config
from tests.tree import ROOT

METHODS = {"get", "post", "put", "patch", "delete", "head"}
SPOKEN = {
    "resumable": True,
    "deliveries": ["buffered", "stream", "job", "socket"],
    "operations": [*OPERATIONS, "realtime"],
}
OPEN = {"port": 0, "openapi": True}
WHOLE: dict[str, Any] = {
    "listen": OPEN,
    "jobs": {},
    "routes": [
        {"name": "a", "prefix": "/a", "pipeline": "main"},
        {"name": "b", "pipeline": "main", **SPOKEN},
    ],
}


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    """Of both listeners, with all that a config can bring."""
    return asyncio.run(_documents())


async def _documents() -> dict[str, Any]:
    async with gateway(demo_config(**WHOLE)) as running:
        service = running.service
        return {
            "clients": document(service, make_app(service), admin=False),
            "admin": document(service, make_admin_app(service), admin=True),
            "routes": {
                "clients": served(make_app(service)),
                "admin": served(make_admin_app(service)),
            },
        }


def served(app: Any) -> set[tuple[str, str]]:
    return {(route.method.lower(), route.resource.canonical) for route in app.router.routes()}


def operations(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in found["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


both = pytest.mark.parametrize("listener", ["clients", "admin"])


@both
def test_every_path_that_is_served_is_described_and_no_other(listener: str, documents: dict[str, Any]) -> None:
    wanted = documents["routes"][listener]
    gemini = {path for path in (canonical for _, canonical in wanted) if re.sub("^/a", "", path) in GEMINI_PATHS}
    described = {(method, path) for method, path, _ in operations(documents[listener])}
    spelled = {(method, re.sub(r"/models/\{model\}:\w+$", ":", path)) for method, path in described}
    for method, path in wanted:
        if path in gemini:
            assert (method, path.partition("{")[0].removesuffix("/").removesuffix("/models") + ":") in spelled, path
        else:
            assert (method, path) in described, path
    for method, path in described:
        assert (method, path) in wanted or re.search(r"/models/\{model\}:\w+$", path), path
    assert all(operation["summary"] != "Not described" for _, _, operation in operations(documents[listener]))


@both
def test_ids_are_of_one_operation_each(listener: str, documents: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(documents[listener])]
    assert len(ids) == len(set(ids))


@both
def test_parameters_of_paths_are_those_of_the_path(listener: str, documents: dict[str, Any]) -> None:
    for _, path, operation in operations(documents[listener]):
        names = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert names == set(re.findall(r"\{(\w+)\}", path)), path


@both
def test_what_is_referred_to_is_there_and_used(listener: str, documents: dict[str, Any]) -> None:
    found = documents[listener]
    references = set(re.findall(r"'#/components/(\w+)/([^']+)'", str(found)))
    there = {
        (kind, name)
        for kind, components in found["components"].items()
        for name in components
        if kind != "securitySchemes"
    }
    assert references <= there
    assert there - references <= {("schemas", "Now")}  # the data of an event


@both
def test_tags_are_explained(listener: str, documents: dict[str, Any]) -> None:
    known = {tag["name"] for tag in documents[listener]["tags"]}
    assert {tag for _, _, operation in operations(documents[listener]) for tag in operation["tags"]} <= known


@both
def test_every_operation_says_how_it_fails(listener: str, documents: dict[str, Any]) -> None:
    for method, path, operation in operations(documents[listener]):
        assert "400" in operation["responses"], path
        assert all(re.fullmatch("[1-5][0-9][0-9]", status) for status in operation["responses"]), path
        assert ("requestBody" in operation) <= ("415" in operation["responses"]), path
        assert method in METHODS


def test_fields_say_what_they_are(documents: dict[str, Any]) -> None:
    schemas = documents["admin"]["components"]["schemas"]
    assert schemas["PluginTrail"]["properties"]["seconds"]["description"].startswith("Its own time")
    assert schemas["InFlight"]["properties"]["duration"]["description"] == "Seconds until now."
    assert schemas["ShownPlugin"]["properties"]["class"] == {"type": "string"}


async def test_it_says_which_key_is_needed(http: aiohttp.ClientSession) -> None:
    async with administered(config()) as desk:
        found = await desk.asks("/openapi.json")
        assert found["security"] == [{"adminKey": []}]
        assert found["paths"]["/livez"]["get"]["security"] == []
        async with http.get(desk.running.url + "/openapi.json") as reply:
            assert reply.status == 200
            found = await reply.json()
        assert [list(each) for each in found["security"]] == [["bearer"], ["x-api-key"], ["x-goog-api-key"]]
    async with gateway(demo_config(listen=OPEN)) as running, http.get(running.url + "/openapi.json") as reply:
        assert (await reply.json())["security"] == []


async def test_clients_are_shown_it_only_where_the_config_says_so(http: aiohttp.ClientSession) -> None:
    async with gateway(demo_config()) as running, http.get(running.url + "/openapi.json") as reply:
        assert reply.status == 404


async def test_only_what_the_config_serves_is_described(http: aiohttp.ClientSession) -> None:
    routes = [{"name": "r", "prefix": "/team", "pipeline": "main", "operations": ["chat"]}]
    async with (
        gateway(demo_config(routes=routes, listen=OPEN)) as running,
        http.get(running.url + "/openapi.json") as reply,
    ):
        paths = set((await reply.json())["paths"])
    assert "/team/v1/chat/completions" in paths
    assert "/team/v1beta/models/{model}:generateContent" in paths
    assert "/v1/chat/completions" not in paths
    assert not [path for path in paths if "embed" in path or "jobs" in path or "usage" in path]


def test_the_api_reference_is_what_the_gateway_says_of_itself() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "api.py"))["page"]()
    assert (ROOT / "docs" / "api.md").read_text() == written, "run scripts/docs"
