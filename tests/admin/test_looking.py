"""What is configured and how it is: told by the admin listener as it stands, and without a secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from sidegate import __version__
from sidegate.commands.check import made
from sidegate.config import read_mapping
from sidegate.http.admin.config import shown_config
from sidegate.loader import load
from sidegate.null_host import null_host
from sidegate.testing import gateway
from tests.admin.ground import KEY, Desk, administered, config
from tests.tree import ROOT

LISTS = ["routes", "pipelines", "plugins", "models", "budgets", "calls"]
READ = ["status", "config", *LISTS]
EXAMPLES = sorted((ROOT / "config" / "examples").glob("*.yaml"))
CONFIGS = [ROOT / "config" / "sidegate.yaml", ROOT / "config" / "container.yaml", *EXAMPLES]


async def test_the_status_says_how_it_is() -> None:
    async with administered(config()) as desk:
        status = await desk.asks("/admin/status")
        assert status["version"] == __version__
        assert (status["ready"], status["draining"], status["in_flight"]) == (True, False, 0)
        assert status["reload"]["generation"] == 1
        assert status["reload"]["error"] is None
        assert status["ledger"] == {"room": True, "waiting": 0, "problem": None}
        async with desk.streaming():
            assert (await desk.asks("/admin/status"))["in_flight"] == 1


async def test_the_config_can_be_read_and_used_again(tmp_path: Path) -> None:
    limits = [{"name": "all", "calls": 7}]
    meant = config({"use": "concurrency", "settings": {"limits": limits}})
    async with administered(meant) as desk:
        found = await desk.asks("/admin/config")
    said = yaml.safe_load(found["yaml"])
    assert said["admin"] == {"port": 0, "key": "***"}
    assert said["pipelines"]["main"]["plugins"][2] == {"use": "concurrency", "settings": {"limits": limits}}
    assert "server" in found["settings"]
    assert found["settings"]["server"]["max_calls"] == 10_000
    # What it says besides the defaults is what the config has said: it loads, and means the same.
    said["admin"]["key"] = KEY
    for plugin in said["pipelines"]["main"]["plugins"][:1]:
        plugin["settings"]["keys"] = meant["pipelines"]["main"]["plugins"][0]["settings"]["keys"]
    again = read_mapping(said, {}, tmp_path).settings
    assert again.providers == read_mapping(meant, {}, tmp_path).settings.providers
    assert again.pipelines == read_mapping(meant, {}, tmp_path).settings.pipelines


async def test_pipelines_tell_what_each_plugin_took() -> None:
    async with administered(config()) as desk:
        for _ in range(3):
            await desk.says()
        (pipeline,) = await desk.rows("/admin/pipelines")
        names = [plugin["name"] for plugin in pipeline["plugins"]]
        assert names == ["api_key", "cost"]
        for plugin in pipeline["plugins"]:
            assert plugin["calls"] == 3
            assert plugin["seconds"] > 0
            assert plugin["failures"] == 0
        assert pipeline["plugins"][0]["settings"]["keys"][0]["digest"] == "***"


async def test_models_tell_where_they_lead_and_what_they_cost() -> None:
    async with administered(config()) as desk:
        rows = {row["name"]: row for row in await desk.rows("/admin/models")}
        assert set(rows) == {"demo", "slow", "demo*"}
        (target,) = rows["slow"]["targets"]
        assert (target["provider"], target["model"], target["circuit"]) == ("slow", "demo", "closed")
        assert target["prices"][0]["pipeline"] == "main"
        assert target["prices"][0]["rates"]["output"] == 2 * 10**9
        (pattern,) = rows["demo*"]["targets"]
        assert (pattern["model"], pattern["circuit"]) == (None, None)


async def test_an_open_circuit_is_seen() -> None:
    ill = config()
    ill["providers"]["ill"] = {
        "dialect": "openai",
        "base_url": "http://127.0.0.1:9",
        "circuit": {"min_calls": 1, "open_seconds": 60},
        "retry": {"attempts": 1},
    }
    ill["models"]["ill"] = {"provider": "ill"}
    async with administered(ill) as desk:
        await desk.says(model="ill", status=502)
        rows = {row["name"]: row for row in await desk.rows("/admin/models")}
        assert rows["ill"]["targets"][0]["circuit"] == "open"


async def test_plugins_and_routes_are_listed() -> None:
    routes = [{"name": "one", "prefix": "/one", "pipeline": "main", "operations": ["chat"], "timeouts": {"total": 9}}]
    async with administered(config(routes=routes)) as desk:
        (route,) = await desk.rows("/admin/routes")
        assert (route["prefix"], route["operations"], route["timeouts"]["total"]) == ("/one", ["chat"], 9)
        found = {row["name"]: row for row in await desk.rows("/admin/plugins")}
        assert {"api_key", "cost", "log"} <= set(found)
        assert found["cost"]["schema"]["$defs"]["Budget"]["required"] == ["name", "amount_usd"]


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return config()


@pytest.mark.parametrize("name", READ)
async def test_a_parameter_nobody_knows_is_refused(name: str, plain: dict[str, Any]) -> None:
    async with administered(plain) as desk:
        found = await desk.asks(f"/admin/{name}?stat=settled", 400)
        assert found["code"] == "invalid_request"


async def test_other_methods_are_told_which_there_are() -> None:
    async with administered(config()) as desk:
        for path, method, allowed in (
            ("/admin/status", "POST", "GET"),
            ("/admin/config", "HEAD", "GET"),
            ("/admin/calls", "DELETE", "GET"),
            ("/admin/calls/" + "0" * 32, "PUT", "DELETE, GET"),
            ("/openapi.json", "POST", "GET"),
        ):
            url = desk.running.admin_url + path
            async with desk.http.request(method, url, headers={"Authorization": f"Bearer {KEY}"}) as reply:
                assert (reply.status, reply.headers["Allow"]) == (405, allowed), path


async def test_nothing_is_told_without_the_key() -> None:
    async with administered(config()) as desk:
        for name in (*READ, "live", "jobs", "calls/" + "0" * 32 + "/trail"):
            async with desk.http.get(f"{desk.running.admin_url}/admin/{name}") as reply:
                assert (reply.status, (await reply.json())["code"]) == (401, "missing_admin_key"), name


# --- secrets ----------------------------------------------------------------------------------------------------------

PLANTED = {"PROVIDER_KEY": "sk-planted-provider-key-0123456789", "HEADER": "planted-header-value-987"}
OTHER = {
    "dialect": "openai",
    "base_url": "https://api.example/v1",
    "api_keys": ["${PROVIDER_KEY}", "sk-planted-second-key-000"],
    "headers": {"x-team": "${HEADER}", "x-account": "planted-account-header"},
}


def planted() -> dict[str, Any]:
    """A config with a secret in every place that has one."""
    whole = config({"use": "log"}, {"use": "idempotency"})
    whole["providers"]["other"] = OTHER
    whole["models"]["other"] = {"provider": "other"}
    return whole


async def test_no_secret_is_in_any_answer() -> None:
    async with (
        gateway(planted(), environ=PLANTED) as running,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        desk = Desk(running, http)
        id = await desk.says()
        paths = [f"/admin/{name}" for name in READ]
        for path in (*paths, f"/admin/calls/{id}", f"/admin/calls/{id}/trail", "/openapi.json"):
            text = str(await desk.asks(path))
            assert "planted" not in text, path
            assert KEY not in text, path


def test_no_password_of_a_url_is_shown(tmp_path: Path) -> None:
    stores = {
        "ledger": {"url": "postgresql://sidegate:planted-1@db.example/sidegate?sslpassword=planted-2"},
        "counters": {"url": "rediss://:planted-3@cache.example/0"},
    }
    loaded = read_mapping({**planted(), **stores}, PLANTED, tmp_path)
    found = shown_config(loaded, load(loaded.settings, null_host(loaded.settings), tmp_path))
    assert "db.example" in found.yaml
    assert "cache.example" in found.yaml
    assert "planted" not in found.yaml + str(found.settings)


@pytest.mark.usefixtures("acme_shout")
@pytest.mark.parametrize("path", CONFIGS, ids=[path.name for path in CONFIGS])
def test_no_secret_of_a_shipped_config_is_shown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{(\w+)", path.read_text()):
        monkeypatch.setenv(name, f"planted-{name.lower().replace('_', '-')}")
    loaded, plugins = made(path)
    found = shown_config(loaded, plugins)
    text = found.yaml + str(found.settings)
    assert [secret for secret in loaded.secrets if secret in text] == []
    assert yaml.safe_load(found.yaml)["models"]
