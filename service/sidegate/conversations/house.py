"""House: the conversations of this gateway. Who may open one, who may take part, and when one is forgotten.

They are in memory, and live at the gateway where they were opened. Another's conversation is not there: 404, in the
words of one that never was.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256

from msgspec import Struct

from sidegate.contract.call import Call
from sidegate.contract.caller import Caller
from sidegate.contract.host import Clock
from sidegate.conversations import words
from sidegate.conversations.conversation import Conversation
from sidegate.conversations.member import STOPPING, Member
from sidegate.errors import Refusal
from sidegate.ledger.rows import stamp
from sidegate.settings.conversations import Conversations as Bounds

TEND_SECONDS = 0.25
MOST_TICKETS = 10_000


class Ticket(Struct, frozen=True):
    """Whom a socket is of that was opened by a ticket."""

    caller: Caller
    end_user: str | None
    visible: tuple[Callable[[str], bool], ...]
    until: float


class House:
    """All conversations here. Nothing runs while there are none."""

    def __init__(self, bounds: Callable[[], Bounds], clock: Clock, draining: Callable[[], bool]) -> None:
        self._bounds = bounds
        self._clock = clock
        self._draining = draining
        self._conversations: dict[str, Conversation] = {}
        self._tickets: dict[bytes, Ticket] = {}
        self._tending: asyncio.Task[None] | None = None
        self._members: set[Member] = set()

    def __len__(self) -> int:
        return len(self._conversations)

    @property
    def behind(self) -> int:
        """Bytes that who takes part may be behind."""
        return self._bounds().max_behind

    async def stop(self) -> None:
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait([self._tending])

    def arrives(self, member: Member) -> None:
        """Somebody is connected, of no conversation yet."""
        self._members.add(member)
        if self._tending is None or self._tending.done():
            self._tending = asyncio.get_running_loop().create_task(self._tend(), name="conversations")

    def leaves(self, member: Member) -> None:
        self._members.discard(member)

    def open(self, member: Member, said: words.Open) -> Conversation:
        """A new one, of this member's caller. Raises a `Refusal` 429 or 503."""
        bounds, caller = self._bounds(), member.seat.call.caller.name
        if sum(one.caller == caller for one in self._conversations.values()) >= bounds.per_caller:
            raise Refusal(429, "too_many_conversations", "You have as many conversations open as you may.")
        if len(self._conversations) >= bounds.max_open:
            raise Refusal(503, "too_many_conversations", "The gateway has too many conversations.", retry_after=1)
        conversation = Conversation(secrets.token_hex(16), member, bounds, said.instructions)
        self._conversations[conversation.id] = conversation
        conversation.join(member, said.name, re=said.id)
        return conversation

    def join(self, member: Member, said: words.Join) -> Conversation:
        """One's own, or by an invitation. Raises a `Refusal` 404 or 429."""
        conversation = self._conversations.get(said.conversation)
        if conversation is None or not self._may_join(conversation, member.seat.call, said.invitation):
            raise Refusal(404, "conversation_not_found", "There is no such conversation at this gateway.")
        conversation.join(member, said.name, said.after, said.id)
        return conversation

    def _may_join(self, conversation: Conversation, call: Call, invitation: str | None) -> bool:
        if _own(conversation, call):
            return True
        if invitation is None:
            return False
        until = conversation.invitations.get(_digest(invitation).hex())
        return until is not None and until > self._clock.monotonic()

    def invite(self, conversation: Conversation, member: Member, said: words.Invite) -> words.Invited:
        """Raises a `Refusal` 403 for those that were invited themselves."""
        check_own(conversation, member)
        seconds = min(said.seconds, self._bounds().invitation_seconds)
        now = self._clock.monotonic()
        conversation.invitations = {name: until for name, until in conversation.invitations.items() if until > now}
        if len(conversation.invitations) >= self._bounds().max_participants:
            raise Refusal(429, "too_many_invitations", "As many invitations are open as may take part.")
        invitation = secrets.token_urlsafe(24)
        conversation.invitations[_digest(invitation).hex()] = now + seconds
        ends = stamp(self._clock.now() + timedelta(seconds=seconds))
        return words.Invited(invitation=invitation, expires_at=ends, re=said.id)

    # --- tickets ------------------------------------------------------------------------------------------------------

    def ticket(self, call: Call) -> tuple[str, str]:
        """What opens one socket in the name of who asks, where no header can be sent; and until when."""
        now, seconds = self._clock.monotonic(), self._bounds().ticket_seconds
        self._tickets = {name: ticket for name, ticket in self._tickets.items() if ticket.until > now}
        if len(self._tickets) >= MOST_TICKETS:
            raise Refusal(503, "too_many_tickets", "Too many tickets are open.", retry_after=1)
        ticket = secrets.token_urlsafe(24)
        held = Ticket(call.caller, call.end_user, tuple(call.notes.visible), now + seconds)
        self._tickets[_digest(ticket)] = held
        return ticket, stamp(self._clock.now() + timedelta(seconds=seconds))

    def holder(self, ticket: str) -> Ticket | None:
        """Whom it stands for; it is good once."""
        found = self._tickets.pop(_digest(ticket), None) if len(ticket) <= 64 else None
        return None if found is None or found.until <= self._clock.monotonic() else found

    # --- in time ------------------------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        while self._conversations or self._members:
            await asyncio.sleep(TEND_SECONDS)
            for conversation in list(self._conversations.values()):
                self._look_after(conversation)
            if self._draining():
                for member in self._members:
                    if not member.id:
                        member.let_go(STOPPING)

    def _look_after(self, conversation: Conversation) -> None:
        now, bounds = self._clock.monotonic(), self._bounds()
        if conversation.over:
            if conversation.running is None:
                del self._conversations[conversation.id]
            return
        if self._draining() and conversation.running is None:
            conversation.close(stopping=True)
        elif (empty := conversation.room.empty_since) is not None:
            if now - empty > bounds.grace:
                conversation.unheard()
            if now - empty > bounds.keep:
                conversation.close()


def check_own(conversation: Conversation, member: Member) -> None:
    """Raises a `Refusal` 403 for those that were invited."""
    if not _own(conversation, member.seat.call):
        raise Refusal(403, "not_yours", "Only who has opened the conversation may do this.")


def _own(conversation: Conversation, call: Call) -> bool:
    return conversation.caller == call.caller.name and conversation.end_user == call.end_user


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
