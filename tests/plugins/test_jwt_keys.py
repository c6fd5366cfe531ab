"""The keys of an issuer: when they are fetched, by how many, and what holds while they cannot be."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import Key, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from sidegate.errors import Refusal
from sidegate_plugins._jwk import read_keys
from sidegate_plugins.jwt import Jwt, Settings
from tests.plugins.calls import HandClock, a_host
from tests.plugins.jwt_issuer import Issuer, Lobby, believed, ec_key, issuer, lobby, rsa_key, sign, spelt
from tests.relaying import until


@pytest.fixture(scope="module")
def key() -> RSAKey:
    return rsa_key("one")


@pytest.fixture(scope="module")
def next_key() -> RSAKey:
    return rsa_key("two")


async def fetched(hall: Lobby, there: Issuer, count: int) -> None:
    """Wait for a fetch in the background to have come, and to have been heard."""
    await until(lambda: there.fetches >= count and not any(keys._flight for keys in hall.plugin._fetched.values()))
    assert there.fetches == count


# --- the start --------------------------------------------------------------------------------------------------------


async def test_keys_are_found_by_discovery_and_there_when_the_start_is_over(key: Key) -> None:
    async with issuer(key) as there, lobby(there) as hall:
        assert (there.discoveries, there.fetches) == (1, 1)
        await hall.call(there.token())
        assert there.fetches == 1


async def test_a_jwks_url_needs_no_discovery(key: Key) -> None:
    async with issuer(key) as there, lobby(believed(there, jwks_url=there.url + "/keys")) as hall:
        await hall.call(there.token())
        assert (there.discoveries, there.fetches) == (0, 1)


@pytest.mark.parametrize(
    ("status", "document", "body", "why"),
    [
        (500, None, None, "status 500"),
        (302, None, None, "status 302"),
        (200, {"issuer": "https://else.example", "jwks_uri": "https://else.example/"}, None, "another issuer's"),
        (200, {"issuer": 7}, None, "configuration is none"),
        (200, {"jwks_uri": "https://x.example/"}, None, "configuration is none"),
        (200, None, b"<html>", "key set is none"),
        (200, None, b'{"keys": {}}', "key set is none"),
        (200, None, b"[" * 10_000, "key set is none"),
        (200, None, b'{"keys": []}', "no key that can be used"),
        (200, None, b" " * 300_000, "too large"),
    ],
)
async def test_no_start_without_the_keys(
    key: Key, status: int, document: dict[str, Any] | None, body: bytes | None, why: str
) -> None:
    async with issuer(key) as there:
        there.status, there.document, there.body = status, document, body
        with pytest.raises(ValueError, match=f"the keys of {there.url} cannot be fetched: .*{why}"):
            async with lobby(there):
                pass


async def test_discovery_leads_to_no_place_without_tls(key: Key) -> None:
    async with issuer(key) as there:
        there.document = {"issuer": there.url, "jwks_uri": "http://192.0.2.1/keys"}
        with pytest.raises(ValueError, match="its jwks_uri must be an https URL"):
            async with lobby(there):
                pass


class Answering:
    """An HTTP client that knows one answer, or none and no end either."""

    def __init__(self, answer: Any = None) -> None:
        self._answer = answer

    async def get(self, url: str, headers: Any = None, *, timeout: float, max_bytes: int) -> bytes:
        if self._answer is None:
            await asyncio.Event().wait()
        return msgspec.json.encode(self._answer)

    async def post(self, *args: Any, **more: Any) -> bytes:
        raise AssertionError("nothing is posted")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"issuer": "https://a.example.com", "jwks_uri": "http://127.0.0.1/keys"}, "its jwks_uri must be an https URL"),
        ({"issuer": "https://a.example.com", "jwks_uri": "https://x/#y"}, "its jwks_uri must be an https URL"),
        (None, "took too long"),
    ],
)
async def test_an_issuer_elsewhere_does_not_send_us_to_this_machine_nor_hold_us(answer: Any, problem: str) -> None:
    each = {"issuer": "https://a.example.com", "audience": ["x"], "algorithms": ["RS256"]}
    settings = msgspec.convert({"issuers": [each], "fetch_timeout": 0.1}, Settings)
    plugin = Jwt(settings, replace(a_host(HandClock()), http=Answering(answer)))
    async with asyncio.timeout(20):
        with pytest.raises(ValueError, match=problem):
            await plugin.start()


async def test_an_issuer_that_is_silent_holds_the_start_no_longer_than_a_fetch_may_take(key: Key) -> None:
    async with issuer(key) as there, asyncio.timeout(20):
        there.gate.clear()
        with pytest.raises(ValueError, match="took too long"):
            async with lobby(there, fetch_timeout=0.1):
                pass


async def test_a_start_that_waits_for_nobody_gives_503_until_the_keys_are_there(key: Key) -> None:
    async with issuer(key) as there:
        there.status = 500
        async with lobby(there, on_issuer_down="wait") as hall:
            refused = await hall.unavailable(there.token())
            assert refused.retry_after == 5
            there.status = 200
            await hall.unavailable(there.token())
            assert (there.discoveries, there.fetches) == (1, 0), "the next try is 5 s after the last"
            hall.clock.pass_by(5)
            assert (await hall.call(there.token())).caller.name == "ann"
            assert [line["problem"] for line in hall.lines("issuer_unavailable")] == ["it answered with status 500"]
            assert len(hall.lines("issuer_available")) == 1


async def test_two_hundred_first_calls_make_one_fetch(key: Key) -> None:
    async with issuer(key) as there:
        there.gate.clear()
        async with lobby(there, on_issuer_down="wait") as hall:
            calls = [asyncio.ensure_future(hall.call(there.token(sub=f"c{n}"))) for n in range(200)]
            await asyncio.sleep(0)
            await until(lambda: there.discoveries == 1)
            there.gate.set()
            assert {call.caller.name for call in await asyncio.gather(*calls)} == {f"c{n}" for n in range(200)}
            assert (there.discoveries, there.fetches) == (1, 1)


async def test_a_call_that_is_cancelled_while_it_waits_takes_the_keys_from_nobody(key: Key) -> None:
    async with issuer(key) as there:
        there.gate.clear()
        async with lobby(there, on_issuer_down="wait") as hall:
            first, second = (asyncio.ensure_future(hall.call(there.token())) for _ in range(2))
            await until(lambda: there.discoveries == 1)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            there.gate.set()
            assert (await second).caller.name == "ann"
            assert there.fetches == 1


async def test_a_start_that_is_cancelled_leaves_no_fetch_behind(key: Key) -> None:
    async with issuer(key) as there:
        there.gate.clear()
        async with lobby(there, start=False) as hall:
            starting = asyncio.ensure_future(hall.plugin.start())
            await until(lambda: there.discoveries == 1)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("keys of")]


# --- rotation ---------------------------------------------------------------------------------------------------------


async def test_a_new_key_works_at_once(key: Key, next_key: Key) -> None:
    async with issuer(key) as there, lobby(there) as hall:
        there.keys = [key, next_key]
        assert (await hall.call(there.token(next_key))).caller.name == "ann"
        assert there.fetches == 2


async def test_made_up_key_names_cost_the_issuer_one_fetch_in_30_seconds(key: Key, next_key: Key) -> None:
    async with issuer(key) as there, lobby(there, jwks_ttl=86_400) as hall:
        tokens = [sign(next_key, there.claims(), "RS256", kid=f"no-{n}") for n in range(200)]
        assert set(await asyncio.gather(*(hall_refusal(hall, token) for token in tokens))) == {401}
        assert there.fetches == 2
        hall.clock.pass_by(29)
        await hall.refusal(tokens[0])
        assert there.fetches == 2
        hall.clock.pass_by(1)
        await hall.refusal(tokens[0])
        assert there.fetches == 3
        await hall.call(there.token())


async def hall_refusal(hall: Lobby, token: str) -> int:
    """`Lobby.refusal` for many at a time, whose lines in the log are not each one's own."""
    with pytest.raises(Refusal) as refused:
        await hall.call(token)
    return refused.value.status


async def test_a_wrong_signature_by_a_key_that_is_there_has_nothing_fetched(key: Key) -> None:
    async with issuer(key) as there, lobby(there) as hall:
        assert await hall.refusal(sign(rsa_key("one"), there.claims(), "RS256")) == "signature"
        assert await hall.refusal(sign(ec_key("one"), there.claims(), "ES256")) == "key_of_another_kind"
        assert there.fetches == 1


async def test_keys_are_fetched_anew_in_the_background_while_calls_go_on(key: Key) -> None:
    async with issuer(key) as there, lobby(there, fetch_timeout=60) as hall:
        token = there.token()
        hall.clock.pass_by(239)
        await hall.call(token)
        assert there.fetches == 1
        there.gate.clear()
        hall.clock.pass_by(1)
        async with asyncio.timeout(10):
            for _ in range(3):
                await hall.call(token)
        there.gate.set()
        await fetched(hall, there, 2)
        assert there.discoveries == 1
        await hall.call(token)
        assert there.fetches == 2


async def test_keys_that_are_too_old_are_waited_for(key: Key, next_key: Key) -> None:
    async with issuer(key) as there, lobby(there) as hall:
        token = there.token(exp=2**40)
        await hall.call(token)
        there.keys = [next_key]
        hall.clock.pass_by(301)
        assert await hall.refusal(token) == "unknown_key"


async def test_a_token_of_a_withdrawn_key_is_believed_no_more(key: Key, next_key: Key) -> None:
    async with issuer(key, next_key) as there, lobby(there) as hall:
        withdrawn, kept = there.token(key), there.token(next_key)
        for token in (withdrawn, kept):
            await hall.call(token)
        there.keys = [next_key]
        hall.clock.pass_by(241)
        await hall.call(withdrawn)
        await fetched(hall, there, 2)
        assert await hall.refusal(withdrawn) == "unknown_key"
        assert (await hall.call(kept)).caller.name == "ann"


# --- an issuer that is down -------------------------------------------------------------------------------------------


async def test_old_keys_are_good_for_a_while_and_no_longer(key: Key) -> None:
    async with issuer(key) as there, lobby(there, stale_for=600) as hall:
        token, other = there.token(exp=2**40), there.token(exp=2**40, sub="bob")
        await hall.call(token)
        there.status = 503
        hall.clock.pass_by(899)
        await hall.call(token)
        await hall.call(other)
        assert [line["problem"] for line in hall.lines("issuer_unavailable")] == ["it answered with status 503"]
        hall.clock.pass_by(1)
        await hall.unavailable(token)
        await hall.unavailable(other)
        there.status = 200
        hall.clock.pass_by(5)
        assert (await hall.call(token)).caller.name == "ann"


async def test_with_an_issuer_known_to_be_down_nobody_waits_for_it(key: Key) -> None:
    async with issuer(key) as there, lobby(there, fetch_timeout=60) as hall:
        token = there.token(exp=2**40)
        there.status = 500
        hall.clock.pass_by(301)
        await hall.call(token)
        there.gate.clear()
        for _ in range(3):
            hall.clock.pass_by(5)
            async with asyncio.timeout(10):
                await hall.call(token)
                await hall.call(there.token(exp=2**40, sub="bob"))
        await until(lambda: there.discoveries == 2)
        assert there.fetches == 2


async def test_a_silent_issuer_holds_calls_no_longer_than_a_fetch_may_take(key: Key) -> None:
    async with issuer(key) as there, lobby(there, fetch_timeout=0.1) as hall:
        there.gate.clear()
        hall.clock.pass_by(301)
        async with asyncio.timeout(20):
            await hall.call(there.token(exp=2**40))
        assert [line["problem"] for line in hall.lines("issuer_unavailable")] == ["it took too long"]


async def test_keys_that_have_moved_are_found_again(key: Key) -> None:
    async with issuer(key) as there, lobby(there) as hall:
        there.body = b"gone"
        hall.clock.pass_by(301)
        token = there.token(exp=2**40)
        await hall.call(token)
        there.body = None
        hall.clock.pass_by(5)
        await hall.call(token)
        await fetched(hall, there, 3)
        assert there.discoveries == 2


# --- a key set --------------------------------------------------------------------------------------------------------


def test_only_what_can_verify_signatures_is_a_key(key: RSAKey) -> None:
    short = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n.to_bytes(300)
    wrongs: list[Any] = [
        OctKey.generate_key(256, {"kid": "oct"}).as_dict(),
        {**key.as_dict(private=False), "n": spelt(short).decode()},
        {**key.as_dict(private=False), "e": "AQAB" * 8},
        {**key.as_dict(private=False), "use": "enc"},
        {**key.as_dict(private=False), "n": "AAAA" + "AQAB"},
        {**key.as_dict(private=False), "n": "A" * 400},
        {**key.as_dict(private=False), "n": "é"},
        {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"},
        {"kty": "EC", "crv": "P-999", "x": "AQ", "y": "AQ"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AQ"},
        {"kty": "AKP", "kid": "post-quantum"},
        {"kty": "RSA"},
        {"kid": 7},
        [],
        None,
    ]
    good: dict[str, Any] = {**key.as_dict(private=True), "x5c": [7], "x5u": "nowhere", "unknown": {}}
    found = read_keys(msgspec.json.encode({"keys": [*wrongs, good]}), {})
    assert [(each.kid, each.fits("RS256"), each.fits("ES256"), each.fits("HS256")) for each in found.values()] == [
        ("one", True, False, False)
    ]
    with pytest.raises(ValueError, match="no key"):
        read_keys(msgspec.json.encode({"keys": wrongs}), {})


def test_a_key_for_one_algorithm_verifies_no_other(key: RSAKey) -> None:
    body = msgspec.json.encode({"keys": [{**key.as_dict(private=False), "alg": "RS512"}]})
    (found,) = read_keys(body, {}).values()
    assert [name for name in ("RS256", "RS512", "PS512", "EdDSA") if found.fits(name)] == ["RS512"]
    signatures = {name: JWSRegistry.algorithms[name].sign(b"text", key) for name in ("RS256", "RS512", "PS512")}
    assert [name for name, signature in signatures.items() if found.verifies(name, b"text", signature)] == ["RS512"]


def test_a_key_set_is_bounded(key: RSAKey) -> None:
    with pytest.raises(ValueError, match="no key"):
        read_keys(msgspec.json.encode({"keys": [*[None] * 64, key.as_dict(private=False)]}), {})


def test_a_key_that_stays_is_the_same_and_one_under_a_used_name_is_another(key: RSAKey) -> None:
    first = read_keys(msgspec.json.encode({"keys": [key.as_dict(private=False)]}), {})
    again = read_keys(msgspec.json.encode({"keys": [key.as_dict(private=False)]}), first)
    other = read_keys(msgspec.json.encode({"keys": [rsa_key("one").as_dict(private=False)]}), first)
    assert list(first.values()) == list(again.values())
    assert list(first.values()) != list(other.values())
