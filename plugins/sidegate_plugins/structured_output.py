"""Answers that fit the JSON schema they were asked in, whoever the provider is: checked, asked for again, or refused.

Whole replies are checked before a byte is sent; one that does not fit is told the model, which may try again. Streams
are checked while they grow and stopped as soon as they can no longer fit. Checks of whole texts run in processes of
their own, each killed when it takes too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sidegate.contract import Call, Handler, Host, Plugin, Reply, ResponseFormat
from sidegate.errors import Refusal
from sidegate_plugins._schema_checker import Checker
from sidegate_plugins._schema_shelf import Form, Shelf, own_form, read_schema, unsupported
from sidegate_plugins._structured_reading import Problem, Reading, Stopped, Wanted
from sidegate_plugins._structured_repair import asked_again, refusal, told_model
from sidegate_plugins._structured_watch import Relay, Watch, unfence

OnInvalid = Literal["repair", "error", "log"]

_WITH_TEXT = frozenset(("chat", "text_completion"))
_HINTS = {
    **dict.fromkeys(("response_format", "text", "output_config", "output_format", "responseFormat"), b""),
    **dict.fromkeys(("generationConfig", "generation_config"), b"esponse"),
}
"""Where a body says the shape it wants, and what is in there then: OpenAI's fields, Anthropic's and that of old, the AI
SDK's, and Gemini's, which have much else in them."""
_STRICT = {"tools": b"strict"}
_ANY = _HINTS | _STRICT


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema: Annotated[dict[str, Any] | None, Meta(description="JSON Schema for the text of every answer.")] = None
    schema_file: Annotated[str, Meta(description="The same, in a file; relative to the state folder.")] = ""
    response_format: Annotated[bool, Meta(description="Hold replies to the format the request asks for.")] = True
    tools: Annotated[bool, Meta(description="Hold calls of tools that are `strict` to their parameters.")] = True
    on_invalid: Annotated[
        OnInvalid, Meta(description="A reply that does not fit: ask the model again, refuse, or let it pass and log.")
    ] = "repair"
    on_invalid_stream: Annotated[
        OnInvalid, Meta(description="The same of streams. For `repair` a stream is held until it is known to fit.")
    ] = "error"
    repairs: Annotated[int, Meta(ge=0, le=10, description="How often the model is asked again.")] = 1
    strip_fences: Annotated[bool, Meta(description="Take a Markdown fence off that is all round the JSON.")] = True
    tell_model: Annotated[
        Literal["format", "prompt", "both"],
        Meta(description="How the model hears of the schema: the request's format, the system prompt, or both."),
    ] = "format"
    include_text: Annotated[bool, Meta(description="Tell a refused client what the model said.")] = True
    max_schema_bytes: Annotated[int, Meta(ge=64, le=2**20, description="Largest schema of a caller.")] = 2**16
    max_depth: Annotated[int, Meta(ge=1, le=200, description="Deepest nesting of a schema.")] = 64
    timeout: Annotated[float, Meta(gt=0, le=60, description="Seconds one check may take.")] = 1.0
    workers: Annotated[int, Meta(ge=1, le=64, description="Processes that check at the same time.")] = 2


class StructuredOutput(Plugin[Settings]):
    """Checks what models answer that were asked for JSON, or call tools that are strict."""

    reruns = True

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if settings.schema and settings.schema_file:
            raise ValueError("a schema is given inline or by its file, not both")
        self._checker = Checker(settings.workers, settings.timeout)
        self._shelf = Shelf(self._checker, settings.max_schema_bytes, settings.max_depth)
        schema = settings.schema
        self._own = None if schema is None else own_form(schema, "schema", settings.max_depth)
        self._results = host.metrics.counter(
            "structured_replies", "Replies that were held to a schema, by what became of them.", ("result",)
        )

    async def start(self) -> None:
        if file := self.settings.schema_file:
            schema = await asyncio.to_thread(read_schema, self.host.state / file, "schema_file")
            self._own = own_form(schema, "schema_file", self.settings.max_depth)

    async def stop(self) -> None:
        await self._checker.stop()

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.operation not in _WITH_TEXT or call.asked.wrong is not None:
            return await handler(call)
        if self._own is None and not _says(call, _ANY):
            return await handler(call)
        wanted = await self._wanted(call)
        if wanted is None:
            return await handler(call)
        if wanted.forms and call.operation == "chat":
            told = told_model(call.request, wanted.told, self.settings.tell_model)
            if told is not call.request:
                call.request = told
        policy = self.settings.on_invalid_stream if call.streams else self.settings.on_invalid
        if call.streams and policy != "repair":
            return await self._relayed(call, handler, wanted, policy)
        return await self._held(call, handler, wanted, policy)

    # --- what is wanted -----------------------------------------------------------------------------------------------

    async def _wanted(self, call: Call) -> Wanted | None:
        """What the reply is held to, if anything. The request is decoded only where a field says so."""
        forms = [] if self._own is None else [self._own]
        tools: Mapping[str, Form] = {}
        if call.operation == "chat":
            if (shape := self._format(call)) is not None:
                forms.append(await self._shelf.accept(_schema(shape), "response_format"))
            if self.settings.tools and _says(call, _STRICT):
                tools = await self._tools(call)
        if not forms and not tools:
            return None
        request = call.request
        may_call = bool(request.tools) and request.tool_choice != "none"
        return Wanted(tuple(forms), tools, request.choices or 1, may_call)

    def _format(self, call: Call) -> ResponseFormat | None:
        if not self.settings.response_format or not _says(call, _HINTS):
            return None
        shape = call.request.response_format
        return shape if shape is not None and shape.kind != "text" else None

    async def _tools(self, call: Call) -> dict[str, Form]:
        strict = [tool for tool in call.request.tools if tool.strict]
        return {tool.name: await self._shelf.accept(tool.parameters or {}, "tools") for tool in strict}

    # --- ways of delivery ---------------------------------------------------------------------------------------------

    async def _held(self, call: Call, handler: Handler, wanted: Wanted, policy: OnInvalid) -> Reply:
        """Nothing leaves before all of it is known to fit."""
        asked = call.request
        left = self.settings.repairs if policy == "repair" and call.operation == "chat" else 0
        repairs = 0
        async with call.hold() as held:
            watch = Watch(self.settings.strip_fences and policy != "log")
            call.tap(watch.see)
            while True:
                watch.begin(Reading(wanted, call.hold_limit, follows=policy != "log" and call.streams))
                reply, problem = await self._run(call, handler, watch.reading)
                if reply is not None and (problem is None or self._lets_through(call, problem, policy)):
                    break
                assert problem is not None
                if not (left and problem.again) or call.notes.abandoned:
                    raise self._refusal(problem, repairs)
                left, repairs = left - 1, repairs + 1
                held.drop()
                call.request = asked_again(asked, problem)
            if problem is None:
                self._results.add(result="repaired" if repairs else "fits")
            if repairs:
                call.reply_headers["x-sidegate-repairs"] = str(repairs)
            if watch.fences.found:
                unfence(held)
            await held.release()
            return reply

    async def _run(self, call: Call, handler: Handler, reading: Reading) -> tuple[Reply | None, Problem | None]:
        try:
            reply = await handler(call)
        except Stopped as stopped:
            return None, stopped.problem
        return reply, await self._problem(call, reading)

    async def _relayed(self, call: Call, handler: Handler, wanted: Wanted, policy: OnInvalid) -> Reply:
        """It passes while it may still fit; its end waits until all of it has been checked."""
        reading = Reading(wanted, call.hold_limit, follows=policy != "log")
        async with call.hold() as held:
            held.open()
            relay = Relay(reading, held)
            if self.settings.strip_fences and policy != "log" and wanted.forms:
                call.change(relay)
            else:
                call.tap(relay.look)
            reply, problem = await self._run(call, handler, reading)
            if reply is None or (problem is not None and not self._lets_through(call, problem, policy)):
                assert problem is not None
                raise self._refusal(problem, 0)
            if problem is None:
                self._results.add(result="fits")
            await held.release()
            return reply

    # --- verdicts -----------------------------------------------------------------------------------------------------

    async def _problem(self, call: Call, reading: Reading) -> Problem | None:
        """The first thing that is wrong with a whole reply."""
        for said in reading.texts():
            text = (said.text if said.tool is None else said.text or "{}").encode("utf-8", "replace")
            for form in said.forms:
                with call.waiting():
                    verdict = await self._checker.check(form.text, text)
                if not verdict.valid:
                    return said.refused(form, verdict)
        return None

    def _lets_through(self, call: Call, problem: Problem, policy: OnInvalid) -> bool:
        if policy != "log":
            return False
        told = refusal(problem, 0, with_text=False)
        self.host.log.write(told.code, {"call": call.id, "choice": problem.choice, "problem": told.message})
        self._results.add(result="let_through")
        return True

    def _refusal(self, problem: Problem, repairs: int) -> Refusal:
        self._results.add(result="refused")
        if problem.status == 400:
            return unsupported(problem.errors[0][1], problem.param or "response_format")
        return refusal(problem, repairs, with_text=self.settings.include_text)


def _says(call: Call, hints: Mapping[str, bytes]) -> bool:
    """Whether the request may have one of these fields, without decoding it."""
    asked = call.asked
    if not asked.body or call.request_changed is not None:
        return True
    fields = asked.fields
    if hints.keys().isdisjoint(fields):
        return False
    return any(hints[name] in bytes(fields[name]) for name in hints.keys() & fields.keys())


def _schema(shape: ResponseFormat) -> dict[str, Any]:
    if shape.kind == "json_object":
        return {"type": "object"}
    return {} if shape.schema is None else shape.schema
