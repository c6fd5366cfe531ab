"""Signed: thinking that bears a signature leaves an edit as it came, at once or later, or the reply is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidegate.contract.meaning import BlockEnd, Finish, Reasoning
from sidegate.errors import Refusal

if TYPE_CHECKING:
    from sidegate.contract.chunk import Chunk

_SEAL = "\0"
"""Round what binds the text before it."""


class Signed:
    """What an edit still owes of the thinking of one reply, by choice and block: what came, and what it gave since."""

    __slots__ = ("_owed",)

    def __init__(self) -> None:
        self._owed: dict[tuple[int, int], tuple[str, str]] = {}

    def check(self, chunk: Chunk, given: list[Chunk]) -> None:
        """Note what came and what was given for it. Raises `Refusal` where what a signature binds is not what came."""
        if not self._owed and len(given) == 1 and given[0] is chunk:
            return
        for part in chunk.parts:
            if type(part) is Reasoning:
                self._note(part, came=_told(part), gave="")
        for piece in given:
            for part in piece.parts:
                if type(part) is Reasoning:
                    self._note(part, came="", gave=_told(part))
                elif isinstance(part, BlockEnd | Finish) and self._owed:
                    self.over(part.choice, part.block if type(part) is BlockEnd else None)

    def over(self, choice: int | None = None, block: int | None = None) -> None:
        """No more is given of a block, of a choice, or at all: nothing that is signed may be owed."""
        for key, (came, _) in self._owed.items():
            if choice in (None, key[0]) and block in (None, key[1]) and _SEAL in came:
                raise _changed()

    def _note(self, part: Reasoning, came: str, gave: str) -> None:
        key = part.choice, part.block
        before = self._owed.pop(key, ("", ""))
        came, gave = before[0] + came, before[1] + gave
        if came.startswith(gave):
            came, gave = came[len(gave) :], ""
        elif _SEAL in gave:
            raise _changed()
        if came or gave:
            self._owed[key] = came, gave


def _told(part: Reasoning) -> str:
    bound = (part.signature or "") + (part.redacted or "")
    return f"{part.text}{_SEAL}{bound}{_SEAL}" if bound else part.text


def _changed() -> Refusal:
    return Refusal(502, "signed_block_changed", "A signed reasoning block was changed on its way.")
