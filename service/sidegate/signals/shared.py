"""Signals by the shared store: published to all gateways, answered to the one that asks.

Gateways write down every few seconds that they live. So who asks knows how many must answer, also where one of them
cannot hear at the time: "nobody has it" is said only when all have said so.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from sidegate.errors import SidegateError
from sidegate.shared.line import StoreDown
from sidegate.shared.script import Order, Script
from sidegate.shared.store import Store
from sidegate.signals.asking import Answerer, Heard, Question
from sidegate.signals.waiting import NULL, Asked, Said, Waiting

BEAT_SECONDS = 5.0
LIVE_SECONDS = 15
"""After so long without a beat a gateway counts as gone."""
START_SECONDS = 2.0
"""How long a gateway that starts waits to be heard."""
MOST_AT_ONCE = 1000
"""Questions of others that are answered at a time; more go unanswered, and who asks says that it is not sure."""

_PAUSE = 0.5

_ASK = Script(f"""
local now = redis.call('TIME')[1]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - {LIVE_SECONDS})
return {{redis.call('PUBLISH', ARGV[1], ARGV[2]), redis.call('ZCARD', KEYS[1])}}
""")
_TELL = Script("return redis.call('PUBLISH', ARGV[1], ARGV[2])")
_BEAT = Script("""
redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[1])
return redis.call('EXPIRE', KEYS[1], 3600)
""")
_LEAVE = Script("return redis.call('ZREM', KEYS[1], ARGV[1])")

_logger = logging.getLogger("sidegate.signals")

_decoder = msgspec.json.Decoder(Asked | Said)


class SharedSignals:
    """`Signals` between all gateways of one store and prefix, this one included: it hears itself, too."""

    def __init__(self, store: Store, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._me = secrets.token_hex(8)
        self._living = f"{store.tag}gateways"
        self._all = f"{store.tag}signals"
        self._mine = f"{store.tag}signals:{self._me}"
        self._asking: dict[str, Waiting] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._answerer: Answerer | None = None
        self._listener: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        store.came_up.append(self._again)

    async def start(self, answerer: Answerer) -> None:
        """Listen from now on. Goes on where the store is not there."""
        self._answerer = answerer
        self._listener = self._task(self._listen(), "signals")
        self._beating = self._task(self._beat(), "signals alive")
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS if self._store.up else 0):
                await self._heard.wait()

    async def stop(self) -> None:
        """Leave: nobody waits for this one any more. What it was answering is not answered."""
        tasks = [task for task in (self._listener, self._beating, *self._answering) if task is not None]
        self._listener = self._beating = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            self._store.post(Order(_LEAVE, [self._living], [self._me]))

    async def ask(self, question: Question, *, first: bool) -> Heard:
        id = secrets.token_hex(8)
        waiting = self._asking[id] = Waiting(first=first)
        try:
            data = msgspec.json.encode(Asked(id, self._me, question))
            reached, living = await self._store.ask("signal", Order(_ASK, [self._living], [self._all, data]))
            # It hears itself, or it cannot hear the others either.
            waiting.expect(max(reached, living, 1))
            return await waiting.heard(self._seconds)
        except StoreDown:
            return Heard((), False)
        finally:
            del self._asking[id]

    # --- listening ----------------------------------------------------------------------------------------------------

    def _task(self, work: Any, name: str) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, name=name)

    def _again(self) -> None:
        """What was subscribed before an outage may have gone without a word."""
        if self._listener is not None:
            self._listener.cancel()
            self._listener = self._task(self._listen(), "signals")
            self._store.post(Order(_BEAT, [self._living], [self._me]))

    async def _beat(self) -> None:
        while True:
            self._store.post(Order(_BEAT, [self._living], [self._me]))
            await asyncio.sleep(BEAT_SECONDS)

    async def _listen(self) -> None:
        while True:
            with suppress(Exception):
                await self._subscribed()
            await asyncio.sleep(_PAUSE)

    async def _subscribed(self) -> None:
        """Until the connection breaks."""
        async with self._store.client() as client, client.pubsub() as listener:
            await listener.subscribe(self._all, self._mine)
            async for message in listener.listen():
                if message["type"] == "message":
                    self._take(message["data"])
                elif message["type"] == "subscribe" and message["data"] == 2:
                    self._heard.set()

    def _take(self, data: bytes) -> None:
        try:
            found = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return  # of somebody else, or of a version to come
        if isinstance(found, Said):
            self._told(found)
        elif found.by == self._me:
            # Whoever asks has looked at its own before.
            self._told(Said(found.id, self._me))
        elif len(self._answering) < MOST_AT_ONCE:
            task = self._task(self._answer(found), f"signal {found.id}")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    def _told(self, said: Said) -> None:
        waiting = self._asking.get(said.id)
        if waiting is not None:
            waiting.take(said)

    async def _answer(self, asked: Asked) -> None:
        assert self._answerer is not None
        claim = partial(self._tell, asked.by, Said(asked.id, self._me, claims=True))
        try:
            body = await self._answerer(asked.question, claim)
        except SidegateError as error:
            # No answer is not "no": who asks says that it is not sure.
            _logger.warning("a signal of another gateway could not be answered: %s", error.code)
            return
        self._tell(asked.by, Said(asked.id, self._me, body=NULL if body is None else Raw(body)))

    def _tell(self, gateway: str, said: Said) -> None:
        """To one that asks; where the store is away nobody hears it."""
        self._store.post(Order(_TELL, [], [f"{self._all}:{gateway}", msgspec.json.encode(said)]))
