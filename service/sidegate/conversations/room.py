"""Room: who takes part in a conversation, and what they are told: each event once, numbered, to all in one order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from sidegate.conversations import words
from sidegate.conversations.member import Member
from sidegate.errors import Refusal


class Event(Protocol):
    """What everybody is told."""

    @property
    def seq(self) -> int: ...


class Room:
    """Bounded in those that take part, and in the bytes of events that are kept for who comes back."""

    def __init__(self, most: int, replay_bytes: int) -> None:
        self.members: dict[str, Member] = {}
        self.empty_since: float | None = None
        """Monotonic seconds since when nobody takes part, once somebody did."""
        self.seq = 0
        """Of the latest event."""
        self._most = most
        self._replay_bytes = replay_bytes
        self._names = 0
        self._latest: deque[tuple[int, bytes]] = deque()
        self._kept = 0
        self._drained = asyncio.Event()

    def enter(self, member: Member, name: str) -> None:
        """The others are told. Raises a `Refusal` where there is no room."""
        if len(self.members) >= self._most:
            raise Refusal(429, "conversation_full", "As many take part in this conversation as may.")
        self._names += 1
        member.id, member.name = f"p{self._names}", name
        self.tell(words.Joined(seq=self.next(), participant=words.Participant(member.id, name)))
        self.members[member.id] = member
        member.drained = self._drained.set
        self._drained.set()
        self.empty_since = None

    def exit(self, member: Member, now: float) -> None:
        """One leaves, and the others are told. `now` in monotonic seconds: since when the room is empty, if it is."""
        if self.members.pop(member.id, None) is None:
            return
        self._drained.set()
        self.tell(words.Left(seq=self.next(), participant=member.id))
        if not self.members:
            self.empty_since = now

    def next(self) -> int:
        """The number of the event that is told next."""
        self.seq += 1
        return self.seq

    def tell(self, told: Event) -> None:
        """Say it to all who are here, and keep it, within the bound, for those who come back."""
        data = words.encode(told)
        self._latest.append((told.seq, data))
        self._kept += len(data)
        while self._kept > self._replay_bytes and self._latest:
            self._kept -= len(self._latest.popleft()[1])
        for member in list(self.members.values()):
            member.push(data)

    def since(self, after: int) -> list[bytes] | None:
        """What was told behind that; `None` where not all of it is kept."""
        first = self._latest[0][0] if self._latest else self.seq + 1
        if after + 1 < first or after > self.seq:
            return None
        return [data for seq, data in self._latest if seq > after]

    async def paced(self) -> None:
        """Returns when one of them is not far behind: the fastest sets the pace, and who cannot keep it is let go."""
        while self.members and all(member.full for member in self.members.values()):
            self._drained.clear()
            await self._drained.wait()
