from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sidegate.contract import Attempt, Call, Caller, Ending, FinishReason, Reply, Usage
from sidegate.contract.spending import MAX_TOKENS, NOTHING, spent
from sidegate.errors import Refusal
from sidegate.ledger.settlement import settle

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Nowhere:
    async def chunks(self, chunks: list[Any]) -> None: ...
    async def raw(self, data: bytes, meaningful: bool) -> None: ...
    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return True


def a_call(*attempts: Attempt, operation: str = "chat") -> Call:
    call = Call(
        id="c1",
        operation=operation,
        dialect="openai.chat",
        model="gpt",
        delivery="stream",
        outlet=Nowhere(),
        started=100.0,
        started_at=START,
        route="main",
    )
    call.attempts.extend(attempts)
    return call


def an_attempt(**given: Any) -> Attempt:
    usual: dict[str, Any] = {
        "number": 1,
        "provider": "p",
        "target": "gpt-x",
        "started": 100.5,
        "started_at": START,
        "ended": 102.0,
        "sent": True,
        "status": 200,
        "input_bytes": 41,
        "ending": Ending.COMPLETE,
    }
    return Attempt(**{**usual, **given})


def cut(ending: Ending, *, output: int = 0, usage: Usage | None = None, **given: Any) -> Attempt:
    return an_attempt(ending=ending, output_bytes=output, committed=output > 0, usage=usage, **given)


BROKEN = [
    Ending.CUT,
    Ending.STALLED,
    Ending.CLIENT_GONE,
    Ending.CANCELLED,
    Ending.TIMED_OUT,
    Ending.REFUSED,
    Ending.STOPPING,
    Ending.FAILED,
    Ending.PROVIDER_ERROR,
]


def test_reported_usage_is_taken_as_reported() -> None:
    usage = Usage(10, 20, 3, 4, 5)
    assert spent(an_attempt(usage=usage, output_bytes=4000, finish="stop"), "chat") == usage


def test_a_complete_reply_without_usage_is_estimated_and_marked() -> None:
    found = spent(an_attempt(output_bytes=9, finish="stop"), "chat")
    assert found == Usage(11, 3, estimated=True)


@pytest.mark.parametrize("ending", BROKEN)
def test_a_reply_broken_off_after_content_is_estimated_from_what_came(ending: Ending) -> None:
    assert spent(cut(ending, output=9), "chat") == Usage(11, 3, estimated=True)


@pytest.mark.parametrize("ending", BROKEN)
def test_sent_and_nothing_came_back_leaves_the_output_unknown(ending: Ending) -> None:
    found = spent(cut(ending, status=None), "chat")
    assert (found.input_tokens, found.output_tokens, found.estimated) == (11, None, True)


@pytest.mark.parametrize("ending", BROKEN)
def test_never_sent_is_nothing_spent(ending: Ending) -> None:
    assert spent(cut(ending, sent=False, status=None), "chat") is NOTHING


@pytest.mark.parametrize("status", [302, 400, 401, 429, 500, 529])
def test_a_provider_that_refuses_is_not_paid(status: int) -> None:
    assert spent(cut(Ending.PROVIDER_ERROR, status=status), "chat") is NOTHING


@pytest.mark.parametrize("code", ["provider_unreachable", "connect_timeout"])
def test_a_provider_that_was_not_reached_is_not_paid(code: str) -> None:
    assert spent(cut(Ending.PROVIDER_ERROR, status=None, error=code), "chat") is NOTHING


def test_an_error_after_content_is_paid_for_although_its_status_is_one_of_an_error() -> None:
    found = spent(cut(Ending.PROVIDER_ERROR, output=9, status=529, usage=Usage(10)), "chat")
    assert found == Usage(10, 3, estimated=True)


def test_a_200_that_is_no_reply_is_not_free() -> None:
    found = spent(cut(Ending.PROVIDER_ERROR, error="provider_bad_reply"), "chat")
    assert found.output_tokens is None


def test_an_input_reported_before_the_cut_is_kept() -> None:
    found = spent(cut(Ending.CUT, output=40, usage=Usage(7, None, 2)), "chat")
    assert found == Usage(7, 10, 2, estimated=True)


def test_a_running_count_is_believed_where_it_is_more_than_the_estimate() -> None:
    assert spent(cut(Ending.CUT, output=40, usage=Usage(7, 30)), "chat") == Usage(7, 30)
    assert spent(cut(Ending.CUT, output=40, usage=Usage(7, 1)), "chat") == Usage(7, 10, estimated=True)


def test_a_report_that_came_with_the_finish_stands_although_the_client_left_after_it() -> None:
    attempt = cut(Ending.CLIENT_GONE, output=4000, usage=Usage(7, 30), finish="stop")
    assert spent(attempt, "chat") == Usage(7, 30)


def test_an_open_attempt_is_judged_by_its_finish() -> None:
    assert spent(an_attempt(ending=None, usage=Usage(7, 3), finish="stop", output_bytes=99), "chat") == Usage(7, 3)


@pytest.mark.parametrize("count", [-1, MAX_TOKENS + 1, 10**40])
def test_a_count_that_cannot_be_true_was_not_reported(count: int) -> None:
    found = spent(an_attempt(usage=Usage(count, 5, cache_read_tokens=count)), "chat")
    assert found == Usage(11, 5, estimated=True)


def test_embeddings_have_no_output_and_are_not_estimated_for_it() -> None:
    assert spent(an_attempt(usage=Usage(8)), "embeddings") == Usage(8, 0)
    assert spent(an_attempt(), "embeddings") == Usage(11, 0, estimated=True)


# --- rows -------------------------------------------------------------------------------------------------------------


def price(attempt: Attempt) -> int | None:
    usage = attempt.usage
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    attempt.tags["rates"] = '{"input":1,"output":2}'
    return usage.input_tokens + 2 * usage.output_tokens


def test_every_attempt_is_billed_and_the_call_is_their_sum() -> None:
    call = a_call(
        an_attempt(number=1, ending=Ending.CUT, error="provider_cut", output_bytes=4),
        an_attempt(number=2, status=503, ending=Ending.PROVIDER_ERROR),
        an_attempt(number=3, usage=Usage(10, 20, 3), finish="stop", model="gpt-x-1"),
    )
    call.notes.price = price
    call.notes.first_token = 100.75
    row, attempts = settle(call, Reply(usage=Usage(10, 20), model="gpt-x-1"), 2.5)
    assert [attempt.cost_nano_usd for attempt in attempts] == [13, 0, 50]
    assert (row.input_tokens, row.output_tokens, row.cache_read_tokens, row.estimated) == (21, 21, 3, True)
    assert (row.cost_nano_usd, row.state, row.model_served, row.provider) == (63, "settled", "gpt-x-1", "p")
    assert (row.first_token, row.duration) == (0.75, 2.5)
    assert attempts[2].rates == '{"input":1,"output":2}'
    assert attempts[1].rates is None
    assert attempts[0].duration == 1.5


def test_one_unknown_attempt_makes_the_call_unknown_and_never_zero() -> None:
    call = a_call(an_attempt(ending=Ending.TIMED_OUT, status=None), an_attempt(number=2, usage=Usage(1, 2)))
    call.notes.price = price
    row, attempts = settle(call, Reply(), 1.0)
    assert [attempt.cost_nano_usd for attempt in attempts] == [None, 5]
    assert (row.cost_nano_usd, row.output_tokens, row.input_tokens, row.state) == (None, None, 12, "unknown")


def test_without_a_price_the_cost_is_unknown_and_the_tokens_are_not() -> None:
    row, _ = settle(a_call(an_attempt(usage=Usage(1, 2))), Reply(), 1.0)
    assert (row.cost_nano_usd, row.input_tokens, row.output_tokens, row.state) == (None, 1, 2, "settled")


def test_a_price_that_fails_does_not_cost_the_record(caplog: pytest.LogCaptureFixture) -> None:
    def fail(attempt: Attempt) -> int | None:
        raise ZeroDivisionError

    call = a_call(an_attempt(usage=Usage(1, 2)))
    call.notes.price = fail
    row, _ = settle(call, Reply(), 1.0)
    assert (row.cost_nano_usd, row.input_tokens) == (None, 1)
    assert "call c1 could not be priced" in caplog.text


def test_without_a_price_what_spent_nothing_still_cost_nothing() -> None:
    row, _ = settle(a_call(an_attempt(sent=False, status=None, ending=Ending.REFUSED)), Reply(), 1.0)
    assert row.cost_nano_usd == 0


@pytest.mark.parametrize("operation", ["models", "calls", "chat"])
def test_a_call_without_attempts_is_known_to_have_spent_nothing(operation: str) -> None:
    error = Refusal(429, "rate_limit_exceeded", "Too many.")
    row, attempts = settle(a_call(operation=operation), Reply(status=429, ending=Ending.REFUSED, error=error), 0.0)
    assert attempts == ()
    assert (row.cost_nano_usd, row.input_tokens, row.output_tokens, row.state) == (0, 0, 0, "settled")
    assert (row.provider, row.cache_read_tokens, row.error) == (None, None, "rate_limit_exceeded")


def test_an_attempt_left_open_ends_with_its_call_but_never_as_complete() -> None:
    for ending, expected in ((Ending.CANCELLED, "cancelled"), (Ending.COMPLETE, "cancelled"), (Ending.CUT, "cut")):
        _, (attempt,) = settle(a_call(an_attempt(ending=None, ended=None)), Reply(ending=ending), 3.0)
        assert (attempt.ending, attempt.duration) == (expected, 2.5)


def test_what_others_choose_is_bounded_and_fit_for_a_database() -> None:
    call = a_call(an_attempt(model="m" * 9999, provider_id="\udcff"))
    call.model = "x" * 10**6
    call.caller = Caller("ann", tags=("\ud800",))
    call.end_user = "\udc80" * 300
    row, (attempt,) = settle(call, Reply(), 1.0)
    assert (len(row.model_asked), row.end_user, row.tags) == (256, "?" * 256, ("?",))
    assert (len(attempt.model or ""), attempt.provider_id) == (256, "?")


def test_a_nul_which_postgresql_takes_nowhere_is_replaced() -> None:
    call = a_call(an_attempt(model="m\0", provider_id="\0id"))
    call.model = "x\0y"
    row, (attempt,) = settle(call, Reply(model="served\0"), 1.0)
    assert (row.model_asked, row.model_served) == ("x\ufffdy", "served\ufffd")
    assert (attempt.model, attempt.provider_id) == ("m\ufffd", "\ufffdid")


@pytest.mark.parametrize("finish", ["stop", "length", None])
def test_the_finish_is_on_record(finish: FinishReason | None) -> None:
    _, (attempt,) = settle(a_call(an_attempt(finish=finish)), Reply(), 1.0)
    assert attempt.finish == finish
