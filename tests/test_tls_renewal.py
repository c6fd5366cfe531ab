"""Certificates that are renewed while the gateway runs: who meets the new ones, what stays, and what is said."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from cryptography import x509

from sidegate.errors import ConfigError
from sidegate.http import renewal
from sidegate.http.expiry import expires
from sidegate.http.listening import renew
from sidegate.http.tls import server_context
from sidegate.testing import Exchange, Running, demo_config, gateway, scripted
from tests.certificates import Authority
from tests.local import listening_here
from tests.relaying import DONE, ROLE, STOP, chat, delta, leads_to, until
from tests.supervised import Supervised, supervised

loops = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("new"))


class Shelf:
    """The files of a listener, as something else keeps them up to date."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._folder = folder
        self.put(authority)

    def put(self, authority: Authority, *names: str) -> None:
        """Each by a rename, as careful programs do."""
        files = {"server.pem": authority.server, "server.key": authority.server_key, "ca.pem": authority.certificate}
        for name in names or files:
            shutil.copy(files[name], self._folder / "next")
            os.replace(self._folder / "next", self._folder / name)

    def write(self, name: str, data: bytes) -> None:
        """In place, as careless ones do."""
        (self._folder / name).write_bytes(data)

    def tls(self, asked: str = "off", reload: float = 0) -> dict[str, Any]:
        at = {"certificate": str(self._folder / "server.pem"), "key": str(self._folder / "server.key")}
        authorities = {"client_ca": str(self._folder / "ca.pem"), "client_certificates": asked}
        return {**at, **(authorities if asked != "off" else {}), "reload": reload}


@pytest.fixture
def shelf(tmp_path: Path, old: Authority) -> Shelf:
    return Shelf(tmp_path, old)


def fingerprint(path: Path) -> str:
    pem = path.read_text().partition("-----END CERTIFICATE-----")
    return sha256(ssl.PEM_cert_to_DER_cert(pem[0] + pem[1])).hexdigest()


async def met(running: Running | Supervised, client: Path | None = None, context: ssl.SSLContext | None = None) -> str:
    """The fingerprint of the certificate that a new connection meets, and that it answers; why not, otherwise."""
    if context is None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if client is not None:
            context.load_cert_chain(client)
    port = int(running.url.rpartition(":")[2])
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
            said = await reader.read()
            writer.close()
    except (ssl.SSLError, ConnectionError) as error:
        return type(error).__name__
    return sha256(shown).hexdigest() if said.startswith(b"HTTP/1.1 200") else "closed"


async def renewed(running: Running) -> list[str]:
    """As an operator asks for it."""
    return [str(error) for runner in running.gateway._runners for error in await renew(runner)]


async def metric(running: Running, name: str) -> list[str]:
    async with aiohttp.ClientSession() as session, session.get(running.admin_url + "/metrics") as reply:
        return [line for line in (await reply.text()).splitlines() if line.startswith(name)]


# --- who meets what ---------------------------------------------------------------------------------------------------


class Slow:
    """A provider whose stream goes on when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="before "))
        await self.go_on.wait()
        await exchange.chunk(delta(content="after") + STOP + DONE)
        await exchange.chunk(b"")


@loops
def test_new_connections_meet_the_new_certificate_and_open_streams_go_on(
    shelf: Shelf, old: Authority, new: Authority, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def goes() -> None:
        slow = Slow()
        async with scripted(slow) as provider:
            config = leads_to(provider.url, listen={"port": 0, "tls": shelf.tls()})
            async with gateway(config) as running:
                url = running.url
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=old.context())) as http:
                    reply = await http.post(running.url + "/v1/chat/completions", json=chat(True))
                    begun = await reply.content.readany()
                    async with http.get(running.url + "/livez") as kept:
                        assert kept.status == 200
                    assert await met(running) == fingerprint(old.server)
                    shelf.put(new)
                    assert await renewed(running) == []
                    assert running.url == url
                    assert await met(running) == fingerprint(new.server)
                    assert await met(running, context=new.context()) == fingerprint(new.server)
                    async with http.get(running.url + "/livez") as kept:
                        assert kept.status == 200, "a connection that was there before"
                    slow.go_on.set()
                    whole = begun + await reply.read()
                assert b"before " in whole
                assert b"after" in whole
                assert whole.endswith(DONE)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(goes())


async def test_nobody_is_turned_away_while_certificates_change(shelf: Shelf, old: Authority, new: Authority) -> None:
    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls()})) as running:
        known = {fingerprint(old.server), fingerprint(new.server)}

        async def keeps_coming() -> None:
            for _ in range(15):
                assert await met(running) in known

        coming = asyncio.gather(*(keeps_coming() for _ in range(4)))
        for count in range(20):
            shelf.put(new if count % 2 else old)
            assert await renewed(running) == []
        await coming
        assert await met(running) == fingerprint(new.server)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_clients_of_an_authority_that_was_taken_out_are_refused_also_by_an_old_session(
    shelf: Shelf, old: Authority, new: Authority, version: ssl.TLSVersion
) -> None:
    one, other = old.client(("CN", "web")), new.client(("CN", "web"))
    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls("required")})) as running:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(one)
        session = await asyncio.to_thread(connects, running, context, None)
        assert session is not None
        again = await asyncio.to_thread(connects, running, context, session)
        assert again is not None
        assert await met(running, other) not in known_good(old, new)
        shelf.put(new, "ca.pem")
        assert await renewed(running) == []
        assert await asyncio.to_thread(connects, running, context, session) is None
        assert await asyncio.to_thread(connects, running, context, None) is None
        assert await met(running, other) == fingerprint(old.server)


def known_good(*authorities: Authority) -> set[str]:
    return {fingerprint(authority.server) for authority in authorities}


def connects(running: Running, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """Blocking, for only so can a session be taken up again. `None` where it gets no answer."""
    port = int(running.url.rpartition(":")[2])
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as secured:
            secured.sendall(b"GET /livez HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
            said = b""
            while piece := secured.recv(4096):
                said += piece
            return secured.session if said.startswith(b"HTTP/1.1 200") else None
    return None


# --- by itself --------------------------------------------------------------------------------------------------------


async def test_files_that_change_are_noticed(shelf: Shelf, old: Authority, new: Authority) -> None:
    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls(reload=0.02)})) as running:
        assert await met(running) == fingerprint(old.server)
        shelf.put(new)
        await until(lambda: bool(running.log.events("tls_renewed")))
        assert await met(running) == fingerprint(new.server)


async def test_a_link_that_is_swapped_is_noticed(tmp_path: Path, old: Authority, new: Authority) -> None:
    """As the secrets of Kubernetes are: the files lie in a folder that a link names."""
    for name, authority in (("1", old), ("2", new)):
        (tmp_path / name).mkdir()
        Shelf(tmp_path / name, authority)
    (tmp_path / "..data").symlink_to("1")
    for name in ("server.pem", "server.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    tls = {"certificate": str(tmp_path / "server.pem"), "key": str(tmp_path / "server.key"), "reload": 0.02}
    async with gateway(demo_config(listen={"port": 0, "tls": tls})) as running:
        (tmp_path / "..next").symlink_to("2")
        os.replace(tmp_path / "..next", tmp_path / "..data")
        await until(lambda: bool(running.log.events("tls_renewed")))
        assert await met(running) == fingerprint(new.server)


async def test_nothing_is_looked_at_where_that_is_off(shelf: Shelf, new: Authority) -> None:
    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls(reload=0)})) as running:
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
        assert not any("Site" in name for name in names)
        shelf.put(new)
        assert running.log.events("tls_renewed") == []


async def test_a_reload_of_the_config_reads_them_too(shelf: Shelf, old: Authority, new: Authority) -> None:
    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls(reload=0)})) as running:
        loaded = running.service.loaded
        shelf.put(new)
        assert await met(running) == fingerprint(old.server)
        await running.gateway.reload("signal", lambda: loaded)
        assert await met(running) == fingerprint(new.server)


# --- in the middle of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(4))
@loops
def test_a_renewal_that_is_cancelled_leaves_nothing_that_listens(
    shelf: Shelf, new: Authority, turns: int, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def goes() -> None:
        async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls()})) as running:
            shelf.put(new)
            asking = asyncio.create_task(renewed(running))
            await in_the_middle(turns)
            asking.cancel()
            await asyncio.wait([asking])
            assert len(await met(running)) == 64, "it goes on, with one or the other"
            assert listening_here() == 2
        assert listening_here() == 0

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(goes())


@pytest.mark.parametrize("turns", range(4))
@loops
def test_a_gateway_that_ends_during_a_renewal_leaves_nothing_that_listens(
    shelf: Shelf, new: Authority, turns: int, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def goes() -> None:
        async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls(reload=0.01)})):
            shelf.put(new)
            await in_the_middle(turns)
        assert listening_here() == 0

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(goes())


async def test_a_gateway_that_ends_does_not_wait_for_certificates_that_are_slow_to_read(
    shelf: Shelf, new: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, go_on = threading.Event(), threading.Event()
    before = renewal.Renewal._loaded

    def load(self: renewal.Renewal) -> ssl.SSLContext:
        reads.set()
        go_on.wait(20)
        return before(self)

    try:
        async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls(reload=0.01)})):
            monkeypatch.setattr(renewal.Renewal, "_loaded", load)
            shelf.put(new)
            assert await asyncio.to_thread(reads.wait, 20)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        assert listening_here() == 0
    finally:
        go_on.set()


async def in_the_middle(turns: int) -> None:
    """Some turns of the loop after new certificates have been loaded and are about to be put to use."""
    before = renewal.Renewal._loaded
    loaded = asyncio.Event()
    loop = asyncio.get_running_loop()

    def load(self: renewal.Renewal) -> ssl.SSLContext:
        made = before(self)
        loop.call_soon_threadsafe(loaded.set)
        return made

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(renewal.Renewal, "_loaded", load)
        await loaded.wait()
    for _ in range(turns):
        await asyncio.sleep(0)


# --- what cannot be used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("server.key", None, "listen.tls.key: the private key is not that of the certificate"),
        ("server.pem", b"", "listen.tls.certificate: the file holds no certificate in PEM"),
        ("server.pem", b"-----BEGIN CERTIFICATE-----\nMIIB", "listen.tls: the certificate or its key cannot be used"),
        ("server.key", b"-----BEGIN PRIVATE KEY-----\n", "listen.tls: the certificate or its key cannot be used"),
        ("ca.pem", b"-----BEGIN CERTIFICATE-----\n", "listen.tls.client_ca: the file holds no certificates in PEM"),
        ("ca.pem", b"", "listen.tls.client_ca: the file holds no certificates in PEM"),
    ],
    ids=["half-renewed", "empty", "half-written", "half-key", "half-authority", "no-authority"],
)
async def test_what_cannot_be_used_changes_nothing_and_is_said(
    shelf: Shelf, old: Authority, new: Authority, name: str, data: bytes | None, said: str
) -> None:
    client = old.client(("CN", "web"))
    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls("required", reload=0.02)})) as running:
        shelf.write(name, new.server_key.read_bytes() if data is None else data)
        await until(lambda: bool(running.log.events("tls_refused")))
        (event, *_) = running.log.events("tls_refused")
        assert event["error"].startswith(said)
        assert event["listener"] == "listen"
        assert await met(running, client) == fingerprint(old.server)
        (asked,) = await renewed(running)
        assert asked.startswith(said)
        assert await met(running, client) == fingerprint(old.server)
        shelf.put(new, "server.pem", "server.key")
        shelf.put(old, "ca.pem")
        await until(lambda: bool(running.log.events("tls_renewed")))
        assert await met(running, client) == fingerprint(new.server)


async def test_a_file_that_is_gone_changes_nothing(shelf: Shelf, old: Authority, tmp_path: Path) -> None:
    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls(reload=0.02)})) as running:
        (tmp_path / "server.key").unlink()
        await until(lambda: bool(running.log.events("tls_refused")))
        assert await met(running) == fingerprint(old.server)


async def test_a_refusal_is_said_once_and_not_every_few_seconds(shelf: Shelf) -> None:
    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls(reload=0.01)})) as running:
        shelf.write("server.pem", b"nothing")
        await until(lambda: bool(running.log.events("tls_refused")))
        await asyncio.sleep(0.1)
        assert len(running.log.events("tls_refused")) == 1


async def test_what_was_wrong_for_another_reason_than_the_files_is_tried_again(
    shelf: Shelf, new: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be right all along, and the machine out of descriptors: a renewal must not wait for the next one."""
    real = server_context
    fails = [ConfigError("listen.tls.key", "the file cannot be read: Too many open files")] * 3

    def load(tls: Any, place: str) -> ssl.SSLContext:
        if fails:
            raise fails.pop()
        return real(tls, place)

    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls(reload=0.02)})) as running:
        monkeypatch.setattr(renewal, "server_context", load)
        shelf.put(new)
        await until(lambda: bool(running.log.events("tls_renewed")))
        assert fails == []
        assert len(running.log.events("tls_refused")) == 1
        assert await met(running) == fingerprint(new.server)


async def test_where_no_second_server_can_be_made_the_first_goes_on_and_it_is_tried_again(
    shelf: Shelf, old: Authority, new: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.dup
    fails = [OSError(24, "Too many open files")]

    def none_left(descriptor: int) -> int:
        if fails:
            raise fails.pop()
        return real(descriptor)

    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls(reload=0.02)})) as running:
        monkeypatch.setattr(os, "dup", none_left)
        shelf.put(new)
        await until(lambda: bool(running.log.events("tls_refused")))
        await until(lambda: bool(running.log.events("tls_renewed")))
        assert await met(running) == fingerprint(new.server)
        fails.append(OSError(24, "Too many open files"))
        assert (await renewed(running))[0] == "certificates cannot be put to use: Too many open files"
        assert await met(running) == fingerprint(new.server)


# --- what is said -----------------------------------------------------------------------------------------------------


async def test_metrics_say_when_the_certificate_ends_and_what_became_of_new_ones(
    shelf: Shelf, old: Authority, new: Authority
) -> None:
    ends = {each: x509.load_pem_x509_certificate(each.server.read_bytes()).not_valid_after_utc for each in (old, new)}
    async with gateway(demo_config(listen={"port": 0, "tls": shelf.tls()})) as running:
        (line,) = await metric(running, "sidegate_tls_certificate_expiry_seconds{")
        assert float(line.rpartition(" ")[2]) == ends[old].timestamp()
        shelf.put(new)
        await renewed(running)
        shelf.write("server.pem", b"nothing")
        await renewed(running)
        (line,) = await metric(running, "sidegate_tls_certificate_expiry_seconds{")
        assert line.startswith('sidegate_tls_certificate_expiry_seconds{listener="listen"} ')
        assert float(line.rpartition(" ")[2]) == ends[new].timestamp()
        assert await metric(running, "sidegate_tls_reloads_total{") == [
            'sidegate_tls_reloads_total{listener="listen",outcome="renewed"} 1.0',
            'sidegate_tls_reloads_total{listener="listen",outcome="refused"} 1.0',
        ]
        (event,) = running.log.events("tls_renewed")
        assert (event["listener"], event["expires"]) == ("listen", ends[new].isoformat())


async def test_a_gateway_without_tls_has_none_of_this() -> None:
    async with gateway(demo_config()) as running:
        assert await metric(running, "sidegate_tls_") == []
        assert await renewed(running) == []


def test_the_end_is_read_of_any_certificate(old: Authority, tmp_path: Path) -> None:
    """Of the first in a file, in both ways of writing a time, beyond 2049 too."""
    for days in (1, 400, 36_500):
        path = old.client(("CN", "x" * 60), days=days)
        wanted = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
        assert expires("a remark\n" + path.read_text() + old.server.read_text()) == wanted


def test_what_is_no_certificate_has_no_end(old: Authority) -> None:
    der = ssl.PEM_cert_to_DER_cert(old.certificate.read_text())
    for cut in range(0, len(der), 7):
        with suppress(ValueError):
            expires(ssl.DER_cert_to_PEM_cert(der[:cut]))
    for nonsense in ("", "-----BEGIN CERTIFICATE-----", old.server_key.read_text(), ssl.DER_cert_to_PEM_cert(b"0\x00")):
        with pytest.raises(ValueError, match=r".+"):
            expires(nonsense)


# --- several workers --------------------------------------------------------------------------------------------------


async def test_every_worker_meets_the_change(tmp_path: Path, old: Authority, new: Authority) -> None:
    (tmp_path / "tls").mkdir()
    shelf = Shelf(tmp_path / "tls", old)
    config = demo_config(listen={"port": 0, "tls": shelf.tls(reload=0.05)}, workers=2)
    async with supervised(tmp_path, config) as there:
        shelf.put(new)
        async with asyncio.timeout(60):
            while len(there.events("tls_renewed")) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        for _ in range(10):
            assert await met(there) == fingerprint(new.server)
        assert await there.stop() == 0
