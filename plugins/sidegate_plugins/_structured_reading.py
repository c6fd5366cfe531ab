"""A reply as it is read by the `structured_output` plugin: answers, calls of tools, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sidegate.contract import Finish, FinishReason, Part, RefusalText, Text, ToolCall
from sidegate.errors import Refusal
from sidegate_plugins._schema_checker import Verdict
from sidegate_plugins._schema_prefix import SchemaPrefix
from sidegate_plugins._schema_shelf import Form

ANY_OBJECT = b'{"type":"object"}'


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a call's reply is held to."""

    forms: tuple[Form, ...] = ()
    """Each answer's text, to all of them."""
    tools: Mapping[str, Form] = field(default_factory=dict)
    """The arguments of calls of a tool, by its name."""
    choices: int = 1
    may_call: bool = False
    """Tools are offered: words may come that only lead to a call."""

    @property
    def told(self) -> Form:
        """Which of the forms the model is told: the caller's, but where that is any object and there is another."""
        own, asked = self.forms[0], self.forms[-1]
        return own if asked.text == ANY_OBJECT else asked


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a reply cannot be taken. `errors` are pairs of JSON pointer and message."""

    errors: tuple[tuple[str, str], ...]
    text: str
    """What was said instead: the text of the answer, or the arguments of the call."""
    choice: int = 0
    tool: str | None = None
    code: str = "reply_schema_mismatch"
    status: int = 422
    again: bool = True
    """Another answer may do better."""
    param: str | None = None


class Stopped(Refusal):
    """Raised in the midst of a reply that can no longer fit, so that its provider is stopped."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(422, problem.code, "The reply was stopped: it can no longer satisfy its schema.")
        self.problem = problem


class Said:
    """A text on its way that is to be JSON: an answer's, or the arguments of a call."""

    def __init__(self, forms: tuple[Form, ...], choice: int, *, follows: bool) -> None:
        self.forms = forms
        self.choice = choice
        self.tool: str | None = None
        self.finish: FinishReason | None = None
        self.declined = False
        self.calls_tools = False
        self._pieces: list[str] = []
        self._prefixes = [SchemaPrefix(form.rules) for form in forms] if follows else []

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def passes(self) -> bool:
        """No JSON is to be expected: the model declined, was filtered, or calls tools."""
        if self.declined or self.finish in ("refusal", "content_filter", "tool_calls"):
            return True
        return self.calls_tools and not self.text.strip()

    def add(self, piece: str) -> None:
        """Raises `Stopped` where nothing that follows could make it fit."""
        self._pieces.append(piece)
        for prefix in self._prefixes:
            if (mismatch := prefix.feed(piece)) is not None:
                raise Stopped(self.problem(((mismatch.pointer, mismatch.message),)))

    def problem(self, errors: tuple[tuple[str, str], ...]) -> Problem:
        return Problem(errors, self.text, self.choice, self.tool)

    def refused(self, form: Form, verdict: Verdict) -> Problem:
        """Why, by the verdict on the whole of it."""
        if verdict.overdue or verdict.unsupported:
            if form.own:
                return self._finally("reply_schema_unchecked", "it could not be checked in time")
            why = verdict.unsupported or "checking the reply by it takes too long"
            return Problem((("", why),), self.text, status=400, again=False, param=form.param)
        if self.finish == "length":
            return self._finally("reply_truncated", "it was cut off by max_tokens")
        malformed = (("", f"it is not valid JSON: {verdict.malformed}"),)
        return self.problem(malformed if verdict.malformed else verdict.errors)

    def _finally(self, code: str, why: str) -> Problem:
        return Problem((("", why),), self.text, self.choice, self.tool, code, again=False)


class Reading:
    """One reply. `follows`: texts are held to their schemas while they grow."""

    def __init__(self, wanted: Wanted, limit: int, *, follows: bool) -> None:
        self._wanted = wanted
        self._follows = follows
        self._left = limit
        self._answers: dict[int, Said] = {}
        self._calls: dict[tuple[int, int], Said] = {}

    @property
    def finished(self) -> bool:
        """Every answer has ended."""
        return len(self._answers) >= self._wanted.choices and all(said.finish for said in self._answers.values())

    def texts(self) -> Iterator[Said]:
        """What there is to check; one that says nothing where there is no answer."""
        answers = self._answers.values() or [Said(self._wanted.forms, 0, follows=False)]
        yield from (said for said in answers if not said.passes)
        for (choice, _), call in self._calls.items():
            call.finish = self._answers[choice].finish
            yield call

    def part(self, part: Part) -> None:
        """The next part of the reply, in order."""
        match part:
            case Text(text=text):
                self._measure(text)
                self._answer(part.choice).add(text)
            case ToolCall():
                self._answer(part.choice).calls_tools = True
                self._call(part)
            case RefusalText(text=text):
                said = self._answer(part.choice)
                said.declined = said.declined or bool(text)
            case Finish():
                self._answer(part.choice).finish = part.reason
            case _:
                pass

    def _answer(self, choice: int) -> Said:
        if (said := self._answers.get(choice)) is None:
            # Words before a call are no JSON, and that a call follows is seen only when it comes.
            follows = self._follows and not self._wanted.may_call
            said = self._answers[choice] = Said(self._wanted.forms, choice, follows=follows)
        return said

    def _call(self, part: ToolCall) -> None:
        key = (part.choice, part.block)
        said = self._calls.get(key)
        if said is None:
            if part.name is None or (form := self._wanted.tools.get(part.name)) is None:
                return
            said = self._calls[key] = Said((form,), part.choice, follows=self._follows)
            said.tool = part.name
        if part.arguments:
            self._measure(part.arguments)
            said.add(part.arguments)

    def _measure(self, text: str) -> None:
        self._left -= len(text)
        if self._left < 0:
            raise Refusal(502, "reply_too_large", "The reply is larger than may be checked.")
