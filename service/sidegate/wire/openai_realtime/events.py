"""OpenAI Realtime: what its events mean to a gateway, by their bytes; in the words of its beta, and in those of today.

Sources: https://platform.openai.com/docs/api-reference/realtime-client-events and realtime-server-events.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from sidegate.contract.meaning import FinishReason, Part, Text, Usage
from sidegate.errors import BadRequest, SidegateError
from sidegate.wire.body import check_duplicates

NAME: Final = "openai.realtime"

RESPONSE_CREATE: Final = "response.create"
RESPONSE_CREATED: Final = "response.created"
RESPONSE_DONE: Final = "response.done"
SESSION_UPDATES: Final = frozenset({"session.update", "transcription_session.update"})
SESSION_TOLD: Final = frozenset(
    {"session.created", "session.updated", "transcription_session.created", "transcription_session.updated"}
)
TRANSCRIBED: Final = "conversation.item.input_audio_transcription.completed"
APPEND: Final = "input_audio_buffer.append"
ERROR: Final = "error"

TEXTS: Final = frozenset(
    {
        "response.output_text.delta",
        "response.output_audio_transcript.delta",
        "response.function_call_arguments.delta",
        "response.text.delta",
        "response.audio_transcript.delta",
    }
)
AUDIO: Final = frozenset({"response.output_audio.delta", "response.audio.delta"})
PIECES: Final = TEXTS | AUDIO
"""Events of a response of which there are many."""

_TYPE: Final = re.compile(rb'\s*\{\s*(?:"event_id"\s*:\s*"[^"\\]{0,200}"\s*,\s*)?"type"\s*:\s*"([a-z_.]{1,80})"')
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_MOST: Final = 2**53
_NOTHING: Final = Raw(b"")
_EMPTY: Final = frozenset({b"", b"null"})
_REASONS: Final[dict[str, FinishReason]] = {"max_output_tokens": "length", "content_filter": "content_filter"}


class _Typed(Struct, gc=False):
    type: str = ""


class _Response(Struct, gc=False):
    id: str | None = None
    status: str | None = None
    status_details: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None


class _OfResponse(Struct, gc=False):
    response: _Response | None = None
    response_id: str | None = None
    delta: str | None = None


class _Wrong(Struct, gc=False):
    code: str | None = None
    event_id: str | None = None


class _Error(Struct, gc=False):
    error: _Wrong | None = None


class _Transcribed(Struct, gc=False):
    item_id: str | None = None
    usage: dict[str, Any] | None = None


class ClientEvent(Struct, gc=False):
    """What a client says, as far as a gateway acts on it."""

    type: str = ""
    event_id: str | None = None
    session: Raw = _NOTHING
    response: Raw = _NOTHING


class Limits(Struct, gc=False):
    """Of a session, or of one response that is asked for."""

    model: str | None = None
    max_output_tokens: int | str | None = None
    max_response_output_tokens: int | str | None = None
    conversation: Raw = _NOTHING
    input: Raw = _NOTHING

    @property
    def apart(self) -> bool:
        """Whether a response is made from something else than the conversation, so that its input is not that."""
        return bytes(self.conversation) == b'"none"' or bytes(self.input) not in _EMPTY

    @property
    def most(self) -> int | None:
        """The longest answer, where a number says so."""
        for said in (self.max_output_tokens, self.max_response_output_tokens):
            if type(said) is int and said > 0:
                return said
        return None


class _Model(Struct, gc=False):
    model: str | None = None


class _Input(Struct, gc=False):
    transcription: _Model | None = None


class _Audio(Struct, gc=False):
    input: _Input | None = None


class Session(Limits, gc=False):
    """What a session is set to, or is to be."""

    audio: _Audio | None = None
    input_audio_transcription: _Model | None = None

    @property
    def transcription_model(self) -> str | None:
        """What writes down what the user says, beside the model that answers."""
        given = self.audio.input if self.audio is not None else None
        found = (given.transcription if given is not None else None) or self.input_audio_transcription
        return found.model if found is not None else None


class _OfSession(Struct, gc=False):
    session: Session | None = None


_type = msgspec.json.Decoder(_Typed).decode
_response = msgspec.json.Decoder(_OfResponse).decode
_error = msgspec.json.Decoder(_Error).decode
_transcribed = msgspec.json.Decoder(_Transcribed).decode
_client = msgspec.json.Decoder(ClientEvent).decode
_told = msgspec.json.Decoder(_OfSession).decode
_session = msgspec.json.Decoder(Session).decode
_limits = msgspec.json.Decoder(Limits).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class Done(Struct, gc=False):
    """How a response ended."""

    id: str | None
    status: str
    finish: FinishReason
    usage: Usage | None
    code: str | None = None
    """Of what went wrong in it."""


def server_type(data: bytes) -> str:
    """What kind of event a provider sends; empty for what is none. Its own word is believed where it stands first."""
    found = _TYPE.match(data)
    if found is not None:
        return found[1].decode()
    try:
        return _type(data).type
    except _UNREADABLE:
        return ""


def read_client(data: bytes) -> ClientEvent:
    """A client's event. Raises `BadRequest` for what is none: its provider might take it for one that spends. Of a key
    that stands twice, the last counts; in an event that spends or sets something that is an error."""
    try:
        event = _client(data)
    except _UNREADABLE as error:
        raise BadRequest("The message is not an event as Realtime has it.", code="invalid_event") from error
    if event.type in SESSION_UPDATES or event.type == RESPONSE_CREATE:
        check_duplicates(data)
    return event


def read_limits(raw: Raw) -> Limits:
    try:
        return Limits() if bytes(raw) in _EMPTY else _limits(raw)
    except _UNREADABLE as error:
        raise BadRequest("`response` is not an object as Realtime has it.", param="response") from error


def read_session(raw: Raw) -> Session:
    """What an update sets."""
    try:
        return Session() if bytes(raw) in _EMPTY else _session(raw)
    except _UNREADABLE as error:
        raise BadRequest("`session` is not an object as Realtime has it.", param="session") from error


def told_session(data: bytes) -> Session:
    """What a provider says that the session is set to."""
    try:
        return _told(data).session or Session()
    except _UNREADABLE:
        return Session()


def with_session_model(data: bytes, model: str) -> bytes:
    """An update that names the model as its provider does."""
    fields = _fields(data)
    session = _fields(fields["session"])
    session["model"] = Raw(_encode(model))
    fields["session"] = Raw(_encode(session))
    return _encode(fields)


def with_event_id(data: bytes, event_id: str) -> bytes:
    """An event with a name of its own, by which an error about it is known."""
    return _encode({**_fields(data), "event_id": event_id})


def with_most_output(data: bytes, most: int) -> bytes:
    """A request for a response that says how long it may get."""
    fields = _fields(data)
    inner = fields.get("response")
    response = _fields(inner) if inner is not None and bytes(inner) != b"null" else {}
    response["max_output_tokens"] = Raw(_encode(most))
    fields["response"] = Raw(_encode(response))
    return _encode(fields)


def response_id(data: bytes) -> str | None:
    """Of which response an event is."""
    try:
        event = _response(data)
    except _UNREADABLE:
        return None
    return event.response_id or (event.response.id if event.response is not None else None)


def read_done(data: bytes) -> Done:
    """How a response ended, and what it used."""
    try:
        response = _response(data).response or _Response()
    except _UNREADABLE:
        response = _Response()
    status, details = response.status or "completed", response.status_details or {}
    reason = details.get("reason")
    wrong = details.get("error")
    code = wrong.get("code") or wrong.get("type") if isinstance(wrong, dict) else None
    finish: FinishReason = "stop"
    if status == "failed":
        finish = "error"
    elif status == "incomplete":
        finish = _REASONS.get(str(reason), "length")
    return Done(response.id, status, finish, read_usage(response.usage), str(code)[:256] if code else None)


def read_error(data: bytes) -> tuple[str | None, str | None]:
    """The code of an error event, and the client's event that it is about."""
    try:
        wrong = _error(data).error or _Wrong()
    except _UNREADABLE:
        return None, None
    return wrong.code, wrong.event_id


def read_transcribed(data: bytes) -> tuple[str | None, Usage | None]:
    """The item that was written down, and what that used. What is billed by its duration has no tokens."""
    try:
        event = _transcribed(data)
    except _UNREADABLE:
        return None, None
    return event.item_id, read_usage(event.usage)


def read_usage(usage: dict[str, Any] | None) -> Usage | None:
    """Tokens as Realtime tells them. Sound that was cached is among the cached ones, and not among those of sound: no
    token is in two kinds that are priced apart."""
    if not usage:
        return None
    given = _object(usage.get("input_token_details") or usage.get("input_tokens_details"))
    made = _object(usage.get("output_token_details") or usage.get("output_tokens_details"))
    cached = _object(given.get("cached_tokens_details"))
    audio, image = _count(given.get("audio_tokens")), _count(given.get("image_tokens"))
    cached_audio, cached_image = _count(cached.get("audio_tokens")), _count(cached.get("image_tokens"))
    found = Usage(
        _count(usage.get("input_tokens")),
        _count(usage.get("output_tokens")),
        _count(given.get("cached_tokens")),
        None,
        _count(made.get("reasoning_tokens")),
        _rest(audio, cached_audio),
        _count(made.get("audio_tokens")),
        audio_cache_read_tokens=cached_audio,
        image_input_tokens=_rest(image, cached_image),
        image_cache_read_tokens=cached_image,
    )
    return None if found == Usage() else found


def read_parts(data: bytes) -> tuple[Part, ...]:
    """What an event says, for whoever looks: text, or what is said aloud."""
    if server_type(data) not in TEXTS:
        return ()
    try:
        delta = _response(data).delta
    except _UNREADABLE:
        return ()
    return (Text(delta),) if delta and b"arguments.delta" not in data[:200] else ()


def write_error(error: SidegateError, event_id: str, about: str | None = None) -> bytes:
    """An error event. `about` is the client's event that it answers."""
    said: dict[str, Any] = {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
    return _encode({"type": "error", "event_id": event_id, "error": {**said, "event_id": about}})


def write_cancel(response: str | None) -> bytes:
    """Stop a response."""
    return _encode(
        {"type": "response.cancel"}
        if response is None
        else {
            "type": "response.cancel",
            "response_id": response,
        }
    )


def _rest(every: int | None, cached: int | None) -> int | None:
    return every if every is None or cached is None else max(0, every - cached)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST else None
