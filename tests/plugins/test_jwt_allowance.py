"""Limits from claims: what a token lets its bearer use is read strictly, or the token is not believed."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc.jwk import RSAKey

from sidegate.contract import ANONYMOUS, Call, Caller, Handler, Plugin, Reply
from sidegate.contract.allowance import Allowance, BudgetAllowance, RateAllowance
from sidegate.errors import ConfigError
from tests.plugins.calls import a_call, answer
from tests.plugins.jwt_issuer import believed, issuer, lobby, rsa_key
from tests.plugins.test_jwt_served import jwt, served, today
from tests.plugins.test_through_the_gateway import everywhere

PATHS = {"limits": "llm.rates", "concurrency": "llm.calls", "budgets": "llm.money"}
LLM = {"rates": 60, "calls": 3, "money": "12.50"}


class Enforcing(Plugin[None]):
    """Says that it holds everything, and keeps whom it would hold to what."""

    enforces = frozenset({"limits", "concurrency", "budgets"})
    seen: list[Caller] = []

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        self.seen.append(call.caller)
        return await handler(call)


ENFORCING = {"use": f"{__name__}:Enforcing"}


@pytest.fixture(scope="module")
def key() -> RSAKey:
    return rsa_key("one")


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("llm", "allowance"),
    [
        (
            LLM,
            Allowance(
                limits=(RateAllowance(requests=60),), concurrency=3, budgets=(BudgetAllowance(amount_usd="12.50"),)
            ),
        ),
        (
            {**LLM, "rates": {"input_tokens": 5, "period": "hour"}, "money": 0.25},
            Allowance(
                limits=(RateAllowance(input_tokens=5, period="hour"),),
                concurrency=3,
                budgets=(BudgetAllowance(amount_usd=0.25),),
            ),
        ),
        (
            {
                **LLM,
                "rates": [{"requests": 5, "period": "day"}, 6],
                "money": [{"amount_usd": 1, "period": "day", "hard": False}],
            },
            Allowance(
                limits=(RateAllowance(requests=5, period="day"), RateAllowance(requests=6)),
                concurrency=3,
                budgets=(BudgetAllowance(amount_usd=1, period="day", hard=False),),
            ),
        ),
    ],
)
async def test_claims_become_what_the_caller_may_use(key: RSAKey, llm: Any, allowance: Allowance) -> None:
    async with issuer(key) as there, lobby(believed(there, claims={**PATHS, "owner": "boss"})) as hall:
        for _ in range(2):
            caller = (await hall.call(there.token(llm=llm, boss="eve"))).caller
            assert (caller.allowance, caller.owner) == (allowance, "eve")


async def test_what_is_not_mapped_restricts_nothing(key: RSAKey) -> None:
    async with issuer(key) as there, lobby(believed(there)) as hall:
        assert (await hall.call(there.token(llm=LLM, limits=1, budgets=1))).caller.allowance is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rates": "60"}, "limits: "),
        ({"rates": True}, "limits: "),
        ({"rates": 60.5}, "limits: "),
        ({"rates": 0}, "limits: "),
        ({"rates": -1}, "limits: "),
        ({"rates": {}}, "limits: "),
        ({"rates": {"requests": "60"}}, "limits: "),
        ({"rates": {"requests": True}}, "limits: "),
        ({"rates": {"requests": 60, "per": "minute"}}, "limits: "),
        ({"rates": {"requests": 60, "period": "fortnight"}}, "limits: "),
        ({"rates": [60, [60]]}, "limits: "),
        ({"rates": [60, 70]}, "limits, concurrency or budgets: "),
        ({"rates": [{"requests": 60, "period": period} for period in ("minute", "hour", "day")] * 6}, "limits"),
        ({"rates": 10**13}, "limits: "),
        ({"calls": True}, "concurrency: "),
        ({"calls": "3"}, "concurrency: "),
        ({"calls": 3.0}, "concurrency: "),
        ({"calls": 0}, "limits, concurrency or budgets: "),
        ({"calls": [3]}, "concurrency: "),
        ({"money": True}, "budgets: "),
        ({"money": "a lot"}, "budgets: "),
        ({"money": "NaN"}, "budgets: "),
        ({"money": -1}, "budgets: "),
        ({"money": {"amount_usd": 1, "timezone": "Nowhere/At_All"}}, "budgets: "),
        ({"money": {"amount_usd": 1, "timezone": "../../etc/passwd"}}, "budgets: "),
        ({"money": {"period": "day"}}, "budgets: "),
        ({"rates": None}, "limits: missing"),
        ({"rates": []}, "limits: missing"),
        ({"calls": None}, "concurrency: missing"),
        ({"money": []}, "budgets: missing"),
    ],
)
async def test_a_claim_of_another_shape_is_no_free_pass(key: RSAKey, changed: dict[str, Any], said: str) -> None:
    async with issuer(key) as there, lobby(believed(there, claims=PATHS)) as hall:
        assert await hall.refusal(there.token(llm={**LLM, **changed})) == "bad_claim"
        assert hall.refusals[-1]["detail"].startswith(said)


async def test_a_token_without_the_claims_is_refused_unless_they_are_optional(key: RSAKey) -> None:
    async with issuer(key) as there:
        async with lobby(believed(there, claims=PATHS)) as hall:
            assert await hall.refusal(there.token()) == "bad_claim"
        async with lobby(believed(there, claims={**PATHS, "limits_optional": True})) as hall:
            assert (await hall.call(there.token())).caller.allowance is None
            caller = (await hall.call(there.token(llm={"calls": 2}))).caller
            assert caller.allowance == Allowance(concurrency=2)
            assert await hall.refusal(there.token(llm={"calls": "2"})) == "bad_claim"


async def test_tokens_of_one_caller_count_as_one(key: RSAKey) -> None:
    async with issuer(key) as there, lobby(believed(there, claims=PATHS)) as hall:
        one, two = [(await hall.call(there.token(llm={**LLM, "calls": calls}))).caller for calls in (1, 2)]
        assert one.key_id == two.key_id
        assert one.allowance != two.allowance


async def test_whom_an_earlier_plugin_named_is_let_through_where_the_settings_say_so(key: RSAKey) -> None:
    async with issuer(key) as there:
        for skips in (True, False):
            async with lobby(believed(there), skip_named=skips) as hall:
                named = a_call(hall.clock, caller=Caller("by-certificate"), headers={"x-api-key": there.token()})
                await hall.plugin(named, answer)
                assert named.caller.name == ("by-certificate" if skips else "ann")
                nobody = a_call(hall.clock, caller=ANONYMOUS, headers={"x-api-key": there.token()})
                await hall.plugin(nobody, answer)
                assert nobody.caller.name == "ann"


# --- in a gateway -----------------------------------------------------------------------------------------------------


@everywhere
async def test_who_holds_a_caller_to_it_is_told(key: RSAKey, dialect: str, stream: bool) -> None:
    Enforcing.seen.clear()
    async with issuer(key) as there, served(dialect, stream, jwt(there, PATHS), ENFORCING) as client:
        assert (await client.ask(key=today(there, llm=LLM)))[0] == 200
        status, _, headers = await client.ask(key=today(there, llm={**LLM, "calls": "many"}))
        assert (status, headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
        (caller,) = Enforcing.seen
        assert caller.allowance is not None
        assert caller.allowance.concurrency == 3
        (line,) = client.running.log.events("token_refused")
        assert (line["reason"], line["detail"]) == ("bad_claim", "concurrency: expected an integer")


@pytest.mark.parametrize("need", ["limits", "concurrency", "budgets"])
async def test_the_start_refuses_what_nothing_holds(key: RSAKey, need: str) -> None:
    plugins = {"limits": "rate_limit", "concurrency": "concurrency", "budgets": "cost"}
    async with issuer(key) as there:
        said = rf"main\[1\]: issuers\[0\]: claims\.{need} needs the plugin {plugins[need]} further in"
        with pytest.raises(ConfigError, match=said):
            # It stands further out, where calls are before they have a caller.
            async with served("openai", False, ENFORCING, jwt(there, {need: "x"})):
                pass


HELD = (
    {"use": "rate_limit", "settings": {"limits": [{"name": "all", "requests": 1000, "period": "minute"}]}},
    {"use": "concurrency", "settings": {"limits": [{"name": "all", "calls": 1000}]}},
    {"use": "cost", "settings": {"prices": {"demo*": {"input": 1, "output": 2}}}},
)


@everywhere
@pytest.mark.parametrize(
    ("changed", "code"),
    [({"rates": 2}, "rate_limit_exceeded"), ({"money": "0.000001"}, "insufficient_quota")],
    ids=["limits", "budgets"],
)
async def test_what_a_token_allows_is_held_over_all_tokens_of_its_caller(
    key: RSAKey, dialect: str, stream: bool, changed: dict[str, Any], code: str
) -> None:
    async with issuer(key) as there, served(dialect, stream, jwt(there, PATHS), *HELD) as client:
        tokens = [today(there, llm={**LLM, **changed}, jti=str(number)) for number in range(3)]
        statuses = [(await client.ask(key=token))[0] for token in tokens]
        assert statuses[-1] == 429
        assert statuses.count(200) == (2 if "rates" in changed else 0)
        record = await client.running.service.ledger.call((await client.ask(key=tokens[0]))[2]["x-request-id"])
        assert record is not None
        assert record[0].error == code
        assert (await client.ask(key=today(there, sub="bob", llm=LLM)))[0] == 200
