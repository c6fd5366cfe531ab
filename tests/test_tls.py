"""TLS: what a listener needs for it, what it says of files that are wrong, and calls through it."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import ExtendedKeyUsage
from cryptography.x509.oid import ExtendedKeyUsageOID

from sidegate.cli import main
from sidegate.errors import ConfigError
from sidegate.http.peer import distinguished
from sidegate.testing import Exchange, Running, demo_config, gateway, scripted
from tests.certificates import Authority
from tests.relaying import (
    A_PIECE,
    DONE,
    PIECES,
    ROLE,
    answers,
    chat,
    delta,
    leads_to,
    leave,
    messages,
    pours_and_ends,
    silent,
    slowly,
    until,
)
from tests.seen import SEEN, Seen

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
paths = pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])


@pytest.fixture(autouse=True)
def nobody_seen() -> None:
    Seen.peers.clear()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@asynccontextmanager
async def session(context: ssl.SSLContext) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as made:
        yield made


def over(authority: Authority, *plugins: Any, asked: str = "off", **rest: Any) -> Any:
    """A demo gateway that speaks TLS."""
    return demo_config(*plugins, listen={"port": 0, "tls": authority.tls(asked)}, **rest)


# --- calls ------------------------------------------------------------------------------------------------------------


@both
@paths
async def test_a_call_through_tls_is_a_call(authority: Authority, stream: bool, path: str) -> None:
    async with scripted(answers) as provider:
        config = leads_to(provider.url, plugins=(SEEN,), listen={"port": 0, "tls": authority.tls()})
        async with gateway(config) as running, session(authority.context()) as http:
            assert running.url.startswith("https://127.0.0.1:")
            async with http.post(running.url + path, json=messages(stream)) as reply:
                text = await reply.text()
                assert reply.status == 200
    assert ("[DONE]" in text or "message_stop" in text) is stream
    assert "é" in text
    assert Seen.peers == [None]


async def test_the_admin_listener_speaks_tls_too(authority: Authority) -> None:
    config = demo_config(admin={"port": 0, "tls": authority.tls("required")})
    async with gateway(config) as running:
        client = authority.client(("CN", "prometheus"))
        async with session(authority.context(client)) as http, http.get(running.admin_url + "/metrics") as reply:
            assert (reply.status, running.admin_url[:8], running.url[:7]) == (200, "https://", "http://")
        async with session(authority.context()) as http:
            with pytest.raises(aiohttp.ClientError):
                await http.get(running.admin_url + "/metrics")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_it_is_tls_1_2_or_1_3(authority: Authority, version: ssl.TLSVersion) -> None:
    context = authority.context()
    context.minimum_version = context.maximum_version = version
    async with gateway(over(authority)) as running, session(context) as http:
        async with http.get(running.url + "/livez") as reply:
            assert reply.status == 200


async def test_older_tls_and_plain_http_get_nothing(authority: Authority) -> None:
    context = authority.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with gateway(over(authority)) as running, session(context) as http:
        with pytest.raises(aiohttp.ClientError):
            await http.get(running.url + "/livez")
        with pytest.raises(aiohttp.ClientError):
            await http.get(running.url.replace("https", "http") + "/livez")


@both
async def test_a_client_that_leaves_through_tls_is_noticed(authority: Authority, stream: bool) -> None:
    async with scripted(silent) as provider:
        config = leads_to(provider.url, plugins=({"use": "log"},), listen={"port": 0, "tls": authority.tls()})
        async with gateway(config) as running, session(authority.context()) as http:
            asking = asyncio.ensure_future(http.post(running.url + "/v1/chat/completions", json=chat(stream)))
            await leave(asking, provider, stream)
            await until(lambda: bool(running.log.events("call")))
            assert running.log.events("call")[0]["ending"] == "client_gone"


async def test_a_stream_that_is_cut_is_no_clean_end_through_tls(authority: Authority) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="x"))
        exchange.reset()

    async with scripted(cut) as provider:
        config = leads_to(provider.url, listen={"port": 0, "tls": authority.tls()})
        async with gateway(config) as running, session(authority.context()) as http:
            async with http.post(running.url + "/v1/chat/completions", json=chat(True)) as reply:
                text = await reply.text()
    assert "error" in text
    assert "[DONE]" not in text


async def test_a_long_stream_through_tls_waits_for_a_slow_reader_and_loses_nothing(authority: Authority) -> None:
    """asyncio's TLS pauses its writer for good when it is told that nothing at all may wait."""
    async with scripted(pours_and_ends) as provider:
        config = leads_to(provider.url, listen={"port": 0, "tls": authority.tls()})
        async with gateway(config) as running, session(authority.context()) as http:
            async with http.post(running.url + "/v1/chat/completions", json=chat(True)) as reply:
                data = await slowly(reply)
    assert data.count(A_PIECE) == PIECES
    assert data.endswith(DONE)


async def test_a_reader_that_stands_still_behind_tls_is_cut(authority: Authority) -> None:
    async def pours(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        while True:
            await exchange.chunk(delta(content="a" * 60_000))

    async with scripted(pours) as provider:
        listen = {"port": 0, "tls": authority.tls()}
        server = {"send_timeout": 0.3, "drain": 1}
        config = {**leads_to(provider.url, plugins=({"use": "log"},), listen=listen), "server": server}
        async with gateway(config) as running:
            reader, writer = await connected(running, authority.context())
            body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
            head = f"Host: g\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n" + head + body)
            await reader.readline()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: bool(running.log.events("call")))
            assert running.log.events("call")[0]["error"] == "write_timeout"
            writer.transport.abort()


async def connected(running: Running, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(running.url.rpartition(":")[2])
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=sock, ssl=context, server_hostname="localhost", limit=1024)


async def test_a_client_that_does_not_speak_is_not_waited_for(authority: Authority) -> None:
    config = over(authority, server={"keepalive_timeout": 0.2, "drain": 1})
    async with gateway(config) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


def test_uvloop_serves_tls_and_knows_the_peer(authority: Authority) -> None:
    client = authority.client(("CN", "web"))

    async def asks() -> None:
        async with gateway(over(authority, SEEN, asked="required")) as running:
            async with session(authority.context(client)) as http:
                for stream in (True, False):
                    data = {**chat(stream), "model": "demo"}
                    async with http.post(running.url + "/v1/chat/completions", json=data) as reply:
                        assert reply.status == 200
                        await reply.read()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asks())
    assert [peer.certificate.common_name for peer in Seen.peers if peer and peer.certificate] == ["web", "web"]


# --- who is at the other end ------------------------------------------------------------------------------------------


async def test_a_plugin_knows_what_the_certificate_says(authority: Authority) -> None:
    names = [("C", "DE"), ("O", "Example, Inc."), ("OU", "shop"), ("CN", "web")]
    uris, dns = ["spiffe://example.org/ns/shop/sa/web", "https://example.org/web"], ["web.shop.svc", "web"]
    client = authority.client(*names, uris=uris, dns=dns, emails=["web@example.org"])
    async with gateway(over(authority, SEEN, asked="optional")) as running:
        async with session(authority.context(client)) as http:
            for _ in range(2):
                async with http.get(running.url + "/v1/models") as reply:
                    assert reply.status == 200
    peer, again = Seen.peers
    assert peer is again, "read once a connection"
    assert peer is not None
    assert peer.process is None
    said = peer.certificate
    assert said is not None
    assert (said.subject, said.common_name) == (r"CN=web,OU=shop,O=Example\, Inc.,C=DE", "web")
    assert (said.dns_names, said.uris, said.emails) == (tuple(dns), tuple(uris), ("web@example.org",))
    assert said.issuer.startswith("OU=Testing CA")
    assert said.serial.startswith("ABCD")
    der = ssl.PEM_cert_to_DER_cert(client.read_text().partition("-----BEGIN PRIVATE")[0])
    assert said.fingerprint == sha256(der).hexdigest()


@pytest.mark.parametrize(
    ("asked", "brings", "let_in"),
    [
        ("required", "right", True),
        ("required", "none", False),
        ("required", "strange", False),
        ("required", "expired", False),
        ("required", "servers", False),
        ("optional", "right", True),
        ("optional", "none", True),
        ("optional", "strange", False),
        ("off", "right", True),
        ("off", "strange", True),
    ],
)
async def test_who_is_let_in_by_certificate(
    authority: Authority, stranger: Authority, asked: str, brings: str, let_in: bool
) -> None:
    make: dict[str, Callable[[], Path | None]] = {
        "right": lambda: authority.client(("CN", "web")),
        "none": lambda: None,
        "strange": lambda: stranger.client(("CN", "web")),
        "expired": lambda: authority.client(("CN", "web"), days=-1),
        "servers": lambda: authority.client(("CN", "web"), usage=ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])),
    }
    async with gateway(over(authority, SEEN, asked=asked)) as running:
        async with session(authority.context(make[brings]())) as http:
            if not let_in:
                with pytest.raises(aiohttp.ClientError):
                    await http.get(running.url + "/v1/models")
                assert Seen.peers == []
                return
            async with http.get(running.url + "/v1/models") as reply:
                assert reply.status == 200
    (peer,) = Seen.peers
    assert (peer is not None) is (brings == "right" and asked != "off")


async def test_an_authority_below_another_counts_by_itself_and_the_one_above_does_not(authority: Authority) -> None:
    below = authority.below()
    tls = {**authority.tls("required"), "client_ca": str(below.certificate)}
    async with gateway(demo_config(SEEN, listen={"port": 0, "tls": tls})) as running:
        async with session(authority.context(below.client(("CN", "web")))) as http:
            async with http.get(running.url + "/v1/models") as reply:
                assert reply.status == 200
        async with session(authority.context(authority.client(("CN", "web")))) as http:
            with pytest.raises(aiohttp.ClientError):
                await http.get(running.url + "/v1/models")
    assert len(Seen.peers) == 1


async def test_two_common_names_are_none(authority: Authority) -> None:
    client = authority.client(("CN", "web"), ("CN", "admin"))
    async with gateway(over(authority, SEEN, asked="required")) as running:
        async with session(authority.context(client)) as http, http.get(running.url + "/v1/models") as reply:
            assert reply.status == 200
    assert Seen.peers[0] is not None
    said = Seen.peers[0].certificate
    assert said is not None
    assert (said.common_name, said.subject) == (None, "CN=admin,CN=web")


def test_a_distinguished_name_cannot_pretend_to_be_another() -> None:
    name = ((("organizationName", 'a,CN=root+"x"'),), (("commonName", " #x "), ("userId", "\0")))
    assert distinguished(name) == r"CN=\ #x\ +UID=\00,O=a\,CN\=root\+\"x\""


# --- files that are wrong ---------------------------------------------------------------------------------------------


def broken(authority: Authority, folder: Path, **changed: bytes | None) -> dict[str, str]:
    """The settings, with files of other content, or none."""
    files = {"certificate": authority.server, "key": authority.server_key, "client_ca": authority.certificate}
    for name, content in changed.items():
        files[name] = folder / name
        if content is not None:
            files[name].write_bytes(content)
    return {**{name: str(path) for name, path in files.items()}, "client_certificates": "required"}


def encrypted(authority: Authority) -> bytes:
    key = serialization.load_pem_private_key(authority.server_key.read_bytes(), None)
    how = serialization.BestAvailableEncryption(b"secret")
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


NOTHING = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"certificate": None}, "tls.certificate: the file cannot be read: No such file or directory"),
        ({"key": None}, "tls.key: the file cannot be read: No such file or directory"),
        ({"client_ca": None}, "tls.client_ca: the file cannot be read: No such file or directory"),
        ({"certificate": b"x"}, "tls.certificate: the file holds no certificate in PEM"),
        ({"certificate": NOTHING}, "tls: the certificate or its key cannot be used: "),
        ({"key": b"x"}, "tls.key: the file holds no private key in PEM"),
        ({"key": "another"}, "tls.key: the private key is not that of the certificate"),
        ({"key": "encrypted"}, "tls.key: the private key is encrypted: nobody is there to type its password"),
        ({"client_ca": b""}, "tls.client_ca: the file holds no certificates in PEM that can be used"),
        ({"client_ca": NOTHING}, "tls.client_ca: the file holds no certificates in PEM that can be used"),
    ],
)
@pytest.mark.parametrize("where", ["listen", "admin"])
async def test_what_is_wrong_with_a_file_is_one_line(
    authority: Authority,
    stranger: Authority,
    tmp_path: Path,
    changed: dict[str, Any],
    said: str,
    where: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = {"another": lambda: stranger.server_key.read_bytes(), "encrypted": lambda: encrypted(authority)}
    contents = {name: made[text]() if text in made else text for name, text in changed.items()}
    config = {**demo_config(), where: {"port": 0, "tls": broken(authority, tmp_path, **contents)}}
    with pytest.raises(ConfigError) as caught:
        async with gateway(config):
            pass
    assert str(caught.value).startswith(f"{where}.{said}")
    assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["check", str(tmp_path / "config.json")]) == 2
    assert capsys.readouterr().err == f"{caught.value}\n", "check says what start says"


@pytest.mark.parametrize("more", [{"client_ca": "ca.pem"}, {"client_certificates": "required"}])
async def test_client_certificates_need_their_authorities_and_the_other_way_round(more: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"^listen\.tls: `client_ca`, and `client_certificates` other than `off`"):
        async with gateway(demo_config(listen={"port": 0, "tls": {"certificate": "x", **more}})):
            pass


def test_paths_start_from_the_configs_folder_and_key_and_certificate_may_share_a_file(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "both.pem").write_bytes(authority.server.read_bytes() + authority.server_key.read_bytes())
    shutil.copy(authority.certificate, tmp_path / "ca.pem")
    tls = {"certificate": "both.pem", "client_ca": "ca.pem", "client_certificates": "optional"}
    (tmp_path / "config.json").write_text(json.dumps(demo_config(listen={"port": 8443, "tls": tls})))
    monkeypatch.chdir("/")
    assert main(["check", str(tmp_path / "config.json")]) == 0
    assert main(["explain", str(tmp_path / "config.json")]) == 0
    assert "127.0.0.1:8443, TLS, client certificates optional" in capsys.readouterr().out
