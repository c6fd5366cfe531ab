"""Errors: each knows its HTTP status, its public code and whether another try may help.

    SidegateError
    ├── Refusal            the gateway (a guard, a limit, a check) says no
    │   └── BadRequest     the request cannot be understood
    ├── ProviderError      the provider said or did something wrong
    │   ├── ConnectError   not reached: refused, DNS, TLS
    │   ├── ReplyError     answered what no dialect allows: not JSON, a redirect, an empty body
    │   ├── CutError       the reply stopped before its end
    │   └── PhaseTimeout   a phase took too long: connect, first_token, idle, total
    ├── PluginError        a plugin failed, or took longer than it may
    ├── GatewayStopping    the gateway is going down
    └── ConfigError        the config cannot be used: says where, in one line

Foreign exceptions are translated at the border (`raise ConnectError(...) from error`); their text never reaches a
client. The message of an error does: it is written for the caller and holds no secret. An error is drawn in the
client's own dialect: as a reply while nothing has been sent, as an error event after.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any


class Ending(str, Enum):
    """Why a call ended: exactly one for each. The value is what logs, metrics and the ledger say."""

    COMPLETE = "complete"
    PROVIDER_ERROR = "provider_error"
    CUT = "cut"
    STALLED = "stalled"
    CLIENT_GONE = "client_gone"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"
    STOPPING = "gateway_stopping"
    FAILED = "failed"
    """A fault of the gateway itself or of a plugin."""


_LONGEST_WAIT = 1e9
"""Seconds; what is longer, or no number, can be told to nobody."""


class SidegateError(Exception):
    """The root. `status` is HTTP's, `code` a stable public word, `type` OpenAI's coarse class of error."""

    status = 500
    code = "internal_error"
    type = "server_error"
    retryable = False
    ending = Ending.FAILED

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message if message.isascii() else message.encode("utf-8", "replace").decode()
        self.param = param
        self.retry_after = retry_after if retry_after is not None and 0 <= retry_after <= _LONGEST_WAIT else None
        """Seconds after which another try may succeed; sent as `Retry-After`."""
        self.headers = dict(headers or {})
        """Further reply headers, such as `WWW-Authenticate`."""
        self.plugin: str | None = None
        """Which plugin raised it, where one did; set by the core."""
        self.details: Mapping[str, Any] = {}
        """More about it for programs, as JSON: written beside the message where the client's dialect has a place."""
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code
        if type is not None:
            self.type = type


class Refusal(SidegateError):
    """Raise it anywhere, from a tap too, to say no: `raise Refusal(403, "not_here", "Not on this route.")`.

    It stops the provider, is not retried and does not count against the target. Before the client got a byte it is an
    error reply in its dialect, after that an error event and the end.
    """

    status = 403
    code = "refused"
    ending = Ending.REFUSED

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Raises `ValueError` for a status that is no error's: a client would take it for success, or wait."""
        if not 400 <= status <= 599:
            raise ValueError(f"a refusal has a status of 400 to 599, and not {status}")
        super().__init__(
            message,
            status=status,
            code=code,
            type=_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            param=param,
            retry_after=retry_after,
            headers=headers,
        )


class BadRequest(Refusal):
    """400 unless said otherwise: malformed JSON, a field of the wrong type, something that has no counterpart."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, code: str = "invalid_request"):
        super().__init__(status, code, message, param=param)


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ProviderError(SidegateError):
    """The provider failed. `status` is what the client is told; `provider_status` what the provider said."""

    status = 502
    code = "provider_error"
    ending = Ending.PROVIDER_ERROR

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        provider_status: int | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(
            message, status=status, code=code, type=type, param=param, retry_after=retry_after, headers=headers
        )
        self.provider_status = provider_status
        if retryable is not None:
            self.retryable = retryable


class ConnectError(ProviderError):
    """The provider could not be reached, so nothing was spent."""

    code = "provider_unreachable"
    retryable = True


class ReplyError(ProviderError):
    """The provider answered something that is no reply."""

    code = "provider_bad_reply"
    retryable = True


class CutError(ProviderError):
    """The reply ended before its end: a reset, a truncated body, a stream without a finish reason."""

    code = "provider_cut"
    retryable = True
    ending = Ending.CUT


class PhaseTimeout(ProviderError):
    """A phase of the exchange took too long. `phase` is `connect`, `first_token`, `idle` or `total`."""

    status = 504
    retryable = True

    def __init__(self, phase: str, seconds: float) -> None:
        super().__init__(
            f"The provider took longer than {seconds:g} s ({phase.replace('_', ' ')}).", code=f"{phase}_timeout"
        )
        self.phase = phase
        self.ending = Ending.STALLED if phase == "idle" else Ending.TIMED_OUT
        self.retryable = phase != "total"


FAULTS = (Exception, SystemExit)
"""What plugins raise that is their own fault: one that calls `sys.exit` ends no gateway with all its other calls."""


class PluginError(SidegateError):
    """A guard raised, or took longer than its bound. The client is told that the gateway failed, not how."""

    code = "plugin_error"

    def __init__(self, plugin: str, *, overdue: bool = False) -> None:
        super().__init__("The gateway could not process the call.", status=503 if overdue else 500)
        self.plugin = plugin
        if overdue:
            self.code = "plugin_timeout"


class GatewayStopping(SidegateError):
    """The gateway is going down: refused with `Retry-After`, or ended with an error event at the drain's deadline."""

    status = 503
    code = "gateway_stopping"
    retryable = True
    ending = Ending.STOPPING

    def __init__(self, retry_after: float = 1) -> None:
        super().__init__("The gateway is stopping.", retry_after=retry_after)


class Cancelled(SidegateError):
    """The call was stopped on request, or its client left. `ending` says which."""

    status = 499
    code = "cancelled"

    def __init__(self, ending: Ending, code: str | None = None) -> None:
        gone = ending is Ending.CLIENT_GONE
        super().__init__("The client has gone." if gone else "The call was cancelled.")
        self.ending = ending
        self.code = code or ("client_gone" if gone else "cancelled")


class ConfigError(SidegateError):
    """The config cannot be used. `place` is where: `pipelines.chat[2].settings`."""

    code = "config_error"

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.place = place
        self.problem = problem
