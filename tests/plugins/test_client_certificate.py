"""Callers by certificate: which name counts, what is known of it, and calls over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from sidegate.contract import ANONYMOUS, Call, Caller, Certificate, Peer, Process
from sidegate.errors import Refusal
from sidegate.testing import demo_config, gateway
from sidegate_plugins.client_certificate import ClientCertificate, Settings
from tests.certificates import Authority
from tests.plugins.calls import HandClock, ListLog, a_call, a_host, answer, passes_reply_and_error
from tests.plugins.test_through_the_gateway import FAILING, KEYS, LOG, SECRET, SLOW, Client, everywhere

WEB = "spiffe://example.org/ns/shop/sa/web"
USE = "sidegate_plugins.client_certificate:ClientCertificate"


def peer(common_name: str | None = "web", **given: Any) -> Peer:
    subject = f"CN={common_name}" if common_name else ""
    said = {"subject": subject, "common_name": common_name, "issuer": "CN=ca", "serial": "7B", **given}
    return Peer(certificate=Certificate(**said))


class Hall:
    """The plugin, and calls that come to it."""

    def __init__(self, **settings: Any) -> None:
        self.log, self._clock = ListLog(), HandClock()
        host = a_host(self._clock, log=self.log)
        self._plugin = ClientCertificate(msgspec.convert(settings, Settings), host)

    async def call(self, of: Peer | None, caller: Caller = ANONYMOUS, **given: Any) -> Call:
        call = a_call(self._clock, caller=caller, **given)
        call.asked = replace(call.asked, peer=of)
        await self._plugin(call, answer)
        return call

    async def name(self, of: Peer) -> str:
        return (await self.call(of)).caller.name

    async def refusal(self, of: Peer | None) -> str:
        with pytest.raises(Refusal) as refused:
            await self.call(of)
        assert refused.value.status == 401
        if of is None:
            assert (refused.value.code, self.log.lines) == ("missing_certificate", [])
            return "missing"
        assert refused.value.code == "invalid_certificate"
        assert refused.value.message == "The client certificate does not name a caller."
        event, fields = self.log.lines[-1]
        assert (event, fields["serial"]) == ("certificate_refused", "7B")
        return str(fields["reason"])


# --- which name counts ------------------------------------------------------------------------------------------------

RICH = peer(
    subject="CN=web,O=Example",
    dns_names=("web.shop.svc", "web"),
    uris=(WEB, "https://example.org/web"),
    emails=("web@example.org",),
)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("common_name", "web"),
        ("subject", "CN=web,O=Example"),
        ("uri", WEB),
        ("dns", "web.shop.svc"),
        ("email", "web@example.org"),
    ],
)
async def test_the_name_is_the_one_the_settings_name(source: str, name: str) -> None:
    assert await Hall(name_from=source).name(RICH) == name
    assert await Hall(name_from=source, prefix="cert:").name(RICH) == f"cert:{name}"
    assert await Hall(name_from=source).refusal(peer(None)) == "no_name"


async def test_no_certificate_is_refused_and_nothing_is_made_of_headers() -> None:
    assert await Hall().refusal(None) == "missing"
    with pytest.raises(Refusal, match="certificate is needed"):
        await Hall().call(Peer(process=Process(uid=0, gid=0)))
    with pytest.raises(Refusal):
        await Hall().call(None, headers={"x-client-cert": "CN=web", "x-forwarded-client-cert": "Subject=CN=web"})


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("web", ["web"], ["Web", "web2", "aweb", "", "web\n"]),
        ("web*", ["web", "web-2", "web/x"], ["aweb"]),
        ("spiffe://a/ns/*/sa/web", ["spiffe://a/ns/x/sa/web"], ["spiffe://a/ns/x/y/sa/web", "spiffe://a/ns/x/sa/web2"]),
        ("spiffe://a/ns/*/sa/*", ["spiffe://a/ns/x/sa/web", "spiffe://a/ns/x/sa/web/2"], ["spiffe://a/ns/x/y/sa"]),
        ("*.example.org", ["a.example.org", "a.b.example.org"], ["example.org", "a.example.org.evil", "aXexampleXorg"]),
        ("*", ["anything", "a/b"], []),
    ],
)
async def test_a_pattern_fits_what_it_says(pattern: str, fits: list[str], others: list[str]) -> None:
    hall = Hall(name_from="dns", callers=[{"match": pattern, "team": "t"}])
    for name in fits:
        call = await hall.call(peer(dns_names=(name,)))
        assert (call.caller.name, call.caller.team) == (name, "t")
    for name in others:
        assert await hall.refusal(peer(dns_names=(name,))) == "unknown_name"


async def test_the_first_entry_that_fits_counts_and_says_what_is_known() -> None:
    first = {"match": "web", "name": "shop", "team": "red", "tags": ["a"], "owner": "ann", "names_end_users": True}
    hall = Hall(name_from="dns", callers=[first, {"match": "*", "team": "blue"}])
    caller = (await hall.call(peer(dns_names=("other", "web")))).caller
    assert (caller.name, caller.team, caller.tags, caller.owner) == ("shop", "red", ("a",), "ann")
    assert caller.names_end_users
    assert (await hall.call(peer(dns_names=("other",)))).caller.team == "blue"


async def test_a_renewed_certificate_is_the_same_key_and_another_issuers_is_not() -> None:
    hall = Hall()
    first, renewed, foreign = [
        (await hall.call(peer(serial=serial, issuer=issuer))).caller.key_id
        for serial, issuer in (("7B", "CN=ca"), ("7C", "CN=ca"), ("7B", "CN=other"))
    ]
    assert first == renewed != foreign


@pytest.mark.parametrize("name", ["a" * 257, "a\nb", "a\x1b[2J", "a\u202eb"])
async def test_a_name_that_is_not_fit_for_a_log_is_none(name: str) -> None:
    hall = Hall()
    assert await hall.refusal(peer(name)) == "bad_name"
    assert all(line["subject"].isascii() for _, line in hall.log.lines)


@pytest.mark.parametrize("pattern", ["", "a**", "*a*b*c*d*", "x" * 513])
def test_a_pattern_is_bounded(pattern: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"callers": [{"match": pattern}]}, Settings)


async def test_an_end_user_is_believed_where_the_entry_says_so() -> None:
    for believed in (True, False):
        hall = Hall(callers=[{"match": "*", "names_end_users": believed}])
        call = await hall.call(peer(), headers={"x-end-user": "eve"})
        assert call.end_user == ("eve" if believed else None)


async def test_others_pass_where_they_may() -> None:
    assert (await Hall(pass_others=True).call(None)).caller is ANONYMOUS
    assert await Hall(pass_others=True, callers=[{"match": "x"}]).refusal(peer()) == "unknown_name"
    named = Caller("by-key")
    assert (await Hall(skip_named=True).call(None, named)).caller is named
    assert (await Hall(skip_named=True).call(peer())).caller.name == "web"
    assert (await Hall().call(peer(), named)).caller.name == "web"


@pytest.mark.parametrize("stream", [True, False])
async def test_the_reply_passes_as_it_is_and_an_error_too(stream: bool) -> None:
    plugin = ClientCertificate(Settings(), a_host(HandClock()))
    caller = await passes_reply_and_error(plugin, stream=stream, peer=peer())
    assert caller.name == "web"


# --- over sockets -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def served(
    authority: Authority, client: Path | None, dialect: str, stream: bool, *plugins: Any, **rest: Any
) -> AsyncIterator[Client]:
    asked = rest.pop("asked", "optional")
    config = demo_config(*plugins, listen={"port": 0, "tls": authority.tls(asked)}, **rest)
    context: ssl.SSLContext = authority.context(client)
    async with gateway(config) as running:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            yield Client(running, session, dialect, stream)


@everywhere
async def test_a_call_with_a_certificate_is_its_callers(authority: Authority, dialect: str, stream: bool) -> None:
    client = authority.client(uris=[WEB])
    use = {"use": USE, "settings": {"name_from": "uri", "callers": [{"match": "spiffe://example.org/*", "team": "t"}]}}
    async with served(authority, client, dialect, stream, LOG, use, asked="required") as there:
        for count in (1, 2):
            status, _, _ = await there.ask()
            line = await there.last_line(count)
            assert (status, line["caller"], line["team"], line["ending"]) == (200, WEB, "t", "complete")


@everywhere
async def test_a_call_without_one_is_refused_in_the_clients_words(
    authority: Authority, dialect: str, stream: bool
) -> None:
    for client, code in ((None, "missing_certificate"), (authority.client(uris=[WEB]), "invalid_certificate")):
        async with served(authority, client, dialect, stream, LOG, {"use": USE}) as there:
            status, body, _ = await there.ask()
            line = await there.last_line()
            assert (status, line["ending"], line["error"]) == (401, "refused", code)
            assert (b'"type":"error"' in body) == (dialect == "anthropic")


@everywhere
async def test_certificates_and_keys_stand_in_one_pipeline(authority: Authority, dialect: str, stream: bool) -> None:
    keys: Any = {**KEYS, "settings": {**KEYS["settings"], "skip_named": True}}  # type: ignore[dict-item]
    use = {"use": USE, "settings": {"pass_others": True}}
    for client, name in ((authority.client(("CN", "web")), "web"), (None, "ann")):
        async with served(authority, client, dialect, stream, LOG, use, keys) as there:
            assert (await there.ask(key=SECRET if client is None else "sg-wrong"))[0] == 200
            assert (await there.last_line())["caller"] == name
            if client is None:
                assert (await there.ask(key="sg-wrong"))[0] == 401


@everywhere
async def test_a_client_that_leaves_mid_stream_is_logged_as_who_it_was(
    authority: Authority, dialect: str, stream: bool
) -> None:
    client = authority.client(("CN", "web"))
    async with served(authority, client, dialect, stream, LOG, {"use": USE}, providers=SLOW) as there:
        if stream:
            reply = await there.post()
            await reply.content.readany()
            reply.close()
        else:
            asking = asyncio.ensure_future(there.ask())
            async with asyncio.timeout(5):
                while not any(live.call.attempts for live in there.running.service.live.all()):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            asking.cancel()
        line = await there.last_line()
        assert (line["caller"], line["ending"]) == ("web", "client_gone")


@everywhere
async def test_what_breaks_further_in_is_none_of_its_business(authority: Authority, dialect: str, stream: bool) -> None:
    client = authority.client(("CN", "web"))
    async with served(authority, client, dialect, stream, LOG, {"use": USE}, FAILING) as there:
        status, _, _ = await there.ask()
        line = await there.last_line()
        assert (status, line["caller"], line["error"]) == (200 if stream else 500, "web", "plugin_error")


async def test_one_sees_and_stops_only_calls_of_ones_own_certificate(authority: Authority) -> None:
    mine, theirs = authority.client(("CN", "web")), authority.client(("CN", "other"))
    async with served(authority, mine, "openai", True, {"use": USE}, providers=SLOW) as there:
        reply = await there.post()
        call_id = reply.headers["x-request-id"]
        url = f"{there.running.url}/v1/calls/{call_id}"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=authority.context(theirs))) as session:
            async with session.delete(url) as refused:
                assert refused.status == 404
        async with there._session.delete(url) as cancelled:
            assert (cancelled.status, (await cancelled.json())["ending"]) == (200, "cancelled")
        assert "cancelled" in await reply.text()
