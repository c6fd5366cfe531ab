"""Scripts: what the store does in one step, and the one round trip in which it is asked to."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

Argument: TypeAlias = str | bytes | int | float


class Script:
    """A Lua script. The store knows it by its digest, and is told all of it where it does not."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


class Order:
    """One run of a script."""

    __slots__ = ("arguments", "keys", "script")

    def __init__(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments


async def exchange(connection: AbstractConnection, orders: Sequence[Order]) -> list[Any]:
    """Run them in order, in one round trip; in another one those whose script the store had forgotten.

    Gives what each returned, or the error it ended in; raises where the connection failed. By the connection itself:
    redis-py's pipeline costs twice as much CPU for one script, measured at 86 µs and 44 µs.
    """
    from redis.exceptions import NoScriptError

    replies = await _sent(connection, orders, whole=False)
    again = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if again:
        told = await _sent(connection, [orders[index] for index in again], whole=True)
        for index, reply in zip(again, told, strict=True):
            replies[index] = reply
    return replies


async def _sent(connection: AbstractConnection, orders: Sequence[Order], *, whole: bool) -> list[Any]:
    from redis.exceptions import ResponseError

    commands = [
        ("EVAL", order.script.text, len(order.keys), *order.keys, *order.arguments)
        if whole
        else ("EVALSHA", order.script.digest, len(order.keys), *order.keys, *order.arguments)
        for order in orders
    ]
    await connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Any] = []
    for _ in orders:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies
