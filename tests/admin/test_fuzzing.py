"""Schemathesis on the whole API: whatever is sent, there is no 5xx that a gateway must not give, and no status, type or
body that the document does not know.

It runs beside the test, on a seed: each operation is asked some hundred times, well and badly.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import schemathesis

from sidegate.http.paths import OPERATIONS
from tests.admin.ground import KEY, Desk, administered, config

EXAMPLES = 4
"""Made at random for each operation, besides those that are made from its schema one by one."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
UNKNOWN = "0" * 32
SPOKEN = {
    "resumable": True,
    "deliveries": ["buffered", "stream", "job", "socket"],
    "operations": [*OPERATIONS, "realtime"],
}


@asynccontextmanager
async def scene() -> AsyncIterator[Desk]:
    """A gateway with all that there is, and some of what can be asked about."""
    made = config(jobs={}, routes=[{"name": "all", "pipeline": "main", **SPOKEN}])
    async with administered(made) as desk:
        yield desk


async def known(desk: Desk, url: str, call: str, job: str) -> dict[str, Any]:
    """The document, less of what is there by no chance: names and ids that exist are among those that are tried."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with desk.http.get(url + "/openapi.json", headers=headers) as reply:
        found: dict[str, Any] = await reply.json()
    # The same endpoints, by another name.
    found["paths"] = {
        path: item
        for path, item in found["paths"].items()
        if not path.startswith(("/v1alpha/", "/v1beta1/", "/v1/models/{model}:"))
    }
    for path, item in found["paths"].items():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] == "model":
                    parameter["schema"] = {"enum": ["demo", "nobody"]}
                elif parameter["in"] == "path" and ("/calls/" in path or "/jobs/" in path):
                    parameter["schema"] = {"enum": [call if "/calls/" in path else job, UNKNOWN]}
                elif parameter["name"] == "after" and path == "/admin/calls":
                    parameter["schema"] = {"enum": [call, UNKNOWN]}
    for schema in found["components"]["schemas"].values():
        if "max_tokens" in schema.get("properties", {}) or "messages" in schema.get("properties", {}):
            schema["properties"]["model"] = {"enum": ["demo", "nobody"]}
    return found


async def tried(document: dict[str, Any], url: str, key: str, folder: Path, *words: str) -> str:
    """What Schemathesis finds, or nothing."""
    file = folder / "openapi.json"
    file.write_text(json.dumps(document))
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", str(file), "--url", url, "--header", f"Authorization: Bearer {key}"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1"),
        *("--checks", ",".join(CHECKS), "--continue-on-failure", "--no-shrink", "--no-color"),
        *("--generation-deterministic", "--warnings", "off"),
        *("--generation-with-security-parameters", "false", "--suppress-health-check", "all", *words),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(100):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = said.decode(errors="replace")
    assert "Tested:" in text, text
    return "" if process.returncode == 0 else text


def nothing_found(text: str) -> None:
    if text:
        pytest.fail(text, pytrace=False)


async def test_no_question_to_clients_listener_has_an_answer_that_is_not_described(tmp_path: Path) -> None:
    async with scene() as desk:
        url, headers = desk.running.url, {"Authorization": "Bearer ann", "Prefer": "respond-async"}
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
        async with desk.http.post(url + "/v1/chat/completions", json=body, headers=headers) as reply:
            assert reply.status == 202
            job = (await reply.json())["id"]
        document = await known(desk, url, await desk.says(), job)
        nothing_found(await tried(document, url, "ann", tmp_path))


async def test_no_question_to_the_admin_listener_has_an_answer_that_is_not_described(tmp_path: Path) -> None:
    async with scene() as desk:
        url = desk.running.admin_url
        document = await known(desk, url, await desk.says(), UNKNOWN)
        # Its answers have no end; it has tests of its own.
        nothing_found(await tried(document, url, KEY, tmp_path, "--exclude-path", "/admin/live"))


async def test_without_the_key_every_answer_is_described_too(tmp_path: Path) -> None:
    async with scene() as desk:
        url = desk.running.admin_url
        document = await known(desk, url, UNKNOWN, UNKNOWN)
        some = "^/(admin/(status|keys|calls|playground.*)|metrics|livez|console)$"
        nothing_found(await tried(document, url, "not-the-key", tmp_path, "--include-path-regex", some))


async def test_what_is_not_described_is_found(tmp_path: Path) -> None:
    """The tests above can fail."""
    async with scene() as desk:
        url = desk.running.admin_url
        document = await known(desk, url, UNKNOWN, UNKNOWN)
        del document["paths"]["/admin/calls/{id}"]["get"]["responses"]["404"]
        found = await tried(document, url, KEY, tmp_path, "--include-path", "/admin/calls/{id}")
        assert "Received: 404" in found


@pytest.mark.parametrize("listener", ["clients", "admin"])
async def test_it_is_a_document_of_openapi_3_1(listener: str) -> None:
    async with scene() as desk:
        url = desk.running.url if listener == "clients" else desk.running.admin_url
        document = await known(desk, url, UNKNOWN, UNKNOWN)
    schemathesis.openapi.from_dict(document).validate()  # type: ignore[no-untyped-call, unused-ignore]
