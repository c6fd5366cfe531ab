"""Writes the Grafana dashboard: `python scripts/dashboard.py`. A test holds the file to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parents[1] / "config" / "grafana" / "dashboards" / "sidegate.json"

_OF = 'gen_ai_request_model=~"$model",gen_ai_provider_name=~"$provider"'
_BAD = 'ending!~"complete|refused|client_gone|cancelled"'
_RATE = "$__rate_interval"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
_FIRST = "gen_ai_client_operation_time_to_first_chunk_seconds"
_TOKEN = "gen_ai_client_operation_time_per_output_chunk_seconds"
_WHOLE = "gen_ai_client_operation_duration_seconds"


class Panel(NamedTuple):
    """One panel: what it is called, its unit by Grafana's name, and queries with their legends."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    width: int = 8
    about: str = ""
    stacked: bool = False


def _rate(metric: str, by: str = "", more: str = "", of: str = _OF) -> str:
    inside = ",".join(part for part in (of, more) if part)
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{inside}}}[{_RATE}]))"


def _shares(metric: str, of: str = _OF, by: str = "") -> tuple[tuple[str, str], ...]:
    """The median, and what 95 and 99 of 100 stay below."""
    return tuple((_below(share, metric, of, by), f"p{share * 100:.0f}") for share in (0.5, 0.95, 0.99))


def _below(share: float, metric: str, of: str = _OF, by: str = "") -> str:
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({grouped}) (rate({metric}_bucket{{{of}}}[{_RATE}])))"


_CALLS = "sidegate_calls_total"
_TROUBLE = f"{_rate(_CALLS, more=_BAD)} / {_rate(_CALLS)}"

ROWS: dict[str, tuple[Panel, ...]] = {
    "At a glance": (
        Panel("Calls a second", "reqps", ((_rate(_CALLS), "calls"),), "stat", 4),
        Panel("Ended badly", "percentunit", ((_TROUBLE, "share"),), "stat", 4, "Without refusals and leaving clients."),
        Panel("In flight", "short", (("sum(sidegate_calls_in_flight)", "calls"),), "stat", 4),
        Panel("First token, 95 of 100", "s", ((_below(0.95, _FIRST), "p95"),), "stat", 4),
        Panel(
            "Tokens a second",
            "short",
            ((_rate("sidegate_tokens_total", more='gen_ai_token_type="output"'), "output"),),
            "stat",
            4,
        ),
        Panel("USD an hour", "currencyUSD", ((_rate("sidegate_cost_usd_total") + " * 3600", "cost"),), "stat", 4),
    ),
    "Calls": (
        Panel("By ending", "reqps", ((_rate(_CALLS, "ending"), "{{ending}}"),), width=12, stacked=True),
        Panel(
            "By model",
            "reqps",
            ((_rate(_CALLS, "gen_ai_request_model"), "{{gen_ai_request_model}}"),),
            width=12,
            stacked=True,
        ),
    ),
    "Waiting": (
        Panel("To the first token", "s", _shares(_FIRST), about="Of streams, from the call's start."),
        Panel("For each token after it", "s", _shares(_TOKEN)),
        Panel("For the whole reply", "s", _shares(_WHOLE)),
    ),
    "Tokens and money": (
        Panel(
            "Tokens a second",
            "short",
            ((_rate("sidegate_tokens_total", "gen_ai_token_type"), "{{gen_ai_token_type}}"),),
        ),
        Panel(
            "USD an hour by model",
            "currencyUSD",
            ((_rate("sidegate_cost_usd_total", "gen_ai_request_model") + " * 3600", "{{gen_ai_request_model}}"),),
            stacked=True,
        ),
        Panel(
            "Not yet told",
            "short",
            (
                (_rate("sidegate_unpriced_attempts_total") + " * 3600", "attempts without a price, an hour"),
                ("max(sidegate_ledger_unsettled_calls)", "calls to reconcile"),
                ("sum(sidegate_ledger_waiting_rows)", "rows not yet written"),
            ),
            about="What is missing in the cost.",
        ),
    ),
    "Providers": (
        Panel(
            "Attempts that failed",
            "reqps",
            (
                (
                    _rate("sidegate_attempts_total", "provider, error_type", 'error_type!=""', ""),
                    "{{provider}} {{error_type}}",
                ),
            ),
        ),
        Panel("Left alone", "short", (("sum by (provider, model) (sidegate_target_open)", "{{provider}} {{model}}"),)),
        Panel(
            "Keys put to rest, connections replaced",
            "reqps",
            (
                (_rate("sidegate_provider_key_rests_total", "provider, reason", of=""), "{{provider}} {{reason}}"),
                (_rate("sidegate_provider_reconnects_total", of=""), "reconnects"),
            ),
        ),
    ),
    "The gateway": (
        Panel(
            "A plugin's own time, 95 of 100",
            "s",
            ((_below(0.95, "sidegate_plugin_seconds", "", "plugin"), "{{plugin}}"),),
            width=6,
        ),
        Panel("Event loop late by", "s", _shares("sidegate_event_loop_lag_seconds", ""), width=6),
        Panel(
            "Failures inside",
            "reqps",
            (
                (_rate("sidegate_plugin_failures_total", "plugin", of=""), "plugin {{plugin}}"),
                (_rate("sidegate_counter_store_failures_total", "operation", of=""), "store {{operation}}"),
            ),
            width=6,
        ),
        Panel(
            "Memory and CPU",
            "short",
            (
                ("sum(process_resident_memory_bytes) / 1048576", "MiB resident"),
                (f"sum(rate(process_cpu_seconds_total[{_RATE}])) * 100", "% of a core"),
            ),
            width=6,
        ),
        Panel(
            "Jobs",
            "short",
            (("sum(sidegate_jobs_running)", "running"), ("max(sidegate_jobs_queued)", "queued")),
            width=6,
            about="Where the config accepts jobs.",
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """As Grafana imports it (schema 39, Grafana 10 and later)."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(_placed({"type": "row", "title": title, "collapsed": False, "panels": []}, panels, top, 0, 1, 24))
        top += 1
        left = 0
        height = 4 if row[0].kind == "stat" else 8
        for panel in row:
            if left + panel.width > _WIDTH:
                left, top = 0, top + height
            panels.append(_placed(_panel(panel), panels, top, left, height, panel.width))
            left += panel.width
        top += height
    return {
        "title": "Sidegate",
        "uid": "sidegate",
        "description": "Calls, waiting, money, providers and the gateway itself.",
        "tags": ["sidegate", "llm"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _placed(
    panel: dict[str, Any], before: list[dict[str, Any]], top: int, left: int, height: int, width: int
) -> dict[str, Any]:
    return {"id": len(before) + 1, **panel, "gridPos": {"x": left, "y": top, "w": width, "h": height}}


def _panel(panel: Panel) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {"fillOpacity": 8}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom if panel.kind == "timeseries" else {}},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if panel.kind == "timeseries" else {},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return [source, _choice("model", "gen_ai_request_model"), _choice("provider", "gen_ai_provider_name")]


def _choice(name: str, label: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": f"label_values({_CALLS}, {label})",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def text() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
    print(f"wrote {FILE}")
