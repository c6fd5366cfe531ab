"""JSON that fits its schema, or a refusal: request bodies, and the answers of models that were asked for JSON.

Replies that must be checked are held back whole, streams too, so that nothing wrong is sent. Checks run in processes of
their own, each killed when it takes too long: a hostile schema or text costs its own call, and no other one.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sidegate.contract import Call, Handler, Host, Plugin, Reply, ResponseFormat
from sidegate.errors import BadRequest, Refusal
from sidegate_plugins._schema_checker import Checker, Verdict
from sidegate_plugins._schema_choice import Choice, choices_of

_WITH_BODY = frozenset(("chat", "text_completion", "embeddings"))
_WITH_TEXT = frozenset(("chat", "text_completion"))
_FORMAT_FIELDS = frozenset(("response_format", "output_config", "output_format", "generationConfig"))
"""Where a body says the shape it wants: OpenAI's field, Anthropic's, Anthropic's of old, and Gemini's."""

_ACCEPTED = 256
_ANY_OBJECT = b'{"type":"object"}'
_ANY_JSON = b"{}"


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    request: Annotated[dict[str, Any] | None, Meta(description="JSON Schema that request bodies must satisfy.")] = None
    request_file: Annotated[str, Meta(description="The same, in a file; relative to the state folder.")] = ""
    reply: Annotated[dict[str, Any] | None, Meta(description="JSON Schema for the text of every answer.")] = None
    reply_file: Annotated[str, Meta(description="The same, in a file; relative to the state folder.")] = ""
    response_format: Annotated[bool, Meta(description="Hold replies to the format the request asks for.")] = True
    on_invalid: Annotated[
        Literal["refuse", "log"], Meta(description="Refuse a reply that does not fit, or let it pass and say so.")
    ] = "refuse"
    max_schema_bytes: Annotated[int, Meta(ge=64, le=2**20, description="Largest schema of a caller.")] = 2**16
    max_depth: Annotated[int, Meta(ge=1, le=200, description="Deepest nesting of a schema.")] = 64
    timeout: Annotated[float, Meta(gt=0, le=60, description="Seconds one check may take.")] = 1.0
    workers: Annotated[int, Meta(ge=1, le=64, description="Processes that check at the same time.")] = 2


class Schema(Plugin[Settings]):
    """Checks the body before the provider is asked, and the reply before the client gets it."""

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if (settings.request and settings.request_file) or (settings.reply and settings.reply_file):
            raise ValueError("a schema is given inline or by its file, not both")
        self._checker = Checker(settings.workers, settings.timeout)
        self._request = self._own(settings.request, "request")
        self._reply = self._own(settings.reply, "reply")
        self._accepted: OrderedDict[bytes, None] = OrderedDict()

    async def start(self) -> None:
        for name in ("request", "reply"):
            if file := getattr(self.settings, f"{name}_file"):
                schema = await asyncio.to_thread(_read, self.host.state / file, f"{name}_file")
                setattr(self, f"_{name}", self._own(schema, f"{name}_file"))

    async def stop(self) -> None:
        await self._checker.stop()

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.asked.wrong is not None:
            return await handler(call)
        if self._request is not None and call.operation in _WITH_BODY:
            await self._check_body(self._request, call)
        schemas = [self._reply] if self._reply is not None and call.operation in _WITH_TEXT else []
        if (asked := self._format(call)) is not None:
            schemas.append(await self._accept(asked))
        if not schemas:
            return await handler(call)
        async with call.hold() as held:
            reply = await handler(call)
            for choice in choices_of(held):
                for schema in schemas:
                    await self._check_choice(call, choice, schema)
            await held.release()
            return reply

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _check_body(self, schema: bytes, call: Call) -> None:
        verdict = await self._checker.check(schema, call.asked.body)
        if verdict.valid:
            return
        if verdict.malformed:
            raise BadRequest(f"The body is not valid JSON: {verdict.malformed}", code="invalid_json")
        if verdict.errors:
            raise BadRequest(
                f"The body does not satisfy this route's schema: {_listed(verdict)}",
                param=verdict.errors[0][0] or None,
                code="request_schema_mismatch",
            )
        raise BadRequest("The body could not be checked in time.", code="request_schema_unchecked")

    def _format(self, call: Call) -> ResponseFormat | None:
        """What the call wants its answer to be. The request is decoded only where a field says so."""
        if not self.settings.response_format or call.operation != "chat":
            return None
        asked = call.asked
        if asked.body and _FORMAT_FIELDS.isdisjoint(asked.fields) and call.request_changed is None:
            return None
        shape = call.request.response_format
        return shape if shape is not None and shape.kind != "text" else None

    async def _accept(self, asked: ResponseFormat) -> bytes:
        """The schema to check by, once it is known that it can be. Raises 400 `unsupported_schema`."""
        if asked.kind == "json_object":
            return _ANY_OBJECT
        if asked.schema is None:
            return _ANY_JSON
        schema = self._bounded(asked.schema)
        digest = sha256(schema).digest()
        if digest in self._accepted:
            self._accepted.move_to_end(digest)
            return schema
        verdict = await self._checker.check(schema)
        if not verdict.valid:
            raise _unsupported(verdict.unsupported or "it takes too long to read")
        self._accepted[digest] = None
        if len(self._accepted) > _ACCEPTED:
            self._accepted.popitem(last=False)
        return schema

    def _bounded(self, schema: dict[str, Any]) -> bytes:
        try:
            encoded = msgspec.json.encode(schema)
        except (RecursionError, msgspec.MsgspecError) as error:
            raise _unsupported("it is nested too deeply") from error
        if len(encoded) > self.settings.max_schema_bytes:
            raise _unsupported(f"it is larger than {self.settings.max_schema_bytes} bytes")
        if problem := _problem(schema, self.settings.max_depth):
            raise _unsupported(problem)
        return encoded

    # --- replies ------------------------------------------------------------------------------------------------------

    async def _check_choice(self, call: Call, choice: Choice, schema: bytes) -> None:
        if choice.passes:
            return
        verdict = await self._checker.check(schema, choice.text.encode("utf-8", "replace"))
        if verdict.valid:
            return
        refusal = self._refusal(choice, verdict, own=schema == self._reply)
        if self.settings.on_invalid == "refuse":
            raise refusal
        self.host.log.write(refusal.code, {"call": call.id, "choice": choice.index, "problem": refusal.message})

    def _refusal(self, choice: Choice, verdict: Verdict, *, own: bool) -> Refusal:
        if verdict.overdue or verdict.unsupported:
            if not own:
                return _unsupported(verdict.unsupported or "checking the reply by it takes too long")
            return Refusal(422, "reply_schema_unchecked", "The reply could not be checked in time.")
        if choice.finish == "length":
            problem = "it was cut off by max_tokens"
        elif verdict.malformed:
            problem = f"it is not valid JSON: {verdict.malformed}"
        else:
            problem = _listed(verdict)
        which = f" (choice {choice.index})" if choice.index else ""
        return Refusal(422, "reply_schema_mismatch", f"The reply does not satisfy its schema{which}: {problem}")

    def _own(self, schema: dict[str, Any] | None, name: str) -> bytes | None:
        """A schema of the config, checked at the start. jsonschema is loaded only where there is one."""
        if schema is None:
            return None
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError

        if problem := _problem(schema, self.settings.max_depth):
            raise ValueError(f"{name}: the schema cannot be used: {problem}")
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise ValueError(f"{name}: not a JSON Schema: {error.json_path}: {error.message[:200]}") from error
        return msgspec.json.encode(schema)


def _problem(schema: Any, max_depth: int) -> str | None:
    """Why a schema is not even read: nested too deeply, or leading outside."""
    open_values = [(schema, 1)]
    while open_values:
        value, depth = open_values.pop()
        if depth > max_depth:
            return f"it is nested deeper than {max_depth}"
        if isinstance(value, dict):
            for key in ("$ref", "$dynamicRef"):
                if isinstance(value.get(key), str) and not value[key].startswith("#"):
                    return f"{key} must begin with #: nothing is fetched"
            open_values += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            open_values += [(item, depth + 1) for item in value]
    return None


def _unsupported(problem: str) -> BadRequest:
    return BadRequest(f"The schema cannot be used: {problem}.", param="response_format", code="unsupported_schema")


def _listed(verdict: Verdict) -> str:
    return "; ".join(f"{pointer or 'root'}: {message}" for pointer, message in verdict.errors)


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {path} is not JSON") from error
    if not isinstance(schema, dict):
        raise ValueError(f"{name}: {path} is not a JSON object")
    return schema
