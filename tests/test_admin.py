"""The admin listener: what needs its key, whom it answers by name, and which pages of a browser may ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from sidegate.http.admin.console import is_console
from sidegate.http.admin.guard import OPEN
from sidegate.http.admin_app import make_admin_app
from sidegate.testing import Running, demo_config, gateway
from tests.abuse.scene import check_problem
from tests.abuse.sockets import Answer, ask, request

KEY = "an-admin-key-of-32-characters-00"
WITH_KEY = {"port": 0, "key": KEY}
REACHABLE = {"host": "0.0.0.0", "port": 0, "without_key": "metrics"}


def served(**admin: Any) -> Any:
    return gateway(demo_config(admin={"port": 0, **admin}))


async def asks(
    running: Running, path: str = "/admin/usage", method: str = "GET", headers: Mapping[str, str] | None = None
) -> Answer:
    given = {"Host": "localhost", **(headers or {})}
    asked = request(path, method=method, headers=given)
    return await ask(running.admin_url.replace("0.0.0.0", "127.0.0.1"), asked, head=method == "HEAD")


def bearer(key: str = KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# --- the key ----------------------------------------------------------------------------------------------------------


async def test_every_route_but_metrics_and_health_needs_the_key() -> None:
    """Also one that is added tomorrow: the app is asked what it has."""
    async with served(key=KEY) as running:
        routes = {
            (route.method, route.resource.canonical)
            for route in make_admin_app(running.service).router.routes()
            if route.resource is not None
        }
        assert {path for _, path in routes} > OPEN
        for method, path in routes:
            answer = await asks(running, path.replace("{", "").replace("}", ""), method)
            if path in OPEN:
                assert answer.status == 200, path
            elif is_console(path):
                assert answer.status in (308, 404), path
            else:
                assert answer.status == 401, path
                assert answer.header("www-authenticate") == 'Bearer realm="sidegate admin"'


@pytest.mark.parametrize("path", ["/admin", "/admin/nothing", "/", "//admin/usage", "/metrics/", "/metrics/../admin"])
async def test_without_the_key_nobody_learns_what_there_is(path: str) -> None:
    async with served(key=KEY) as running:
        answer = await asks(running, path)
        check_problem(answer, 401)
        assert answer.json["code"] == "missing_admin_key"


async def test_the_key_opens_administration(http: aiohttp.ClientSession) -> None:
    async with served(key=KEY) as running:
        for headers in (bearer(), {"Authorization": f"bearer  {KEY}"}):
            async with http.get(running.admin_url + "/admin/usage", headers=headers) as reply:
                assert reply.status == 200
        assert (await asks(running, "/admin/nothing", headers=bearer())).status == 404
        assert running.log.events("admin_refused") == []


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        "Bearer",
        "Bearer ",
        "",
        f"Basic {KEY}",
        KEY,
        f"Bearer{KEY}",
        "Bearer \xe9",
    ],
)
async def test_a_wrong_key_is_refused_and_logged_without_it(value: str) -> None:
    async with served(key=KEY) as running:
        answer = await asks(running, headers={"Authorization": value})
        check_problem(answer, 401)
        (line,) = running.log.events("admin_refused")
        assert line["code"] == answer.json["code"] == "invalid_admin_key"
        assert KEY.encode()[:-1] not in running.log.data + answer.body


async def test_two_keys_are_none() -> None:
    async with served(key=KEY) as running:
        twice = request(
            "/admin/usage", method="GET", headers=[("Host", "localhost"), *bearer().items(), *bearer().items()]
        )
        check_problem(await ask(running.admin_url, twice), 401)


async def test_a_callers_key_is_no_admin_key() -> None:
    async with served(key=KEY) as running:
        check_problem(await asks(running, headers={"x-api-key": KEY}), 401)


async def test_without_a_key_this_machine_administers_and_others_do_not() -> None:
    async with served() as running:
        assert (await asks(running)).status == 200
    async with served(**REACHABLE) as running:
        answer = await asks(running)
        check_problem(answer, 403)
        assert answer.json["code"] == "administration_off"
        for path in OPEN:
            assert (await asks(running, path, headers={"Host": "gateway.example:8081"})).status == 200


# --- whom it is called by ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/admin/usage", "/metrics", "/readyz"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8081", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8081", 200),
        ("ops.example:443", 200),
        ("evil.example", 421),
        ("evil.example:8081", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("10.0.0.1", 421),
        ("[::", 421),
        ("", 421),
    ],
)
async def test_a_name_that_was_made_to_lead_here_is_refused(path: str, host: str, status: int) -> None:
    async with served(names=["ops.example"]) as running:
        answer = await asks(running, path, headers={"Host": host})
        assert answer.status in (status, 400 if status == 421 else status)


async def test_where_others_can_reach_it_the_key_guards_and_not_the_name() -> None:
    async with served(host="0.0.0.0", key=KEY) as running:
        assert (await asks(running, headers={"Host": "gateway.example", **bearer()})).status == 200


# --- pages of a browser -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", KEY], ids=["no key", "key"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
async def test_a_page_of_another_origin_may_not_ask(key: str, headers: dict[str, str], status: int) -> None:
    async with served(key=key) as running:
        answer = await asks(running, headers={**bearer(), **headers})
        assert answer.status == status
        assert answer.header("access-control-allow-origin") is None
        if status == 403:
            check_problem(answer, 403)
            assert answer.json["code"] == "cross_site"


async def test_a_browser_that_asks_beforehand_is_told_nothing() -> None:
    asking = {"Origin": "http://evil.example", "Access-Control-Request-Headers": "authorization"}
    async with served(key=KEY) as running:
        answer = await asks(running, method="OPTIONS", headers=asking)
        assert answer.status == 403
        assert not [name for name, _ in answer.headers if name.startswith("access-control")]
