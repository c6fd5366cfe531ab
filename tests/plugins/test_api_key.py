from __future__ import annotations

import asyncio
import fcntl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from sidegate.contract import ANONYMOUS, Call, Caller, Request
from sidegate.contract.allowance import Allowance, BudgetAllowance
from sidegate.errors import BadRequest, Refusal
from sidegate_plugins.api_key import ApiKey, Key, Settings, key_digest, new_key
from tests.plugins.calls import HandClock, a_call, a_host, answer

SECRET = "sg-the-right-one"


def a_key(secret: str = SECRET, name: str = "ann", **more: Any) -> Key:
    return Key(name=name, digest=f"sha256:{key_digest(secret)}", **more)


def a_plugin(clock: HandClock, *keys: Key, **more: Any) -> ApiKey:
    return ApiKey(Settings(keys=keys or (a_key(),), **more), a_host(clock))


async def passed(plugin: ApiKey, headers: dict[str, str], **more: Any) -> Call:
    call = a_call(HandClock(), caller=ANONYMOUS, headers=CIMultiDict(headers), **more)
    await plugin(call, answer)
    return call


async def refusal(plugin: ApiKey, headers: dict[str, str] | CIMultiDict[str]) -> Refusal:
    call = a_call(HandClock(), caller=ANONYMOUS, headers=CIMultiDict(headers))
    with pytest.raises(Refusal) as refused:
        await plugin(call, answer)
    assert call.caller is ANONYMOUS
    assert refused.value.headers == {"WWW-Authenticate": 'Bearer realm="sidegate"'}
    assert refused.value.status == 401
    return refused.value


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {SECRET}"},
        {"authorization": f"bearer  {SECRET}"},
        {"X-Api-Key": SECRET},
        {"x-goog-api-key": SECRET},
        {"api-key": SECRET},
        {"x-api-key": SECRET, "authorization": f"Bearer {SECRET}"},
    ],
)
async def test_the_right_key_is_let_in_whichever_way_an_sdk_sends_it(headers: dict[str, str]) -> None:
    key = a_key(team="red", tags=("a", "b"))
    call = await passed(a_plugin(HandClock(), key), headers)
    assert (call.caller.name, call.caller.team, call.caller.tags) == ("ann", "red", ("a", "b"))
    assert call.caller.key_id == key_digest(SECRET)[:12]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sg-wrong"},
        {"authorization": f"Bearer {SECRET[:-1]}"},
        {"authorization": f"Bearer {SECRET}x"},
        {"authorization": f"Bearer {SECRET.upper()}"},
        {"authorization": f"Basic {SECRET}"},
        {"authorization": SECRET},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"x-api-key": ""},
        {"x-api-key": "ключ"},
        {"x-api-key": "\udcff"},
        {"x-api-key": "k" * 513},
        {"x-api-key": SECRET, "authorization": "Bearer sg-another"},
        {"x-api-key": SECRET, "authorization": "Basic abc"},
        {"x-api-key": key_digest(SECRET)},
        {"x-api-key": f"sha256:{key_digest(SECRET)}"},
    ],
)
async def test_every_wrong_key_gets_the_same_answer(headers: dict[str, str]) -> None:
    refused = await refusal(a_plugin(HandClock()), headers)
    assert (refused.code, refused.message) == ("invalid_api_key", "The API key is not valid.")


async def test_two_authorization_headers_that_differ_are_refused() -> None:
    headers = CIMultiDict([("Authorization", f"Bearer {SECRET}"), ("Authorization", "Bearer other")])
    assert (await refusal(a_plugin(HandClock()), headers)).code == "invalid_api_key"


async def test_no_key_is_told_how_to_bring_one() -> None:
    assert (await refusal(a_plugin(HandClock()), {"cookie": SECRET})).code == "missing_api_key"


async def test_an_expired_key_is_a_wrong_key() -> None:
    clock = HandClock()
    plugin = a_plugin(clock, a_key(expires=datetime(2026, 11, 22, 12, 1, tzinfo=UTC)))
    await passed(plugin, {"x-api-key": SECRET})
    clock.pass_by(60)
    assert (await refusal(plugin, {"x-api-key": SECRET})).message == "The API key is not valid."


async def test_nobody_is_believed_about_end_users_unless_the_key_says_so() -> None:
    call = await passed(a_plugin(HandClock()), {"x-api-key": SECRET, "x-end-user": "bob"})
    assert call.end_user is None


async def test_a_key_that_names_end_users_names_them_by_header_or_by_body() -> None:
    plugin = a_plugin(HandClock(), a_key(names_end_users=True), end_user_header="x-person")
    asked = Request(model="gpt", user="carol")
    by_header = await passed(plugin, {"x-api-key": SECRET, "X-Person": "bob"}, request=asked)
    by_body = await passed(plugin, {"x-api-key": SECRET}, request=asked)
    neither = await passed(plugin, {"x-api-key": SECRET})
    no_body = await passed(plugin, {"x-api-key": SECRET}, operation="models", request=asked)
    assert [call.end_user for call in (by_header, by_body, neither, no_body)] == ["bob", "carol", None, None]
    assert by_body.caller.names_end_users


async def test_the_body_is_not_read_where_the_header_tells() -> None:
    def unread() -> Request:
        raise AssertionError("read")

    call = a_call(HandClock(), headers={"x-api-key": SECRET, "x-end-user": "bob"})
    call.asked = msgspec.structs.replace(call.asked, read=unread)
    await a_plugin(HandClock(), a_key(names_end_users=True))(call, answer)
    assert call.end_user == "bob"


@pytest.mark.parametrize("name", ["b" * 257, "bob\x1fann", "bob\n", "\udcff"])
async def test_an_end_user_is_a_short_printable_name(name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await passed(a_plugin(HandClock(), a_key(names_end_users=True)), {"x-api-key": SECRET, "x-end-user": name})
    assert refused.value.code == "invalid_end_user"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ((), "nobody could call"),
        ((Key(name="ann", digest="sha256:abc"),), "digest of key 'ann'"),
        ((Key(name="ann", digest="md5:" + "0" * 64),), "digest of key 'ann'"),
        ((a_key(), a_key(name="eve")), "same digest"),
        ((Key(name="ann", digest=key_digest("x")), Key(name="ann", digest=key_digest("x").upper())), "same digest"),
    ],
)
def test_keys_that_cannot_work_are_refused_at_start(keys: tuple[Key, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ApiKey(Settings(keys=keys), a_host(HandClock()))


async def test_a_name_may_have_two_keys_while_one_replaces_the_other() -> None:
    plugin = a_plugin(HandClock(), a_key(), a_key("sg-next", id="next"))
    assert (await passed(plugin, {"x-api-key": SECRET})).caller.name == "ann"
    assert (await passed(plugin, {"x-api-key": "sg-next"})).caller.key_id == "next"


async def started(folder: Path, text: str, mode: int = 0o600) -> ApiKey:
    path = folder / "keys.jsonl"
    path.write_text(text)
    path.chmod(mode)
    plugin = ApiKey(Settings(file="keys.jsonl"), a_host(HandClock(), state=folder))
    await plugin.start()
    return plugin


async def test_keys_come_from_a_file_in_the_state_folder(tmp_path: Path) -> None:
    lines = [msgspec.json.encode(a_key()).decode(), "", msgspec.json.encode(a_key("two", name="bob")).decode()]
    plugin = await started(tmp_path, "\n".join(lines))
    assert (await passed(plugin, {"x-api-key": "two"})).caller.name == "bob"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
async def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ValueError, match="chmod 600"):
        await started(tmp_path, "", mode)


async def test_a_file_that_is_missing_or_wrong_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        await ApiKey(Settings(file="none"), a_host(HandClock(), state=tmp_path)).start()
    with pytest.raises(ValueError, match=r"keys.jsonl, line 2: .*unknown field `nme`"):
        await started(tmp_path, msgspec.json.encode(a_key()).decode() + '\n{"nme": "x"}')
    with pytest.raises(ValueError, match="line 1"):
        await started(tmp_path, "[" * 100_000)
    with pytest.raises(ValueError, match="same digest"):
        await started(tmp_path, msgspec.json.encode(a_key()).decode() + "\n" + msgspec.json.encode(a_key()).decode())


async def test_the_first_start_makes_a_key_and_shows_it_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    told: list[str] = []
    host = replace(a_host(HandClock(), state=state), tell=told.append)
    settings = Settings(file="keys.jsonl", first_key=True)
    first, plugin = ApiKey(settings, host), ApiKey(settings, host)
    await first.start()
    await plugin.start()
    (line,) = told
    secret = next(word for word in line.split() if word.startswith("sg-"))
    assert (await passed(plugin, {"x-api-key": secret})).caller.name == "first"
    assert secret not in (state / "keys.jsonl").read_text()
    assert (state / "first.key").read_text() == secret + "\n"
    for name in ("keys.jsonl", "first.key"):
        assert (state / name).stat().st_mode & 0o777 == 0o600


async def test_workers_that_start_together_make_one_first_key_and_all_know_it(tmp_path: Path) -> None:
    told: list[str] = []
    host = replace(a_host(HandClock(), state=tmp_path), tell=told.append)
    plugins = [ApiKey(Settings(file="keys.jsonl", first_key=True), host) for _ in range(8)]
    await asyncio.gather(*(plugin.start() for plugin in plugins))
    assert len(told) == 1
    secret = (tmp_path / "first.key").read_text().strip()
    assert secret in told[0]
    for plugin in plugins:
        assert (await passed(plugin, {"x-api-key": secret})).caller.name == "first"


async def test_who_starts_while_another_makes_the_first_key_waits_for_that(tmp_path: Path) -> None:
    told: list[str] = []
    plugin = ApiKey(
        Settings(file="keys.jsonl", first_key=True), replace(a_host(HandClock(), state=tmp_path), tell=told.append)
    )
    (tmp_path / "keys.jsonl").touch(0o600)
    with (tmp_path / "keys.jsonl").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        starting = asyncio.ensure_future(plugin.start())
        await asyncio.wait([starting], timeout=0.2)
        assert not starting.done()
        file.write(msgspec.json.encode(a_key()))
    await starting
    assert told == []
    assert (await passed(plugin, {"x-api-key": SECRET})).caller.name == "ann"


async def test_no_first_key_where_there_is_another(tmp_path: Path) -> None:
    told: list[str] = []
    host = replace(a_host(HandClock(), state=tmp_path), tell=told.append)
    await ApiKey(Settings(keys=(a_key(),), file="keys.jsonl", first_key=True), host).start()
    assert told == []
    with pytest.raises(ValueError, match="needs a file"):
        ApiKey(Settings(keys=(a_key(),), first_key=True), host)


def test_settings_are_read_as_a_config_brings_them() -> None:
    given = {"keys": [{"name": "ann", "digest": "0" * 64, "expires": datetime(2027, 1, 1, tzinfo=UTC)}]}
    assert msgspec.convert(given, Settings).keys[0].expires is not None
    wrongs: list[dict[str, Any]] = [
        {"key": []},
        {"keys": [{"name": "a\nb", "digest": "0" * 64}]},
        {"end_user_header": "x y"},
    ]
    for wrong in wrongs:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Settings)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"keys": [{"name": "a", "digest": "0", "expires": datetime(2027, 1, 1)}]}, Settings)


def test_new_keys_are_long_and_never_the_same() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 46 and key.startswith("sg-") for key in keys)


async def test_whom_an_earlier_plugin_named_needs_no_key_where_that_is_said() -> None:
    named, clock = Caller("by-token"), HandClock()
    call = a_call(clock, caller=named, end_user="bob", headers={"x-api-key": "sg-wrong"})
    await a_plugin(clock, skip_named=True)(call, answer)
    assert (call.caller, call.end_user) == (named, "bob")
    with pytest.raises(Refusal):
        await a_plugin(clock)(call, answer)


async def test_nobody_is_not_named() -> None:
    plugin = a_plugin(HandClock(), skip_named=True)
    assert (await refusal(plugin, {"x-api-key": "sg-wrong"})).code == "invalid_api_key"
    assert (await refusal(plugin, {})).code == "missing_api_key"
    assert (await passed(plugin, {"x-api-key": SECRET})).caller.name == "ann"


# --- keys that are issued, and what keys allow ------------------------------------------------------------------------


class Issued:
    """The keys that were issued, by digest; counts how often it is asked."""

    def __init__(self, **callers: Caller) -> None:
        self._callers = {key_digest(f"sg-{name}"): caller for name, caller in callers.items()}
        self.asked = 0

    async def find(self, digest: str) -> Caller | None:
        self.asked += 1
        return self._callers.get(digest)


def issuing(held: Issued, *keys: Key, enforced: tuple[str, ...] = (), **more: Any) -> ApiKey:
    host = replace(a_host(HandClock()), keys=held, enforced=frozenset(enforced))
    return ApiKey(Settings(keys=keys, **{"issued": True, **more}), host)


async def test_an_issued_key_names_the_caller_it_was_issued_to() -> None:
    bob = Caller("bob", key_id="key-1", owner="boss", names_end_users=True)
    call = await passed(issuing(Issued(bob=bob)), {"x-api-key": "sg-bob", "x-end-user": "carol"})
    assert call.caller is bob
    assert call.end_user == "carol"
    assert (await refusal(issuing(Issued(bob=bob)), {"x-api-key": "sg-eve"})).code == "invalid_api_key"


async def test_the_configs_own_keys_are_not_asked_for() -> None:
    issued = Issued()
    call = await passed(issuing(issued, a_key(owner="boss")), {"x-api-key": SECRET})
    assert (call.caller.owner, issued.asked) == ("boss", 0)


async def test_a_key_that_ended_in_the_config_is_not_looked_for_elsewhere() -> None:
    issued = Issued()
    ended = a_key(expires=datetime(2026, 1, 1, tzinfo=UTC))
    await refusal(issuing(issued, ended), {"x-api-key": SECRET})
    assert issued.asked == 0


async def test_nobody_asks_for_issued_keys_where_that_is_not_said() -> None:
    issued = Issued(bob=Caller("bob"))
    await refusal(issuing(issued, a_key(), issued=False), {"x-api-key": "sg-bob"})
    assert issued.asked == 0
    with pytest.raises(ValueError, match="nobody could call"):
        issuing(issued, issued=False)


ALLOWED = Allowance(models=("gpt",), budgets=(BudgetAllowance(amount_usd=1),))


async def test_a_key_whose_restrictions_nothing_holds_is_refused_and_the_call_known_as_its_own() -> None:
    bob = Caller("bob", allowance=ALLOWED)
    call = a_call(HandClock(), caller=ANONYMOUS, headers=CIMultiDict({"x-api-key": "sg-bob"}))
    with pytest.raises(Refusal) as refused:
        await issuing(Issued(bob=bob), enforced=("models", "limits"))(call, answer)
    assert (refused.value.status, refused.value.code) == (403, "allowance_not_enforced")
    assert refused.value.message.endswith("does not enforce: budgets (plugin cost).")
    assert call.caller is bob
    called = await passed(issuing(Issued(bob=bob), enforced=("models", "budgets")), {"x-api-key": "sg-bob"})
    assert called.caller is bob


async def test_a_config_that_does_not_hold_its_keys_to_their_restrictions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^keys\[1\]\.allowance: key 'bob' .* models \(plugin model_access\)"):
        issuing(Issued(), a_key(), a_key("sg-bob", "bob", allowance=ALLOWED))
    line = msgspec.json.encode(a_key(allowance=ALLOWED))
    (tmp_path / "keys.jsonl").touch(0o600)
    (tmp_path / "keys.jsonl").write_bytes(line)
    host = replace(a_host(HandClock(), state=tmp_path), enforced=frozenset({"models"}))
    with pytest.raises(ValueError, match=r"^keys\.jsonl: key 'ann' has an allowance .* budgets \(plugin cost\)$"):
        await ApiKey(Settings(file="keys.jsonl"), host).start()
    host = replace(host, enforced=frozenset({"models", "budgets"}))
    plugin = ApiKey(Settings(file="keys.jsonl"), host)
    await plugin.start()
    assert (await passed(plugin, {"x-api-key": SECRET})).caller.allowance == ALLOWED
