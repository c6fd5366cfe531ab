"""Who calls, by the user that runs the program at the other end of a Unix socket: no key to hand out, none to lose.

The kernel says who connected (`listen.unix`); this plugin makes a caller of it. Who comes by TCP gets 401, and who is
not in the list 403. Put it first but for `log`, in the place of `api_key`, or before it with `pass_others`.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from sidegate.contract import ANONYMOUS, Call, Caller, Handler, Host, Label, Plugin, Process, Reply
from sidegate.errors import ConfigError, Refusal
from sidegate_plugins._callers import NamesEndUsers, Owner, Tags, Team, caller_of, can_be_a_name
from sidegate_plugins._credential import EndUserHeader, named_end_user

Id = Annotated[int, Meta(ge=0, le=2**32 - 2)]
Who = Id | Label

_UNMAPPED = 65_534
"""Whoever is nobody in the gateway's user namespace, whoever that is (user_namespaces(7)); and the user `nobody`."""
_MOST_NAMES = 1024


class Callers(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of the callers whose user and group fit; at least one of the two is said."""

    user: Annotated[Who | None, Meta(description="The user, by name or uid; any if left out.")] = None
    group: Annotated[Who | None, Meta(description="A group the user is in, by name or gid; any if left out.")] = None
    name: Annotated[Label | None, Meta(description="Call them all so; by their users if left out.")] = None
    team: Team = None
    tags: Tags = ()
    owner: Owner = None
    names_end_users: NamesEndUsers = False

    def __post_init__(self) -> None:
        if self.user is None and self.group is None:
            raise ValueError("say `user` or `group`, or both")


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    callers: Annotated[
        tuple[Callers, ...], Meta(description="Who may call; the first that fits counts. Any user if empty.")
    ] = ()
    name_from: Annotated[
        Literal["uid", "user"], Meta(description="What callers without `name` are called by: `1000`, or `ann`.")
    ] = "uid"
    prefix: Annotated[str, Meta(max_length=64, description="Stands before names that come from users.")] = ""
    pass_others: Annotated[
        bool,
        Meta(description="Let calls by TCP pass, for the next plugin to judge: nobody's until then."),
    ] = False
    skip_named: Annotated[
        bool, Meta(description="Let calls pass whose caller an earlier plugin named; users are not looked at.")
    ] = False
    end_user_header: EndUserHeader = "x-end-user"


class UnixPeer(Plugin[Settings]):
    """Sets `call.caller` and `call.end_user`, or refuses."""

    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job", "socket"})
    names_callers = True

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        self._rules: list[tuple[int | None, int | None, Callers]] = []
        self._names: dict[int, str | None] = {}

    async def start(self) -> None:
        """Names become numbers once: who is named later gets in after a restart."""
        self._rules = await asyncio.to_thread(_numbered, self.settings.callers)

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if self.settings.skip_named and call.caller is not ANONYMOUS:
            return await handler(call)
        process = call.peer.process if call.peer is not None else None
        if process is None:
            if self.settings.pass_others:
                return await handler(call)
            raise Refusal(401, "no_unix_peer", "Call through the Unix socket: who calls by TCP is not known here.")
        call.caller = caller = await self._caller(call, process)
        call.end_user = named_end_user(call, self.settings.end_user_header) if caller.names_end_users else None
        return await handler(call)

    async def _caller(self, call: Call, process: Process) -> Caller:
        rule = self._found(process)
        if rule is None and (self.settings.callers or process.uid == _UNMAPPED):
            raise self._refusal(call, process, "unknown_user")
        name = rule.name if rule is not None and rule.name is not None else await self._name(process.uid)
        if name is None or not can_be_a_name(name):
            raise self._refusal(call, process, "no_name")
        return caller_of(name, _key_id(process.uid), rule)

    def _found(self, process: Process) -> Callers | None:
        for uid, gid, rule in self._rules:
            if uid is not None and uid != process.uid:
                continue
            if gid is None or gid == process.gid or gid in process.groups:
                return rule
        return None

    async def _name(self, uid: int) -> str | None:
        """With its prefix; `None` for a user without a name, where names are wanted."""
        if self.settings.name_from == "uid":
            return f"{self.settings.prefix}{uid}"
        if uid not in self._names:
            # It may be asked of a server far away.
            name = await asyncio.to_thread(_name_of, uid)
            if name is None:
                return None
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[uid] = self.settings.prefix + name
        return self._names[uid]

    def _refusal(self, call: Call, process: Process, reason: str) -> Refusal:
        said = {"uid": process.uid, "gid": process.gid, "pid": process.pid}
        self.host.log.write("unix_peer_refused", {"call": call.id, "reason": reason, **said})
        return Refusal(403, "unknown_unix_peer", "The user that runs this program may not call.")


def _numbered(callers: tuple[Callers, ...]) -> list[tuple[int | None, int | None, Callers]]:
    """Raises `ConfigError` for a name that nobody has."""
    import grp
    import pwd

    found = []
    for index, rule in enumerate(callers):
        kind = "user"
        try:
            uid = pwd.getpwnam(rule.user).pw_uid if isinstance(rule.user, str) else rule.user
            kind = "group"
            gid = grp.getgrnam(rule.group).gr_gid if isinstance(rule.group, str) else rule.group
        except KeyError:
            problem = f"settings.callers[{index}].{kind}: there is no such {kind} on this machine"
            raise ConfigError("", problem) from None
        found.append((uid, gid, rule))
    return found


def _name_of(uid: int) -> str | None:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _key_id(uid: int) -> str:
    """The same for all programs of a user."""
    return sha256(f"uid\0{uid}".encode()).hexdigest()[:12]
