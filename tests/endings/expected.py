"""What must become of each misbehaviour of a provider: one row each, for a stream and for a buffered reply."""

from __future__ import annotations

from typing import NamedTuple


class End(NamedTuple):
    """How a call ends. `status` is what the client is told while it has got nothing; 200 where it has got words."""

    status: int
    ending: str
    code: str
    told: int = 0
    """The status on record, where the client had seen a 200 before."""
    bill: str = "unknown"
    """`nothing` was spent; `unknown` what was; or what came was `counted`."""
    phase: bool = False
    """It took as long as a phase may, and not less."""
    closes: bool = True
    """The gateway closes the provider's connection, or the provider has; otherwise it is kept."""


FIRST = End(504, "timed_out", "first_token_timeout", phase=True)
IDLE = End(200, "stalled", "idle_timeout", 504, "counted", phase=True)
CUT = End(502, "cut", "provider_cut")
CUT_IN_IT = End(200, "cut", "provider_cut", 502, "counted")
BAD = End(502, "provider_error", "provider_bad_reply")
BAD_KEPT = BAD._replace(closes=False)
BAD_IN_IT = End(200, "provider_error", "provider_bad_reply", 502, "counted")
FAILED = End(502, "provider_error", "provider_error", bill="nothing", closes=False)


def refused(status: int, code: str) -> tuple[End, End]:
    end = End(status, "provider_error", code, bill="nothing", closes=False)
    return end, end


BROKEN: dict[str, tuple[End, End]] = {
    "never_answers": (FIRST, FIRST),
    "head_then_silence": (FIRST, FIRST),
    "opening_then_silence": (FIRST, FIRST),
    "pings_for_ever": (FIRST, FIRST),
    "silent_in_mid_stream": (IDLE, FIRST),
    "reset_in_mid_stream": (CUT_IN_IT, CUT),
    "closed_in_mid_stream": (CUT_IN_IT, CUT),
    "truncated_chunk": (CUT_IN_IT, CUT),
    "bad_chunk_size": (CUT_IN_IT, CUT),
    "ends_without_finish": (CUT_IN_IT._replace(closes=False), BAD_KEPT),
    "ends_inside_an_event": (CUT_IN_IT._replace(closes=False), BAD_KEPT),
    "ends_at_once": (CUT._replace(closes=False), BAD_KEPT),
    "nonsense_in_mid_stream": (BAD_IN_IT, BAD_KEPT),
    "nonsense_first": (BAD, BAD_KEPT),
    "error_first": (FAILED, FAILED),
    "error_in_mid_stream": (End(200, "provider_error", "provider_error", 502, "counted", closes=False), FAILED),
    "dropped": (CUT, CUT),
    "dropped_with_reset": (CUT, CUT),
    "not_http": (BAD, BAD),
    "endless_line": (BAD._replace(code="event_too_large"), BAD),
    "endless_head": (BAD, BAD),
    "rate_limited": refused(429, "rate_limit"),
    "fails": refused(502, "provider_error"),
    "overloaded": refused(503, "provider_overloaded"),
    "bad_request": refused(400, ""),
    "echoes_the_key": refused(502, "provider_auth"),
    "echoes_the_key_in_a_mistake": refused(400, ""),
    "no_content": (BAD_KEPT, BAD_KEPT),
    "html": (BAD_KEPT, BAD_KEPT),
    "html_and_a_status": refused(502, "provider_error"),
    "empty": (BAD_KEPT, BAD_KEPT),
    "bad_json": (BAD_KEPT, BAD_KEPT),
    "other_json": (BAD_KEPT, BAD_KEPT),
    "short_body": (CUT, CUT),
    "redirects": refused(502, "provider_bad_reply"),
}
"""For a stream, and for a buffered reply."""
