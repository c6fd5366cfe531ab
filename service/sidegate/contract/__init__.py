"""The contract of a plugin: everything it may import, besides `sidegate.errors` and `sidegate.testing`.

Read `plugin` first, then `call`, then `chunk` and `meaning`. `docs/plugins.md` is the manual.

1. `await handler(call)` returns when the exchange is over, whatever the delivery.
2. `await call.send(chunk)` is the only way to emit; it returns when the reader has room.
3. `call.tap` looks, `call.change` rewrites, `call.at_end` adds, `call.hold` holds back. Nobody asked: bytes just pass.
4. `raise Refusal(...)` says no, at any moment.
5. A plugin (a guard) fails closed, an `Observer` fails open. Never swallow `asyncio.CancelledError`.
"""

from sidegate.contract.allowance import (
    ENFORCED_BY,
    NANO,
    Allowance,
    BudgetAllowance,
    Enforced,
    RateAllowance,
    nano_usd,
    require_enforced,
    time_zone,
    unenforced,
)
from sidegate.contract.call import Call
from sidegate.contract.caller import ANONYMOUS, Caller, Naming
from sidegate.contract.chunk import Chunk
from sidegate.contract.counters import Grant, OnStoreFailure, RateClaim, RateCounters, SlotClaim, SlotCounters
from sidegate.contract.host import Clock, Host, Model, SystemClock
from sidegate.contract.input import Input, SeeInput
from sidegate.contract.keys import Label, NoKeys, key_digest, new_key
from sidegate.contract.meaning import (
    BlockEnd,
    Citation,
    Comment,
    Content,
    Embedding,
    End,
    FileContent,
    Finish,
    FinishReason,
    ImageContent,
    Message,
    Opaque,
    OpaqueContent,
    Part,
    Reasoning,
    ReasoningContent,
    RefusalText,
    Report,
    Request,
    ResponseFormat,
    Start,
    Text,
    TextContent,
    Tool,
    ToolCall,
    ToolResult,
    ToolUse,
    Usage,
)
from sidegate.contract.peer import Certificate, Peer, Process
from sidegate.contract.plugin import CONTRACT, Handler, Observer, Plugin
from sidegate.contract.prices import Prices, Pricing, Rates
from sidegate.contract.reply import Attempt, Reply
from sidegate.contract.reservations import BudgetLimit, Claim, Reservations, Standing
from sidegate.contract.spending import BYTES_PER_TOKEN, NOTHING, billed, spent
from sidegate.contract.stages import Edit, Hold
from sidegate.contract.timeouts import Timeouts
from sidegate.contract.values import NoValues, Values
from sidegate.errors import Ending

__all__ = [
    "ANONYMOUS",
    "Allowance",
    "Attempt",
    "BYTES_PER_TOKEN",
    "BlockEnd",
    "BudgetAllowance",
    "BudgetLimit",
    "CONTRACT",
    "Call",
    "Caller",
    "Certificate",
    "Chunk",
    "Citation",
    "Claim",
    "Clock",
    "Comment",
    "Content",
    "ENFORCED_BY",
    "Edit",
    "Embedding",
    "End",
    "Ending",
    "Enforced",
    "FileContent",
    "Finish",
    "FinishReason",
    "Grant",
    "Handler",
    "Hold",
    "Host",
    "ImageContent",
    "Input",
    "Label",
    "Message",
    "Model",
    "NANO",
    "NOTHING",
    "Naming",
    "NoKeys",
    "NoValues",
    "Observer",
    "OnStoreFailure",
    "Opaque",
    "OpaqueContent",
    "Part",
    "Peer",
    "Plugin",
    "Prices",
    "Pricing",
    "Process",
    "RateAllowance",
    "RateClaim",
    "RateCounters",
    "Rates",
    "Reasoning",
    "ReasoningContent",
    "RefusalText",
    "Reply",
    "Report",
    "Request",
    "Reservations",
    "ResponseFormat",
    "SeeInput",
    "SlotClaim",
    "SlotCounters",
    "Standing",
    "Start",
    "SystemClock",
    "Text",
    "TextContent",
    "Timeouts",
    "Tool",
    "ToolCall",
    "ToolResult",
    "ToolUse",
    "Usage",
    "Values",
    "billed",
    "key_digest",
    "nano_usd",
    "new_key",
    "require_enforced",
    "spent",
    "time_zone",
    "unenforced",
]
