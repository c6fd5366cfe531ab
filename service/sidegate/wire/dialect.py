"""What a dialect is: bytes to meaning and back, without I/O. One module per dialect, no code for pairs of them.

Reading a stream: `splitter -> events -> meter (every event, cheap) -> read_event (only when somebody looks)`.
Writing one: `encoder(parts) -> events`. Whole bodies: `read_whole` splits one into parts, `assembler` gathers parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, ClassVar, Protocol

from msgspec import Raw, Struct

from sidegate.contract.chunk import Reader
from sidegate.contract.meaning import FinishReason, Part, Request, Usage
from sidegate.errors import ProviderError, SidegateError
from sidegate.wire.sse import Splitter

Fields = dict[str, Raw]
"""A JSON object decoded one level deep: values keep the bytes they came in."""


class Sign(IntEnum):
    """What one event of a provider's stream is to the pump."""

    NOTHING = 0
    """A comment, a ping: a sign of life, never passed on."""
    LEAD_IN = 1
    """A role, `message_start`: held until the attempt commits."""
    CONTENT = 2
    """Something the reader waits for, a finish reason included."""
    USAGE = 3
    """A usage report and nothing else: hidden from a client that did not ask for it."""
    OTHER = 4
    """Anything else that belongs to the reply and follows its content."""
    END = 5
    """The clean end."""


class Events(Protocol):
    """Cuts what a provider sends into whole events, each as an SSE event: see `sse.Splitter`."""

    def feed(self, data: bytes, /) -> list[bytes]: ...
    def close(self) -> bytes | None: ...


class Meter(Protocol):
    """Reads every event of one reply at the provider's edge: usage, finish reason, model, how much text came.

    Made for each attempt. Decodes narrowly. `event` and `whole` raise `ProviderError` where the provider reports a
    failure inside a 200, and `ReplyError` where the bytes are no event of the dialect.
    """

    usage: Usage | None
    """Merged from all reports so far; `None` until the first."""
    finish: FinishReason | None
    """Of the first choice that finished."""
    model: str | None
    id: str | None
    output_bytes: int
    """UTF-8 bytes of text, reasoning and tool arguments so far: what an estimate is made from."""
    started: bool
    """Content has been seen."""
    finished: bool
    """Every choice that was begun has finished: the end of the bytes is now a clean end."""

    @property
    def reader(self) -> Reader | None:
        """Reads the event that was measured last, where its bytes alone do not say it all; `None`: `read_event` does.

        What it takes from the events before is its own, so that it reads the same whenever it is asked.
        """
        ...

    def event(self, raw: bytes) -> Sign: ...
    def whole(self, raw: bytes) -> None: ...


class Envelope(Struct, frozen=True, kw_only=True):
    """What a reply in a dialect needs besides its parts: ids are made by the gateway where the provider gave none."""

    id: str
    """The call's id, without a prefix."""
    model: str
    """The model as the client asked for it."""
    created: int
    """Unix seconds."""
    include_usage: bool = True
    encoding_format: str | None = None
    """Embeddings: `float` or `base64`."""


class Encoder(Protocol):
    """Parts into the events of one stream, in order; keeps what the dialect must remember (open blocks, indexes).

    One instance per reply. A stream is opened by the first part, whether or not a `Start` came.
    """

    def encode(self, parts: Iterable[Part]) -> bytes: ...


class Assembler(Protocol):
    """Gathers the parts of one reply, and gives the whole body. Unknown fields of the body `base` stay."""

    def add(self, parts: Iterable[Part]) -> None: ...
    def body(self, base: bytes | None = None) -> bytes: ...


class InBody:
    """What a dialect is whose requests say everything in their bodies, and whose streams are SSE."""

    in_path: ClassVar[bool] = False
    path = ""

    def splitter(self) -> Events:
        return Splitter()

    def place(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        return fields

    def locate(self, model: str, stream: bool) -> str:
        return self.path


class Dialect(Protocol):
    """A wire format. Instances are stateless and shared."""

    name: str
    """`openai.chat`, `anthropic.messages`: as logs and the config say it."""
    operation: str
    """OpenTelemetry GenAI operation: `chat`, `text_completion`, `embeddings`."""
    comments: bool
    """Whether a stream in it bears SSE comments."""
    terminator: bytes
    """The event that ends a stream cleanly; empty where the dialect has none."""
    path: str
    """Below a provider's base URL."""
    in_path: ClassVar[bool]
    """Whether the model and the wish for a stream stand in the path and not in the body: see `place` and `locate`."""

    def splitter(self) -> Events:
        """For one stream of a provider."""
        ...

    # requests
    def read_request(self, fields: Fields) -> Request:
        """The whole meaning of a request. Raises `BadRequest` naming the field."""
        ...

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        """The request in this dialect, as a JSON object. What has no counterpart is left out and named in `dropped`."""
        ...

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        """A client's own request made fit for a provider of the same dialect: model, stream and the wish for usage."""
        ...

    def place(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        """The fields of a client's request with what its path says among them; `adapt` takes it out again."""
        ...

    def locate(self, model: str, stream: bool) -> str:
        """The path of a request below a provider's base URL. Raises `BadRequest` for a model that no path can hold."""
        ...

    # replies
    def meter(self) -> Meter: ...
    def read_event(self, raw: bytes) -> tuple[Part, ...]: ...
    def read_whole(self, raw: bytes) -> tuple[Part, ...]: ...
    def encoder(self, envelope: Envelope) -> Encoder: ...
    def assembler(self, envelope: Envelope) -> Assembler: ...

    # errors
    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """A provider's error reply, by `wire.faults`: what may be told to a client, without what may not."""
        ...

    def write_error(self, error: SidegateError, request_id: str) -> bytes:
        """The body of an error reply."""
        ...

    def write_error_event(self, error: SidegateError, request_id: str) -> bytes:
        """An error inside a stream; the stream then ends without its terminator."""
        ...
