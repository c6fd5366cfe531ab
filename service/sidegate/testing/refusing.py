"""Refusing: providers whose answer is no reply, by its status or by its body."""

from __future__ import annotations

from sidegate.testing.provider import Exchange
from sidegate.testing.spoken import spoken
from sidegate.testing.voices import TEXT, Voice

_HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx at 10.1.2.3</body></html>"


def _key(exchange: Exchange) -> str:
    headers = exchange.headers
    return headers.get("x-api-key") or headers.get("x-goog-api-key") or headers.get("authorization", "")


@spoken
async def rate_limited(exchange: Exchange, voice: Voice) -> None:
    """429 with `Retry-After: 17`. The client gets both; nothing was spent."""
    await exchange.reply(voice.failure("Slow down.", "rate_limit_error"), 429, Retry_After="17")


@spoken
async def fails(exchange: Exchange, voice: Voice) -> None:
    """500. The client gets 502, and none of the provider's words."""
    await exchange.reply(voice.failure("Stack trace at db-7.internal"), 500)


@spoken
async def overloaded(exchange: Exchange, voice: Voice) -> None:
    """503. The client gets 503 too, and none of the provider's words."""
    await exchange.reply(voice.failure("Overloaded at db-7.internal", "overloaded_error"), 503)


@spoken
async def bad_request(exchange: Exchange, voice: Voice) -> None:
    """400: the client's own mistake, told in the provider's words."""
    await exchange.reply(voice.failure("Said by it.", "invalid_request_error"), 400)


@spoken
async def echoes_the_key(exchange: Exchange, voice: Voice) -> None:
    """401 that repeats our key. The client's key was good: 502, and the key is nowhere."""
    key = _key(exchange)
    await exchange.reply(voice.failure(f"Incorrect API key: {key}", "authentication_error"), 401)


@spoken
async def echoes_the_key_in_a_mistake(exchange: Exchange, voice: Voice) -> None:
    """400 that repeats our key. The words are passed on, the key is masked."""
    key = _key(exchange)
    await exchange.reply(voice.failure(f"Odd header: {key}", "invalid_request_error"), 400)


@spoken
async def no_content(exchange: Exchange, voice: Voice) -> None:
    """204, which has no body. 502: it is no reply."""
    await exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")


@spoken
async def html(exchange: Exchange, voice: Voice) -> None:
    """A proxy's page of HTML with a 200. 502, and none of it told."""
    await exchange.reply(_HTML, 200, "text/html")


@spoken
async def html_and_a_status(exchange: Exchange, voice: Voice) -> None:
    """A proxy's page of HTML with a 502. 502, and none of it told."""
    await exchange.reply(_HTML, 502, "text/html")


@spoken
async def empty(exchange: Exchange, voice: Voice) -> None:
    """A 200 with an empty body. 502: it is no reply."""
    await exchange.reply(b"")


@spoken
async def bad_json(exchange: Exchange, voice: Voice) -> None:
    """A 200 whose body breaks off, with the length it has. 502."""
    await exchange.reply(voice.whole(TEXT)[:-20])


@spoken
async def other_json(exchange: Exchange, voice: Voice) -> None:
    """A 200 with JSON that is no reply of the dialect. 502."""
    await exchange.reply(b'["what", {"is": "this"}]')


@spoken
async def short_body(exchange: Exchange, voice: Voice) -> None:
    """A whole body whose head promised more bytes. 502: what is missing is not known."""
    body = voice.whole(TEXT)
    await exchange.head(content_type="application/json", Content_Length=str(len(body) + 100))
    await exchange.send(body)
    exchange.close()


@spoken
async def redirects(exchange: Exchange, voice: Voice) -> None:
    """307 to its own `/elsewhere`. 502; not followed: key and prompt would go wherever it says."""
    await exchange.reply(b"", 307, Location="/elsewhere")
