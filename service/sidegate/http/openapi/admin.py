"""What the admin listener serves, in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, get_args

from sidegate.finder import Available
from sidegate.http.admin.answers import Page
from sidegate.http.admin.budgets import ShownBudget
from sidegate.http.admin.calls import FILTERS, STATES, FlyingCalls, KnownCall, StoppedCall
from sidegate.http.admin.config import ShownConfig, ShownModel, ShownPipeline, ShownRoute
from sidegate.http.admin.console import TYPES
from sidegate.http.admin.keys import ChangedKey, ToldKey
from sidegate.http.admin.live import Now
from sidegate.http.admin.status import Status
from sidegate.http.openapi import shapes
from sidegate.http.openapi.calls import CALL
from sidegate.http.openapi.spec import JSON, PLAIN, TEXT, Json, Spec, events, nothing, parameter
from sidegate.http.openapi.words import CALL_ID, USAGE_PARAMETERS, operation
from sidegate.in_flight import InFlight
from sidegate.keys.asked import Change, Issue, Rotate
from sidegate.keys.desk import Page as KeyPage
from sidegate.keys.key import Shown, State
from sidegate.ledger.rows import CallRow
from sidegate.telemetry.trails import Trail

GUARDED = (400, 401, 403, 421, 500, 505)
"""What the guard answers, and what is said of parameters."""
BODY = (408, 413, 415, 417)
STORE = (503,)
TAG = "Administration"

Maker: TypeAlias = Callable[[Spec], Json]

_KEY_ID = parameter("id", "path", "The key's public name.", {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"})
_JOB_ID = parameter("id", "path", "The job.", {"type": "string", "pattern": "^[0-9a-f]{32}$"})
_AFTER = parameter("after", "query", "`next` of the page before.")
_TIME = {"type": "string", "examples": ["7d", "2026-11-22"]}


def _limit(most: int, usual: int) -> Json:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": usual}
    return parameter("limit", "query", "How many.", schema)


def _one_of(name: str, description: str, words: tuple[str, ...]) -> Json:
    return parameter(name, "query", description, {"type": "string", "enum": list(words)})


def _asks(
    id: str,
    summary: str,
    answer: Any,
    *parameters: Json,
    errors: tuple[int, ...] = (),
    status: int = 200,
    body: Any = None,
    optional: bool = False,
) -> Maker:
    """An operation that answers JSON."""

    def make(spec: Spec) -> Json:
        more: Json = {}
        statuses = (*GUARDED, *errors)
        if body is not None:
            more["requestBody"] = {"required": not optional, "content": spec.content(body)}
            statuses += BODY
        said = {str(status): spec.said("As asked.", answer), **spec.errors(PLAIN, statuses)}
        return operation(id, TAG, summary, said, parameters, **more)

    return make


def _calls(spec: Spec) -> Json:
    text = {"type": "string", "maxLength": 256}
    parameters = [
        _one_of("state", "`in_flight`: those that run. Otherwise those that are over, newest first.", STATES),
        *(parameter(name, "query", "Only such calls.", text) for name in FILTERS),
        parameter("since", "query", "When they began: `7d`, a date, or a date and time.", _TIME),
        parameter("until", "query", "The same; not included.", _TIME),
        parameter("after", "query", "The last call of the page before.", CALL_ID["schema"]),
        _limit(1000, 50),
    ]
    made = _asks("listCalls", "Calls of all callers", Page[CallRow], *parameters, errors=STORE)(spec)
    kinds = [spec.schema(kind) for kind in (Page[CallRow], FlyingCalls)]
    made["responses"]["200"]["content"] = {JSON: {"schema": {"anyOf": kinds}}}
    return made


def _call(spec: Spec) -> Json:
    made = _asks("getCall", "One call, with its attempts and its trail", KnownCall, CALL_ID, errors=(404, 503))(spec)
    kinds = [spec.schema(kind) for kind in (KnownCall, InFlight)]
    made["responses"]["200"]["content"] = {JSON: {"schema": {"anyOf": kinds}}}
    return made


def _usage(spec: Spec) -> Json:
    form = _one_of("format", "How it is told.", ("json", "csv"))
    made = _asks(
        "getUsage", "What all callers have used", shapes.UsageReport, *USAGE_PARAMETERS[:-1], form, errors=(501, 503)
    )
    described = made(spec)
    described["responses"]["200"]["content"]["text/csv; charset=utf-8"] = {"schema": {"type": "string"}}
    return described


def _live(spec: Spec) -> Json:
    spec.schema(Now)
    said = {
        "200": {**spec.said("One event a second."), "content": events("`event: live`, whose data is a `Now`.")},
        **spec.errors(PLAIN, (*GUARDED, 503)),
    }
    return operation("watch", TAG, "What goes on, as it happens", said)


def _metrics(spec: Spec) -> Json:
    said = spec.said("For Prometheus.")
    for media in ("text/plain; version=0.0.4; charset=utf-8", "text/plain", "application/openmetrics-text"):
        said["content"][media] = {"schema": {"type": "string"}}
    made = operation("getMetrics", "Health", "Metrics", {"200": said, **spec.errors(PLAIN, (400, 421))})
    return {**made, "security": []}


def _reload(spec: Spec) -> Json:
    return _asks("reload", "Read the config again", shapes.Reloaded, errors=(409, 422, 503))(spec)


def _page(spec: Spec) -> Json:
    said = {"308": nothing("To `/console/`."), **spec.errors(PLAIN, (400, 403, 421))}
    return {**operation("openConsole", "Console", "The console", said), "security": []}


def _file(spec: Spec) -> Json:
    answered = spec.said("The page, and what belongs to it.")
    for media in sorted(set(TYPES.values())):
        answered["content"][f"{media}; charset=utf-8"] = {"schema": {"type": "string"}}
    said = {"200": answered, "304": nothing("As it is kept."), **spec.errors(PLAIN, (400, 403, 404, 421))}
    name = parameter("name", "path", "`index.html`, if empty. It may hold slashes.")
    return {**operation("getConsoleFile", "Console", "A file of the console", said, [name]), "security": []}


def _playground(spec: Spec) -> Json:
    """Whatever a client's call is answered."""
    answered = spec.said("What the client would have got.", Any)
    answered["content"] |= events("As of the call.") | _SAID
    said: Json = {"200": answered, "202": {**answered, "description": "The call is kept as a job."}}
    for status in sorted({*CALL, *GUARDED}):
        error = spec.resolved(spec.errors(PLAIN, [status])[str(status)])
        said[str(status)] = {**error, "content": {**error["content"], JSON: {"schema": {}}, **_SAID}}
    path = parameter("path", "path", "The path of a call on the clients' listener. It may hold slashes.")
    own = parameter("x-sidegate-client-authorization", "header", "The call's own `Authorization`.")
    body = {"required": True, "content": {JSON: {"schema": {"type": "object"}}}}
    return operation("call", "Console", "A call, as a client makes it", said, [path, own], requestBody=body)


_SAID: Json = {f"{TEXT}; charset=utf-8": {"schema": {"type": "string"}}}

_KEYS = (
    parameter("owner", "query", "Only theirs."),
    parameter("team", "query", "Only theirs."),
    parameter("name", "query", "Only of this name."),
    _one_of("state", "Only in this state.", get_args(State)),
    _AFTER,
    _limit(500, 100),
)
_JOB_STATES = ("cancelled", "completed", "expired", "failed", "queued", "running")

OPERATIONS: Mapping[tuple[str, str], Maker] = {
    ("GET", "/metrics"): _metrics,
    ("GET", "/admin/status"): _asks("getStatus", "How the gateway is", Status),
    ("GET", "/admin/config"): _asks("getConfig", "The config in force, without its secrets", ShownConfig),
    ("GET", "/admin/routes"): _asks("listRoutes", "Which calls take which pipeline", Page[ShownRoute]),
    ("GET", "/admin/pipelines"): _asks("listPipelines", "Plugins in order, with their time", Page[ShownPipeline]),
    ("GET", "/admin/plugins"): _asks("listPlugins", "What a config may use", Page[Available]),
    ("GET", "/admin/models"): _asks("listAllModels", "Where models lead, and what they cost", Page[ShownModel]),
    ("GET", "/admin/budgets"): _asks(
        "listBudgets",
        "Budgets, with what is left",
        Page[ShownBudget],
        parameter("budget", "query", "Only this one."),
        _AFTER,
        _limit(500, 100),
        errors=STORE,
    ),
    ("GET", "/admin/calls"): _calls,
    ("GET", "/admin/calls/{id}"): _call,
    ("DELETE", "/admin/calls/{id}"): _asks("stopCall", "Stop a call", StoppedCall, CALL_ID, errors=(404, 503)),
    ("GET", "/admin/calls/{id}/trail"): _asks(
        "getTrail", "What each plugin did to a call", Trail, CALL_ID, errors=(404,)
    ),
    ("GET", "/admin/live"): _live,
    ("GET", "/admin/jobs"): _asks(
        "listJobs",
        "Jobs of all callers, newest first",
        shapes.AnyJobs,
        parameter("caller", "query", "Only theirs."),
        _one_of("state", "Only in this state.", _JOB_STATES),
        _AFTER,
        _limit(100, 50),
        errors=(404, 503),
    ),
    ("GET", "/admin/jobs/{id}"): _asks("getJob", "A job", shapes.AnyJob, _JOB_ID, errors=(404, 410, 503)),
    ("DELETE", "/admin/jobs/{id}"): _asks("cancelJob", "Cancel a job", shapes.AnyJob, _JOB_ID, errors=(404, 410, 503)),
    ("GET", "/admin/usage"): _usage,
    ("POST", "/admin/reload"): _reload,
    ("GET", "/console"): _page,
    ("GET", "/console/{name}"): _file,
    ("POST", "/admin/playground/{path}"): _playground,
    ("GET", "/admin/keys"): _asks("listKeys", "Issued keys, oldest first", KeyPage, *_KEYS, errors=(501, 503)),
    ("POST", "/admin/keys"): _asks(
        "issueKey", "Issue a key; its secret is told this once", ToldKey, body=Issue, status=201, errors=(501, 503)
    ),
    ("GET", "/admin/keys/{id}"): _asks("getKey", "A key", Shown, _KEY_ID, errors=(404, 501, 503)),
    ("PATCH", "/admin/keys/{id}"): _asks(
        "changeKey", "Change a key", ChangedKey, _KEY_ID, body=Change, errors=(404, 409, 501, 503)
    ),
    ("DELETE", "/admin/keys/{id}"): _asks("revokeKey", "Revoke a key", Shown, _KEY_ID, errors=(404, 501, 503)),
    ("POST", "/admin/keys/{id}/rotate"): _asks(
        "rotateKey",
        "Another secret for a key; it is told this once",
        ToldKey,
        _KEY_ID,
        body=Rotate,
        optional=True,
        errors=(404, 409, 501, 503),
    ),
}
"""By method and path."""
