"""What the `structured_output` plugin tells the model, of its schema and what was wrong, and at last the client."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from sidegate.contract import Message, Request, ResponseFormat, TextContent
from sidegate.errors import Refusal
from sidegate_plugins._schema_shelf import Form
from sidegate_plugins._structured_reading import ANY_OBJECT, Problem

LONGEST_TEXT = 65_536
"""Characters of a failed text that are told the model, or the client."""

_TELL = "Answer with one JSON value and nothing else: no words round it, no Markdown."
_TELL_SCHEMA = "It must satisfy this JSON Schema:"


def asked_again(asked: Request, problem: Problem) -> Request:
    """The request once more, with the failed text as the model's turn and the errors as the user's."""
    said = problem.text[:LONGEST_TEXT]
    if problem.tool is not None:
        said = f"{problem.tool}({said})"
    turns = [Message("assistant", (TextContent(said),))] if said.strip() else []
    turns.append(Message("user", (TextContent(_complaint(problem)),)))
    return replace(asked, messages=(*asked.messages, *turns))


def _complaint(problem: Problem) -> str:
    listed = "\n".join(f"- {pointer or 'the whole'}: {message}" for pointer, message in problem.errors)
    if problem.tool is not None:
        return (
            f"Your call of the tool {problem.tool} did not satisfy the JSON Schema of its parameters:\n{listed}\n"
            "Call it again, with arguments that do."
        )
    return (
        f"Your answer did not satisfy the JSON Schema it was asked in:\n{listed}\n"
        "Answer again from the beginning, with the corrected JSON and nothing else."
    )


def told_model(asked: Request, form: Form, how: Literal["format", "prompt", "both"]) -> Request:
    """The request with the schema in it: as its format, in the words of the system prompt, or both."""
    if how != "prompt" and form.own:
        asked = replace(asked, response_format=ResponseFormat("json_schema", form.schema, "answer"))
    if how == "format":
        return asked
    schema = "" if form.text in (b"{}", ANY_OBJECT) else f" {_TELL_SCHEMA}\n{form.text.decode()}"
    words = TextContent(_TELL + (schema or " It must be an object."))
    first, *rest = asked.messages or (Message("user", ()),)
    if first.role == "system":
        messages = (replace(first, content=(*first.content, words)), *rest)
    else:
        messages = (Message("system", (words,)), *asked.messages)
    return replace(asked, messages=messages, **({"response_format": None} if how == "prompt" else {}))


def refusal(problem: Problem, repairs: int, *, with_text: bool) -> Refusal:
    """What the client is told; `details` has it for programs, the text too."""
    subject = "The reply" if problem.tool is None else f"The call of the tool `{problem.tool}`"
    which = f" (choice {problem.choice})" if problem.choice else ""
    listed = "; ".join(f"{pointer or 'root'}: {message}" for pointer, message in problem.errors)
    tried = f" Asked again {repairs} time{'s' if repairs > 1 else ''}." if repairs else ""
    error = Refusal(
        problem.status,
        problem.code,
        f"{subject} does not satisfy its schema{which}: {listed}{'.' * bool(tried)}{tried}",
        param=problem.param,
    )
    details: dict[str, Any] = {
        "errors": [{"path": pointer, "message": message} for pointer, message in problem.errors],
        "choice": problem.choice,
        "repairs": repairs,
    }
    if problem.tool is not None:
        details["tool"] = problem.tool
    if with_text:
        details["text"] = problem.text[:LONGEST_TEXT]
    error.details = msgspec.to_builtins(details)
    return error
