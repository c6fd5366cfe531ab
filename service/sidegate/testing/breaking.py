"""Breaking: providers that fall silent, are cut off, or say what is no reply in the middle of one."""

from __future__ import annotations

import asyncio

from sidegate.testing.provider import Exchange
from sidegate.testing.spoken import PAUSE, first_half, spoken, streams, well
from sidegate.testing.voices import TEXT, USED, WORDS, Voice


@spoken
async def never_answers(exchange: Exchange, voice: Voice) -> None:
    """Takes the request and says nothing. 504 after `first_token`; the connection is closed; output is unknown."""
    await exchange.closed.wait()


@spoken
async def head_then_silence(exchange: Exchange, voice: Voice) -> None:
    """A head, and no more. 504 after `first_token`: a head is no token."""
    await exchange.head(
        content_type="text/event-stream" if streams(exchange) else "application/json", Transfer_Encoding="chunked"
    )
    await exchange.closed.wait()


@spoken
async def opening_then_silence(exchange: Exchange, voice: Voice) -> None:
    """A role, and no more. 504 after `first_token`: what opens a reply says nothing yet."""
    if streams(exchange):
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(voice.begins()))
    await exchange.closed.wait()


@spoken
async def pings_for_ever(exchange: Exchange, voice: Voice) -> None:
    """Signs of life, and never a token. 504 after `first_token`."""
    if streams(exchange):
        await exchange.head(Transfer_Encoding="chunked")
        while not exchange.closed.is_set():
            await exchange.chunk(b": still working\n\n")
            await asyncio.sleep(0.02)
    await exchange.closed.wait()


@spoken
async def silent_in_mid_stream(exchange: Exchange, voice: Voice) -> None:
    """Half a reply, and silence. After `idle` an error event without a clean end; 504 where nothing was passed on."""
    await first_half(exchange, voice)
    await exchange.closed.wait()


@spoken
async def reset_in_mid_stream(exchange: Exchange, voice: Voice) -> None:
    """Half a reply, and RST. An error event and no clean end; 502 where nothing was passed on."""
    await first_half(exchange, voice)
    exchange.reset()


@spoken
async def closed_in_mid_stream(exchange: Exchange, voice: Voice) -> None:
    """Half a reply, and FIN where more was promised. An error event and no clean end; 502 before."""
    await first_half(exchange, voice)
    exchange.close()


@spoken
async def truncated_chunk(exchange: Exchange, voice: Voice) -> None:
    """An HTTP chunk that is longer than what comes of it. As `closed_in_mid_stream`."""
    await first_half(exchange, voice)
    if streams(exchange):
        event = voice.begins(WORDS[2])[-1]
        await exchange.send(f"{len(event):x}\r\n".encode() + event[: len(event) // 2])
    exchange.close()


@spoken
async def bad_chunk_size(exchange: Exchange, voice: Voice) -> None:
    """HTTP that stops being HTTP in the middle of a body. As `closed_in_mid_stream`."""
    if streams(exchange):
        await first_half(exchange, voice)
    else:
        await exchange.head(content_type="application/json", Transfer_Encoding="chunked")
        await exchange.chunk(voice.whole()[:40])
        await asyncio.sleep(PAUSE)
    await exchange.send(b"zz\r\nno chunk\r\n")
    await exchange.closed.wait()


@spoken
async def ends_without_finish(exchange: Exchange, voice: Voice) -> None:
    """A clean HTTP end where the model had not finished. An error event: a cut reply must not look whole.

    A body that ends early is no JSON: 502.
    """
    if streams(exchange):
        await exchange.stream(*voice.begins(*WORDS[:2]))
    else:
        await exchange.reply(voice.whole(TEXT, voice.usage(USED))[:60])


@spoken
async def ends_inside_an_event(exchange: Exchange, voice: Voice) -> None:
    """A clean HTTP end within an event. As `ends_without_finish`."""
    if streams(exchange):
        await exchange.stream(*voice.begins(*WORDS[:2]), voice.begins(WORDS[2])[-1][:30])
    else:
        await exchange.reply(voice.whole(TEXT, voice.usage(USED))[:60])


@spoken
async def ends_at_once(exchange: Exchange, voice: Voice) -> None:
    """A stream without an event, or a body without a byte. 502."""
    if streams(exchange):
        await exchange.stream()
    else:
        await exchange.reply(b"")


@spoken
async def nonsense_in_mid_stream(exchange: Exchange, voice: Voice) -> None:
    """An event that is no JSON, after two words. An error event, the provider closed; 502 for a body."""
    if not streams(exchange):
        await exchange.reply(b'{"choices": [{"index": oops')
        return
    await first_half(exchange, voice)
    await exchange.chunk(b'data: {"choices": [{"index": oops\n\n')
    await exchange.closed.wait()


@spoken
async def nonsense_first(exchange: Exchange, voice: Voice) -> None:
    """An event that is no JSON before all others. 502, since nothing was passed on."""
    if not streams(exchange):
        await exchange.reply(b"oops")
        return
    await exchange.head(Transfer_Encoding="chunked")
    await exchange.chunk(b"data: oops\n\n")
    await exchange.closed.wait()


@spoken
async def error_first(exchange: Exchange, voice: Voice) -> None:
    """A 200 whose first word is an error. An error reply with its own status, since nothing was passed on."""
    if not streams(exchange):
        await exchange.reply(voice.failure("It broke."))
        return
    await exchange.stream(voice.begins()[0], voice.failure_event("It broke."))


@spoken
async def error_in_mid_stream(exchange: Exchange, voice: Voice) -> None:
    """An error after two words, and then the mark of a clean end. An error event, and not the mark."""
    if not streams(exchange):
        await exchange.reply(voice.failure("It broke."))
        return
    await exchange.stream(*voice.begins(*WORDS[:2]), voice.failure_event("It broke."), voice.ends()[-1])


@spoken
async def dropped(exchange: Exchange, voice: Voice) -> None:
    """FIN instead of a reply. 502; not sent again, since it was a new connection and may have been heard."""
    exchange.close()


@spoken
async def dropped_with_reset(exchange: Exchange, voice: Voice) -> None:
    """RST instead of a reply. As `dropped`."""
    exchange.reset()


@spoken
async def dropped_where_kept(exchange: Exchange, voice: Voice) -> None:
    """A good first reply on each connection, and FIN on the second request: a kept connection that had timed out.

    Sent again once on a new connection: no byte of a reply had come.
    """
    if exchange.reused:
        exchange.close()
    elif streams(exchange):
        await exchange.stream(*well(voice))
    else:
        await exchange.reply(voice.whole(TEXT, voice.usage(USED)))


@spoken
async def not_http(exchange: Exchange, voice: Voice) -> None:
    """Bytes that are no HTTP. 502."""
    await exchange.send(b"220 mail.example.com ESMTP\r\n\r\n")
    await exchange.closed.wait()


@spoken
async def endless_line(exchange: Exchange, voice: Voice) -> None:
    """An event, or a body, that never ends. Cut at a bound, the provider closed: memory must not grow with it."""
    kind = "text/event-stream" if streams(exchange) else "application/json"
    await exchange.head(content_type=kind, Transfer_Encoding="chunked")
    await exchange.chunk(b"data: {" if streams(exchange) else b'{"a": "')
    while not exchange.closed.is_set():
        await exchange.chunk(b"x" * 2**16)


@spoken
async def endless_head(exchange: Exchange, voice: Voice) -> None:
    """A header line that never ends. 502 at a bound."""
    await exchange.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not exchange.closed.is_set():
        await exchange.send(b"x" * 2**14)
