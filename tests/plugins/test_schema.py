from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.contract import (
    Call,
    Chunk,
    End,
    Finish,
    FinishReason,
    Handler,
    Host,
    Part,
    Reply,
    Request,
    ResponseFormat,
    Text,
    ToolCall,
)
from sidegate.contract.call import Asked
from sidegate.contract.meaning import RefusalText
from sidegate.errors import Refusal, SidegateError
from sidegate.testing import Driven, KeptEvents, demo_config, drive, gateway, host, scripted
from sidegate.testing.provider import Exchange
from sidegate_plugins._schema_checker import Checker, Verdict
from sidegate_plugins.schema import Schema, Settings
from tests.plugins.calls import HandClock, a_call

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"$ref": "#/$defs/age"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}
FITS = '{"name": "Ann", "age": 7}'
EVIL = "^(a+)+$"
HELD_UP = '{"name": "%sb"}' % ("a" * 40)


def doubling(depth: int) -> dict[str, Any]:
    steps = {f"x{n}": {"allOf": [{"$ref": f"#/$defs/x{n + 1}"}] * 2} for n in range(depth)}
    return {"$ref": "#/$defs/x0", "$defs": {**steps, f"x{depth}": {"type": "object"}}}


@asynccontextmanager
async def a_schema(to: Host | None = None, **settings: Any) -> AsyncIterator[Schema]:
    plugin = Schema(Settings(**settings), to or host())
    await plugin.start()
    try:
        yield plugin
    finally:
        await plugin.stop()


def wanting(schema: dict[str, Any] | None, kind: str = "json_schema") -> Request:
    shape = msgspec.convert({"kind": kind, "schema": schema}, ResponseFormat)
    return Request(model="demo", response_format=shape)


def answers(*texts: str, finish: FinishReason = "stop", stream: bool = True, more: tuple[Part, ...] = ()) -> Handler:
    """A handler whose choices are these texts, in small pieces where it streams."""

    async def handler(call: Call) -> Reply:
        parts: list[Part] = []
        for choice, text in enumerate(texts):
            pieces = [text] if not stream else [text[n : n + 5] for n in range(0, len(text), 5)]
            parts += [Text(piece, choice) for piece in pieces]
            parts.append(Finish(finish, choice))
        parts += [*more, End()]
        if stream:
            for part in parts:
                await call.send(Chunk.of(part))
        else:
            await call.send(Chunk(parts=tuple(parts), whole=True, closing=True))
        return Reply()

    return handler


def refusal(driven: Driven) -> tuple[int, str]:
    assert isinstance(driven.error, SidegateError), driven.error
    return driven.error.status, driven.error.code


async def until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


MISMATCH = (422, "reply_schema_mismatch")
both = pytest.mark.parametrize("stream", [True, False])


# --- replies ----------------------------------------------------------------------------------------------------------


@both
async def test_a_reply_that_fits_passes_whole(stream: bool) -> None:
    async with a_schema() as plugin:
        driven = await drive(plugin, answers(FITS, stream=stream), stream=stream, request=wanting(PERSON))
    assert driven.error is None
    assert driven.text == FITS


@both
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"name": 1}', "/name: 1 is not of type 'string'"),
        ('{"age": 1}', "root: 'name' is a required property"),
        ('{"name": "x", "age": -1}', "/age: -1 is less than the minimum of 0"),
        ("Here you are: {}", "it is not valid JSON"),
        ('```json\n{"name": "x"}\n```', "it is not valid JSON"),
        ('{"name": "x", "age": NaN}', "NaN is not JSON"),
        ('{"name": "x", "name": "y"}', "a key appears twice"),
        ("[" * 100_000, "nested too deeply"),
        ("", "it is not valid JSON"),
    ],
)
async def test_a_reply_that_does_not_fit_is_refused_and_nothing_of_it_is_sent(
    text: str, problem: str, stream: bool
) -> None:
    async with a_schema() as plugin:
        driven = await drive(plugin, answers(text, stream=stream), stream=stream, request=wanting(PERSON))
    assert refusal(driven) == MISMATCH
    assert problem in str(driven.error)
    assert len(str(driven.error)) < 2000
    assert driven.parts == []


async def test_every_choice_is_checked() -> None:
    async with a_schema() as plugin:
        driven = await drive(plugin, answers(FITS, '{"name": 1}'), request=wanting(PERSON))
    assert refusal(driven) == MISMATCH
    assert "choice 1" in str(driven.error)


async def test_a_reply_that_was_cut_off_says_so() -> None:
    async with a_schema() as plugin:
        cut = await drive(plugin, answers('{"name": "A', finish="length"), request=wanting(PERSON))
        whole = await drive(plugin, answers(FITS, finish="length"), request=wanting(PERSON))
    assert refusal(cut) == MISMATCH
    assert "max_tokens" in str(cut.error)
    assert whole.error is None


@pytest.mark.parametrize("finish", ["refusal", "content_filter", "tool_calls"])
async def test_no_json_is_expected_of_a_model_that_declines_or_calls_a_tool(finish: FinishReason) -> None:
    async with a_schema() as plugin:
        driven = await drive(plugin, answers("Let me see.", finish=finish), request=wanting(PERSON))
    assert driven.error is None
    assert driven.text == "Let me see."


@pytest.mark.parametrize("part", [RefusalText("I cannot."), ToolCall("{}", "t1", "look")])
async def test_a_refusal_or_a_tool_call_alone_passes_although_it_stops_naturally(part: Part) -> None:
    async with a_schema() as plugin:
        driven = await drive(plugin, answers("", more=(part,)), request=wanting(PERSON))
    assert driven.error is None
    assert part in driven.parts


async def test_a_json_object_is_any_object_and_nothing_else() -> None:
    async with a_schema() as plugin:
        fits = await drive(plugin, answers('{"any": [1]}'), request=wanting(None, "json_object"))
        array = await drive(plugin, answers("[1]"), request=wanting(None, "json_object"))
    assert fits.error is None
    assert refusal(array) == MISMATCH


async def test_a_format_of_text_asks_for_nothing() -> None:
    async with a_schema() as plugin:
        driven = await drive(plugin, answers("words"), request=wanting(None, "text"))
        assert plugin._checker._idle == []
    assert driven.error is None


async def test_the_routes_own_schema_holds_for_every_reply() -> None:
    async with a_schema(reply=PERSON) as plugin:
        assert (await drive(plugin, answers(FITS))).error is None
        assert refusal(await drive(plugin, answers("words"))) == MISMATCH
        assert refusal(await drive(plugin, answers("words"), operation="text_completion")) == MISMATCH
        assert (await drive(plugin, answers("words"), operation="embeddings")).error is None
        assert refusal(await drive(plugin, answers('{"name":"x"}'), request=wanting({"required": ["z"]}))) == MISMATCH


async def test_a_reply_can_be_let_through_and_logged() -> None:
    log = KeptEvents()
    async with a_schema(host(log=log), on_invalid="log") as plugin:
        driven = await drive(plugin, answers("words"), request=wanting(PERSON))
    assert driven.text == "words"
    ((event, fields),) = log.events
    assert (event, fields["choice"]) == ("reply_schema_mismatch", 0)


async def test_the_check_of_formats_can_be_left_out() -> None:
    async with a_schema(response_format=False) as plugin:
        assert (await drive(plugin, answers("words"), request=wanting(PERSON))).error is None


async def test_a_handler_that_raises_is_heard_and_nothing_of_the_reply_is_sent() -> None:
    async def fail(call: Call) -> Reply:
        await call.send(Chunk.of(Text(FITS)))
        raise Refusal(403, "not_here", "No.")

    async with a_schema() as plugin:
        driven = await drive(plugin, fail, request=wanting(PERSON))
    assert refusal(driven) == (403, "not_here")
    assert driven.parts == []


# --- what nobody asked for --------------------------------------------------------------------------------------------


def with_body(body: bytes, delivery: str = "buffered", **given: Any) -> Call:
    call = a_call(HandClock(), delivery=delivery, **given)

    def read() -> Request:
        raise AssertionError("the request was read")

    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    call.asked = Asked(body=body, fields=fields, read=read)
    return call


async def test_a_request_that_asks_for_no_format_is_not_read_and_not_held() -> None:
    async with a_schema() as plugin:
        call = with_body(b'{"model":"m","messages":[{"role":"user","content":"response_format"}]}')
        seen: list[int] = []

        async def handler(inner: Call) -> Reply:
            seen.append(len(inner.stages))
            return Reply()

        await plugin(call, handler)
        assert seen == [0]
        assert plugin._checker._idle == []


@pytest.mark.parametrize("field", ["response_format", "output_config", "output_format", "response\\u005fformat"])
async def test_every_spelling_of_the_wish_is_found(field: str) -> None:
    async with a_schema() as plugin:
        with pytest.raises(AssertionError, match="was read"):
            await plugin(with_body(b'{"model":"m","%s":null}' % field.encode()), answers("x"))


async def test_a_body_that_could_not_be_read_is_left_to_the_core() -> None:
    async with a_schema(request={"type": "object"}) as plugin:
        call = a_call(HandClock())
        call.asked = Asked(body=b"{", wrong=Refusal(400, "invalid_json", "Not JSON."))
        assert (await plugin(call, answers("x"))).complete


async def test_the_worker_does_not_load_where_only_the_plugin_is_imported() -> None:
    code = "import sys, sidegate_plugins.schema; assert 'jsonschema' not in sys.modules"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"
    )
    assert await process.wait() == 0


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


# --- schemas of the config --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"request": {"type": 3}}, "request: not a JSON Schema"),
        ({"reply": {"pattern": "("}}, "reply: not a JSON Schema"),
        ({"reply": {"$ref": "https://example.com/s"}}, "nothing is fetched"),
        ({"reply": {"not": {"not": {"not": {}}}}, "max_depth": 3}, "nested deeper than 3"),
        ({"reply": {"type": "object"}, "reply_file": "x.json"}, "not both"),
    ],
)
def test_a_schema_of_the_config_that_cannot_be_used_is_refused_at_the_start(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Schema(Settings(**settings), host())


async def test_a_schema_can_be_given_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "person.json").write_text(json.dumps(PERSON))
    async with a_schema(host(state=tmp_path), reply_file="person.json") as plugin:
        assert (await drive(plugin, answers(FITS))).error is None
        assert refusal(await drive(plugin, answers("words"))) == MISMATCH


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


# --- hostile schemas --------------------------------------------------------------------------------------------------


def deep(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"$ref": "http://127.0.0.1:1/x"}, "nothing is fetched"),
        ({"properties": {"a": {"$dynamicRef": "other.json#x"}}}, "nothing is fetched"),
        ({"type": "strin"}, "is not valid under any"),
        ({"pattern": "("}, "is not a 'regex'"),
        ({"enum": ["x" * 70_000]}, "larger than 65536 bytes"),
        (deep(65), "nested deeper than 64"),
    ],
)
async def test_a_callers_schema_that_cannot_be_used_is_refused_before_the_provider(
    schema: dict[str, Any], problem: str
) -> None:
    async def provider(call: Call) -> Reply:
        raise AssertionError("reached")

    async with a_schema() as plugin:
        driven = await drive(plugin, provider, request=wanting(schema))
    assert refusal(driven) == (400, "unsupported_schema")
    assert problem in str(driven.error)


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/$defs/nowhere"}])
async def test_a_reference_that_leads_nowhere_is_the_callers_mistake(schema: dict[str, Any]) -> None:
    async with a_schema() as plugin:
        driven = await drive(plugin, answers(FITS), request=wanting(schema))
    assert refusal(driven) == (400, "unsupported_schema")


async def lag(work: asyncio.Future[Any]) -> float:
    """The longest that the loop stood still while the work went on, in seconds."""
    loop = asyncio.get_running_loop()
    longest = 0.0
    while not work.done():
        before = loop.time()
        await asyncio.sleep(0.001)
        longest = max(longest, loop.time() - before)
    return longest


UNIQUE = json.dumps([{"a": n} for n in range(5000)])
BOMBS = [
    pytest.param({"properties": {"name": {"pattern": EVIL}}}, HELD_UP, id="regex"),
    pytest.param(doubling(40), "{}", id="doubling"),
    pytest.param({"uniqueItems": True, "maxItems": 10**6}, UNIQUE, id="unique"),
]


@pytest.mark.parametrize(("schema", "text"), BOMBS)
async def test_a_schema_bomb_is_stopped_and_nobody_else_waits(schema: dict[str, Any], text: str) -> None:
    async with a_schema(timeout=0.5) as plugin:
        bomb = asyncio.ensure_future(drive(plugin, answers(text), request=wanting(schema)))
        assert await lag(bomb) < 5  # in this process it would be half a minute
        assert refusal(bomb.result()) == (400, "unsupported_schema")
        after = await drive(plugin, answers(FITS), request=wanting(PERSON))
    assert after.error is None


async def test_a_slow_schema_of_the_route_is_not_the_callers_mistake() -> None:
    slow = {"properties": {"name": {"pattern": EVIL}}}
    async with a_schema(reply=slow, request=slow, timeout=0.3) as plugin:
        driven = await drive(plugin, answers(HELD_UP), request=Request(model="m"), operation="models")
        assert driven.error is None
        with pytest.raises(Refusal) as caught:
            await plugin(with_body(HELD_UP.encode()), answers("x"))
        assert caught.value.code == "request_schema_unchecked"
    async with a_schema(reply=slow, timeout=0.3) as plugin:
        assert refusal(await drive(plugin, answers(HELD_UP))) == (422, "reply_schema_unchecked")


async def test_a_known_schema_is_not_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bool] = []
    check = Checker.check

    async def noted(self: Checker, schema: bytes, instance: bytes | None = None) -> Verdict:
        checked.append(instance is None)
        return await check(self, schema, instance)

    monkeypatch.setattr(Checker, "check", noted)
    async with a_schema() as plugin:
        for _ in range(2):
            await drive(plugin, answers(FITS), request=wanting(PERSON))
    assert checked == [True, False, False]


async def test_the_memory_of_schemas_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidegate_plugins.schema._ACCEPTED", 2)
    async with a_schema() as plugin:
        for number in range(4):
            await drive(plugin, answers("1"), request=wanting({"minimum": -number}))
        assert len(plugin._accepted) == 2


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

PLUGIN = {"use": "sidegate_plugins.schema:Schema"}


def chat(stream: bool, schema: dict[str, Any], **more: Any) -> tuple[str, dict[str, Any]]:
    shape = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    messages = [{"role": "user", "content": "Who?"}]
    return "/v1/chat/completions", {
        "model": "demo",
        "messages": messages,
        "stream": stream,
        "response_format": shape,
        **more,
    }


def message(stream: bool, schema: dict[str, Any], **more: Any) -> tuple[str, dict[str, Any]]:
    _, body = chat(stream, schema, max_tokens=200)
    del body["response_format"]
    return "/v1/messages", {**body, "output_config": {"format": {"type": "json_schema", "schema": schema}}, **more}


dialects = pytest.mark.parametrize("ask", [chat, message])


def answering(text: str) -> dict[str, Any]:
    config = demo_config(PLUGIN)
    config["providers"]["demo"]["settings"]["answer"] = text
    return config


@both
@dialects
async def test_a_fitting_reply_reaches_the_client(ask: Any, stream: bool) -> None:
    path, body = ask(stream, PERSON)
    async with gateway(answering('{"name": "Ann"}')) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post(path, json=body) as reply:
            assert reply.status == 200, await reply.text()
            assert "Ann" in await reply.text()


@both
@dialects
async def test_a_reply_that_does_not_fit_is_a_422_of_the_clients_dialect_and_is_paid_for(
    ask: Any, stream: bool
) -> None:
    path, body = ask(stream, PERSON)
    async with gateway(answering("I am Ann.")) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post(path, json=body) as reply:
            text = await reply.text()
            assert reply.status == 422, text
            assert "Ann" not in text
            assert "not valid JSON" in reply_error(text)
            found = await running.service.ledger.call(reply.headers["x-request-id"])
    assert found is not None
    assert (found[0].ending, found[0].error) == ("refused", "reply_schema_mismatch")
    assert found[0].output_tokens


def reply_error(text: str) -> str:
    return str(json.loads(text)["error"]["message"])


@dialects
async def test_a_bomb_by_http_leaves_others_alone(ask: Any) -> None:
    config = demo_config({**PLUGIN, "settings": {"timeout": 0.5}})
    config["providers"]["demo"]["settings"]["answer"] = HELD_UP
    path, body = ask(False, {"properties": {"name": {"pattern": EVIL}}})
    async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:

        async def bomb() -> int:
            async with client.post(path, json=body) as reply:
                return reply.status

        bombs = asyncio.gather(*(bomb() for _ in range(4)))
        assert await lag(bombs) < 5
        assert await bombs == [400] * 4


@both
async def test_a_client_that_leaves_while_its_reply_is_held_frees_everything(stream: bool) -> None:
    path, body = chat(stream, PERSON, model="demo-stall")
    async with gateway(demo_config(PLUGIN)) as running, aiohttp.ClientSession(running.url) as client:
        task = asyncio.ensure_future(client.post(path, json=body))
        calls = running.service.live._calls
        await until(lambda: any(a.output_bytes for live in calls.values() for a in live.call.attempts))
        task.cancel()
        await until(lambda: not calls)


@both
async def test_a_provider_that_fails_is_told_as_its_failure_and_not_as_a_mismatch(stream: bool) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.reply(b'{"error":{"message":"no","type":"server_error"}}', status=500)

    async with scripted(fail) as provider:
        config = demo_config(PLUGIN)
        config["providers"] = {"demo": {"dialect": "openai", "base_url": provider.url, "api_key": "k"}}
        async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
            path, body = chat(stream, PERSON)
            async with client.post(path, json=body) as reply:
                assert reply.status >= 500
                assert "schema" not in await reply.text()
