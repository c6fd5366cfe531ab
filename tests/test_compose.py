"""The Compose file, as far as it can be tried without Docker.

Tried: the file against the schema of the Compose specification; that services, volumes and files lead to each other;
the config in it. Not tried: an engine, and the images.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sidegate.commands.check import made
from tests.tree import ROOT

CONFIG = ROOT / "config"
Mapping = dict[str, Any]


@pytest.fixture(scope="module")
def compose() -> Mapping:
    found: Mapping = yaml.safe_load((CONFIG / "compose.yaml").read_text())
    return found


def schema() -> Any:
    text = (files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text()
    return json.loads(text)


def mounts(service: Mapping) -> list[tuple[str, str]]:
    found = []
    for each in service.get("volumes", ()):
        source, target, *_ = each.split(":")
        found.append((source, target))
    return found


def test_it_is_right_by_the_schema(compose: Mapping) -> None:
    validator = jsonschema.validators.validator_for(schema())(schema())
    assert [error.message for error in validator.iter_errors(compose)] == []
    wrong = {**compose, "services": {**compose["services"], "x": {"imagee": "y"}}}
    assert list(validator.iter_errors(wrong)), "a mistake is seen"


def test_what_is_mounted_is_there_and_what_is_named_is_declared(compose: Mapping) -> None:
    volumes = set()
    for service in compose["services"].values():
        for source, _ in mounts(service):
            if source.startswith("."):
                assert (CONFIG / source).exists(), source
            else:
                volumes.add(source)
        for name in service.get("depends_on", ()):
            assert name in compose["services"]
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "of this machine only"
    assert volumes == set(compose["volumes"])


def test_nothing_waits_for_what_says_nothing(compose: Mapping) -> None:
    """Whoever is waited for until it is healthy has a health check: its own, or that of the image built here."""
    for service in compose["services"].values():
        waits = service.get("depends_on", {})
        for name, how in waits.items() if isinstance(waits, dict) else ():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in compose["services"][name] or name == "sidegate"
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_the_gateway_is_built_here_with_what_its_config_needs(compose: Mapping) -> None:
    for name, first in (("migrate", "migrate"), ("sidegate", None)):
        service = compose["services"][name]
        assert (CONFIG / service["build"]["context"]).resolve() == ROOT
        assert set(service["build"]["args"]["EXTRAS"].split(",")) >= {"postgres", "redis"}
        assert dict(mounts(service)) == {"./compose/sidegate.yaml": "/config/sidegate.yaml", "sidegate": "/data"}
        assert service.get("command", [None])[0] == first
    assert "ARG EXTRAS\n" in (ROOT / "Dockerfile").read_text()
    drain = 30
    assert int(compose["services"]["sidegate"]["stop_grace_period"].removesuffix("s")) > drain


def test_its_config_is_right_with_the_environment_it_gets(compose: Mapping, monkeypatch: pytest.MonkeyPatch) -> None:
    services = compose["services"]
    for name, value in services["sidegate"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value))
    path = CONFIG / "compose" / "sidegate.yaml"
    loaded, _ = made(path)
    settings = loaded.settings
    published = [port.rpartition(":")[2] for port in services["sidegate"]["ports"]]
    assert settings.admin is not None
    assert published == [str(settings.listen.port), str(settings.admin.port)]
    assert re.match(r"postgresql://sidegate:sidegate@postgres:5432/sidegate$", settings.ledger.url)
    assert settings.counters.url == "valkey://valkey:6379/0"
    named = set(re.findall(r"\$\{(\w+)", path.read_text()))
    assert named == set(services["sidegate"]["environment"])


def test_prometheus_asks_the_gateway_and_grafana_asks_prometheus(compose: Mapping) -> None:
    prometheus = yaml.safe_load((CONFIG / "prometheus" / "prometheus.yaml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["sidegate:8081"]}]
    assert all((CONFIG / "prometheus" / name).exists() for name in prometheus["rule_files"])
    assert "--config.file=/etc/prometheus/prometheus.yaml" in compose["services"]["prometheus"]["command"]
    provisioning = CONFIG / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (shown,) = yaml.safe_load((provisioning / "dashboards" / "sidegate.yaml").read_text())["providers"]
    inside = {target: source for source, target in mounts(compose["services"]["grafana"])}
    dashboards = CONFIG / Path(inside[shown["options"]["path"]])
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (dashboards / Path(home).name).exists()
