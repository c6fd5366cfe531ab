"""Reply and Attempt: how a call ended, and what was tried on the way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from sidegate.contract.meaning import FinishReason, Usage
from sidegate.contract.timeouts import Timeouts
from sidegate.errors import Ending, SidegateError


class Reply(Struct, frozen=True):
    """How a call ended. The bytes went to the client through `call.send`; this is what is known about them."""

    status: int = 200
    ending: Ending = Ending.COMPLETE
    usage: Usage | None = None
    """Of the answer the client got. What was spent in all is in `call.attempts`."""
    finish: FinishReason | None = None
    model: str | None = None
    """The model that answered, as the provider names it."""
    error: SidegateError | None = None
    """Set where the call failed; `status`, `ending` and `error.code` agree."""

    @property
    def complete(self) -> bool:
        return self.ending is Ending.COMPLETE


class Attempt(Struct, kw_only=True):
    """One try at one target. The router opens it, so it is on record whatever happens; the core settles it."""

    number: int
    """From 1, in the order of opening."""
    provider: str
    """The provider's name in the config."""
    target: str
    """The model, as the provider is asked for it."""
    system: str = ""
    """The kind of provider, by OpenTelemetry's `gen_ai.provider.name`."""
    started: float
    """Monotonic seconds."""
    started_at: datetime
    first_token: float | None = None
    ended: float | None = None
    status: int | None = None
    """The provider's HTTP status; `None` while it has not answered."""
    sent: bool = False
    """The request has left for the provider: from here on something may have been spent."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    provider_id: str | None = None
    """The provider's own id of the reply."""
    usage: Usage | None = None
    input_bytes: int = 0
    output_bytes: int = 0
    """UTF-8 bytes of text, reasoning and tool arguments received: what an estimate is made from."""
    finish: FinishReason | None = None
    ending: Ending | None = None
    error: str | None = None
    """The code of what went wrong."""
    cost: int | None = None
    """Nano-USD, by the price the `cost` plugin gave; `None` while unknown."""
    billed: bool = False
    """It has ended, and `usage` and `cost` are what the ledger will say: see `spending.billed`."""
    background: bool = False
    """Its provider goes on after the reply has ended: what it uses is unknown until that is fetched."""
    committed: bool = False
    """Something meaningful of it went on to the client: from here on no other attempt can take its place."""
    headers: Mapping[str, str] | None = None
    """What its provider said in headers that the client may know: how much of its rate limits is left."""
    timeouts: Timeouts = Timeouts()
    """How long it may take, by phase. A plugin in an `attempt` list may set others before it awaits `handler`."""
    strict: bool = False
    """Nothing of the request may be left out where the provider speaks another dialect: `translation: strict`."""
    dropped: tuple[str, ...] = ()
    """What of the request its dialect had no word for, and was left out."""
    request_headers: Mapping[str, str] | None = None
    """What plugins send its provider besides, such as `traceparent`: never in the place of what the config sends."""
    tags: dict[str, str] = {}
