"""Conversation: its messages, who takes part, the turn that is being answered and those that wait.

Everything that happens is one event with the next `seq`, told to all who take part in the same order. One turn is
answered at a time; what else is asked waits its turn, in the order in which it came.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Raw

from sidegate.contract.meaning import Reasoning, Text, ToolCall
from sidegate.conversations import words
from sidegate.conversations.history import History, check_sense
from sidegate.conversations.history import said as spoken
from sidegate.conversations.member import OVER, STOPPING, Member
from sidegate.conversations.room import Room
from sidegate.conversations.turn import OWNED, Answer, TurnOutlet, make_call, used
from sidegate.errors import BadRequest, Cancelled, Ending, Refusal, SidegateError
from sidegate.live import LiveCall
from sidegate.settings.conversations import Conversations as Bounds


@dataclass(slots=True)
class Asked:
    """A turn, or an input that waits for one (`model` is `None`)."""

    id: str
    by: Member
    messages: tuple[Raw, ...]
    model: str | None
    options: dict[str, Raw]
    re: str | None = None


class Running:
    """The turn that is being answered."""

    def __init__(self, asked: Asked, before: int) -> None:
        self.asked = asked
        self.before = before
        """Messages that stood before it."""
        self.answer = Answer()
        self.live: LiveCall | None = None


class Conversation:
    """One, of whoever has opened it."""

    def __init__(self, id: str, opener: Member, bounds: Bounds, instructions: str | None) -> None:
        self.id = id
        self.caller = opener.seat.call.caller.name
        self.end_user = opener.seat.call.end_user
        self.room = Room(bounds.max_participants, bounds.replay_bytes)
        self.running: Running | None = None
        self.invitations: dict[str, float] = {}
        """When each ends, monotonic seconds, by digest."""
        self.over = False
        self._bounds = bounds
        self._history = History(bounds, instructions)
        self._waiting: deque[Asked] = deque()
        self._model = ""
        self._options: dict[str, Raw] = {}

    # --- who takes part -----------------------------------------------------------------------------------------------

    def join(self, member: Member, name: str, after: int | None = None, re: str | None = None) -> None:
        """From now on it is told what happens; first, what has happened. Raises a `Refusal` where there is no room."""
        self.room.enter(member, name)
        missed = None if after is None else self.room.since(after)
        member.tell(self._opened(member, re, replayed=missed is not None))
        for data in missed or ():
            member.push(data)

    def leave(self, member: Member, now: float) -> None:
        """What it has asked and nobody answers yet is taken back; the answer under way is everybody's."""
        for asked in [one for one in self._waiting if one.by is member and one.model is not None]:
            self._take_back(asked)
        self.room.exit(member, now)

    def _opened(self, member: Member, re: str | None, *, replayed: bool) -> words.Opened:
        participants = tuple([words.Participant(one.id, one.name) for one in self.room.members.values()])
        running = None if replayed else self.running
        current = None
        if running is not None and running.asked.model is not None:
            asked, answer = running.asked, running.answer
            text, reasoning = "".join(answer.text), "".join(answer.reasoning)
            current = words.Current(asked.id, asked.by.id, asked.model or "", text, reasoning)
        return words.Opened(
            conversation=self.id,
            participant=member.id,
            seq=self.room.seq,
            participants=participants,
            messages=() if replayed else tuple(self._history.entries),
            current=current,
            replayed=replayed,
            re=re,
        )

    # --- what they say ------------------------------------------------------------------------------------------------

    def create(self, member: Member, said: words.Create) -> None:
        """A turn: now, after those that wait, or in the place of the present one. Raises `BadRequest`, `Refusal`."""
        model = said.model or self._model or member.seat.route.default_model
        if not model:
            raise BadRequest("Say which model is to answer.", param="model", code="missing_model")
        messages = spoken(said.input, said.messages)
        if not messages and not self._history.entries and not self._waiting:
            raise BadRequest("There is nothing to answer yet.", param="input")
        if wrong := sorted(OWNED & said.options.keys()):
            raise BadRequest(f"`{wrong[0]}` is no option.", param=f"options.{wrong[0]}")
        check_sense(model, messages, said.options)
        if self.running is not None and said.when_busy == "refuse":
            raise Refusal(409, "turn_in_progress", "An answer is being given.")
        asked = Asked(_id("t"), member, messages, model, said.options, said.id)
        if self.running is not None and said.when_busy == "interrupt":
            self._check_room(messages)
            self._waiting.appendleft(asked)
            self._stop(self.running)
            return
        self._put(asked)

    def add(self, member: Member, said: words.Add) -> None:
        """Something said that asks for no answer by itself. Raises `BadRequest`, `Refusal`."""
        messages = spoken(said.input, said.messages)
        if not messages:
            raise BadRequest("There is nothing said.", param="input")
        running = self.running
        check_sense("m", messages, {})
        asked = Asked(_id("i"), member, messages, None, {}, said.id)
        if running is None:
            self._take(asked, waits=False)
            return
        self._check_room(messages)
        self.room.tell(words.Added(seq=self.room.next(), by=member.id, messages=messages, waits=True))
        if not said.interrupt:
            self._waiting.append(asked)
            return
        again = Asked(_id("t"), member, (), self._model, self._options)
        self._waiting.extendleft((again, asked))
        self._stop(running)

    def cancel(self, said: words.Cancel) -> None:
        """Stop a turn, or take back what waits. Raises a `Refusal` 404."""
        running = self.running
        if running is not None and said.turn in (None, running.asked.id):
            self._stop(running)
            return
        for asked in self._waiting:
            if asked.id == said.turn and asked.model is not None:
                self._take_back(asked)
                return
        raise Refusal(404, "turn_not_found", "There is no such turn that runs or waits.")

    def close(self, *, stopping: bool = False) -> None:
        """For all, for good."""
        self.over = True
        self._waiting.clear()
        self.room.tell(words.Closing(seq=self.room.next(), reason="gateway_stopping" if stopping else "closed"))
        for member in list(self.room.members.values()):
            member.let_go(STOPPING if stopping else OVER)
        self.give_up()

    def give_up(self) -> None:
        """Stop the answer under way, and ask for no other."""
        self._waiting.clear()
        if self.running is not None:
            self._stop(self.running)

    def unheard(self) -> None:
        """Nobody has come back to hear the answer: what the route says of such calls is done."""
        if self.running is not None and self.running.asked.by.seat.route.on_disconnect == "cancel":
            self.give_up()

    # --- turns --------------------------------------------------------------------------------------------------------

    def _put(self, asked: Asked) -> None:
        self._check_room(asked.messages)
        if self.running is None:
            self._begin(asked)
            return
        self._waiting.append(asked)
        self.room.tell(words.Queued(seq=self.room.next(), turn=asked.id, by=asked.by.id, re=asked.re))

    def _begin(self, asked: Asked) -> None:
        assert asked.model is not None
        running = self.running = Running(asked, len(self._history.entries))
        for message in asked.messages:
            self._history.add(message, by=asked.by.id, turn=asked.id)
        self._model, self._options = asked.model, asked.options
        outlet = TurnOutlet(self._say, self.room.paced, running.answer, asked.by.seat.service.clock)
        call = make_call(asked.by, asked.model, self._history.messages, asked.options, outlet)
        self.room.tell(
            words.Started(
                seq=self.room.next(),
                turn=asked.id,
                by=asked.by.id,
                model=asked.model,
                call=call.id,
                messages=asked.messages,
                re=asked.re,
            )
        )
        service, route = asked.by.seat.service, asked.by.seat.route
        try:
            running.live = service.live.start(call, service.known(route.pipeline), outlet, "continue")
        except SidegateError as error:
            self._end(running, call.reply_for(error).ending, error)
            return
        running.live.done.add_done_callback(lambda _: self._over(running))

    def _over(self, running: Running) -> None:
        assert running.live is not None
        assert running.live.reply is not None
        self._end(running, running.live.reply.ending, running.live.reply.error)

    def _end(self, running: Running, ending: Ending, error: SidegateError | None) -> None:
        """It is answered, or will not be: remember what was said, and go on with what waits."""
        answer, asked = running.answer, running.asked
        message = answer.message(whole=error is None)
        cancelled = ending is Ending.CANCELLED
        taken_back = message is None and error is not None and not cancelled
        if taken_back:
            self._history.take_back(running.before)
        elif message is not None:
            mark = None if error is None else ending.value
            self._history.add(message, turn=asked.id, ending=mark)
        usage, cost = (None, None) if running.live is None else used(running.live.call)
        self.room.tell(
            words.Ended(
                seq=self.room.next(),
                turn=asked.id,
                ending=ending.value,
                finish_reason=answer.finish if error is None else None,
                usage=usage,
                cost_nano_usd=cost,
                error=None if error is None or cancelled else _failure(error),
                taken_back=taken_back,
            )
        )
        self.running = None
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self.running is None:
            asked = self._waiting.popleft()
            if asked.model is None:
                self._take(asked, waits=True)
            else:
                self._begin(asked)

    def _take(self, asked: Asked, *, waits: bool) -> None:
        """An input becomes part of the conversation; who takes part knows of it where it has waited."""
        if not waits:
            self._check_room(asked.messages)
        for message in asked.messages:
            self._history.add(message, by=asked.by.id)
        if not waits:
            self.room.tell(words.Added(seq=self.room.next(), by=asked.by.id, messages=asked.messages, waits=False))

    def _take_back(self, asked: Asked) -> None:
        self._waiting.remove(asked)
        self.room.tell(words.Ended(seq=self.room.next(), turn=asked.id, ending="cancelled", taken_back=True))

    def _stop(self, running: Running) -> None:
        if running.live is not None:
            running.live.stop(Cancelled(Ending.CANCELLED))

    def _say(self, part: Text | Reasoning | ToolCall) -> None:
        assert self.running is not None
        turn, seq = self.running.asked.id, self.room.next()
        match part:
            case Text():
                self.room.tell(words.TextDelta(seq=seq, turn=turn, text=part.text))
            case Reasoning():
                self.room.tell(words.ReasoningDelta(seq=seq, turn=turn, text=part.text))
            case ToolCall():
                index = list(self.running.answer.calls).index(part.block)
                told = words.ToolCallDelta(
                    seq=seq,
                    turn=turn,
                    index=index,
                    arguments=part.arguments,
                    id=part.id,
                    name=part.name,
                    custom=part.custom,
                )
                self.room.tell(told)

    def _check_room(self, messages: Sequence[Raw]) -> None:
        if len(self._waiting) >= self._bounds.max_waiting and self.running is not None:
            raise Refusal(429, "too_much_waiting", "Too much waits for an answer to end.", retry_after=1)
        self._history.check_room(messages)


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(8)}"


def _failure(error: SidegateError) -> words.Failure:
    return words.Failure(error.code, error.message, error.status, error.retry_after)
