"""The dashboard and the alert rules: every query parses, and asks for metrics and labels that the gateway has."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from sidegate.testing import closed_port, demo_config, gateway
from tests.tree import ROOT

CONFIG = ROOT / "config"
OF_PROMETHEUS = {"instance", "job", "le"}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode((CONFIG / "grafana/dashboards/sidegate.json").read_bytes())
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((CONFIG / "prometheus/alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def queries() -> dict[str, str]:
    """Each query by where it stands."""
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    found = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in panels
        for target in panel["targets"]
    }
    return found | {rule["alert"]: rule["expr"] for rule in rules()}


def selectors(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    inner = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    for one in [*inner, *getattr(node, "args", [])]:
        if one is not None:
            yield from selectors(one)


def grouped(node: Any) -> Iterator[str]:
    """The labels that a query groups by."""
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        yield from node.modifier.labels
    inner = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    for one in [*inner, *getattr(node, "args", [])]:
        if one is not None:
            yield from grouped(one)


def labels(family: Metric) -> set[str]:
    return {label for sample in family.samples for label in sample.labels}


def series(registry: CollectorRegistry) -> dict[str, set[str]]:
    """The names that can be asked for, with the labels their samples have."""
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        found |= {family.name + ending: labels(family) for ending in endings}
    return found


@pytest.fixture
async def exposed(tmp_path: Path) -> dict[str, set[str]]:
    """Of a gateway that has had a good call and a bad one, and that accepts jobs."""
    broken = {"dialect": "openai", "base_url": closed_port()}
    config = demo_config({"use": "cost"}, jobs={}, ledger={"url": f"sqlite:///{tmp_path}/ledger.db"})
    config["providers"]["away"] = broken
    config["models"]["away"] = {"provider": "away"}
    async with gateway(config) as running, aiohttp.ClientSession() as session:
        for model in ("demo", "away"):
            asked = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
            async with session.post(running.url + "/v1/chat/completions", json=asked) as response:
                await response.read()
        return series(running.service.metrics.registry)


async def test_every_query_asks_for_what_the_gateway_has(exposed: dict[str, set[str]]) -> None:
    for place, query in queries().items():
        asked = promql_parser.parse(query)
        named: set[str] = set()
        for selector in selectors(asked):
            known = selector.name in exposed or selector.name.startswith("process_")
            assert known, f"{place}: there is no metric {selector.name}"
            has = exposed.get(selector.name) or None
            named |= has or set()
            for matcher in selector.matchers.matchers:
                assert has is None or matcher.name in has, f"{place}: {selector.name} has no label {matcher.name}"
        wrong = set(grouped(asked)) - named - OF_PROMETHEUS
        assert not named or not wrong, f"{place}: no label {wrong}"


async def test_the_queries_are_seen_to_have_labels(exposed: dict[str, set[str]]) -> None:
    """Or the test above would hold nothing to anything."""
    assert {"ending", "gen_ai_request_model", "gen_ai_provider_name"} <= exposed["sidegate_calls_total"]
    assert {"provider", "error_type"} <= exposed["sidegate_attempts_total"]
    assert {"provider", "model"} <= exposed["sidegate_target_open"]
    assert "sidegate_ledger_unsettled_calls" in exposed


def test_the_dashboard_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "dashboard.py"))
    assert (CONFIG / "grafana/dashboards/sidegate.json").read_text() == script["text"]()


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_a_rule_says_what_has_happened_and_how_bad_it_is(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
