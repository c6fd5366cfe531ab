from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidegate.contract import (
    Call,
    Chunk,
    End,
    Finish,
    FinishReason,
    Handler,
    Part,
    RefusalText,
    Reply,
    Request,
    Text,
    Tool,
    ToolCall,
)
from sidegate.contract.call import Asked
from sidegate.errors import Refusal, SidegateError
from sidegate.testing import KeptEvents, drive, host
from sidegate_plugins._schema_checker import Checker, Verdict
from sidegate_plugins.structured_output import _HINTS, Settings, StructuredOutput
from tests.plugins.calls import HandClock, a_call
from tests.plugins.structured import FITS, MISMATCH, PERSON, Turns, answers, refusal, structured, wanting

EVIL = "^(a+)+$"
HELD_UP = '{"name": "%sb"}' % ("a" * 40)
both = pytest.mark.parametrize("stream", [True, False])
STRICT = Tool("look", None, PERSON, strict=True)


# --- what fits, and what does not -------------------------------------------------------------------------------------


@both
async def test_a_reply_that_fits_passes_whole(stream: bool) -> None:
    async with structured() as plugin:
        driven = await drive(plugin, answers(FITS, stream=stream), stream=stream, request=wanting(PERSON))
    assert driven.error is None
    assert driven.text == FITS
    assert [type(part) for part in driven.parts][-2:] == [Finish, End]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"name": 1}', "/name: 1 is not of type 'string'"),
        ('{"age": 1}', "root: 'name' is a required property"),
        ('{"name": "x", "age": -1}', "/age: -1 is less than the minimum of 0"),
        ("Here you are: {}", "it is not valid JSON"),
        ('{"name": "x", "age": NaN}', "NaN is not JSON"),
        ('{"name": "x", "name": "y"}', "a key appears twice"),
        ('\ufeff{"name": "x"}', "it is not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("", "it is not valid JSON"),
    ],
)
@pytest.mark.parametrize("on_invalid", ["error", "repair"])
async def test_a_whole_reply_that_does_not_fit_is_refused_and_nothing_of_it_is_sent(
    text: str, problem: str, on_invalid: str
) -> None:
    async with structured(on_invalid=on_invalid) as plugin:
        driven = await drive(plugin, answers(text, stream=False), stream=False, request=wanting(PERSON))
    assert refusal(driven) == MISMATCH
    assert problem in str(driven.error)
    assert len(str(driven.error)) < 2000
    assert driven.parts == []


@pytest.mark.parametrize(
    ("text", "told", "problem"),
    [
        ('{"name": 1}', '{"name": 1', "/name: number is not allowed here, but string"),
        ('{"name": "x", "age": -1, "more": 5}', '{"name": "x", "age": ', "/age: -1 is less than 0"),
        ('{"name": "x", "more": 5}', '{"name": "x", "more"', "root: the property 'more' is not allowed"),
        ("I am Ann, who is seven.", "", "it is not valid JSON: a value was expected at character 0"),
        ('{"name": "x"} Is that what you wanted?', '{"name": "x"}', "nothing may follow"),
    ],
)
async def test_a_stream_is_stopped_where_it_can_no_longer_fit(text: str, told: str, problem: str) -> None:
    """At the place it names, with the rest unsaid; what was sent before stays sent."""
    turns = Turns(text, stream=True)
    async with structured() as plugin:
        driven = await drive(plugin, turns, request=wanting(PERSON))
    assert refusal(driven) == MISMATCH
    assert problem in str(driven.error)
    assert told.startswith(driven.text)
    assert len(told) - len(driven.text) <= 5
    assert turns.said <= len(told)
    assert not any(isinstance(part, Finish | End) for part in driven.parts)


@pytest.mark.parametrize("text", ['{"age": 1}', '{"name": "x"', "", '{"name": "x", "age": 7'])
async def test_what_only_the_end_shows_ends_a_stream_without_its_finish(text: str) -> None:
    async with structured() as plugin:
        driven = await drive(plugin, answers(text), request=wanting(PERSON))
    assert refusal(driven) == MISMATCH
    assert not any(isinstance(part, Finish | End) for part in driven.parts)


async def test_what_is_not_looked_at_on_the_way_is_checked_at_the_end() -> None:
    odd = {"type": "object", "properties": {"name": {"pattern": "^A"}}, "not": {"required": ["bad"]}}
    async with structured() as plugin:
        assert (await drive(plugin, answers('{"name": "Ann"}'), request=wanting(odd))).error is None
        for text, problem in [('{"name": "Bob"}', "/name: 'Bob' does not match"), ('{"bad": 1}', "root: ")]:
            driven = await drive(plugin, answers(text), request=wanting(odd))
            assert refusal(driven) == MISMATCH
            assert problem in str(driven.error)
            assert driven.text == text


async def test_a_whole_body_in_place_of_a_stream_is_checked_before_it_is_told() -> None:
    async with structured() as plugin:
        fits = await drive(plugin, answers(FITS, stream=False), request=wanting(PERSON))
        odd = await drive(plugin, answers('{"age": 1}', stream=False), request=wanting(PERSON))
    assert fits.text == FITS
    assert refusal(odd) == MISMATCH
    assert odd.parts == []


@both
async def test_every_choice_is_checked(stream: bool) -> None:
    async with structured() as plugin:
        request = wanting(PERSON, choices=2)
        good = await drive(plugin, answers(FITS, FITS, stream=stream), stream=stream, request=request)
        bad = await drive(plugin, answers(FITS, '{"name": 1}', stream=stream), stream=stream, request=request)
    assert good.error is None
    assert refusal(bad) == MISMATCH
    assert "choice 1" in str(bad.error)


async def test_choices_whose_pieces_alternate_are_read_apart() -> None:
    async def handler(call: Call) -> Reply:
        for pair in zip(FITS, FITS.replace("Ann", "Bob"), strict=True):
            for choice, letter in enumerate(pair):
                await call.send(Chunk.of(Text(letter, choice)))
        await call.send(Chunk.of(Finish("stop"), Finish("stop", 1), End()))
        return Reply()

    async with structured() as plugin:
        driven = await drive(plugin, handler, request=wanting(PERSON, choices=2))
    assert driven.error is None


@both
async def test_a_reply_that_was_cut_off_says_so_and_is_not_asked_for_again(stream: bool) -> None:
    cut = Turns('{"name": "A', '{"name": "A', stream=stream, finish="length")
    async with structured(on_invalid_stream="repair") as plugin:
        driven = await drive(plugin, cut, stream=stream, request=wanting(PERSON))
        whole = await drive(plugin, answers(FITS, finish="length", stream=stream), request=wanting(PERSON))
    assert refusal(driven) == (422, "reply_truncated")
    assert "max_tokens" in str(driven.error)
    assert len(cut.asked) == 1
    assert whole.error is None


@both
@pytest.mark.parametrize("finish", ["refusal", "content_filter", "tool_calls"])
async def test_no_json_is_expected_of_a_model_that_declines_or_calls_a_tool(finish: FinishReason, stream: bool) -> None:
    request = wanting(PERSON, tools=(Tool("look"),) if finish == "tool_calls" else ())
    handler = answers("" if finish != "tool_calls" else "Let me see.", finish=finish, stream=stream)
    async with structured() as plugin:
        driven = await drive(plugin, handler, stream=stream, request=request)
    assert driven.error is None
    assert driven.text in ("", "Let me see.")


@both
@pytest.mark.parametrize("part", [RefusalText("I cannot."), ToolCall("{}", "t1", "look")])
async def test_a_refusal_or_a_tool_call_alone_passes_although_it_stops_naturally(part: Part, stream: bool) -> None:
    async with structured() as plugin:
        driven = await drive(plugin, answers("", more=(part,), stream=stream), stream=stream, request=wanting(PERSON))
    assert driven.error is None
    assert part in driven.parts


@both
async def test_a_json_object_is_any_object_and_nothing_else(stream: bool) -> None:
    async with structured() as plugin:
        request = wanting(None, "json_object")
        fits = await drive(plugin, answers('{"any": [1]}', stream=stream), stream=stream, request=request)
        array = await drive(plugin, answers("[1]", stream=stream), stream=stream, request=request)
    assert fits.error is None
    assert refusal(array) == MISMATCH


@both
async def test_the_routes_own_schema_holds_for_every_reply(stream: bool) -> None:
    async def outcome(text: str, **given: Any) -> Any:
        driven = await drive(plugin, answers(text, stream=stream), stream=stream, **given)
        return None if driven.error is None else refusal(driven)

    async with structured(schema=PERSON) as plugin:
        assert await outcome(FITS) is None
        assert await outcome("words") == MISMATCH
        assert await outcome("words", operation="text_completion") == MISMATCH
        assert await outcome("words", operation="embeddings") is None
        assert await outcome('{"name":"x"}', request=wanting({"required": ["z"]})) == MISMATCH


@both
async def test_a_reply_can_be_let_through_and_logged(stream: bool) -> None:
    log = KeptEvents()
    async with structured(host(log=log), on_invalid="log", on_invalid_stream="log") as plugin:
        driven = await drive(plugin, answers("words", stream=stream), stream=stream, request=wanting(PERSON))
    assert driven.text == "words"
    assert [type(part) for part in driven.parts][-1] is End
    ((event, fields),) = log.events
    assert (event, fields["choice"]) == ("reply_schema_mismatch", 0)


async def test_drafts_are_told_apart_by_their_name() -> None:
    """zod writes draft 7, where `items` is a list and what stands beside a reference does not count."""
    old = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"pair": {"items": [{"type": "string"}, {"type": "integer"}]}, "b": {"$ref": "#/definitions/b"}},
        "definitions": {"b": {"type": "boolean"}},
    }
    async with structured() as plugin:
        assert (await drive(plugin, answers('{"pair": ["a", 1], "b": true}'), request=wanting(old))).error is None
        for text in ('{"pair": [1]}', '{"b": 1}'):
            assert refusal(await drive(plugin, answers(text), request=wanting(old))) == MISMATCH


# --- asking again -----------------------------------------------------------------------------------------------------


@both
async def test_the_model_is_told_what_was_wrong_and_may_try_again(stream: bool) -> None:
    turns = Turns('{"name": 1, "age": 7}', FITS, stream=stream)
    async with structured(on_invalid_stream="repair") as plugin:
        driven = await drive(plugin, turns, stream=stream, request=wanting(PERSON))
    assert driven.error is None
    assert driven.text == FITS
    assert driven.call.reply_headers["x-sidegate-repairs"] == "1"
    first, second = turns.asked
    assert second.messages[: len(first.messages)] == first.messages
    failed, complaint = second.messages[len(first.messages) :]
    assert (failed.role, complaint.role) == ("assistant", "user")
    assert '{"name": 1, "age": 7}'.startswith(failed.text)
    assert "- /name: " in complaint.text
    assert second.response_format == first.response_format


async def test_a_held_stream_is_stopped_early_too() -> None:
    turns = Turns('{"name": 1, "age": ' + "7" * 100, FITS, stream=True)
    async with structured(on_invalid_stream="repair") as plugin:
        driven = await drive(plugin, turns, request=wanting(PERSON))
    assert driven.text == FITS
    assert turns.said < 20 + len(FITS)


async def test_each_repair_is_told_the_last_failure_only() -> None:
    turns = Turns('{"name": 1}', '{"name": 2}', FITS)
    async with structured(repairs=2) as plugin:
        driven = await drive(plugin, turns, stream=False, request=wanting(PERSON))
    assert driven.text == FITS
    assert [len(asked.messages) for asked in turns.asked] == [1, 3, 3]
    assert turns.asked[2].messages[1].text == '{"name": 2}'


@both
async def test_after_the_last_repair_the_client_hears_the_errors_and_the_last_text(stream: bool) -> None:
    turns = Turns('{"name": 1}', '{"name": "x", "age": true}', stream=stream)
    async with structured(on_invalid_stream="repair") as plugin:
        driven = await drive(plugin, turns, stream=stream, request=wanting(PERSON))
    assert refusal(driven) == MISMATCH
    assert isinstance(driven.error, SidegateError)
    assert driven.error.details["repairs"] == 1
    assert [error["path"] for error in driven.error.details["errors"]] == ["/age"]
    assert '{"name": "x", "age": true}'.startswith(driven.error.details["text"])
    assert driven.parts == []


async def test_the_text_can_be_kept_from_the_client() -> None:
    async with structured(include_text=False, repairs=0) as plugin:
        driven = await drive(plugin, answers("words", stream=False), stream=False, request=wanting(PERSON))
    assert isinstance(driven.error, SidegateError)
    assert "text" not in driven.error.details


async def test_an_empty_answer_is_asked_for_again_without_an_empty_turn() -> None:
    turns = Turns(" \n", FITS)
    async with structured() as plugin:
        driven = await drive(plugin, turns, stream=False, request=wanting(PERSON))
    assert driven.text == FITS
    assert [message.role for message in turns.asked[1].messages] == ["user", "user"]


async def test_a_relayed_stream_is_never_asked_for_again() -> None:
    turns = Turns('{"name": 1}', FITS, stream=True)
    async with structured(on_invalid="repair", repairs=3) as plugin:
        assert refusal(await drive(plugin, turns, request=wanting(PERSON))) == MISMATCH
    assert len(turns.asked) == 1


async def test_nothing_is_asked_again_for_a_client_that_has_left() -> None:
    turns = Turns('{"name": 1}', FITS)

    async def left(call: Call) -> Reply:
        call.notes.abandoned = True
        return await turns(call)

    async with structured() as plugin:
        assert refusal(await drive(plugin, left, stream=False, request=wanting(PERSON))) == MISMATCH
    assert len(turns.asked) == 1


async def test_a_text_completion_is_not_asked_for_again() -> None:
    turns = Turns("words", FITS)
    async with structured(schema=PERSON) as plugin:
        driven = await drive(plugin, turns, stream=False, operation="text_completion")
    assert refusal(driven) == MISMATCH
    assert len(turns.asked) == 1


@both
async def test_a_handler_that_raises_is_heard(stream: bool) -> None:
    async def fail(call: Call) -> Reply:
        await call.send(Chunk.of(Text('{"name')))
        raise Refusal(403, "not_here", "No.")

    async with structured() as plugin:
        driven = await drive(plugin, fail, stream=stream, request=wanting(PERSON))
    assert refusal(driven) == (403, "not_here")
    assert driven.text == ('{"name' if stream else "")


# --- fences -----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("policy", ["error", "repair"])
async def test_a_fence_round_the_json_is_taken_off(stream: bool, policy: str) -> None:
    fenced = f"```json\n{FITS}\n```\n"
    async with structured(on_invalid=policy, on_invalid_stream=policy) as plugin:
        driven = await drive(plugin, answers(fenced, stream=stream), stream=stream, request=wanting(PERSON))
    assert driven.error is None
    assert driven.text == FITS


@both
async def test_a_fence_can_be_what_does_not_fit(stream: bool) -> None:
    fenced = f"```json\n{FITS}\n```"
    async with structured(strip_fences=False, repairs=0) as plugin:
        driven = await drive(plugin, answers(fenced, stream=stream), stream=stream, request=wanting(PERSON))
    assert refusal(driven) == MISMATCH
    assert driven.parts == []


# --- tools ------------------------------------------------------------------------------------------------------------


def calling(*arguments: str) -> Handler:
    pieces = [ToolCall(piece, "t1" if not n else None, "look" if not n else None) for n, piece in enumerate(arguments)]

    async def handler(call: Call) -> Reply:
        for piece in pieces:
            await call.send(Chunk.of(piece))
        await call.send(Chunk.of(Finish("tool_calls"), End()))
        return Reply()

    return handler


async def test_the_arguments_of_a_strict_tool_are_held_to_its_parameters() -> None:
    request = Request(model="demo", tools=(STRICT,))
    async with structured() as plugin:
        assert (await drive(plugin, calling("", '{"na', 'me": "x"}'), request=request)).error is None
        stopped = await drive(plugin, calling("", '{"name": 1', ', "age": 7}'), request=request)
        late = await drive(plugin, calling("", '{"age": 7}'), request=request)
    assert refusal(stopped) == refusal(late) == MISMATCH
    assert "tool `look`" in str(stopped.error)
    assert [part.arguments for part in stopped.parts if isinstance(part, ToolCall)] == [""]
    assert not any(isinstance(part, Finish) for part in late.parts)


async def test_a_call_without_arguments_is_an_empty_object() -> None:
    request = Request(model="demo", tools=(Tool("look", None, {"type": "object"}, strict=True),))
    async with structured() as plugin:
        assert (await drive(plugin, calling(""), request=request)).error is None


async def test_tools_that_are_not_strict_are_the_clients_business() -> None:
    loose = Request(model="demo", tools=(Tool("look", None, PERSON),))
    strict = Request(model="demo", tools=(STRICT,))
    async with structured() as plugin:
        assert (await drive(plugin, calling("words"), request=loose)).error is None
    async with structured(tools=False) as plugin:
        assert (await drive(plugin, calling("words"), request=strict)).error is None


async def test_a_wrong_call_is_asked_for_again_in_words() -> None:
    asked: list[Request] = []

    async def handler(call: Call) -> Reply:
        asked.append(call.request)
        return await calling('{"name": "x"}' if len(asked) > 1 else '{"name": 1}')(call)

    async with structured(on_invalid_stream="repair") as plugin:
        driven = await drive(plugin, handler, request=Request(model="demo", tools=(STRICT,)))
    assert driven.error is None
    failed, complaint = asked[1].messages
    assert failed.text == 'look({"name": 1})'
    assert "tool look" in complaint.text


async def test_words_before_a_call_do_not_stop_a_stream() -> None:
    request = wanting(PERSON, tools=(STRICT,))
    async with structured() as plugin:
        words = answers("Let me see.", finish="tool_calls", more=(ToolCall(FITS, "t1", "look"),))
        assert (await drive(plugin, words, request=request)).error is None
        assert refusal(await drive(plugin, answers("Only words."), request=request)) == MISMATCH


# --- how the model is told --------------------------------------------------------------------------------------------


async def asked_of_the_model(request: Request, **settings: Any) -> Request:
    turns = Turns(FITS)
    async with structured(**settings) as plugin:
        driven = await drive(plugin, turns, stream=False, request=request)
    assert driven.error is None
    return turns.asked[0]


async def test_a_request_that_has_its_schema_stays_as_it_is() -> None:
    request = wanting(PERSON)
    assert await asked_of_the_model(request) is request


async def test_the_routes_schema_is_asked_for() -> None:
    asked = await asked_of_the_model(Request(model="demo"), schema=PERSON)
    assert asked.response_format is not None
    assert asked.response_format.schema == PERSON


async def test_a_schema_says_more_than_that_any_object_will_do() -> None:
    asked = await asked_of_the_model(wanting(None, "json_object"), schema=PERSON)
    assert asked.response_format is not None
    assert (asked.response_format.kind, asked.response_format.schema) == ("json_schema", PERSON)
    more = await asked_of_the_model(wanting({"required": ["name"]}), schema=PERSON)
    assert more.response_format == wanting({"required": ["name"]}).response_format


async def test_the_schema_can_be_told_in_words_instead() -> None:
    asked = await asked_of_the_model(wanting(PERSON), tell_model="prompt")
    assert asked.response_format is None
    system, question = asked.messages
    assert system.role == "system"
    assert '"required":["name"]' in system.text
    assert question.text == "Who?"
    again = await asked_of_the_model(msgspec.structs.replace(asked, response_format=wanting(PERSON).response_format))
    assert len(again.messages) == 2


async def test_the_schema_can_be_told_both_ways() -> None:
    asked = await asked_of_the_model(wanting(None, "json_object"), tell_model="both")
    assert asked.response_format is not None
    assert "must be an object" in asked.messages[0].text


# --- what nobody asked for --------------------------------------------------------------------------------------------


def with_body(body: bytes) -> Call:
    call = a_call(HandClock(), delivery="buffered")

    def read() -> Request:
        raise AssertionError("the request was read")

    call.asked = Asked(body=body, fields=msgspec.json.decode(body, type=dict[str, msgspec.Raw]), read=read)
    return call


async def test_a_request_that_asks_for_no_format_is_not_read_and_not_held() -> None:
    async with structured() as plugin:
        call = with_body(b'{"model":"m","messages":[{"role":"user","content":"response_format"}]}')
        seen: list[int] = []

        async def handler(inner: Call) -> Reply:
            seen.append(len(inner.stages))
            return Reply()

        await plugin(call, handler)
        assert seen == [0]
        assert plugin._checker._idle == []


@pytest.mark.parametrize("field", [*_HINTS, "response\\u005fformat", "tools"])
async def test_every_place_of_the_wish_is_found(field: str) -> None:
    """But for what is said there of other things, nothing is decoded."""
    hint = b"strict" if field == "tools" else _HINTS.get(field, b"")
    body = b'{"model":"m","%s":{"r%s":1}}' % (field.encode(), hint)
    async with structured() as plugin:
        with pytest.raises(AssertionError, match="was read"):
            await plugin(with_body(body), answers("x"))
        if _HINTS.get(field) or field == "tools":
            assert (await plugin(with_body(b'{"model":"m","%s":{}}' % field.encode()), answers("x"))).complete


async def test_a_body_that_could_not_be_read_is_left_to_the_core() -> None:
    async with structured(schema={"type": "object"}) as plugin:
        call = a_call(HandClock())
        call.asked = Asked(body=b"{", wrong=Refusal(400, "invalid_json", "Not JSON."))
        assert (await plugin(call, answers("x"))).complete


async def test_a_format_of_text_asks_for_nothing() -> None:
    async with structured() as plugin:
        driven = await drive(plugin, answers("words"), request=wanting(None, "text"))
        assert plugin._checker._idle == []
    assert driven.error is None


async def test_the_check_of_formats_can_be_left_out() -> None:
    async with structured(response_format=False) as plugin:
        assert (await drive(plugin, answers("words"), request=wanting(PERSON))).error is None


async def test_jsonschema_does_not_load_where_only_the_plugin_is_imported() -> None:
    code = "import sys, sidegate_plugins.structured_output; assert 'jsonschema' not in sys.modules"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"
    )
    assert await process.wait() == 0


# --- schemas of the config --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"schema": {"pattern": "("}}, "schema: not a JSON Schema"),
        ({"schema": {"$ref": "https://example.com/s"}}, "nothing is fetched"),
        ({"schema": {"not": {"not": {"not": {}}}}, "max_depth": 3}, "nested deeper than 3"),
        ({"schema": {"type": "object"}, "schema_file": "x.json"}, "not both"),
    ],
)
def test_a_schema_of_the_config_that_cannot_be_used_is_refused_at_the_start(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        StructuredOutput(Settings(**settings), host())


async def test_a_schema_can_be_given_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "person.json").write_text(json.dumps(PERSON))
    async with structured(host(state=tmp_path), schema_file="person.json") as plugin:
        assert (await drive(plugin, answers(FITS))).error is None
        assert refusal(await drive(plugin, answers("words"))) == MISMATCH


# --- hostile schemas --------------------------------------------------------------------------------------------------


def deep(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


def doubling(depth: int) -> dict[str, Any]:
    steps = {f"x{n}": {"allOf": [{"$ref": f"#/$defs/x{n + 1}"}] * 2} for n in range(depth)}
    return {"$ref": "#/$defs/x0", "$defs": {**steps, f"x{depth}": {"type": "object"}}}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"$ref": "http://127.0.0.1:1/x"}, "nothing is fetched"),
        ({"properties": {"a": {"$dynamicRef": "other.json#x"}}}, "nothing is fetched"),
        ({"type": "strin"}, "is not valid under any"),
        ({"pattern": "("}, "is not a 'regex'"),
        ({"enum": ["x" * 5_000_000]}, "larger than 65536 bytes"),
        (deep(65), "nested deeper than 64"),
    ],
)
async def test_a_callers_schema_that_cannot_be_used_is_refused_before_the_provider(
    schema: dict[str, Any], problem: str
) -> None:
    async def provider(call: Call) -> Reply:
        raise AssertionError("reached")

    async with structured() as plugin:
        driven = await drive(plugin, provider, request=wanting(schema))
    assert refusal(driven) == (400, "unsupported_schema")
    assert problem in str(driven.error)


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/$defs/nowhere"}])
async def test_a_reference_that_leads_nowhere_is_the_callers_mistake(schema: dict[str, Any]) -> None:
    async with structured() as plugin:
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
@both
async def test_a_schema_bomb_is_stopped_and_nobody_else_waits(schema: dict[str, Any], text: str, stream: bool) -> None:
    async with structured(timeout=0.5) as plugin:
        answer = answers(text, stream=stream)
        bomb = asyncio.ensure_future(drive(plugin, answer, stream=stream, request=wanting(schema)))
        assert await lag(bomb) < 5  # in this process it would be half a minute
        assert refusal(bomb.result()) == (400, "unsupported_schema")
        after = await drive(plugin, answers(FITS), request=wanting(PERSON))
    assert after.error is None


async def test_a_slow_schema_of_the_route_is_not_the_callers_mistake() -> None:
    slow = {"properties": {"name": {"pattern": EVIL}}}
    async with structured(schema=slow, timeout=0.3) as plugin:
        assert refusal(await drive(plugin, answers(HELD_UP))) == (422, "reply_schema_unchecked")


async def test_a_known_schema_is_not_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bool] = []
    check = Checker.check

    async def noted(self: Checker, schema: bytes, instance: bytes | None = None) -> Verdict:
        checked.append(instance is None)
        return await check(self, schema, instance)

    monkeypatch.setattr(Checker, "check", noted)
    async with structured() as plugin:
        for _ in range(2):
            await drive(plugin, answers(FITS), request=wanting(PERSON))
    assert checked == [True, False, False]


async def test_the_memory_of_schemas_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidegate_plugins._schema_shelf.MOST_KEPT_BYTES", 40)
    async with structured() as plugin:
        for number in range(5):
            await drive(plugin, answers("1"), request=wanting({"minimum": -number}))
        assert len(plugin._shelf._forms) == 2


async def test_a_reply_beyond_what_may_be_held_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(call: Call) -> Reply:
        while True:
            await call.send(Chunk.of(Text('"' if not call.sent else "x" * 2**16)))

    async with structured() as plugin:
        assert refusal(await drive(plugin, endless, request=wanting({}))) == (502, "reply_too_large")


@both
async def test_a_cancelled_call_ends_in_the_midst(stream: bool) -> None:
    begun = asyncio.Event()

    async def stalls(call: Call) -> Reply:
        await call.send(Chunk.of(Text('{"na')))
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with structured() as plugin:
        task = asyncio.ensure_future(drive(plugin, stalls, stream=stream, request=wanting(PERSON)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
