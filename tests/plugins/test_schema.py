from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.contract import Call, Host, Reply, Request
from sidegate.contract.call import Asked
from sidegate.errors import Refusal
from sidegate.testing import demo_config, gateway, host
from sidegate_plugins._schema_checker import Checker
from sidegate_plugins.schema import Schema, Settings
from tests.plugins.calls import HandClock, a_call
from tests.plugins.structured import answers
from tests.relaying import until

EVIL = "^(a+)+$"


@asynccontextmanager
async def a_schema(to: Host | None = None, **settings: Any) -> AsyncIterator[Schema]:
    plugin = Schema(Settings(**settings), to or host())
    await plugin.start()
    try:
        yield plugin
    finally:
        await plugin.stop()


def with_body(body: bytes, delivery: str = "buffered", **given: Any) -> Call:
    call = a_call(HandClock(), delivery=delivery, **given)

    def read() -> Request:
        raise AssertionError("the request was read")

    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    call.asked = Asked(body=body, fields=fields, read=read)
    return call


# --- requests ---------------------------------------------------------------------------------------------------------

BODY = {"type": "object", "properties": {"max_tokens": {"maximum": 100}}, "required": ["user"]}


@pytest.mark.parametrize("operation", ["chat", "text_completion", "embeddings"])
async def test_a_body_that_does_not_fit_never_reaches_the_provider(operation: str) -> None:
    async def provider(call: Call) -> Reply:
        raise AssertionError("reached")

    async with a_schema(request=BODY) as plugin:
        with pytest.raises(Refusal, match="/max_tokens: 101 is greater than the maximum") as caught:
            await plugin(with_body(b'{"max_tokens":101}', operation=operation), provider)
    assert (caught.value.status, caught.value.code) == (400, "request_schema_mismatch")


async def test_a_body_that_fits_passes_and_what_has_no_body_is_not_looked_at() -> None:
    async with a_schema(request=BODY) as plugin:
        assert (await plugin(with_body(b'{"user":"u","max_tokens":9}'), answers("x"))).complete
        assert (await plugin(with_body(b"{}", operation="models"), answers("x"))).complete


async def test_a_key_that_stands_twice_is_refused_at_any_depth() -> None:
    async with a_schema(request={"type": "object"}) as plugin:
        with pytest.raises(Refusal, match="twice") as caught:
            await plugin(with_body(b'{"a":[{"b":{"c":1,"c":2}}]}'), answers("x"))
    assert caught.value.status == 400


async def test_a_pointer_names_odd_keys_as_the_rfc_says() -> None:
    schema = {"properties": {"a/b": {"properties": {"c~d": {"type": "string"}}}}}
    async with a_schema(request=schema) as plugin:
        with pytest.raises(Refusal) as caught:
            await plugin(with_body(b'{"a/b":{"c~d":1}}'), answers("x"))
    assert caught.value.param == "/a~1b/c~0d"


async def test_a_slow_schema_costs_its_own_call() -> None:
    slow = {"properties": {"name": {"pattern": EVIL}}}
    async with a_schema(request=slow, timeout=0.3) as plugin:
        with pytest.raises(Refusal) as caught:
            await plugin(with_body(b'{"name":"%sb"}' % (b"a" * 40)), answers("x"))
        assert (caught.value.status, caught.value.code) == (400, "request_schema_unchecked")
        assert (await plugin(with_body(b'{"name":"a"}'), answers("x"))).complete


async def test_a_body_that_could_not_be_read_is_left_to_the_core() -> None:
    async with a_schema(request={"type": "object"}) as plugin:
        call = a_call(HandClock())
        call.asked = Asked(body=b"{", wrong=Refusal(400, "invalid_json", "Not JSON."))
        assert (await plugin(call, answers("x"))).complete


# --- schemas of the config --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"request": {"type": 3}}, "request: not a JSON Schema"),
        ({"request": {"$ref": "https://example.com/s"}}, "nothing is fetched"),
        ({"request": {"not": {"not": {"not": {}}}}, "max_depth": 3}, "nested deeper than 3"),
        ({"request": {"type": "object"}, "request_file": "x.json"}, "one of them"),
        ({}, "one of them"),
    ],
)
def test_a_schema_of_the_config_that_cannot_be_used_is_refused_at_the_start(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Schema(Settings(**settings), host())


async def test_a_schema_can_be_given_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text(json.dumps(BODY))
    async with a_schema(host(state=tmp_path), request_file="body.json") as plugin:
        assert (await plugin(with_body(b'{"user":"u"}'), answers("x"))).complete
        with pytest.raises(Refusal, match="'user' is a required property"):
            await plugin(with_body(b"{}"), answers("x"))


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read"), ("{", "is not JSON"), ("[]", "JSON object")]
)
async def test_a_file_that_holds_no_schema_is_refused_at_the_start(
    content: str | None, problem: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    with pytest.raises(ValueError, match=rf"request_file: .*{problem}"):
        async with a_schema(host(state=tmp_path), request_file="s.json"):
            raise AssertionError("started")


# --- the workers ------------------------------------------------------------------------------------------------------


async def test_a_cancelled_check_takes_its_worker_down_and_frees_the_place() -> None:
    checker = Checker(1, timeout=30)
    try:
        await checker.check(b"{}", b"1")
        (worker,) = checker._idle
        task = asyncio.ensure_future(checker.check(b'{"pattern":"%s"}' % EVIL.encode(), b'"%sb"' % (b"a" * 40)))
        await until(lambda: not checker._idle)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await checker.check(b"{}", b"1")).valid
        assert await worker.wait() == -9
    finally:
        await checker.stop()


async def test_a_worker_that_died_is_replaced() -> None:
    checker = Checker(1, timeout=5)
    try:
        assert (await checker.check(b"{}", b"1")).valid
        (worker,) = checker._idle
        worker.kill()
        await worker.wait()
        assert (await checker.check(b"{}", b"1")).valid
    finally:
        await checker.stop()


async def test_checks_side_by_side_get_their_own_answers() -> None:
    checker = Checker(2, timeout=5)
    try:
        found = await asyncio.gather(*(checker.check(b'{"const":%d}' % (n % 3), b"%d" % (n % 2)) for n in range(60)))
        assert [verdict.valid for verdict in found] == [n % 3 == n % 2 for n in range(60)]
        assert len(checker._idle) <= 2
    finally:
        await checker.stop()


async def test_whoever_waits_too_long_for_a_worker_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidegate_plugins._schema_checker.WAIT_SECONDS", 0.01)
    checker = Checker(1, timeout=5)
    try:
        first = asyncio.ensure_future(checker.check(b"{}", b"1"))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as caught:
            await checker.check(b"{}", b"1")
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "schema_check_busy", 1)
        assert (await first).valid
    finally:
        await checker.stop()


async def test_no_worker_is_a_503_and_not_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = Checker(1, timeout=5)
    for executable in ("/nonexistent", "/bin/false"):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(Refusal) as caught:
            await checker.check(b"{}", b"1")
        assert (caught.value.status, caught.value.code) == (503, "schema_check_unavailable")
    await checker.stop()


async def test_a_worker_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    checker = Checker(1, timeout=5)
    try:
        await checker.check(b"{}", b"1")
        environ = await asyncio.to_thread(Path(f"/proc/{checker._idle[0].pid}/environ").read_bytes)
    finally:
        await checker.stop()
    assert b"PATH=" in environ
    assert b"sk-secret" not in environ


async def test_a_worker_whose_gateway_was_killed_ends_by_itself() -> None:
    script = Path(sys.modules[Checker.__module__].__file__ or "").with_name("_schema_worker.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(script), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    schema, text = b'{"pattern":"%s"}' % EVIL.encode(), b'"%sb"' % (b"a" * 40)
    process.stdin.write(b"".join(n.to_bytes(4, "big") for n in (100, len(schema), len(text))) + schema + text)
    async with asyncio.timeout(10):
        assert await process.wait() == -14


# --- through the gateway ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_body_that_does_not_fit_is_told_in_the_clients_dialect(path: str) -> None:
    limited = {"properties": {"max_tokens": {"maximum": 100}}}
    config = demo_config({"use": "schema", "settings": {"request": limited}})
    body = {"model": "demo", "max_tokens": 101, "messages": [{"role": "user", "content": "Hi"}]}
    async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post(path, json=body) as reply:
            assert reply.status == 400
            told = (await reply.json())["error"]
            assert "/max_tokens: 101 is greater" in told["message"]
        async with client.post(path, json={**body, "max_tokens": 100}) as reply:
            assert reply.status == 200
