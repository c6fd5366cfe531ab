"""Request bodies that fit a JSON schema of yours, or a refusal that names what does not.

Checks run in processes of their own, each killed when it takes too long: a hostile text costs its own call, and no
other one.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from msgspec import Meta, Struct

from sidegate.contract import Call, Handler, Host, Plugin, Reply
from sidegate.errors import BadRequest
from sidegate_plugins._schema_checker import Checker
from sidegate_plugins._schema_shelf import own_form, read_schema

_WITH_BODY = frozenset(("chat", "text_completion", "embeddings"))


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    request: Annotated[dict[str, Any] | None, Meta(description="JSON Schema that request bodies must satisfy.")] = None
    request_file: Annotated[str, Meta(description="The same, in a file; relative to the state folder.")] = ""
    max_depth: Annotated[int, Meta(ge=1, le=200, description="Deepest nesting of the schema.")] = 64
    timeout: Annotated[float, Meta(gt=0, le=60, description="Seconds one check may take.")] = 1.0
    workers: Annotated[int, Meta(ge=1, le=64, description="Processes that check at the same time.")] = 2


class Schema(Plugin[Settings]):
    """Checks the body before a provider is asked."""

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if (settings.request is None) == (not settings.request_file):
            raise ValueError("a schema is given by `request` or by `request_file`, one of them")
        self._checker = Checker(settings.workers, settings.timeout)
        request = settings.request
        self._schema = b"" if request is None else own_form(request, "request", settings.max_depth).text

    async def start(self) -> None:
        if file := self.settings.request_file:
            schema = await asyncio.to_thread(read_schema, self.host.state / file, "request_file")
            self._schema = own_form(schema, "request_file", self.settings.max_depth).text

    async def stop(self) -> None:
        await self._checker.stop()

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.operation in _WITH_BODY and call.asked.wrong is None:
            await self._check(call)
        return await handler(call)

    async def _check(self, call: Call) -> None:
        with call.waiting():
            verdict = await self._checker.check(self._schema, call.asked.body)
        if verdict.valid:
            return
        if verdict.malformed:
            raise BadRequest(f"The body is not valid JSON: {verdict.malformed}", code="invalid_json")
        if not verdict.errors:
            raise BadRequest("The body could not be checked in time.", code="request_schema_unchecked")
        listed = "; ".join(f"{pointer or 'root'}: {message}" for pointer, message in verdict.errors)
        raise BadRequest(
            f"The body does not satisfy this route's schema: {listed}",
            param=verdict.errors[0][0] or None,
            code="request_schema_mismatch",
        )
