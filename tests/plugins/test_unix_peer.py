"""Callers by the user at the other end of a Unix socket: who fits, what is known of them, and calls by real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from sidegate.contract import ANONYMOUS, Call, Caller, Certificate, Peer, Process
from sidegate.errors import ConfigError, Refusal
from sidegate.testing import Running, demo_config, gateway
from sidegate_plugins import unix_peer
from sidegate_plugins.unix_peer import Settings, UnixPeer
from tests.local import ask, folder, on, through
from tests.plugins.calls import HandClock, ListLog, a_call, a_host, answer, passes_reply_and_error
from tests.plugins.test_through_the_gateway import FAILING, KEYS, LOG, SECRET, SLOW
from tests.realtime.ground import cost, gateway_for
from tests.realtime.provider import realtime_provider

DIALECTS = ("openai", "anthropic", "responses", "gemini", "ui")
USE = "sidegate_plugins.unix_peer:UnixPeer"
ME = os.geteuid()
NAME = pwd.getpwuid(ME).pw_name


def peer(uid: int = 1000, gid: int = 1000, *groups: int) -> Peer:
    return Peer(process=Process(uid=uid, gid=gid, groups=groups, pid=77))


class Hall:
    """The plugin, and calls that come to it."""

    def __init__(self, **settings: Any) -> None:
        self.log, self._clock = ListLog(), HandClock()
        self._plugin = UnixPeer(msgspec.convert(settings, Settings), a_host(self._clock, log=self.log))

    async def call(self, of: Peer | None, caller: Caller = ANONYMOUS, **given: Any) -> Call:
        await self._plugin.start()
        call = a_call(self._clock, caller=caller, **given)
        call.asked = replace(call.asked, peer=of)
        await self._plugin(call, answer)
        return call

    async def name(self, of: Peer) -> str:
        return (await self.call(of)).caller.name

    async def refusal(self, of: Peer) -> str:
        with pytest.raises(Refusal) as refused:
            await self.call(of)
        assert (refused.value.status, refused.value.code) == (403, "unknown_unix_peer")
        event, fields = self.log.lines[-1]
        assert of.process is not None
        assert (event, fields["uid"], fields["pid"]) == ("unix_peer_refused", of.process.uid, 77)
        return str(fields["reason"])


# --- who fits ---------------------------------------------------------------------------------------------------------


async def test_without_a_list_any_user_is_a_caller_by_uid_or_by_name() -> None:
    assert await Hall().name(peer(1000)) == "1000"
    assert await Hall(prefix="uid:").name(peer(1000)) == "uid:1000"
    assert await Hall(name_from="user", prefix="unix/").name(peer(ME)) == f"unix/{NAME}"
    assert await Hall(name_from="user").refusal(peer(4_000_000_000)) == "no_name"


async def test_whoever_has_no_number_here_is_nobody_unless_the_list_says_so() -> None:
    """In a container, users of the machine outside may all be 65534."""
    assert await Hall().refusal(peer(65_534)) == "unknown_user"
    assert await Hall(name_from="user").refusal(peer(65_534)) == "unknown_user"
    assert await Hall(callers=[{"user": 65_534, "name": "outside"}]).name(peer(65_534)) == "outside"


@pytest.mark.parametrize(
    ("rule", "fits", "others"),
    [
        ({"user": 1000}, [peer(1000), peer(1000, 5)], [peer(1001), peer(0)]),
        ({"user": NAME}, [peer(ME)], [peer(ME + 1)]),
        ({"user": 0}, [peer(0)], [peer(1000, 0)]),
        ({"group": 50}, [peer(1, 50), peer(1, 2, 50), peer(1, 2, 3, 50)], [peer(50, 1), peer(1, 2, 3)]),
        ({"group": 0}, [peer(1, 0)], [peer(0, 1)]),
        ({"group": "root"}, [peer(1, 0), peer(1, 7, 0)], [peer(1, 7)]),
        ({"user": 1000, "group": 50}, [peer(1000, 50), peer(1000, 1, 50)], [peer(1000, 1), peer(1001, 50)]),
    ],
)
async def test_an_entry_fits_whom_it_says(rule: dict[str, Any], fits: list[Peer], others: list[Peer]) -> None:
    hall = Hall(callers=[{**rule, "team": "t"}])
    for each in fits:
        caller = (await hall.call(each)).caller
        assert each.process is not None
        assert (caller.name, caller.team) == (str(each.process.uid), "t")
    for each in others:
        assert await hall.refusal(each) == "unknown_user"


async def test_the_first_entry_that_fits_counts_and_says_what_is_known() -> None:
    first = {"user": 7, "name": "shop", "team": "red", "tags": ["a"], "owner": "ann", "names_end_users": True}
    hall = Hall(callers=[first, {"group": 50, "team": "blue"}])
    caller = (await hall.call(peer(7, 50))).caller
    assert (caller.name, caller.team, caller.tags, caller.owner) == ("shop", "red", ("a",), "ann")
    assert caller.names_end_users
    assert (await hall.call(peer(8, 50))).caller.team == "blue"


async def test_a_user_is_one_key_whatever_it_is_called() -> None:
    one, other = Hall(callers=[{"user": 7, "name": "a"}, {"user": 8, "name": "a"}]), Hall()
    keys = [(await hall.call(peer(uid))).caller.key_id for hall, uid in ((one, 7), (other, 7), (one, 8))]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"callers": [{}]}, "say `user` or `group`, or both"),
        ({"callers": [{"name": "x"}]}, "say `user` or `group`, or both"),
        ({"callers": [{"user": -1}]}, ">= 0"),
        ({"callers": [{"user": True}]}, "Expected `int | str | null`"),
        ({"callers": [{"user": ""}]}, "length >= 1"),
        ({"callers": [{"user": 1, "team": "red\u202eder"}]}, "matching regex"),
        ({"callers": [{"uid": 5}]}, "unknown field `uid`"),
        ({"name_from": "pid"}, "Invalid enum value"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said.replace("|", r"\|")):
        msgspec.convert(settings, Settings)


@pytest.mark.parametrize("kind", ["user", "group"])
async def test_a_name_that_nobody_has_stops_the_start(kind: str) -> None:
    use = {"use": USE, "settings": {"callers": [{"user": 1}, {kind: "nobody-by-this-name"}]}}
    with pytest.raises(ConfigError) as caught:
        async with gateway(demo_config(use)):
            pass
    said = f"settings.callers[1].{kind}: there is no such {kind} on this machine"
    assert str(caught.value) == f"pipelines.main[0]: cannot start: {said}"


async def test_names_are_looked_up_once_and_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bool]] = []

    def looks(uid: int) -> str:
        asked.append((uid, threading.current_thread() is threading.main_thread()))
        return f"user-{uid}"

    monkeypatch.setattr(unix_peer, "_name_of", looks)
    monkeypatch.setattr(unix_peer, "_MOST_NAMES", 2)
    hall = Hall(name_from="user")
    for uid in (1, 1, 2, 1, 3, 3):
        assert await hall.name(peer(uid)) == f"user-{uid}"
    assert asked == [(1, False), (2, False), (3, False)]


@pytest.mark.parametrize("name", ["a" * 257, "a\nb", "a\x1b[2J", "a\u202eb"])
async def test_a_name_that_is_not_fit_for_a_log_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_peer, "_name_of", lambda uid: name)
    assert await Hall(name_from="user").refusal(peer()) == "no_name"


async def test_an_end_user_is_believed_where_the_entry_says_so() -> None:
    for believed in (True, False):
        hall = Hall(callers=[{"user": 1000, "names_end_users": believed}])
        call = await hall.call(peer(), headers={"x-end-user": "eve"})
        assert call.end_user == ("eve" if believed else None)


async def test_who_comes_otherwise_is_refused_and_passes_where_it_may() -> None:
    mesh = Peer(certificate=Certificate(subject="CN=web", common_name="web"))
    for other in (None, mesh):
        with pytest.raises(Refusal) as refused:
            await Hall().call(other)
        assert (refused.value.status, refused.value.code) == (401, "no_unix_peer")
        assert (await Hall(pass_others=True).call(other)).caller is ANONYMOUS
    assert await Hall(pass_others=True, callers=[{"user": 1}]).refusal(peer()) == "unknown_user"
    named = Caller("by-key")
    assert (await Hall(skip_named=True).call(None, named)).caller is named
    assert (await Hall(skip_named=True).call(peer())).caller.name == "1000"
    assert (await Hall().call(peer(), named)).caller.name == "1000"


@pytest.mark.parametrize("stream", [True, False])
async def test_the_reply_passes_as_it_is_and_an_error_too(stream: bool) -> None:
    plugin = UnixPeer(Settings(), a_host(HandClock()))
    caller = await passes_reply_and_error(plugin, stream=stream, peer=peer())
    assert caller.name == "1000"


# --- over sockets -----------------------------------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[Path]:
    with folder() as made:
        yield made


@asynccontextmanager
async def served(place: Path, *plugins: Any, **rest: Any) -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    config = on(place / "gate", *plugins, listen={"port": 0}, **rest)
    config["routes"] = [{"name": "main", "pipeline": "main", "default_model": "demo"}]

    async with gateway(config) as running, through(place / "gate") as session:
        yield running, session


async def lines(running: Running, count: int) -> list[dict[str, Any]]:
    """Of the log; they are written when calls end, which a client cannot see."""
    async with asyncio.timeout(5):
        while len(running.log.events("call")) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return running.log.events("call")


def allow(*users: int | str, **settings: Any) -> dict[str, Any]:
    return {"use": USE, "settings": {"callers": [{"user": user, "team": "t"} for user in users], **settings}}


async def test_calls_are_their_users_in_log_and_ledger_in_every_dialect_streamed_and_whole(place: Path) -> None:
    async with served(place, LOG, allow(NAME, name_from="user")) as (running, session):
        for stream in (True, False):
            for dialect in DIALECTS:
                assert (await ask(session, dialect, stream))[0] == 200, dialect
        said = await lines(running, 2 * len(DIALECTS))
        assert {(line["caller"], line["team"], line["ending"]) for line in said} == {(NAME, "t", "complete")}
        async with session.get(f"/v1/calls/{said[-1]['call']}") as reply:
            assert (reply.status, (await reply.json())["caller"]) == (200, NAME)


async def test_another_user_is_refused_in_each_clients_words_and_no_provider_is_asked(place: Path) -> None:
    async with served(place, LOG, allow(ME + 1)) as (running, session):
        count = 0
        for stream in (True, False):
            for dialect in DIALECTS:
                status, body = await ask(session, dialect, stream)
                count += 1
                assert status == 403
                line = (await lines(running, count))[-1]
                assert (line["ending"], line["error"], line["attempts"]) == ("refused", "unknown_unix_peer", [])
                if dialect != "ui":
                    error = json.loads(body)["error"]
                    assert "may not call" in error["message"]
                assert (b'"type":"error"' in body) == (dialect == "anthropic")


async def test_who_calls_by_tcp_is_refused_and_a_key_makes_up_for_it_where_it_may(place: Path) -> None:
    async with served(place, LOG, allow(ME)) as (running, _), aiohttp.ClientSession(running.url) as tcp:
        status, body = await ask(tcp)
        assert (status, json.loads(body)["error"]["code"]) == (401, "no_unix_peer")
    keys: Any = {**KEYS, "settings": {**KEYS["settings"], "skip_named": True}}  # type: ignore[dict-item]
    async with served(place, LOG, allow(ME, pass_others=True), keys) as (running, session):
        headers = {"authorization": f"Bearer {SECRET}"}
        async with (
            aiohttp.ClientSession(running.url) as anybody,
            aiohttp.ClientSession(running.url, headers=headers) as ann,
        ):
            assert [(await ask(each))[0] for each in (session, ann, anybody)] == [200, 200, 401]
        assert [line["caller"] for line in await lines(running, 3)][:2] == [str(ME), "ann"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_logged_as_who_it_was(place: Path, stream: bool) -> None:
    async with served(place, LOG, allow(ME), providers=SLOW) as (running, session):
        body = {"model": "demo", "stream": stream, "messages": [{"role": "user", "content": "Tell me of the sea."}]}
        asking = asyncio.ensure_future(session.post("/v1/chat/completions", json=body))
        async with asyncio.timeout(5):
            while not any(live.call.attempts for live in running.service.live.all()):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        if stream:
            (await asking).close()
        else:
            asking.cancel()
        (line,) = await lines(running, 1)
        assert (line["caller"], line["ending"]) == (str(ME), "client_gone")


@pytest.mark.parametrize("stream", [True, False])
async def test_what_breaks_further_in_is_none_of_its_business(place: Path, stream: bool) -> None:
    async with served(place, LOG, allow(ME), FAILING) as (running, session):
        status, _ = await ask(session, "openai", stream)
        (line,) = await lines(running, 1)
        assert (status, line["caller"], line["error"]) == (200 if stream else 500, str(ME), "plugin_error")


@pytest.mark.parametrize("user", [ME, ME + 1])
async def test_a_session_of_realtime_is_its_users_too(place: Path, user: int) -> None:
    listen = {"unix": {"path": str(place / "gate")}}
    async with realtime_provider() as provider, gateway_for(provider, allow(user), cost(), listen=listen) as running:
        async with through(place / "gate") as session:
            if user != ME:
                with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                    await session.ws_connect("/v1/realtime?model=voice")
                return
            async with session.ws_connect("/v1/realtime?model=voice") as socket:
                await socket.send_json({"type": "response.create"})
                async with asyncio.timeout(10):
                    while (await socket.receive_json())["type"] != "response.done":
                        pass
        said = await lines(running, 2)
        assert [(line["caller"], line["operation"]) for line in said] == [
            (str(ME), "realtime_response"),
            (str(ME), "realtime"),
        ]


CALLS_AS = """
import http.client, os, socket, sys
path, uid = sys.argv[1], int(sys.argv[2])
if uid != os.geteuid():
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.settimeout(20)
connection.sock.connect(path)
connection.request("GET", "/v1/models")
print(connection.getresponse().status)
"""


async def test_the_kernel_tells_users_apart_and_rights_keep_them_out(place: Path) -> None:
    """To be another user takes root; who is not root is told apart by what the list says."""
    root = can_be_another()
    other = 54_321 if root else ME
    os.chmod(place, 0o755)
    async with served(place, LOG, allow(other), unix={"mode": "0666"}) as (_, session):
        assert await calls_as(place / "gate", other) == "200"
        async with session.get("/v1/models") as reply:
            assert reply.status == (403 if root else 200)
    if root:
        async with served(place, LOG, allow(other)):
            assert "PermissionError" in await calls_as(place / "gate", other)


def can_be_another() -> bool:
    asking = [sys.executable, "-c", "import os; os.setgroups([]); os.setgid(54_321); os.setuid(54_321)"]
    return subprocess.run(asking, capture_output=True, timeout=30).returncode == 0


async def calls_as(path: Path, uid: int) -> str:
    asking = [sys.executable, "-c", CALLS_AS, str(path), str(uid)]
    done = await asyncio.to_thread(subprocess.run, asking, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() or done.stderr
