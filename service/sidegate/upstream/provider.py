"""Providers: who answers an attempt. A provider is a handler that sends chunks; this one reaches a vendor by HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Raw
from msgspec.structs import replace

from sidegate import __version__
from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.reply import Attempt, Reply
from sidegate.errors import ProviderError
from sidegate.pump import Pump
from sidegate.settings import Provider as ProviderSettings
from sidegate.upstream.credentials import Credential, Credentials
from sidegate.upstream.deadline import Deadline, Dial, spent
from sidegate.upstream.destination import Opening
from sidegate.upstream.feed import Feed
from sidegate.upstream.fetching import FETCHES, KEEPING, fetch_of, tell
from sidegate.upstream.forwarded import explain, forwarded, joined, request_id, told
from sidegate.upstream.host import Host
from sidegate.upstream.response import NO_HEADERS, Response
from sidegate.upstream.retry import ProviderBusy
from sidegate.upstream.transport import Asking, Transport
from sidegate.upstream.whole import relay_whole
from sidegate.wire.body import encode, write_fields
from sidegate.wire.dialect import Dialect, Fields
from sidegate.wire.openai_chat.indexes import CHAT, FOR_HELPERS, FOR_TRANSLATION, HELPER
from sidegate.wire.rewriting import rewritten
from sidegate.wire.translation import Untranslatable, bounded, header_of, lost_anew, translated

DROPPED = "x-sidegate-dropped"
"""Reply header: fields of the request that the provider's dialect has no counterpart for."""
EVENTS = b"text/event-stream"
MOST_OPENINGS = 256
"""Heads of requests that are kept; where the URL names the model, a client may ask for any."""


class Provider(Protocol):
    """Answers one attempt: `call.attempt` is set, `call` is the attempt's own."""

    system: str

    async def __call__(self, call: Call) -> Reply: ...


class HttpProvider:
    """A vendor, or anything that speaks as one. `speaks` are its dialects; the first of an operation translates."""

    def __init__(
        self,
        settings: ProviderSettings,
        speaks: tuple[Dialect, ...],
        credentials: Credentials,
        transport: Transport,
        clock: Clock,
    ) -> None:
        self._host = Host(settings)
        self.system = self._host.system
        self._speaks = {dialect.name: dialect for dialect in speaks}
        self._first = {dialect.operation: dialect for dialect in reversed(speaks)}
        base = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            # A compressed stream comes in blocks: tokens would wait in the provider's buffer.
            "Accept-Encoding": "identity",
            "User-Agent": f"sidegate/{__version__}",
        }
        self._limits_completion = settings.max_tokens_field == "max_completion_tokens"
        self._credentials = credentials
        self._headers = [{**base, **credential.headers, **settings.headers} for credential in credentials.all]
        self._transport = transport
        self._dial = Dial()
        self._openings: dict[tuple[str, int], Opening] = {}
        self._clock = clock
        self._room = settings.max_connections

    async def __call__(self, call: Call) -> Reply:
        attempt = call.attempt
        assert attempt is not None
        if not self._room:
            # A full pool would make the call wait for nobody knows what: it is told, or goes to the next target.
            raise ProviderBusy()
        self._room -= 1
        pinned = call.notes.pinned
        credential = self._credentials.take() if pinned is None else self._credentials.marked(pinned[1])
        if call.dialect == KEEPING and len(self._credentials.all) > 1:
            attempt.tags["credential"] = credential.mark
        rest = credential.until
        try:
            reply = await self._exchange(call, attempt, credential)
        except ProviderError as error:
            self._credentials.failed(credential, error)
            raise
        finally:
            self._room += 1
        if rest:
            self._credentials.worked(credential, rest)
        return reply

    def speaks(self, dialect: str) -> bool:
        """Whether a client of the dialect is passed on in its own words."""
        return dialect in self._speaks

    async def _exchange(self, call: Call, attempt: Attempt, credential: Credential) -> Reply:
        if call.operation in FETCHES:
            return await self._fetch(call, attempt, credential)
        dialect = self._dialect(call)
        url = self._host.url(dialect, attempt.target, call.streams)
        body, hide_usage = self._body(call, dialect, attempt)
        attempt.input_bytes = len(body)
        timeouts = attempt.timeouts
        with Deadline(timeouts, spent(call, attempt), self._dial) as deadline:
            deadline.wait("first_token", timeouts.first_token)
            attempt.sent = True
            opening = self._opening(call, attempt, credential, url)
            response = await self._transport.send(opening, body, timeouts.connect)
            del body  # A stream may last, and a prompt be long.
            try:
                attempt.status = response.status
                await self._relay(call, attempt, dialect, response, deadline, hide_usage)
            finally:
                response.close()
        return Reply(usage=attempt.usage, finish=attempt.finish, model=attempt.model)

    async def _relay(
        self, call: Call, attempt: Attempt, dialect: Dialect, response: Response, deadline: Deadline, hide_usage: bool
    ) -> None:
        headers, clock = response.headers, self._clock
        if (known := request_id(headers)) is not None:
            attempt.tags["request_id"] = known
        if response.status != 200:
            error = dialect.read_error(response.status, headers, await response.read(2**20))
            explain(error, headers, dialect.name, call.dialect, call.reply_headers, clock)
            raise error
        attempt.headers = told(headers, dialect.name, call.dialect, call.reply_headers, clock)
        if not headers.says("content-type", EVENTS):
            body = await response.read()
            deadline.pause()
            await relay_whole(call, attempt, dialect, body, clock, hide_usage=hide_usage)
            return
        del headers
        response.headers = NO_HEADERS  # They have been read; a stream may last.
        feed = Feed(response, deadline, attempt, attempt.timeouts.idle, call.notes.context_here())
        await Pump(call, attempt, dialect, clock, hide_usage=hide_usage).stream(feed)
        response.complete = True

    async def _fetch(self, call: Call, attempt: Attempt, credential: Credential) -> Reply:
        """What the provider keeps: asked for by its id."""
        dialect = self._speaks[call.dialect]
        asked = fetch_of(call, dialect)
        url, headers = self._host.at(asked.path, asked.query), self._request_headers(call, attempt, credential)
        timeouts = attempt.timeouts
        with Deadline(timeouts, spent(call, attempt), self._dial) as deadline:
            deadline.wait("first_token", timeouts.first_token)
            attempt.sent = True
            async with Asking(self._transport, asked.method, url, headers, asked.body, timeouts.connect) as response:
                attempt.status = response.status
                if response.status != 200 or response.headers.says("content-type", EVENTS):
                    await self._relay(call, attempt, dialect, response, deadline, False)
                else:
                    body = await response.read()
                    deadline.pause()
                    await tell(call, attempt, dialect, body)
        return Reply(finish=attempt.finish, model=attempt.model)

    def _dialect(self, call: Call) -> Dialect:
        if (same := self._speaks.get(call.dialect)) is not None:
            return FOR_HELPERS if call.dialect == CHAT and HELPER in call.headers else same
        # Legacy completions are a chat of one message to a provider that knows only chats.
        operation = "chat" if call.operation == "text_completion" else call.operation
        if (other := self._first.get(operation)) is not None:
            return FOR_TRANSLATION if other.name == CHAT else other
        raise Untranslatable(
            f"The model `{call.model}` does not serve this operation.", param="model", code="unsupported_operation"
        )

    def _body(self, call: Call, dialect: Dialect, attempt: Attempt) -> tuple[bytes, bool]:
        """The request's bytes, and whether the usage event was our wish and not the client's."""
        stream = call.streams
        if dialect.name != call.dialect:
            return self._translated(call, dialect, attempt, stream), False
        fields = dict(call.asked.fields)
        if (changed := call.request_changed) is not None:
            lost: list[str] = []
            before, after = dialect.write_request(changed[0], []), dialect.write_request(changed[1], lost)
            fields, anew = rewritten(dialect.name, call.asked.fields, before, after)
            self._name(call, attempt, lost_anew(dialect.name, call.asked.fields, anew, lost))
            self._limit(dialect, fields, call.asked.fields)
        adapted = dialect.adapt(fields, model=attempt.target, stream=stream)
        return write_fields(self._host.fit(adapted)), stream and not call.asked.wants_usage

    def _translated(self, call: Call, dialect: Dialect, attempt: Attempt, stream: bool) -> bytes:
        # The model that is really asked: what it is written for may hang on it.
        request = replace(call.request, model=attempt.target)
        fields, dropped = translated(call.dialect, request, call.asked.fields, dialect, strict=attempt.strict)
        raw: Fields = {key: encode(value) for key, value in fields.items()}
        self._limit(dialect, raw, {})
        self._name(call, attempt, dropped)
        return write_fields(self._host.fit(dialect.adapt(raw, model=attempt.target, stream=stream)))

    def _name(self, call: Call, attempt: Attempt, dropped: list[str]) -> None:
        """What was left out is told."""
        if dropped:
            attempt.dropped = bounded(dropped)
            call.reply_headers[DROPPED] = header_of(dropped)

    def _limit(self, dialect: Dialect, fields: Fields, asked: Mapping[str, Raw]) -> None:
        """The longest reply in the provider's word, or the client's own: OpenAI's newer models refuse the older word,
        and few other servers of its dialect know the newer."""
        newer = self._limits_completion or "max_completion_tokens" in asked
        if newer and dialect.name == "openai.chat" and "max_tokens" in fields and "max_tokens" not in asked:
            fields["max_completion_tokens"] = fields.pop("max_tokens")

    def _opening(self, call: Call, attempt: Attempt, credential: Credential, url: str) -> Opening:
        """What the head of the request says: made once for every URL and key, where the call adds nothing."""
        headers = self._request_headers(call, attempt, credential)
        if headers is not self._headers[credential.number]:
            return self._transport.opening("POST", url, headers)
        place = url, credential.number
        known = self._openings.get(place)
        if known is None:
            if len(self._openings) >= MOST_OPENINGS:
                self._openings.clear()
            known = self._openings[place] = self._transport.opening("POST", url, headers)
        return known

    def _request_headers(self, call: Call, attempt: Attempt, credential: Credential) -> dict[str, str]:
        """An allow-list: nothing of the client's goes out but the versions of the API that it speaks."""
        own = self._headers[credential.number]
        if attempt.request_headers:
            own = {**attempt.request_headers, **own}
        if call.dialect not in self._speaks:
            return own
        asked = forwarded(call.dialect, call.headers)
        return joined(own, asked) if asked else own
