"""What clients ask of the gateway itself, in the OpenAPI document: models, calls, usage, jobs, kept responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from sidegate.http.openapi import shapes, vendors
from sidegate.http.openapi.calls import ANTHROPIC, CALL, GEMINI, OPENAI, PAGES
from sidegate.http.openapi.spec import JSON, PLAIN, TEXT, Json, Spec, events, nothing, parameter
from sidegate.http.openapi.streams import RECORD
from sidegate.http.openapi.words import CALL_ID, USAGE_PARAMETERS, operation
from sidegate.in_flight import OwnInFlight
from sidegate.ledger.rows import AttemptRow, CallRow

Maker: TypeAlias = Callable[[Spec], Json]

_JOB_ID = parameter("id", "path", "The job.", {"type": "string", "pattern": "^[0-9a-f]{32}$"})
_WAIT = parameter("wait", "query", "Seconds to wait for its end.", {"type": "string", "pattern": "^[0-9]{1,6}$"})
_RESPONSE_ID = parameter("id", "path", "The response.", {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,256}$"})
_MODEL_ID = parameter("id", "path", "The model.")


class OwnCalls(Struct, kw_only=True):
    """The caller's calls in flight, oldest first."""

    object: str
    data: list[OwnInFlight]
    complete: bool
    """Whether all gateways and workers of the store have been asked, and have answered."""


class OwnCall(CallRow, frozen=True, kw_only=True):
    """A call that is over, as the ledger has it."""

    attempts: tuple[AttemptRow, ...]


class OwnStopped(Struct, kw_only=True):
    """What became of a call that was stopped."""

    id: str
    state: str
    ending: str | None


def _models(spec: Spec) -> Json:
    responses = _in_every_voice(spec, "The models the caller may see.", _LISTS)
    return operation("listModels", "Models", "The models the caller may see", responses, description=_VENDOR)


def _gemini_models(version: str) -> Maker:
    return lambda spec: _gemini_list(spec, version)


def _gemini_model(version: str) -> Maker:
    return lambda spec: _gemini_one(spec, version)


def _gemini_list(spec: Spec, version: str) -> Json:
    said = {"200": spec.said("The models the caller may see.", vendors.GeminiModels), **spec.errors(GEMINI, RECORD)}
    return operation(f"listGeminiModels{version.title()}", "Models", "The models the caller may see", said)


def _model(spec: Spec) -> Json:
    responses = _in_every_voice(spec, "The model.", _ONES)
    return operation("getModel", "Models", "One model", responses, [_MODEL_ID], description=_VENDOR)


def _gemini_one(spec: Spec, version: str) -> Json:
    said = {"200": spec.said("The model.", vendors.GeminiModel), **spec.errors(GEMINI, RECORD)}
    return operation(f"getGeminiModel{version.title()}", "Models", "One model", said, [_MODEL_ID])


_VENDOR = (
    "In OpenAI's words; in Anthropic's where the header `anthropic-version` is there, and in Google's where "
    "`x-goog-api-key` or `x-goog-api-client` is."
)
_LISTS = (vendors.OpenAIModels, vendors.AnthropicModels, vendors.GeminiModels)
_ONES = (vendors.OpenAIModel, vendors.AnthropicModel, vendors.GeminiModel)


def _in_every_voice(spec: Spec, description: str, kinds: Sequence[Any]) -> Json:
    """Three vendors ask at one path."""
    answered = spec.said(description)
    answered["content"] = {JSON: {"schema": {"anyOf": [spec.schema(kind) for kind in kinds]}}}
    responses: Json = {"200": answered}
    for status in RECORD:
        bodies = [spec.schema(voice.body) for voice in (OPENAI, ANTHROPIC, GEMINI)]
        responses[str(status)] = {
            **_of(spec, status),
            "content": {JSON: {"schema": {"anyOf": bodies}}},
        }
    return responses


def _of(spec: Spec, status: int) -> Json:
    return spec.resolved(spec.errors(OPENAI, [status])[str(status)])


def _own(spec: Spec, id: str, summary: str, answer: Any, parameters: list[Json], **more: Any) -> Json:
    said = {"200": spec.said(more.pop("said", "As asked."), answer), **spec.errors(PLAIN, RECORD)}
    said |= spec.errors(PLAIN, more.pop("errors", ()))
    return operation(id, more.pop("tag"), summary, said, parameters, **more)


def _calls(spec: Spec) -> Json:
    return _own(spec, "listOwnCalls", "The caller's calls in flight", OwnCalls, [], tag="Calls")


def _call(spec: Spec) -> Json:
    made = _own(spec, "getOwnCall", "One of the caller's calls", OwnCall, [CALL_ID], tag="Calls")
    kinds = [spec.schema(kind) for kind in (OwnInFlight, OwnCall)]
    made["responses"]["200"]["content"] = {JSON: {"schema": {"anyOf": kinds}}}
    return made


def _stop_call(spec: Spec) -> Json:
    return _own(spec, "stopOwnCall", "Stop one of the caller's calls", OwnStopped, [CALL_ID], tag="Calls")


def _usage(spec: Spec) -> Json:
    summary = "What the caller has used"
    return _own(spec, "getOwnUsage", summary, shapes.UsageReport, USAGE_PARAMETERS, tag="Usage", errors=(501,))


def _jobs(spec: Spec) -> Json:
    states = ["queued", "running", "completed", "failed", "cancelled", "expired"]
    parameters = [
        parameter("state", "query", "Only those in this state.", {"type": "string", "enum": states}),
        parameter("limit", "query", "How many.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
        parameter("after", "query", "`next` of the page before."),
    ]
    return _own(spec, "listOwnJobs", "The caller's jobs, newest first", shapes.Jobs, parameters, tag="Jobs")


def _job(spec: Spec) -> Json:
    return _own(spec, "getOwnJob", "How a job stands", shapes.Job, [_JOB_ID, _WAIT], tag="Jobs", errors=(410,))


def _cancel_job(spec: Spec) -> Json:
    return _own(spec, "cancelOwnJob", "Cancel a job", shapes.Job, [_JOB_ID], tag="Jobs", errors=(410,))


def _job_result(spec: Spec) -> Json:
    """In the words of the dialect it was asked in; so are its errors."""
    answered = spec.said("What its client would have got.", Any)
    answered["content"] |= events("Where it was asked for a stream.")
    said: Json = {"200": answered, **spec.errors(PLAIN, (*RECORD, 409, 410))}
    bodies = {JSON: {"schema": {}}, f"{TEXT}; charset=utf-8": {"schema": {"type": "string"}}}
    for status in CALL:
        resolved = spec.resolved(spec.errors(PLAIN, [status])[str(status)])
        said[str(status)] = {**resolved, "content": {**resolved["content"], **bodies}}
    return operation("getJobResult", "Jobs", "The reply of a job", dict(sorted(said.items())), [_JOB_ID, _WAIT])


def _ticket(spec: Spec) -> Json:
    made = _own(
        spec, "makeJobTicket", "A ticket for a job's events", shapes.Ticket, [_JOB_ID], tag="Jobs", errors=(410,)
    )
    responses = made["responses"]
    responses["201"] = responses.pop("200")
    return made


def _job_events(spec: Spec) -> Json:
    parameters = [
        _JOB_ID,
        parameter("Last-Event-ID", "header", "The last event that was seen."),
        parameter("ticket", "query", "In place of a key."),
    ]
    said: Json = {
        "200": {**spec.said("The events of the reply, from where the reader is."), "content": events("With ids.")},
        "204": nothing("There is nothing to read any more."),
        **spec.errors(PLAIN, (*RECORD, 410)),
    }
    return operation("getJobEvents", "Jobs", "The events of a job", said, parameters)


# --- responses that providers keep ------------------------------------------------------------------------------------


def _kept(id: str, summary: str, *, streams: bool = False, answer: Any = vendors.Response) -> Maker:
    def make(spec: Spec) -> Json:
        answered = spec.said("As its provider says it.", answer)
        parameters = [_RESPONSE_ID]
        if streams:
            answered["content"] |= events("`response.*` events.")
            parameters.append(parameter("stream", "query", "`true`: its events."))
        said = {"200": answered, **spec.errors(OPENAI, sorted({*CALL, *RECORD}))}
        return operation(id, "OpenAI", summary, said, parameters)

    return make


def _resume(spec: Spec) -> Json:
    answered = {**spec.said("What is still being said."), "content": events("UI message parts.")}
    said = {"200": answered, "204": nothing("Nothing runs."), **spec.errors(PAGES, RECORD)}
    parameters = [parameter("id", "path", "The chat.")]
    return operation("resumeChat", "AI SDK", "Go on with a chat's reply", said, parameters)


OPERATIONS: Mapping[tuple[str, str], Maker] = {
    ("GET", "/v1/models"): _models,
    ("GET", "/v1/models/{id}"): _model,
    **{("GET", f"/{version}/models"): _gemini_models(version) for version in ("v1beta", "v1alpha", "v1beta1")},
    **{("GET", f"/{version}/models/{{id}}"): _gemini_model(version) for version in ("v1beta", "v1alpha", "v1beta1")},
    ("GET", "/v1/calls"): _calls,
    ("GET", "/v1/calls/{id}"): _call,
    ("DELETE", "/v1/calls/{id}"): _stop_call,
    ("GET", "/v1/usage"): _usage,
    ("GET", "/v1/jobs"): _jobs,
    ("GET", "/v1/jobs/{id}"): _job,
    ("DELETE", "/v1/jobs/{id}"): _cancel_job,
    ("GET", "/v1/jobs/{id}/result"): _job_result,
    ("POST", "/v1/jobs/{id}/ticket"): _ticket,
    ("GET", "/v1/jobs/{id}/events"): _job_events,
    ("GET", "/v1/responses/{id}"): _kept("getResponse", "A response that its provider keeps", streams=True),
    ("DELETE", "/v1/responses/{id}"): _kept("deleteResponse", "Have it dropped", answer=dict[str, Any]),
    ("POST", "/v1/responses/{id}/cancel"): _kept("cancelResponse", "Stop one in the background"),
    ("GET", "/v1/responses/{id}/input_items"): _kept("listInputItems", "What it was asked", answer=dict[str, Any]),
    ("GET", "/api/chat/{id}/stream"): _resume,
}
"""By method and path, below a route's prefix."""
