"""Takes the Markdown fence off JSON that a model has put into one, while the text is said.

Only where there is nothing but the fence round the text: "```json", a line break, the text, "```". Words before or
after it stay, and so does whatever the fence would have hidden.
"""

from __future__ import annotations

import re
from typing import Final

from sidegate.contract import BlockEnd, Finish, Part, Text

LONGEST = 1024
"""Characters that are kept back at most, until it is known what they are."""

_OPENING: Final = re.compile(r"```[A-Za-z0-9_+-]{0,20}[ \t]*\r?\n?")
_CLOSING: Final = re.compile(r"\s*```\s*")


class Fence:
    """Of one text."""

    def __init__(self) -> None:
        self.found = False
        self._begun = False
        self._kept = ""

    def feed(self, text: str) -> str:
        """What of it may be passed on."""
        if self.found:
            return self._inside(text)
        if self._begun:
            return text
        said = self._kept + text
        bare = said.lstrip()
        opening = _OPENING.match(bare)
        if opening is not None and opening.end() < len(bare):
            self.found, self._kept = True, ""
            return self._inside(bare[opening.end() :])
        if len(said) < LONGEST and (opening is not None or "```".startswith(bare)):
            self._kept = said
            return ""
        self._begun, self._kept = True, ""
        return said

    def rest(self) -> str:
        """What was kept back, where the text or a block of it is over."""
        kept, self._kept = self._kept, ""
        if self.found and _CLOSING.fullmatch(kept):
            return ""
        self._begun = self._begun or bool(kept.strip())
        return kept

    def _inside(self, text: str) -> str:
        said = self._kept + text
        core = said.rstrip()
        ticks = len(core) - len(core.rstrip("`"))
        if 0 < ticks <= 3:
            core = core[:-ticks].rstrip()
        if ticks > 3 or len(said) - len(core) > LONGEST:
            core = said
        self._kept = said[len(core) :]
        return core


class Fences:
    """Of all choices of a reply."""

    def __init__(self) -> None:
        self._fences: dict[int, Fence] = {}

    @property
    def found(self) -> bool:
        return any(fence.found for fence in self._fences.values())

    def passed(self, part: Part) -> tuple[Part, ...]:
        """What stands in the place of a part."""
        if type(part) is Text:
            fence = self._fences.get(part.choice)
            if fence is None:
                fence = self._fences[part.choice] = Fence()
            text = fence.feed(part.text)
            if text == part.text:
                return (part,)
            return (Text(text, part.choice, part.block),) if text else ()
        if isinstance(part, BlockEnd | Finish) and (fence := self._fences.get(part.choice)) is not None:
            block = part.block if isinstance(part, BlockEnd) else 0
            return (Text(rest, part.choice, block), part) if (rest := fence.rest()) else (part,)
        return (part,)
