"""Misbehaviour: what providers do wrong, or oddly, as scripts for `scripted`. Each says what a gateway must do.

    async with scripted(MISBEHAVIOURS["silent_in_mid_stream"]("openai")) as provider:
        ...

Each answers a streamed and a buffered request, in OpenAI's words and in Anthropic's. What no script can do is done by
where the gateway is led: `closed_port()` refuses, and `scripted(script, tls=...)` shows a certificate of yours.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import closing
from types import MappingProxyType

from sidegate.testing import breaking, oddities, refusing
from sidegate.testing.spoken import ScriptMaker


def _all(*makers: ScriptMaker) -> Mapping[str, ScriptMaker]:
    return MappingProxyType({maker.__name__: maker for maker in makers})


BREAKING = _all(
    breaking.never_answers,
    breaking.head_then_silence,
    breaking.opening_then_silence,
    breaking.pings_for_ever,
    breaking.silent_in_mid_stream,
    breaking.reset_in_mid_stream,
    breaking.closed_in_mid_stream,
    breaking.truncated_chunk,
    breaking.bad_chunk_size,
    breaking.ends_without_finish,
    breaking.ends_inside_an_event,
    breaking.ends_at_once,
    breaking.nonsense_in_mid_stream,
    breaking.nonsense_first,
    breaking.error_first,
    breaking.error_in_mid_stream,
    breaking.dropped,
    breaking.dropped_with_reset,
    breaking.dropped_where_kept,
    breaking.not_http,
    breaking.endless_line,
    breaking.endless_head,
)
"""A reply that is begun, or expected, and never whole; `dropped_where_kept` is to be made whole."""

REFUSING = _all(
    refusing.rate_limited,
    refusing.fails,
    refusing.overloaded,
    refusing.bad_request,
    refusing.echoes_the_key,
    refusing.echoes_the_key_in_a_mistake,
    refusing.no_content,
    refusing.html,
    refusing.html_and_a_status,
    refusing.empty,
    refusing.bad_json,
    refusing.other_json,
    refusing.short_body,
    refusing.redirects,
)
"""An answer that is no reply."""

ODDITIES = _all(
    oddities.byte_by_byte,
    oddities.crlf,
    oddities.cr,
    oddities.byte_order_mark,
    oddities.comments,
    oddities.multi_line_data,
    oddities.compressed,
    oddities.early_hints,
    oddities.http_1_0,
    oddities.large_event,
    oddities.many_tokens,
    oddities.text_after_the_end,
    oddities.no_mark,
    oddities.no_last_line,
    oddities.unknown_events,
    oddities.no_usage,
    oddities.wrong_usage,
    oddities.usage_twice,
)
"""A whole reply, told in an unusual way."""

MISBEHAVIOURS: Mapping[str, ScriptMaker] = MappingProxyType({**BREAKING, **REFUSING, **ODDITIES})
"""All of them, by name."""


def closed_port() -> str:
    """A base URL of 127.0.0.1 at which nobody listens: the connection is refused."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}"
