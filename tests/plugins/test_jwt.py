"""Who is believed, and who is not: tokens of issuers on sockets, right and wrong in every way."""

from __future__ import annotations

import hmac
import json
import sys
from functools import cache
from typing import Any

import msgspec
import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from multidict import CIMultiDict

from sidegate.contract import ANONYMOUS, Request
from sidegate.errors import BadRequest, Refusal
from sidegate_plugins._jwt_issuer import find
from sidegate_plugins.jwt import Jwt, Settings
from tests.plugins.calls import HandClock, a_host
from tests.plugins.jwt_issuer import NOW, Issuer, believed, ec_key, ed_key, issuer, lobby, rsa_key, sign, spelt

SECRET = "a-secret-of-more-than-32-bytes-in-length"


@cache
def rsa() -> RSAKey:
    return rsa_key("rsa-1")


@cache
def elliptic() -> ECKey:
    return ec_key("ec-1")


@cache
def edwards() -> OKPKey:
    return ed_key("ed-1")


@cache
def others() -> dict[str, Any]:
    """A key for each further algorithm."""
    found: dict[str, Any] = dict.fromkeys(("RS384", "RS512", "PS256", "PS384", "PS512"), rsa())
    found |= {
        "ES384": ECKey.generate_key("P-384", {"kid": "384"}),
        "ES512": ECKey.generate_key("P-521", {"kid": "521"}),
    }
    found |= {"Ed25519": edwards(), "Ed448": OKPKey.generate_key("Ed448", {"kid": "448"})}
    return found


# --- who is let in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "algorithm"), [(rsa, "RS256"), (elliptic, "ES256"), (edwards, "EdDSA")])
async def test_a_token_of_the_issuer_names_its_caller(key: Any, algorithm: str) -> None:
    async with issuer(rsa(), elliptic(), edwards()) as there, lobby(there) as hall:
        call = await hall.call(there.token(key(), algorithm))
        assert (call.caller.name, call.caller.team, call.caller.tags, call.end_user) == ("ann", None, (), None)
        assert not call.caller.names_end_users
        assert call.sees_model("any")
        again = await hall.call(there.token(key(), algorithm, exp=NOW + 700))
        other = await hall.call(there.token(key(), algorithm, sub="bob"))
        assert call.caller.key_id == again.caller.key_id != other.caller.key_id


async def test_every_algorithm_that_can_be_listed_works_and_only_where_it_is_listed() -> None:
    async with issuer(*{id(key): key for key in others().values()}.values()) as there:
        async with lobby(believed(there, algorithms=list(others()))) as hall, lobby(there) as narrow:
            for algorithm, key in others().items():
                assert (await hall.call(there.token(key, algorithm))).caller.name == "ann"
                assert await narrow.refusal(there.token(key, algorithm)) == "algorithm"


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": "Bearer {}"},
        {"authorization": "bearer  {}"},
        {"X-Api-Key": "{}"},
        {"x-goog-api-key": "{}"},
        {"api-key": "{}"},
        {"x-api-key": "{}", "authorization": "Bearer {}"},
    ],
)
async def test_the_token_comes_however_an_sdk_sends_its_key(header: dict[str, str]) -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        token = there.token()
        headers = {name: value.format(token) for name, value in header.items()}
        assert (await hall.call(headers=headers)).caller.name == "ann"


async def test_another_header_can_be_named_and_the_usual_ones_then_count_for_nothing() -> None:
    async with issuer(rsa()) as there, lobby(there, headers=["x-jwt-assertion"]) as hall:
        token = there.token()
        assert (await hall.call(headers={"X-Jwt-Assertion": token, "authorization": "Basic x"})).caller.name == "ann"
        with pytest.raises(Refusal, match="A token is needed"):
            await hall.call(token)


async def test_a_token_after_another_word_than_bearer_is_none() -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        token = there.token()
        for value in (f"Basic {token}", token, f"Bearer{token}", "Bearer", f"Bearer Bearer {token}"):
            assert await hall.refusal(headers={"authorization": value}) == "malformed"


async def test_no_token_is_told_how_to_bring_one() -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        with pytest.raises(Refusal) as refused:
            await hall.call(headers={"cookie": there.token()})
        assert (refused.value.status, refused.value.code) == (401, "missing_token")
        assert refused.value.headers == {"WWW-Authenticate": 'Bearer realm="sidegate"'}


# --- what is not believed ---------------------------------------------------------------------------------------------


async def test_two_credentials_that_differ_are_refused() -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        first, second = there.token(), there.token(sub="bob")
        double = CIMultiDict([("Authorization", f"Bearer {first}"), ("Authorization", f"Bearer {second}")])
        for headers in ({"x-api-key": "sg-1", "authorization": f"Bearer {first}"}, double):
            assert await hall.refusal(headers=headers) == "several"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW - 31}, "expired"),
        ({"exp": NOW - 30}, "expired"),
        ({"exp": None}, "no_expiry"),
        ({"exp": str(NOW + 60)}, "malformed"),
        ({"exp": True}, "malformed"),
        ({"exp": 10**400}, "malformed"),
        ({"exp": None, "iat": "x"}, "no_expiry"),
        ({"nbf": NOW + 31}, "not_yet_valid"),
        ({"nbf": []}, "malformed"),
        ({"iat": NOW + 31}, "issued_in_future"),
        ({"aud": "elsewhere"}, "audience"),
        ({"aud": ["elsewhere", "sidegate2"]}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": {"sidegate": 1}}, "audience"),
        ({"aud": [["sidegate"]]}, "audience"),
        ({"iss": "https://elsewhere.example"}, "unknown_issuer"),
        ({"iss": None}, "malformed"),
        ({"iss": ["x"]}, "malformed"),
        ({"sub": None}, "bad_claim"),
        ({"sub": ""}, "bad_claim"),
        ({"sub": 7}, "bad_claim"),
        ({"sub": "a\nb"}, "bad_claim"),
        ({"sub": "a\x1b[2J"}, "bad_claim"),
        ({"sub": "a" * 257}, "bad_claim"),
        ({"sub": "a\u202eb"}, "bad_claim"),
    ],
)
async def test_a_claim_that_is_not_right_is_refused(claims: dict[str, Any], reason: str) -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        payload = {**there.claims(), **claims}
        body = _with_big_numbers({name: value for name, value in payload.items() if value is not None})
        assert await hall.refusal(sign(rsa(), body, "RS256")) == reason


def _with_big_numbers(claims: dict[str, Any]) -> bytes:
    return json.dumps(claims).encode()


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 29},
        {"exp": NOW + 0.5},
        {"nbf": NOW + 30, "iat": NOW + 30},
        {"iat": None},
        {"aud": ["elsewhere", "sidegate"]},
    ],
)
async def test_clocks_may_differ_by_the_leeway_and_an_audience_may_be_one_of_many(claims: dict[str, Any]) -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        assert (await hall.call(there.token(**claims))).caller.name == "ann"


async def test_a_token_that_was_believed_ends_when_it_ends() -> None:
    async with issuer(rsa()) as there, lobby(there, jwks_ttl=86_400) as hall:
        token = there.token(exp=NOW + 60)
        await hall.call(token)
        hall.clock.pass_by(89)
        await hall.call(token)
        hall.clock.pass_by(1)
        assert await hall.refusal(token) == "expired"


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
    ],
)
async def test_an_extension_that_must_be_understood_is_not(header: dict[str, Any]) -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        assert await hall.refusal(sign(rsa(), there.claims(), "RS256", **header)) == "critical_header"


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "secevent+jwt", "JWE", 7])
async def test_a_token_made_for_something_else_is_refused(kind: Any) -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        assert await hall.refusal(sign(rsa(), there.claims(), "RS256", typ=kind)) == "type"


@pytest.mark.parametrize("kind", [None, "jwt", "at+jwt", "application/at+JWT"])
async def test_access_tokens_by_their_types_are_taken(kind: str | None) -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        await hall.call(sign(rsa(), there.claims(), "RS256", typ=kind))


async def test_a_name_that_stands_twice_is_refused_in_claims_and_header_at_every_depth() -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        body = msgspec.json.encode(there.claims())
        for twice in (
            b'{"sub":"eve",' + body[1:],
            body[:-1] + b',"a":{"b":1,"b":2}}',
            b'{"\\u0073ub":"eve",' + body[1:],
        ):
            assert await hall.refusal(sign(rsa(), twice, "RS256")) == "malformed"
        assert await hall.refusal(sign(rsa(), body[:-1] + b',"x":NaN}', "RS256")) == "malformed"
        head = b'{"alg":"none","alg":"RS256","kid":"rsa-1"}'
        assert await hall.refusal(signed(head, body)) == "malformed"
        assert (await hall.call(signed(b'{"alg":"RS256","kid":"rsa-1"}', body))).caller.name == "ann"


def signed(head: bytes, body: bytes) -> str:
    """By the RSA key, whatever it is."""
    what = spelt(head) + b"." + spelt(body)
    return (what + b"." + spelt(JWSRegistry.algorithms["RS256"].sign(what, rsa()))).decode()


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b"", b"{", b"[" * 9000, b'{"exp":NaN}', b"\xff", b'{"a":1}x'])
async def test_claims_that_are_no_object_of_json_are_refused(body: bytes) -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        assert await hall.refusal(sign(rsa(), body, "RS256")) == "malformed"
        assert await hall.refusal(signed(body, msgspec.json.encode(there.claims()))) == "malformed"


async def test_a_token_has_one_spelling() -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        head, body, signature = there.token().split(".")
        await hall.call(f"{head}.{body}.{signature}")
        last = signature[-1]
        other = next(c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c != last)
        wrongs = [
            f"{head}.{body}.{signature}=",
            f"{head}.{body}.{signature}==",
            f"{head}.{body}.{signature[:-1]}{other}",
            f"{head}.{body}!.{signature}",
            f"{head}.{body}",
            f"{head}.{body}.",
            f".{body}.{signature}",
            f"{head}.{body}.{signature}.{signature}.{signature}",
            f"{head}.{body}.{signature} x",
            "",
            "...",
            "é.é.é",
            "\udcff.a.b",
        ]
        for wrong in wrongs:
            assert await hall.refusal(wrong) in ("malformed", "signature"), wrong


async def test_a_token_is_bounded() -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        size = len(there.token(fill="x"))
        fits = there.token(fill="x" * ((16 * 1024 - size) * 3 // 4 - 4))
        assert 16 * 1024 - 20 < len(fits) <= 16 * 1024
        await hall.call(fits)
        assert await hall.refusal(there.token(fill="x" * 12_500)) == "malformed"


# --- keys and algorithms ----------------------------------------------------------------------------------------------


async def test_the_public_key_is_no_secret_to_sign_by() -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        for public in (rsa().as_pem(private=False), rsa().as_pem(private=False).rstrip(), rsa().as_der(private=False)):
            # By hand: joserfc refuses to sign like that.
            head = spelt(b'{"alg":"HS256","kid":"rsa-1"}') + b"." + spelt(msgspec.json.encode(there.claims()))
            forged = head + b"." + spelt(hmac.digest(public, head, "sha256"))
            assert await hall.refusal(forged.decode()) == "algorithm"


async def test_a_token_without_a_signature_is_not_believed() -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        head, body, signature = there.token().split(".")
        for name in ("none", "None", "NONE", ""):
            alg = spelt(msgspec.json.encode({"alg": name, "kid": "rsa-1"})).decode()
            assert await hall.refusal(f"{alg}.{body}.") == "algorithm"
            assert await hall.refusal(f"{alg}.{body}.{signature}") == "algorithm"
        assert await hall.refusal(f"{head}.{body}.") == "signature"


async def test_an_algorithm_counts_only_where_the_issuer_lists_it() -> None:
    async with issuer(rsa(), elliptic()) as there, lobby(believed(there, algorithms=["RS256"])) as hall:
        await hall.call(there.token())
        assert await hall.refusal(there.token(elliptic(), "ES256")) == "algorithm"
        assert await hall.refusal(there.token(rsa(), "RS512")) == "algorithm"


async def test_a_key_verifies_only_what_it_is_for() -> None:
    async with issuer(rsa(), elliptic()) as there, lobby(there) as hall:
        assert await hall.refusal(there.token(elliptic(), "ES256") + "A") in ("malformed", "signature")
        crossed = sign(elliptic(), there.claims(), "ES256", kid="rsa-1")
        assert await hall.refusal(crossed) == "key_of_another_kind"
        stranger = ec_key("ec-1")
        assert await hall.refusal(there.token(stranger, "ES256")) == "signature"


async def test_one_issuers_key_says_nothing_of_anothers_callers() -> None:
    mine, theirs = rsa_key("mine"), rsa_key("theirs")
    async with issuer(mine) as a, issuer(theirs) as b:
        async with lobby(believed(a, prefix="a:"), believed(b, prefix="b:", claims={"team": "group"})) as hall:
            assert (await hall.call(a.token())).caller.name == "a:ann"
            named = (await hall.call(b.token(group="red"))).caller
            assert (named.name, named.team) == ("b:ann", "b:red")
            assert await hall.refusal(sign(theirs, a.claims(), "RS256")) == "unknown_key"
            assert await hall.refusal(sign(theirs, a.claims(), "RS256", kid="mine")) == "signature"
            assert await hall.refusal(sign(theirs, a.claims(), "RS256", kid=None)) == "signature"


async def test_keys_that_the_token_brings_itself_are_not_looked_at() -> None:
    stranger = rsa_key("rsa-1")
    async with issuer(rsa()) as there, lobby(there) as hall:
        own = {"jwk": stranger.as_dict(private=False), "jku": there.url + "/mine", "x5u": there.url + "/mine"}
        fetches = there.fetches
        assert await hall.refusal(sign(stranger, there.claims(), "RS256", **own)) == "signature"
        assert there.fetches == fetches


async def test_a_token_that_names_no_key_needs_an_issuer_with_one_that_fits() -> None:
    async with issuer(rsa(), elliptic()) as there, lobby(there) as hall:
        assert (await hall.call(sign(rsa(), there.claims(), "RS256", kid=None))).caller.name == "ann"
        there.keys.append(rsa_key("rsa-2"))
        hall.clock.pass_by(301)
        assert await hall.refusal(sign(rsa(), there.claims(), "RS256", kid=None)) == "unknown_key"
        for kid in (["rsa-1"], "k" * 257):
            assert await hall.refusal(sign(rsa(), there.claims(), "RS256", kid=kid)) == "malformed"


async def test_an_issuer_with_a_secret_signs_by_it_and_publishes_nothing() -> None:
    settings = {"issuer": "batch", "audience": ["sidegate"], "algorithms": ["HS256"], "secret": SECRET}
    claims = {"iss": "batch", "aud": "sidegate", "sub": "job", "exp": NOW + 60}
    async with lobby(settings) as hall:
        assert (await hall.call(sign(OctKey.import_key(SECRET), claims, "HS256", kid=None))).caller.name == "job"
        assert await hall.refusal(sign(OctKey.import_key(SECRET + "x"), claims, "HS256", kid=None)) == "signature"
        assert await hall.refusal(sign(OctKey.import_key(SECRET), claims, "HS512", kid=None)) == "algorithm"


# --- what a token says ------------------------------------------------------------------------------------------------


async def test_claims_become_team_tags_end_user_and_models() -> None:
    paths = {
        "caller": "email",
        "team": "groups.0",
        "tags": "realm_access.roles",
        "end_user": "https://example.com/user",
        "models": "llm.models",
    }
    async with issuer(rsa()) as there, lobby(believed(there, claims=paths)) as hall:
        said: dict[str, Any] = {
            "email": "ann@example.com",
            "groups": ["red", "blue"],
            "realm_access": {"roles": ["x", "y"]},
            "https://example.com/user": "bob",
            "llm": {"models": ["gpt-4o", "claude-*"]},
        }
        call = await hall.call(there.token(**said))
        assert (call.caller.name, call.caller.team, call.caller.tags) == ("ann@example.com", "red", ("x", "y"))
        assert call.end_user == "bob"
        seen = [name for name in ("gpt-4o", "gpt-4o-mini", "claude-5", "") if call.sees_model(name)]
        assert seen == ["gpt-4o", "claude-5"]
        none = await hall.call(there.token(email="ann@example.com"))
        assert (none.caller.team, none.caller.tags, none.end_user) == (None, (), None)
        assert not none.sees_model("gpt-4o")


@pytest.mark.parametrize(
    "said",
    [
        {"groups": [7]},
        {"groups": [["red"]]},
        {"groups": ["\x00"]},
        {"tags": [1]},
        {"tags": ["x"] * 65},
        {"tags": {"a": 1}},
        {"tags": ["x" * 257]},
        {"models": [None]},
        {"models": ["x"] * 1001},
        {"user": ["bob"]},
        {"user": "bo\nb"},
    ],
)
async def test_a_claim_of_the_wrong_kind_is_refused_and_not_passed_over(said: dict[str, Any]) -> None:
    paths = {"team": "groups.0", "tags": "tags", "models": "models", "end_user": "user"}
    async with issuer(rsa()) as there, lobby(believed(there, claims=paths)) as hall:
        await hall.call(there.token(groups=["red"], tags="one", models="gpt", user="bob"))
        assert await hall.refusal(there.token(**said)) == "bad_claim"


@pytest.mark.parametrize(
    ("said", "believes"),
    [
        ({"groups": ["llm", "x"], "verified": True}, True),
        ({"groups": "llm", "verified": True}, True),
        ({"groups": ["x"], "verified": True}, False),
        ({"groups": ["llm"], "verified": 1}, False),
        ({"groups": ["llm"], "verified": "true"}, False),
        ({"groups": ["llm"]}, False),
        ({"groups": {"llm": 1}, "verified": True}, False),
    ],
)
async def test_required_claims_have_their_value_and_their_type(said: dict[str, Any], believes: bool) -> None:
    settings = {"required": {"groups": "llm", "verified": True}}
    async with issuer(rsa()) as there, lobby(believed(there, **settings)) as hall:
        if believes:
            await hall.call(there.token(**said))
        else:
            assert await hall.refusal(there.token(**said)) == "required_claim"


def test_a_path_leads_inward_by_the_longest_name() -> None:
    claims = {"a.b": {"c": 1}, "a": {"b.c": 2, "d": [{"e": 3}]}, "n": [[4]]}
    paths = {"a.b.c": 1, "a.d.0.e": 3, "n.0.0": 4, "a.x": None, "n.1": None, "n.-1": None, "n.x": None, "n.²": None}
    assert {path: find(claims, path) for path in paths} == paths
    assert find(claims, "." * 200) is None


async def test_end_users_are_named_by_the_token_else_by_those_who_may() -> None:
    asked = Request(model="gpt", user="carol")
    paths = {"end_user": "act", "names_end_users": True}
    async with issuer(rsa()) as there, lobby(believed(there, claims=paths), end_user_header="x-person") as hall:
        token = there.token()
        headers = {"x-api-key": token, "X-Person": "dan"}
        told = await hall.call(there.token(act="bob"), request=asked)
        by_header = await hall.call(headers=headers, request=asked)
        by_body = await hall.call(token, request=asked)
        assert [call.end_user for call in (told, by_header, by_body)] == ["bob", "dan", "carol"]
        assert by_body.caller.names_end_users
        with pytest.raises(BadRequest):
            await hall.call(headers={"x-api-key": token, "x-person": "d" * 257})
    async with issuer(rsa()) as there, lobby(there) as hall:
        assert (await hall.call(there.token(), request=asked)).end_user is None


# --- beside others ----------------------------------------------------------------------------------------------------


async def test_what_is_no_token_is_left_to_others_and_a_wrong_token_is_not() -> None:
    async with issuer(rsa()) as there, lobby(there, pass_others=True) as hall:
        for credential in ("sg-key", "a.b.c", "sk-proj.x.y", "", "key.with.five.whole.parts"):
            assert (await hall.call(credential)).caller is ANONYMOUS
        assert (await hall.call()).caller is ANONYMOUS
        assert (await hall.call(headers={"authorization": "Basic x", "x-api-key": "k"})).caller is ANONYMOUS
        assert (await hall.call(there.token())).caller.name == "ann"
        head, body, _ = there.token().split(".")
        wrongs = (there.token(exp=1), f"{head}.{body}.", f"{head}.x.y", f"{head}.a.b.c.d", "k" * 16_385)
        for wrong in wrongs:
            assert await hall.refusal(wrong)
        mixed = {"x-api-key": "sg-key", "authorization": f"Bearer {there.token()}"}
        assert await hall.refusal(headers=mixed) == "several"


async def test_the_log_says_why_and_never_holds_the_token() -> None:
    async with issuer(rsa()) as there, lobby(there) as hall:
        token = sign(rsa(), there.claims(iss="https://e\u202ex" + "y" * 500), "RS256", kid="k\n1")
        assert await hall.refusal(token) == "unknown_issuer"
        (line,) = hall.refusals
        assert set(line) == {"call", "reason", "detail", "issuer", "kid"}
        assert line["kid"] == "k\n1"
        assert len(line["issuer"]) < 300
        assert line["issuer"].isprintable()
        assert not any(part in str(line) for part in token.split("."))
        msgspec.json.encode(line)


async def test_what_is_remembered_is_bounded() -> None:
    async with issuer(rsa()) as there, lobby(there, max_cached=3) as hall:
        tokens = [there.token(sub=f"caller-{number}") for number in range(5)]
        for token in tokens:
            await hall.call(token)
            await hall.call(tokens[0])
        kept = [remembered.identity.caller.name for remembered in hall.plugin._verified.values()]
        assert kept == ["caller-3", "caller-4", "caller-0"]
        assert (await hall.call(tokens[1])).caller.name == "caller-1"


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issuers", "problem"),
    [
        ([{"algorithms": ["HS256"]}], r"issuers\[0\]: HS256 needs a secret"),
        ([{"algorithms": ["RS256", "HS256"], "secret": SECRET}], "HS256, HS384 or HS512 only"),
        ([{"algorithms": ["HS256"], "secret": SECRET, "jwks_url": "https://x/"}], "has no jwks_url"),
        ([{"algorithms": ["HS256"], "secret": "short"}], "shorter than 32 bytes"),
        ([{"algorithms": ["HS512"], "secret": SECRET}], "shorter than 64 bytes"),
        ([{"issuer": "http://login.example.com"}], "issuer, without a jwks_url, must be an https URL"),
        ([{"issuer": "login"}], "https URL"),
        ([{"issuer": "https://u:p@login.example.com"}], "https URL"),
        ([{"issuer": "https://[::1"}], "is no URL"),
        ([{"jwks_url": "http://10.0.0.1/keys"}], "jwks_url must be an https URL"),
        ([{"jwks_url": "file:///etc/passwd"}], "https URL"),
        ([{"prefix": ""}, {"prefix": ""}], "stands twice"),
        ([{}, {"issuer": "https://b.example.com", "prefix": "b"}], "each needs a prefix"),
    ],
)
def test_issuers_that_cannot_work_are_refused_at_start(issuers: list[dict[str, Any]], problem: str) -> None:
    base = {"issuer": "https://a.example.com", "audience": ["x"], "algorithms": ["RS256"]}
    settings = msgspec.convert({"issuers": [{**base, **each} for each in issuers]}, Settings)
    with pytest.raises(ValueError, match=problem) as refused:
        Jwt(settings, a_host(HandClock()))
    assert SECRET not in str(refused.value)
    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {"issuers": []},
        {"issuers": [{"audience": []}]},
        {"issuers": [{"algorithms": []}]},
        {"issuers": [{"algorithms": ["none"]}]},
        {"issuers": [{"algorithms": ["rs256"]}]},
        {"issuers": [{"leeway": -1}]},
        {"issuers": [{"leeway": 3600}]},
        {"issuers": [{"claims": {"caller": ""}}]},
        {"issuers": [{"claims": {"name": "x"}}]},
        {"issuers": [{"required": {"x": None}}]},
        {"headers": []},
        {"headers": ["X Y"]},
        {"on_issuer_down": "ignore"},
    ],
)
def test_settings_are_strict(given: dict[str, Any]) -> None:
    base = {"issuer": "https://a.example.com", "audience": ["x"], "algorithms": ["RS256"]}
    issuers = [{**base, **each} for each in given.get("issuers", [{}])]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**given, "issuers": issuers}, Settings)
    assert msgspec.convert({"issuers": [base]}, Settings).issuers[0].leeway == 30


@pytest.mark.parametrize("url", ["http://localhost:1/x", "http://127.0.0.9/", "http://[::1]:8/", "https://10.0.0.1/"])
def test_loopback_may_go_without_tls(url: str) -> None:
    each = {"issuer": "any", "audience": ["x"], "algorithms": ["RS256"], "jwks_url": url}
    Jwt(msgspec.convert({"issuers": [each]}, Settings), a_host(HandClock()))


def test_without_its_library_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joserfc.errors", None)
    for name in ("_jwk", "_jwks"):
        monkeypatch.delitem(sys.modules, f"sidegate_plugins.{name}", raising=False)
    each = {"issuer": "https://a.example.com", "audience": ["x"], "algorithms": ["RS256"]}
    with pytest.raises(ValueError, match=r"joserfc is not installed: pip install 'sidegate\[jwt\]'"):
        Jwt(msgspec.convert({"issuers": [each]}, Settings), a_host(HandClock()))


def test_the_issuer_double_says_what_time_it_is() -> None:
    assert HandClock().now().timestamp() == NOW
    assert Issuer().claims()["exp"] > NOW
