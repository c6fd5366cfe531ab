"""What the `schema` plugin looks at: each answer of a held reply, put together."""

from __future__ import annotations

from collections.abc import Iterable

from sidegate.contract import Finish, FinishReason, Hold, RefusalText, Text, ToolCall


class Choice:
    """One of the answers in a held reply."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish: FinishReason | None = None
        self.texts: list[str] = []
        self.declined = False
        self.calls_tools = False

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def passes(self) -> bool:
        """No answer in JSON is to be expected: the model declined, was filtered, or calls tools first."""
        if self.declined or self.finish in ("refusal", "content_filter", "tool_calls"):
            return True
        return self.calls_tools and not self.text.strip()


def choices_of(held: Hold) -> Iterable[Choice]:
    """Every answer of the reply; one that says nothing where there is none."""
    choices: dict[int, Choice] = {}
    for part in held.parts:
        if isinstance(part, Text | Finish | ToolCall | RefusalText):
            choice = choices.setdefault(part.choice, Choice(part.choice))
            match part:
                case Text():
                    choice.texts.append(part.text)
                case Finish():
                    choice.finish = part.reason
                case ToolCall():
                    choice.calls_tools = True
                case RefusalText():
                    choice.declined = choice.declined or bool(part.text)
    return choices.values() or [Choice(0)]
