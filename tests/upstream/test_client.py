"""The HTTP that plugins are lent: bounded, without redirects and cookies, and every failure has its error."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from sidegate.contract import Call, Handler, Plugin, Reply
from sidegate.errors import ConnectError, CutError, PhaseTimeout, ProviderError, ReplyError
from sidegate.null_host import null_host
from sidegate.settings import Settings
from sidegate.testing import Exchange, Script, closed_port, demo_config, gateway, host, scripted
from sidegate.upstream.client import Client

KIB = 1024


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    made = Client()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def got(on: Client, url: str, *, timeout: float = 5) -> bytes:
    return await on.get(url, timeout=timeout, max_bytes=KIB)


def answers(body: bytes, status: int = 200, **headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(body, status, **headers)

    return script


async def test_it_gets_and_posts_and_gives_the_body() -> None:
    async with scripted(answers(b"yes")) as service, client() as on:
        assert await got(on, service.url + "/a?b=c") == b"yes"
        sent = await on.post(
            service.url + "/check", b'{"x": 1}', {"content-type": "text/x-mine"}, timeout=5, max_bytes=KIB
        )
        first, second = service.exchanges
    assert sent == b"yes"
    assert (first.method, first.path, first.body) == ("GET", "/a?b=c", b"")
    assert (second.method, second.json, second.headers["content-type"]) == ("POST", {"x": 1}, "text/x-mine")
    assert second.headers["user-agent"].startswith("sidegate/")
    assert second.reused


@pytest.mark.parametrize("status", [201, 301, 302, 307, 404, 500])
async def test_only_a_status_of_2xx_is_an_answer_and_no_redirect_is_followed(status: int) -> None:
    async with scripted(answers(b"body", status, Location="/elsewhere")) as service, client() as on:
        if status < 300:
            assert await got(on, service.url) == b"body"
        else:
            with pytest.raises(ReplyError) as failed:
                await got(on, service.url)
            assert failed.value.provider_status == status
        assert len(service.exchanges) == 1


async def test_cookies_are_not_kept() -> None:
    async with scripted(answers(b"", Set_Cookie="who=ann")) as service, client() as on:
        await got(on, service.url)
        await got(on, service.url)
        assert "cookie" not in service.exchanges[1].headers


async def test_a_body_of_the_bound_passes_and_one_byte_more_does_not() -> None:
    async with scripted(answers(b"x" * KIB)) as service, client() as on:
        assert len(await got(on, service.url)) == KIB
        service.script = answers(b"x" * (KIB + 1))
        with pytest.raises(ReplyError, match="too large"):
            await got(on, service.url)


async def test_a_compressed_body_is_not_asked_for_and_not_taken() -> None:
    async with scripted(answers(gzip.compress(b"x" * 100), Content_Encoding="gzip")) as service, client() as on:
        with pytest.raises(ReplyError, match="encoding"):
            await got(on, service.url)
        assert service.exchanges[0].headers["accept-encoding"] == "identity"


async def test_the_time_bounds_the_whole_exchange_however_lively() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        while not exchange.closed.is_set():
            await exchange.chunk(b"x")
            await asyncio.sleep(0.01)

    async with scripted(script) as service, client() as on, asyncio.timeout(20):
        with pytest.raises(PhaseTimeout):
            await got(on, service.url, timeout=0.1)
        await service.exchanges[0].closed.wait()


async def test_what_is_not_there_or_stops_or_is_no_http_has_its_error() -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.head(Content_Length="10")
        await exchange.send(b"abc")
        exchange.close()

    async def noise(exchange: Exchange) -> None:
        await exchange.send(b"hello\r\n\r\n")
        exchange.close()

    async with client() as on:
        with pytest.raises(ConnectError):
            await got(on, closed_port())
        with pytest.raises(ProviderError):
            await got(on, "ftp://127.0.0.1/")
        async with scripted(cut) as service:
            with pytest.raises(CutError):
                await got(on, service.url)
        async with scripted(noise) as service:
            with pytest.raises(ProviderError):
                await got(on, service.url)


async def test_a_certificate_of_nobody_is_no_service() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with scripted(answers(b""), tls=context) as service, client() as on:
        with pytest.raises(ConnectError):
            await got(on, service.url)
        assert service.exchanges == []


class Asking(Plugin[None]):
    """Asks a service where the call names one."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        url = call.headers["x-ask"]
        call.reply_headers["x-said"] = (await self.host.http.get(url, timeout=5, max_bytes=KIB)).decode()
        return await handler(call)


async def test_a_plugin_in_a_gateway_reaches_a_service() -> None:
    config = demo_config({"use": f"{__name__}:Asking"})
    async with scripted(answers(b"fine")) as service, gateway(config) as running, client() as on:
        url = running.url + "/v1/chat/completions"
        body = b'{"model": "demo", "messages": [{"role": "user", "content": "hi"}]}'
        headers = {"content-type": "application/json", "x-ask": service.url}
        assert b"chat.completion" in await on.post(url, body, headers, timeout=5, max_bytes=64 * KIB)
        assert service.exchanges[0].method == "GET"


async def test_where_only_settings_are_looked_at_nothing_is_reached() -> None:
    for lent in (host().http, null_host(Settings(providers={}, models={}, pipelines={})).http):
        with pytest.raises(ConnectError):
            await lent.get("http://127.0.0.1:1/", timeout=1, max_bytes=1)
        with pytest.raises(ConnectError):
            await lent.post("http://127.0.0.1:1/", b"", timeout=1, max_bytes=1)
