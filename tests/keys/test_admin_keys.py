"""The admin API of keys: what it answers, in which form, and what it makes of hostile input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.contract.keys import key_digest
from sidegate.testing import Running, demo_config, gateway
from tests.plugins.calls import HandClock

PLUGINS = (
    {"use": "api_key", "settings": {"issued": True}},
    {"use": "model_access", "settings": {"default": ["*"]}},
    {"use": "cost", "settings": {"prices": {"demo": {"input": 1, "output": 2}}}},
)
KEYS = "/admin/keys"


class Admin:
    """A client of the admin listener."""

    def __init__(self, running: Running, http: aiohttp.ClientSession) -> None:
        self.running = running
        self.http = http

    async def ask(self, method: str, path: str = KEYS, **more: Any) -> tuple[int, Any, Any]:
        async with self.http.request(method, self.running.admin_url + path, **more) as response:
            body = await response.read()
            return response.status, msgspec.json.decode(body) if body else None, response.headers

    async def issue(self, **asked: Any) -> dict[str, Any]:
        status, body, _ = await self.ask("POST", json={"name": "ann", **asked})
        assert status == 201, body
        found: dict[str, Any] = body
        return found

    async def calls(self, secret: str) -> int:
        body = {"model": "demo", "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"authorization": f"Bearer {secret}"}
        async with self.http.post(self.running.url + "/v1/chat/completions", json=body, headers=headers) as response:
            return response.status


@asynccontextmanager
async def administered(
    http: aiohttp.ClientSession, tmp_path: Path, *plugins: Any, clock: HandClock | None = None, **more: Any
) -> AsyncIterator[Admin]:
    config = demo_config(*(plugins or PLUGINS), ledger={"url": f"sqlite:///{tmp_path}/ledger.db"}, **more)
    async with gateway(config, clock=clock) as running:
        yield Admin(running, http)


@pytest.fixture
async def admin(http: aiohttp.ClientSession, tmp_path: Path) -> AsyncIterator[Admin]:
    async with administered(http, tmp_path) as made:
        yield made


# --- the verbs --------------------------------------------------------------------------------------------------------


async def test_a_key_goes_through_its_whole_life(admin: Admin) -> None:
    asked = {"name": "ann", "owner": "boss", "tags": ["a"], "expires": "90d", "allowance": {"models": ["demo"]}}
    status, told, headers = await admin.ask("POST", json=asked)
    assert (status, told["warnings"]) == (201, [])
    assert headers["Location"] == f"{KEYS}/{told['key']['id']}"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Type"] == "application/json"
    one = headers["Location"]
    assert await admin.calls(told["secret"]) == 200
    assert (await admin.ask("GET", one))[1] == told["key"]

    status, rotated, _ = await admin.ask("POST", f"{one}/rotate", json={"grace": "1h"})
    assert status == 200
    assert rotated["key"]["rotated_until"] is not None
    assert [await admin.calls(secret) for secret in (told["secret"], rotated["secret"])] == [200, 200]

    status, changed, _ = await admin.ask("PATCH", one, json={"owner": None, "allowance": {"models": ["other"]}})
    assert (status, changed["key"]["owner"], changed["key"]["tags"]) == (200, None, ["a"])
    assert await admin.calls(rotated["secret"]) == 404

    status, revoked, _ = await admin.ask("DELETE", one)
    assert (status, revoked["state"]) == (200, "revoked")
    assert [await admin.calls(secret) for secret in (told["secret"], rotated["secret"])] == [401, 401]
    assert (await admin.ask("DELETE", one))[1] == revoked
    status, problem, _ = await admin.ask("POST", f"{one}/rotate")
    assert (status, problem["code"]) == (409, "key_revoked")


async def test_a_rotation_needs_no_body(admin: Admin) -> None:
    told = await admin.issue()
    status, rotated, _ = await admin.ask("POST", f"{KEYS}/{told['key']['id']}/rotate")
    assert (status, rotated["key"]["id"]) == (200, told["key"]["id"])
    assert await admin.calls(told["secret"]) == 200


async def test_a_list_has_pages_and_filters(admin: Admin) -> None:
    issued = [(await admin.issue(team=team))["key"]["id"] for team in ("red", "blue", "red")]
    first = (await admin.ask("GET", f"{KEYS}?limit=2"))[1]
    assert [key["id"] for key in first["keys"]] == issued[:2]
    rest = (await admin.ask("GET", f"{KEYS}?limit=2&after={first['next']}"))[1]
    assert ([key["id"] for key in rest["keys"]], rest["next"]) == (issued[2:], None)
    red = (await admin.ask("GET", f"{KEYS}?team=red&state=active&name=ann"))[1]
    assert [key["id"] for key in red["keys"]] == [issued[0], issued[2]]


async def test_lists_and_keys_have_no_secret_and_no_digest(admin: Admin) -> None:
    told = await admin.issue()
    rotated = (await admin.ask("POST", f"{KEYS}/{told['key']['id']}/rotate"))[1]
    for path in (KEYS, f"{KEYS}/{told['key']['id']}"):
        text = str((await admin.ask("GET", path))[1])
        for secret in (told["secret"], rotated["secret"]):
            assert secret not in text
            assert key_digest(secret) not in text


async def test_the_log_says_who_changed_what(admin: Admin) -> None:
    told = await admin.issue(owner="boss")
    (line,) = admin.running.log.events("key_issued")
    assert {name: line[name] for name in ("by", "key_id", "name", "owner")} == {
        "by": "admin_api",
        "key_id": told["key"]["id"],
        "name": "ann",
        "owner": "boss",
    }
    assert told["secret"].encode() not in admin.running.log.data


async def test_who_issues_a_key_is_warned_where_it_would_be_refused(
    http: aiohttp.ClientSession, tmp_path: Path, admin: Admin
) -> None:
    told = await admin.issue(allowance={"concurrency": 1})
    assert told["warnings"] == [
        "pipeline main refuses this key: it does not enforce concurrency (plugin concurrency)",
    ]
    none = {"use": "api_key", "settings": {"keys": [{"name": "ops", "digest": key_digest("sg-ops")}]}}
    async with administered(http, tmp_path / "other", none) as other:
        assert "no pipeline" in (await other.issue())["warnings"][0]


async def test_with_an_admin_key_nobody_else_issues_keys(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with administered(http, tmp_path, admin={"port": 0, "key": "the-key-of-the-admin"}) as admin:
        for method, path in (("POST", KEYS), ("GET", KEYS), ("DELETE", f"{KEYS}/key-1"), ("POST", f"{KEYS}/k/rotate")):
            assert (await admin.ask(method, path, json={"name": "eve"}))[0] == 401
        headers = {"authorization": "Bearer the-key-of-the-admin"}
        assert (await admin.ask("GET", headers=headers))[1] == {"keys": [], "next": None}


async def test_keys_are_not_administered_where_clients_call(admin: Admin) -> None:
    async with admin.http.post(admin.running.url + KEYS, json={"name": "eve"}) as response:
        assert response.status == 404


# --- hostile input ----------------------------------------------------------------------------------------------------

DEEP = b'{"name":' + b"[" * 30_000
WRONG: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "invalid_json"),
    "no JSON": (b"name=ann", "invalid_json"),
    "a list": (b"[]", "invalid_request"),
    "null": (b"null", "invalid_request"),
    "deep": (DEEP, "invalid_request"),
    "no UTF-8": (b'{"name": "\xff"}', "invalid_json"),
    "a lone surrogate": (rb'{"name": "\ud800"}', "invalid_json"),
    "no name": (b"{}", "invalid_request"),
    "an empty name": (b'{"name": ""}', "invalid_request"),
    "a long name": (b'{"name": "' + b"n" * 129 + b'"}', "invalid_request"),
    "a name that acts on a terminal": (rb'{"name": "a\u001b[2J"}', "invalid_request"),
    "a name with NUL": (rb'{"name": "a\u0000"}', "invalid_request"),
    "a name that turns text round": (rb'{"name": "a\u202eb"}', "invalid_request"),
    "a field that is none": (b'{"name": "a", "admin": true}', "invalid_request"),
    "a digest of one's own": (b'{"name": "a", "digest": "' + b"0" * 64 + b'"}', "invalid_request"),
    "a secret of one's own": (b'{"name": "a", "secret": "sg-mine"}', "invalid_request"),
    "a number for a name": (b'{"name": 1}', "invalid_request"),
    "too many tags": (msgspec.json.encode({"name": "a", "tags": ["t"] * 65}), "invalid_request"),
    "no limit at all": (b'{"name": "a", "allowance": {"limits": [{"period": "day"}]}}', "invalid_request"),
    "a negative limit": (b'{"name": "a", "allowance": {"limits": [{"requests": -1}]}}', "invalid_request"),
    "a budget that is none": (b'{"name": "a", "allowance": {"budgets": [{"amount_usd": "NaN"}]}}', "invalid_request"),
    "a huge budget": (b'{"name": "a", "allowance": {"budgets": [{"amount_usd": "1e999999"}]}}', "invalid_request"),
    "no time zone": (
        b'{"name": "a", "allowance": {"budgets": [{"amount_usd": 1, "timezone": "../../etc/passwd"}]}}',
        "invalid_request",
    ),
    "a pattern that is none": (b'{"name": "a", "allowance": {"models": ["*-mini"]}}', "invalid_request"),
    "no concurrency": (b'{"name": "a", "allowance": {"concurrency": 0}}', "invalid_request"),
    "an expiry that has passed": (b'{"name": "a", "expires": "2020-01-01"}', "invalid_request"),
    "an expiry that is none": (b'{"name": "a", "expires": "soon"}', "invalid_request"),
    "an expiry far away": (b'{"name": "a", "expires": "999999w"}', "invalid_request"),
    "a name twice": (b'{"name": "ann", "name": "bob"}', "duplicate_key"),
    "a bound twice": (b'{"name": "a", "allowance": {"concurrency": 1, "concurrency": 9}}', "duplicate_key"),
    "a NUL in the name": (b'{"name": "a\\u0000"}', "invalid_request"),
    "an expiry without a zone": (b'{"name": "a", "expires": "2099-01-01T00:00:00"}', "invalid_request"),
}


def check_problem(answer: tuple[int, Any, Any], status: int, code: str) -> None:
    assert (answer[0], answer[1]["code"], answer[1]["status"]) == (status, code, status)
    assert answer[2]["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(("body", "code"), WRONG.values(), ids=WRONG.keys())
async def test_a_body_that_makes_no_sense_issues_nothing(admin: Admin, body: bytes, code: str) -> None:
    headers = {"Content-Type": "application/json"}
    check_problem(await admin.ask("POST", data=body, headers=headers), 400, code)
    assert (await admin.ask("GET"))[1] == {"keys": [], "next": None}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", KEYS), ("PATCH", f"{KEYS}/key-1"), ("POST", f"{KEYS}/key-1/rotate")]
)
async def test_a_body_is_json_and_of_bounded_size(admin: Admin, method: str, path: str) -> None:
    large = msgspec.json.encode({"name": "a", "tags": ["t" * 70_000]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await admin.ask(method, path, data=b'{"name": "a"}', headers={"Content-Type": kind})
        check_problem(answer, 415, "unsupported_media_type")
    headers = {"Content-Type": "application/json"}
    check_problem(await admin.ask(method, path, data=large, headers=headers), 413, "request_too_large")

    async def chunked() -> AsyncIterator[bytes]:
        for at in range(0, len(large), 10_000):
            yield large[at : at + 10_000]

    check_problem(await admin.ask(method, path, data=chunked(), headers=headers), 413, "request_too_large")
    packed = {**headers, "Content-Encoding": "gzip"}
    check_problem(await admin.ask(method, path, data=b"x", headers=packed), 415, "unsupported_encoding")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=-1",
        "limit=1e3",
        "limit=99999999999999999999",
        "limit=%D9%A3",
        "state=gone",
        "owner=",
        "owner=a%00b",
        "digest=0",
        "limit=1&limit=2",
        "after=key-0",
        "after=%27%20OR%201%3D1",
    ],
)
async def test_a_question_that_makes_no_sense_is_400(admin: Admin, query: str) -> None:
    await admin.issue()
    check_problem(await admin.ask("GET", f"{KEYS}?{query}"), 400, "invalid_request")


@pytest.mark.parametrize("id", ["key-0", "%2e%2e", "a" * 65, "%27%20OR%201=1"])
async def test_a_key_that_is_not_there_is_404(admin: Admin, id: str) -> None:
    for method in ("GET", "DELETE", "PATCH"):
        more = {"json": {"team": "red"}} if method == "PATCH" else {}
        status, problem, headers = await admin.ask(method, f"{KEYS}/{id}", **more)
        assert status in (404, 405)
        assert headers["Content-Type"] == "application/problem+json"


async def test_parameters_have_no_place_beside_a_body(admin: Admin) -> None:
    check_problem(await admin.ask("POST", f"{KEYS}?name=eve", json={"name": "ann"}), 400, "invalid_request")


async def test_a_wrong_change_changes_nothing(admin: Admin) -> None:
    told = await admin.issue(team="red")
    one = f"{KEYS}/{told['key']['id']}"
    for wrong in ({"state": "revoked"}, {"id": "key-1"}, {"digest": "0" * 64}, {"name": None}, {"tags": "a"}):
        check_problem(await admin.ask("PATCH", one, json={"team": "blue", **wrong}), 400, "invalid_request")
    check_problem(await admin.ask("POST", f"{one}/rotate", json={"grace": "91d"}), 400, "invalid_request")
    assert (await admin.ask("GET", one))[1] == told["key"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "HEAD"])
async def test_other_methods_are_not_allowed(admin: Admin, method: str) -> None:
    async with admin.http.request(method, admin.running.admin_url + KEYS) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET,POST" or set(response.headers["Allow"].split(", ")) == {"GET", "POST"}
