"""Oddities: providers that are allowed what they do, however odd. The client must get the exact text all the same."""

from __future__ import annotations

import gzip

from sidegate.testing.provider import Exchange
from sidegate.testing.spoken import spoken, streams, well
from sidegate.testing.voices import TEXT, USED, WORDS, Voice, framed

MANY = 20_000
LARGE = 4 * 2**20


async def _says(exchange: Exchange, voice: Voice, *pieces: bytes) -> None:
    """These pieces of a stream; a good body where none is asked for."""
    if streams(exchange):
        await exchange.stream(*pieces)
    else:
        await exchange.reply(voice.whole(TEXT, voice.usage(USED)))


@spoken
async def byte_by_byte(exchange: Exchange, voice: Voice) -> None:
    """Every byte in a piece of its own: characters, events and HTTP's own lines are cut."""
    data = b"".join(well(voice)) if streams(exchange) else voice.whole(TEXT, voice.usage(USED))
    kind = "text/event-stream" if streams(exchange) else "application/json"
    await exchange.head(content_type=kind, Transfer_Encoding="chunked")
    for value in data:
        await exchange.chunk(bytes([value]))
    await exchange.chunk(b"")


@spoken
async def crlf(exchange: Exchange, voice: Voice) -> None:
    """Lines of events that end with CRLF."""
    await _says(exchange, voice, *(event.replace(b"\n", b"\r\n") for event in well(voice)))


@spoken
async def cr(exchange: Exchange, voice: Voice) -> None:
    """Lines of events that end with CR."""
    await _says(exchange, voice, *(event.replace(b"\n", b"\r") for event in well(voice)))


@spoken
async def byte_order_mark(exchange: Exchange, voice: Voice) -> None:
    """A byte order mark before the stream."""
    await _says(exchange, voice, b"\xef\xbb\xbf", *well(voice))


@spoken
async def comments(exchange: Exchange, voice: Voice) -> None:
    """Comments and blank lines between the events."""
    await _says(exchange, voice, b": hello\n\n", *(event + b":\n\n: ping\n\n\n" for event in well(voice)))


@spoken
async def multi_line_data(exchange: Exchange, voice: Voice) -> None:
    """JSON on several `data:` lines, and `id:` and `retry:` fields besides."""
    await _says(exchange, voice, *(_on_lines(event) for event in well(voice)))


def _on_lines(event: bytes) -> bytes:
    head, _, data = event.rpartition(b"data: ")
    lines = data.strip().replace(b',"', b',\ndata: "')
    return head + b"id: 7\nretry: 10\ndata: " + lines + b"\n\n"


@spoken
async def compressed(exchange: Exchange, voice: Voice) -> None:
    """gzip, though it was not asked for."""
    if streams(exchange):
        body, kind = b"".join(well(voice)), "text/event-stream"
    else:
        body, kind = voice.whole(TEXT, voice.usage(USED)), "application/json"
    await exchange.reply(gzip.compress(body), 200, kind, Content_Encoding="gzip")


@spoken
async def early_hints(exchange: Exchange, voice: Voice) -> None:
    """A 103 and a 100 before the reply."""
    await exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
    await _says(exchange, voice, *well(voice))


@spoken
async def http_1_0(exchange: Exchange, voice: Voice) -> None:
    """A body without a length or chunks: it ends with the connection. A stream says itself whether it is whole."""
    kind = "text/event-stream" if streams(exchange) else "application/json"
    data = b"".join(well(voice)) if streams(exchange) else voice.whole(TEXT, voice.usage(USED))
    await exchange.send(f"HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode() + data)
    exchange.close()


@spoken
async def large_event(exchange: Exchange, voice: Voice) -> None:
    """One event, or one body, of 4 MiB."""
    text = "x" * LARGE
    if streams(exchange):
        await exchange.stream(*voice.begins(text), *voice.ends(voice.usage(USED)))
    else:
        await exchange.reply(voice.whole(text, voice.usage(USED)))


@spoken
async def many_tokens(exchange: Exchange, voice: Voice) -> None:
    """20,000 tokens, as fast as they go."""
    if not streams(exchange):
        await exchange.reply(voice.whole("x" * MANY, voice.usage((USED[0], MANY))))
        return
    *opening, word = voice.begins("x")
    await exchange.head(Transfer_Encoding="chunked")
    await exchange.chunk(b"".join(opening))
    for _ in range(MANY // 100):
        await exchange.chunk(word * 100)
    await exchange.chunk(b"".join(voice.ends(voice.usage((USED[0], MANY)))))
    await exchange.chunk(b"")


@spoken
async def text_after_the_end(exchange: Exchange, voice: Voice) -> None:
    """Words, and another mark, after the mark of a clean end. Not passed on, and not counted."""
    await _says(exchange, voice, *well(voice), voice.begins("late")[-1], voice.ends()[-1])


@spoken
async def no_mark(exchange: Exchange, voice: Voice) -> None:
    """A finish reason, and no mark of the end. A clean end, which the gateway marks itself."""
    await _says(exchange, voice, *well(voice)[:-1])


@spoken
async def no_last_line(exchange: Exchange, voice: Voice) -> None:
    """The last event without the blank line that closes it. A clean end."""
    *events, last = well(voice)
    await _says(exchange, voice, *events, last.rstrip(b"\n"))


@spoken
async def unknown_events(exchange: Exchange, voice: Voice) -> None:
    """Events and fields nobody has heard of yet, between those that are known. Ignored, or passed on."""
    begins, ends = voice.begins(*WORDS), voice.ends(voice.usage(USED))
    unknown = framed({"type": "tomorrow", "object": "tomorrow", "choices": []}, "tomorrow")
    await _says(exchange, voice, *begins, unknown, *ends)


@spoken
async def no_usage(exchange: Exchange, voice: Voice) -> None:
    """No usage, though it was asked for. Estimated, and marked so."""
    if streams(exchange):
        await exchange.stream(*voice.begins(*WORDS, counts=False), *voice.ends())
    else:
        await exchange.reply(voice.whole(TEXT))


@spoken
async def wrong_usage(exchange: Exchange, voice: Voice) -> None:
    """Usage of negative and huge counts. As if there were none."""
    usage = voice.usage((-5, 10**30))
    if streams(exchange):
        await exchange.stream(*voice.begins(*WORDS, counts=False), *voice.ends(usage))
    else:
        await exchange.reply(voice.whole(TEXT, usage))


@spoken
async def usage_twice(exchange: Exchange, voice: Voice) -> None:
    """Two reports of usage: the last one counts, once."""
    running = voice.usage((USED[0], USED[1] - 1))
    await _says(exchange, voice, *voice.begins(*WORDS), *voice.ends(running, voice.usage(USED)))
