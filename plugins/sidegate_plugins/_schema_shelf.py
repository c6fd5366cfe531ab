"""Schemas that may be checked by: those of callers are bounded, tried once in a worker, and kept for the next call."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec

from sidegate.errors import BadRequest
from sidegate_plugins._schema_checker import Checker
from sidegate_plugins._schema_rules import Rules

MOST_KEPT_BYTES = 2**21
"""Of all callers' schemas together; made ready they take about ten times that."""


class Form:
    """A schema to check by: as JSON for a worker, and as rules for a text that grows."""

    def __init__(self, schema: Any, text: bytes, *, own: bool = False, param: str = "response_format") -> None:
        self.schema = schema
        self.text = text
        self.own = own
        """It is the config's and not the caller's."""
        self.param = param
        """Which field of the request it stood in."""
        self.rules = Rules(schema)


class Shelf:
    """Callers' schemas."""

    def __init__(self, checker: Checker, max_bytes: int, max_depth: int) -> None:
        self._checker = checker
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._forms: OrderedDict[bytes, Form] = OrderedDict()
        self._size = 0

    async def accept(self, schema: Any, param: str) -> Form:
        """The schema, once it is known that it can be used. Raises 400 `unsupported_schema`."""
        text = self._bounded(schema, param)
        if (known := self._forms.get(text)) is not None:
            self._forms.move_to_end(text)
            return known
        verdict = await self._checker.check(text)
        if not verdict.valid:
            raise unsupported(verdict.unsupported or "it takes too long to read", param)
        form = Form(schema, text, param=param)
        self._keep(form)
        return form

    def _bounded(self, schema: Any, param: str) -> bytes:
        try:
            text = msgspec.json.encode(schema)
        except (RecursionError, msgspec.MsgspecError) as error:
            raise unsupported("it is nested too deeply", param) from error
        if len(text) > self._max_bytes:
            raise unsupported(f"it is larger than {self._max_bytes} bytes", param)
        if problem := problem_of(schema, self._max_depth):
            raise unsupported(problem, param)
        return text

    def _keep(self, form: Form) -> None:
        if form.text in self._forms:
            return
        self._forms[form.text] = form
        self._size += len(form.text)
        while self._size > MOST_KEPT_BYTES and len(self._forms) > 1:
            text, _ = self._forms.popitem(last=False)
            self._size -= len(text)


def own_form(schema: dict[str, Any], name: str, max_depth: int) -> Form:
    """A schema of the config, checked at the start. jsonschema is loaded only where there is one."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    if problem := problem_of(schema, max_depth):
        raise ValueError(f"{name}: the schema cannot be used: {problem}")
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"{name}: not a JSON Schema: {error.json_path}: {error.message[:200]}") from error
    return Form(schema, msgspec.json.encode(schema), own=True)


def read_schema(path: Path, name: str) -> dict[str, Any]:
    """A schema in a file of the config. Raises `ValueError`."""
    try:
        schema = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {path} is not JSON") from error
    if not isinstance(schema, dict):
        raise ValueError(f"{name}: {path} is not a JSON object")
    return schema


def problem_of(schema: Any, max_depth: int) -> str | None:
    """Why a schema is not even read: nested too deeply, or leading outside."""
    open_values = [(schema, 1)]
    while open_values:
        value, depth = open_values.pop()
        if depth > max_depth:
            return f"it is nested deeper than {max_depth}"
        if isinstance(value, dict):
            for key in ("$ref", "$dynamicRef", "$recursiveRef"):
                if isinstance(value.get(key), str) and not value[key].startswith("#"):
                    return f"{key} must begin with #: nothing is fetched"
            open_values += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            open_values += [(item, depth + 1) for item in value]
    return None


def unsupported(problem: str, param: str) -> BadRequest:
    return BadRequest(f"The schema cannot be used: {problem}.", param=param, code="unsupported_schema")
