"""Unix sockets: who may connect, whose file it is, what is left of it, and calls through it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import shutil
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
import uvloop
import yaml
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from sidegate.cli import main
from sidegate.commands.welcome import lines
from sidegate.contract import Peer, Process
from sidegate.errors import ConfigError
from sidegate.http import unix
from sidegate.http.process import read_process
from sidegate.settings.listeners import UnixSocket
from sidegate.testing import demo_config, gateway, scripted
from tests.local import answers, ask, folder, listening_here, on, rights, through
from tests.relaying import (
    A_PIECE,
    DONE,
    PIECES,
    chat,
    leads_to,
    leave,
    pours_and_ends,
    silent,
    slowly,
    until,
)
from tests.relaying import answers as well
from tests.seen import SEEN, Seen
from tests.supervised import command, eventually, gone, refused, supervised, written
from tests.tree import ROOT

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
LOG = {"use": "log"}


@pytest.fixture
def place() -> Iterator[Path]:
    with folder() as made:
        yield made


@pytest.fixture(autouse=True)
def nobody_seen() -> None:
    Seen.peers.clear()


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_calls_come_through_it_and_tell_who_calls(place: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def asks() -> None:
        async with gateway(on(place / "gate", SEEN)) as running:
            assert running.gateway.urls == [f"unix:{place / 'gate'}"]
            async with through(place / "gate") as session:
                for stream in (True, False):
                    for dialect in ("openai", "anthropic", "responses", "gemini", "ui"):
                        status, body = await ask(session, dialect, stream)
                        assert (status, len(body) > 20) == (200, True), dialect
        assert not (place / "gate").exists()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asks())
    assert len(Seen.peers) == 10
    peer = Seen.peers[0]
    assert peer is not None
    assert peer is Seen.peers[-1], "read once a connection"
    me = Process(uid=os.geteuid(), gid=os.getegid(), groups=tuple(os.getgroups()), pid=os.getpid())
    assert (peer.process, peer.certificate) == (me, None)


async def test_tcp_and_a_socket_may_both_be_there_and_only_the_socket_tells_who_calls(place: Path) -> None:
    async with gateway(on(place / "gate", SEEN, listen={"port": 0})) as running:
        url, local = running.gateway.urls
        assert (running.url, local) == (url, f"unix:{place / 'gate'}")
        async with through(place / "gate") as session, aiohttp.ClientSession(url) as tcp:
            assert [(await ask(each))[0] for each in (session, tcp)] == [200, 200]
    assert [peer is not None for peer in Seen.peers] == [True, False]


async def test_with_a_socket_alone_nothing_listens_on_tcp(place: Path) -> None:
    async with gateway(on(place / "gate", admin={"unix": {"path": str(place / "admin")}})):
        assert listening_here() == 0


@both
async def test_the_vendors_clients_call_through_it(place: Path, stream: bool) -> None:
    async with gateway(on(place / "gate")):
        transport = httpx2.AsyncHTTPTransport(uds=str(place / "gate"))
        message: Any = [{"role": "user", "content": "Tell me of the sea."}]
        async with httpx2.AsyncClient(transport=transport) as http:
            openai = AsyncOpenAI(base_url="http://localhost/v1", api_key="none", http_client=http)
            anthropic = AsyncAnthropic(base_url="http://localhost", api_key="none", http_client=http)
            if stream:
                said = [
                    chunk
                    async for chunk in await openai.chat.completions.create(model="demo", messages=message, stream=True)
                ]
                assert said[-1].choices[0].finish_reason == "stop"
                async with anthropic.messages.stream(model="demo", max_tokens=30, messages=message) as told:
                    assert (await told.get_final_message()).content
            else:
                whole = await openai.chat.completions.create(model="demo", messages=message)
                assert whole.choices[0].message.content
                assert (await anthropic.messages.create(model="demo", max_tokens=30, messages=message)).content


async def test_the_blocking_client_and_curl_call_through_it(place: Path) -> None:
    async with gateway(on(place / "gate")):

        def asks() -> str | None:
            transport = httpx2.HTTPTransport(uds=str(place / "gate"))
            with httpx2.Client(transport=transport) as http:
                client = OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http)
                reply = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hi"}])
            return reply.choices[0].message.content

        assert await asyncio.to_thread(asks)
        curl = shutil.which("curl")
        if curl is not None:
            asking = await asyncio.create_subprocess_exec(
                curl, "-sS", "--unix-socket", str(place / "gate"), "http://localhost/readyz", stdout=-1
            )
            assert (await asking.communicate())[0] == b"ready\n"


@both
async def test_a_client_that_leaves_frees_the_provider(place: Path, stream: bool) -> None:
    async with scripted(silent) as provider:
        config = leads_to(provider.url, plugins=(LOG,), listen={"unix": {"path": str(place / "gate")}})
        async with gateway(config) as running, through(place / "gate") as session:
            asking = asyncio.ensure_future(session.post("/v1/chat/completions", json=chat(stream)))
            await leave(asking, provider, stream)
            await until(lambda: bool(running.log.events("call")))
            assert running.log.events("call")[0]["ending"] == "client_gone"


async def test_a_long_stream_waits_for_a_slow_reader_and_loses_nothing(place: Path) -> None:
    async with scripted(pours_and_ends) as provider:
        config = leads_to(provider.url, listen={"unix": {"path": str(place / "gate")}})
        async with gateway(config), through(place / "gate") as session:
            async with session.post("/v1/chat/completions", json=chat(True)) as reply:
                data = await slowly(reply)
    assert data.count(A_PIECE) == PIECES
    assert data.endswith(DONE)


async def test_what_is_no_http_is_told_so(place: Path) -> None:
    async with gateway(on(place / "gate")):
        reader, writer = await asyncio.open_unix_connection(place / "gate")
        writer.write(b"\x16\x03\x01 not http\r\n\r\n")
        async with asyncio.timeout(5):
            said = await reader.read()
        writer.close()
    assert b" 400 Bad Request\r\n" in said
    assert b"invalid_http" in said


# --- the file ---------------------------------------------------------------------------------------------------------


async def test_its_rights_are_what_the_config_says(place: Path) -> None:
    before = os.umask(0o077)
    try:
        for mode in ("0600", "660", "0666"):
            async with gateway(on(place / "gate", unix={"mode": mode, "owner": os.geteuid(), "group": os.getegid()})):
                assert rights(place / "gate") == (f"{int(mode, 8):04o}", os.geteuid(), os.getegid())
        async with gateway(on(place / "gate", unix={"owner": pwd.getpwuid(os.geteuid()).pw_name})):
            assert rights(place / "gate")[0] == "0600", "nobody else, unless it is said"
        assert os.umask(0o077) == 0o077, "the umask is every thread's"
    finally:
        os.umask(before)


def test_nobody_may_connect_before_its_rights_are_set(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    path = str(place / "gate")

    def looks(which: str, real: Callable[..., None]) -> Callable[..., None]:
        def look(*given: Any, **named: Any) -> None:
            seen.append((which, stat.S_IMODE(os.lstat(path).st_mode)))
            real(*given, **named)

        return look

    monkeypatch.setattr(os, "chown", looks("chown", os.chown))
    monkeypatch.setattr(os, "chmod", looks("chmod", os.chmod))
    made = unix.bind(UnixSocket(path=path, mode="0666", group=os.getegid()), "listen.unix")
    made.remove()
    made.socket.close()
    assert seen == [("chown", 0), ("chmod", 0)]


async def test_a_socket_on_which_nobody_answers_is_replaced(place: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(place / "gate"))
    left.close()
    async with gateway(on(place / "gate")), through(place / "gate") as session:
        assert (await ask(session))[0] == 200


@pytest.mark.parametrize("where", ["listen", "admin"])
async def test_a_live_gateways_socket_is_not_stolen(place: Path, where: str) -> None:
    config = {**demo_config(), where: {"unix": {"path": str(place / "gate")}}}
    async with gateway(config), through(place / "gate") as session:
        before = os.lstat(place / "gate").st_ino
        with pytest.raises(ConfigError) as caught:
            async with gateway(config):
                pass
        assert str(caught.value) == f"{where}.unix.path: cannot listen on {place / 'gate'}: another process does"
        assert os.lstat(place / "gate").st_ino == before
        async with session.get("/livez") as reply:
            assert reply.status == 200


async def test_one_that_has_more_waiting_than_it_takes_is_alive(place: Path) -> None:
    """A process that is stopped, or busy, and whose queue is full."""
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(place / "gate"))
        busy.listen(0)
        waiting = []
        while True:
            asking = socket.socket(socket.AF_UNIX)
            asking.setblocking(False)
            waiting.append(asking)
            if asking.connect_ex(str(place / "gate")):
                break
        with pytest.raises(ConfigError, match="another process does"):
            async with gateway(on(place / "gate")):
                pass
        for each in waiting:
            each.close()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "pipe"])
async def test_what_is_no_socket_is_left_alone(place: Path, kind: str) -> None:
    path = place / "gate"
    match kind:
        case "file":
            path.write_text("of great worth")
        case "folder":
            path.mkdir()
        case "link":
            (place / "elsewhere").write_text("of great worth")
            path.symlink_to(place / "elsewhere")
        case _:
            os.mkfifo(path)
    before = os.lstat(path)
    with pytest.raises(ConfigError) as caught:
        async with gateway(on(path)):
            pass
    assert str(caught.value) == f"listen.unix.path: {path} is there already and is no socket: it is left alone"
    assert os.lstat(path) == before


async def test_a_socket_of_another_kind_may_be_in_use(place: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(place / "gate"))
        with pytest.raises(ConfigError, match=r"^listen\.unix\.path: .* is there already, and may be in use"):
            async with gateway(on(place / "gate")):
                pass
        assert (place / "gate").is_socket()


async def test_only_ones_own_file_is_removed_at_the_end(place: Path) -> None:
    async with gateway(on(place / "gate")):
        os.unlink(place / "gate")
        (place / "gate").write_text("somebody else's")
    assert (place / "gate").read_text() == "somebody else's"


async def test_a_file_that_is_gone_at_the_end_is_no_trouble(place: Path) -> None:
    async with gateway(on(place / "gate")):
        os.unlink(place / "gate")
    assert os.listdir(place) == []


async def test_a_start_that_fails_leaves_nothing(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = {"port": taken.getsockname()[1], "unix": {"path": str(place / "admin")}}
        with pytest.raises(ConfigError, match="^admin: cannot listen"):
            async with gateway(on(place / "gate", admin=admin)):
                pass
    assert os.listdir(place) == []


async def test_two_that_start_at_once_do_not_both_get_it(place: Path) -> None:
    """Each would find nobody, and the second would remove what the first has just bound."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(place / "gate"))
    left.close()
    descriptor = os.open(place, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    wanted = UnixSocket(path=str(place / "gate"))
    starting = [asyncio.ensure_future(asyncio.to_thread(unix.bind, wanted, "listen.unix")) for _ in range(4)]
    await asyncio.sleep(0.05)
    assert not any(each.done() for each in starting), "they wait for whoever has the folder"
    os.close(descriptor)
    ended = await asyncio.gather(*starting, return_exceptions=True)
    (made,) = [each for each in ended if isinstance(each, unix.UnixListening)]
    assert sum(isinstance(each, ConfigError) for each in ended) == 3
    assert await answers(place / "gate")
    made.remove()
    made.socket.close()


async def test_a_folder_that_somebody_keeps_locked_is_not_waited_for_for_ever(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix, "_LOCK_SECONDS", 0.05)
    descriptor = os.open(place, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(ConfigError, match="its folder is locked by another process$"):
            unix.bind(UnixSocket(path=str(place / "gate")), "listen.unix")
    finally:
        os.close(descriptor)


def test_a_file_system_without_such_locks_does_without(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    made = unix.bind(UnixSocket(path=str(place / "gate")), "listen.unix")
    with pytest.raises(ConfigError, match="another process does"):
        unix.bind(UnixSocket(path=str(place / "gate")), "listen.unix")
    made.remove()
    made.socket.close()
    assert os.listdir(place) == []


# --- mistakes ---------------------------------------------------------------------------------------------------------

LONG = "x" * 108


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ({"unix": {"path": "nowhere/gate"}}, "listen.unix.path: cannot listen on {here}/nowhere/gate: No such file"),
        ({"unix": {"path": "file/gate"}}, "listen.unix.path: cannot listen on {here}/file/gate: Not a directory"),
        ({"unix": {"path": LONG}}, "listen.unix.path: is longer than the 107 bytes that the path of a socket may have"),
        ({"unix": {"path": "é" * 54}}, "listen.unix.path: is longer than the 107 bytes"),
        ({"unix": {"path": "/tmp/\ud800.sock"}}, "listen.unix.path: is no path that a system could have"),
        ({"unix": {"path": "@gate"}}, "listen.unix: `path`: sockets without a file (abstract ones) are not offered"),
        ({"unix": {"path": "\0gate"}}, "listen.unix: `path`: sockets without a file"),
        ({"unix": {"path": ""}}, "listen.unix.path: Expected str of length >= 1"),
        ({"unix": {}}, "listen.unix: missing required field `path`"),
        ({"unix": "gate"}, "listen.unix: Expected object | null, got str"),
        ({"unix": {"path": "g", "mode": "1777"}}, "listen.unix.mode: Expected str matching regex"),
        ({"unix": {"path": "g", "mode": 432}}, "listen.unix.mode: Expected str, got int"),
        ({"unix": {"path": "g", "owner": "nobody-here"}}, "listen.unix.owner: no user is named `nobody-here`"),
        ({"unix": {"path": "g", "group": "no-such-group"}}, "listen.unix.group: no group is named `no-such-group`"),
        ({"unix": {"path": "g", "owner": -1}}, "listen.unix.owner: Expected int >= 0"),
        ({"unix": {"path": "g"}, "host": "0.0.0.0"}, "listen: `host` and `tls` are of TCP: say its `port`, or leave"),
        ({"unix": {"path": "g"}, "tls": {"certificate": "x"}}, "listen: `host` and `tls` are of TCP: say its `port`"),
    ],
)
async def test_a_mistake_is_one_line(place: Path, listen: dict[str, Any], said: str) -> None:
    (place / "file").write_text("")
    if len(listen["unix"]) and isinstance(listen["unix"], dict) and listen["unix"].get("path", "")[:1].isalpha():
        listen = {**listen, "unix": {**listen["unix"], "path": f"{place}/{listen['unix']['path']}"}}
    with pytest.raises(ConfigError) as caught:
        async with gateway(demo_config(listen=listen)):
            pass
    assert str(caught.value).startswith(said.format(here=place))
    assert "\n" not in str(caught.value)


async def test_a_folder_one_may_not_write_to_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root nothing is forbidden, so the system's word is put in its mouth."""

    def forbidden(made: socket.socket, path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(unix, "_bind_closed", forbidden)
    with pytest.raises(ConfigError) as caught:
        async with gateway(on(place / "gate")):
            pass
    assert str(caught.value) == f"listen.unix.path: cannot listen on {place / 'gate'}: Permission denied"


async def test_a_socket_that_cannot_be_given_away_is_said_and_removed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*given: Any, **named: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", forbidden)
    for what in ("owner", "group"):
        with pytest.raises(ConfigError) as caught:
            async with gateway(on(place / "gate", unix={what: 1})):
                pass
        assert str(caught.value) == f"listen.unix.{what}: cannot give the socket away: Operation not permitted"
        assert os.listdir(place) == []


def test_check_says_so_before_anything_is_opened_and_explain_shows_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def given(**more: Any) -> str:
        return str(written(place, {"workers": 1, **on(place / "gate", unix=more)}))

    assert main(["check", given(owner="nobody-here")]) == 2
    assert capsys.readouterr().err == "listen.unix.owner: no user is named `nobody-here`\n"
    assert main(["explain", given(mode="0660", group=7)]) == 0
    assert f"unix:{place / 'gate'} 0660 7" in capsys.readouterr().out
    assert not (place / "gate").exists()


def test_the_same_path_cannot_serve_clients_and_administration(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = on(place / "gate", admin={"unix": {"path": str(place / "gate")}})
    assert main(["check", str(written(place, config))]) == 2
    assert "admin.unix.path: is the path of `listen.unix`" in capsys.readouterr().err


# --- administration ---------------------------------------------------------------------------------------------------


async def test_whoever_may_open_the_socket_administers_by_whatever_name(place: Path) -> None:
    admin = {"unix": {"path": str(place / "admin")}}
    async with gateway(demo_config(admin=admin)) as running, through(place / "admin") as session:
        assert running.gateway.admin_urls == [f"unix:{place / 'admin'}"]
        for path in ("/metrics", "/livez", "/admin/usage"):
            async with session.get(path, headers={"Host": "anything.example"}) as reply:
                assert reply.status == 200, path


async def test_a_key_is_needed_there_too_where_there_is_one(place: Path) -> None:
    key = "an-admin-key-of-32-characters-00"
    admin = {"unix": {"path": str(place / "admin")}, "key": key}
    async with gateway(demo_config(admin=admin)), through(place / "admin") as session:
        async with session.get("/admin/usage") as reply:
            assert reply.status == 401
        async with session.get("/admin/usage", headers={"Authorization": f"Bearer {key}"}) as reply:
            assert reply.status == 200
        async with session.get("/metrics") as reply:
            assert reply.status == 200


async def test_beside_a_port_that_others_reach_the_socket_alone_administers(place: Path) -> None:
    admin = {"host": "0.0.0.0", "port": 0, "without_key": "metrics", "unix": {"path": str(place / "admin")}}
    async with gateway(demo_config(admin=admin)) as running:
        tcp = running.admin_url.replace("0.0.0.0", "127.0.0.1")
        async with through(place / "admin") as session, aiohttp.ClientSession(tcp) as reached:
            for each, status in ((session, 200), (reached, 403)):
                async with each.get("/admin/usage") as reply:
                    assert reply.status == status


async def test_a_page_of_another_origin_is_refused_there_too(place: Path) -> None:
    """It may come through a port that is forwarded to the socket."""
    admin = {"unix": {"path": str(place / "admin")}}
    async with gateway(demo_config(admin=admin)), through(place / "admin") as session:
        async with session.get("/admin/usage", headers={"Origin": "https://evil.example"}) as reply:
            assert reply.status == 403


# --- several workers --------------------------------------------------------------------------------------------------


async def test_workers_share_the_socket_and_each_has_one_to_be_administered_by(place: Path, tmp_path: Path) -> None:
    unix = {"path": str(place / "gate"), "mode": "0660"}
    async with scripted(well) as provider:
        listens = {"listen": {"port": 0, "unix": unix}, "admin": {"port": 0, "unix": {"path": str(place / "admin")}}}
        async with supervised(tmp_path, {**leads_to(provider.url), **listens}) as there:
            assert f"unix:{place / 'gate'}" in there.said[0]
            assert rights(place / "gate")[0] == "0660"
            assert set(os.listdir(place)) == {"gate", "admin", "admin.1", "admin.2"}
            served = [0, 0, 0]
            async with asyncio.timeout(60):
                while not all(served):
                    assert set(await asyncio.gather(*(one_call(place / "gate", bool(n % 2)) for n in range(20)))) == {
                        200
                    }
                    served = [await calls_at(place / f"admin{number}") for number in ("", ".1", ".2")]
            pids = there.pids()
            assert await there.stop() == 0
        await gone(pids)
    assert os.listdir(place) == []


async def one_call(path: Path, stream: bool) -> int:
    async with through(path) as session, session.post("/v1/chat/completions", json=chat(stream)) as reply:
        await reply.read()
        return reply.status


async def calls_at(path: Path) -> int:
    async with through(path) as session, session.get("/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("sidegate_calls_total{")))


async def test_a_killed_gateway_leaves_a_socket_that_the_next_one_takes(place: Path, tmp_path: Path) -> None:
    path = written(tmp_path, {"workers": 1, **on(place / "gate")})
    first = await asyncio.create_subprocess_exec(*command(path), stdout=-3, stderr=-3)
    try:
        await eventually(lambda: answers(place / "gate"))
        code, said = await refused(tmp_path, {"workers": 1, **on(place / "gate")})
        assert (code, said) == (2, f"listen.unix.path: cannot listen on {place / 'gate'}: another process does\n")
    finally:
        first.kill()
        await first.wait()
    assert (place / "gate").is_socket()
    async with gateway(on(place / "gate")), through(place / "gate") as session:
        assert (await ask(session))[0] == 200


# --- who is at the other end, on other systems ------------------------------------------------------------------------


class Kernel:
    """Answers `getsockopt` with these bytes."""

    family = socket.AF_UNIX

    def __init__(self, *answers: bytes | OSError) -> None:
        self._answers = list(answers)

    def getsockopt(self, level: int, name: int, length: int, /) -> bytes:
        answer = self._answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer[:length]


def xucred(uid: int, *groups: int, version: int = 0, count: int | None = None) -> bytes:
    """As the headers of macOS lay it out: `u_int, uid_t, short, gid_t[16]`."""
    padded = (*groups, *([0] * (16 - len(groups))))
    return struct.pack("@IIh2x16I", version, uid, len(groups) if count is None else count, *padded)


def test_macos_and_bsd_tell_user_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert read_process(Kernel(xucred(501, 20, 12, 61))) == Peer(process=Process(uid=501, gid=20, groups=(12, 61)))


@pytest.mark.parametrize(
    "answer",
    [xucred(501, 20, version=1), xucred(501, count=0), xucred(501, 20, count=17), b"", b"\0" * 8, OSError(57, "gone")],
)
def test_an_answer_that_makes_no_sense_names_nobody(answer: bytes | OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert read_process(Kernel(answer)) is None


def test_a_kernel_that_tells_no_groups_or_no_pid_still_tells_the_user() -> None:
    known = struct.pack("=iII", 0, 7, 8)
    assert read_process(Kernel(known, OSError(92, "none"))) == Peer(process=Process(uid=7, gid=8))
    groups = struct.pack("=2I", 9, 10)
    assert read_process(Kernel(known, groups)) == Peer(process=Process(uid=7, gid=8, groups=(9, 10)))


def test_tcp_has_no_process() -> None:
    with socket.socket() as tcp:
        assert read_process(tcp) is None


async def test_the_line_to_paste_works(place: Path) -> None:
    assert shutil.which("curl"), "curl is missing"
    async with gateway(on(place / "gate", admin={"unix": {"path": str(place / "admin")}})) as running:
        said = lines(running.gateway)
        assert said[0].endswith(f"is ready: unix:{place / 'gate'}  (metrics and health: unix:{place / 'admin'})")
        pasted = "\n".join(said[said.index("Try it:") + 1 :])
        asking = await asyncio.create_subprocess_shell(pasted, stdout=-1, stderr=-3)
        printed, _ = await asking.communicate()
    assert printed.endswith(b"data: [DONE]\n\n"), pasted


# --- the example ------------------------------------------------------------------------------------------------------


async def test_the_example_knows_who_comes_by_the_socket_and_asks_others_for_a_key(place: Path) -> None:
    config = yaml.safe_load((ROOT / "config" / "examples" / "unix-socket.yaml").read_text())
    config["listen"]["port"] = 0
    config["listen"]["unix"]["path"] = str(place / "gate")
    config["admin"]["unix"]["path"] = str(place / "admin")
    config["pipelines"]["main"]["plugins"][2]["settings"]["file"] = str(place / "keys.jsonl")
    async with gateway({**config, "state": str(place)}) as running:
        async with through(place / "gate") as session, aiohttp.ClientSession(running.url) as tcp:
            assert [(await ask(each))[0] for each in (session, tcp)] == [200, 401]
        async with through(place / "admin") as session, asyncio.timeout(5):
            while f"unix:{pwd.getpwuid(os.geteuid()).pw_name}" not in await usage(session):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def usage(session: aiohttp.ClientSession) -> str:
    """By caller. A call is in it once it is durable."""
    async with session.get("/admin/usage?by=caller") as reply:
        assert reply.status == 200
        return await reply.text()
