"""What `redact` hides, and how it comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidegate.contract import (
    BlockEnd,
    Call,
    Chunk,
    Citation,
    FileContent,
    Finish,
    Handler,
    ImageContent,
    Message,
    Opaque,
    OpaqueContent,
    Part,
    Reasoning,
    ReasoningContent,
    RefusalText,
    Reply,
    Request,
    ResponseFormat,
    Text,
    TextContent,
    Tool,
    ToolCall,
    ToolResult,
    ToolUse,
)
from sidegate.errors import Refusal
from sidegate.testing import Driven, drive, host
from sidegate_plugins._redact_values import Find
from sidegate_plugins.redact import Redact, Settings
from tests.plugins.speaking import error, letters, tells, user

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
MAIL = "ann@example.com"
BOB = "bob@example.com"


def redact(*find: str | Find, **given: Any) -> Redact:
    return Redact(Settings(find=find or ("email",), **given), host())


async def driven(
    plugin: Redact, *parts: Part, ask: Request | None = None, stream: bool = True, **more: Any
) -> tuple[Driven, Request]:
    """What came of a call, and the request as its provider saw it."""
    seen: list[Request] = []
    done = await drive(
        plugin, tells(*parts, stream=stream, seen=seen), request=ask or user(MAIL), stream=stream, **more
    )
    return done, seen[0] if seen else Request(model="")


# --- there and back ---------------------------------------------------------------------------------------------------


@both
async def test_a_value_is_hidden_from_the_provider_and_comes_back(stream: bool) -> None:
    done, seen = await driven(redact(), *letters("Hello <EMAIL_1>!"), ask=user(f"I am {MAIL}"), stream=stream)
    assert seen.messages[0].text == "I am <EMAIL_1>"
    assert done.text == f"Hello {MAIL}!"


async def test_one_value_has_one_placeholder_and_others_have_others() -> None:
    _, seen = await driven(redact(), ask=user(f"{MAIL} {BOB}", f"{BOB} {MAIL}"))
    assert [content.text for content in seen.messages[0].content] == ["<EMAIL_1> <EMAIL_2>", "<EMAIL_2> <EMAIL_1>"]  # type: ignore[union-attr]


async def test_calls_know_nothing_of_each_other() -> None:
    plugin = redact()
    await driven(plugin, ask=user(MAIL))
    done, _ = await driven(plugin, Text("<EMAIL_1>"), ask=user("nothing"))
    assert done.text == "<EMAIL_1>"


async def test_words_that_look_like_placeholders_stay_what_they_are() -> None:
    done, seen = await driven(redact(), Text("<EMAIL_1> <EMAIL_2>"), ask=user(f"What is <EMAIL_1>? {MAIL}"))
    assert seen.messages[0].text == "What is <EMAIL_1>? <EMAIL_2>"
    assert done.text == f"<EMAIL_1> {MAIL}"


async def test_thinking_of_earlier_turns_does_not_change_how_values_are_named() -> None:
    """It went by with the placeholders in it, and goes back so."""
    thought = Message("assistant", (ReasoningContent("<EMAIL_1> asks", "sig", None, "anthropic"),))
    ask = Request(model="demo", messages=(*user(MAIL).messages, thought))
    _, seen = await driven(redact(), ask=ask)
    assert seen.messages[0].text == "<EMAIL_1>"
    assert seen.messages[1] == thought


@pytest.mark.parametrize("written", ["<EMAIL_1>", "&lt;EMAIL_1&gt;", r"\<EMAIL\_1\>", r"<EMAIL\_1>"])
async def test_placeholders_are_known_as_models_escape_them(written: str) -> None:
    done, _ = await driven(redact(), *letters(f"To {written}."))
    assert done.text == f"To {MAIL}."


async def test_a_conversation_that_the_provider_keeps_gets_placeholders_of_its_own() -> None:
    """Those of earlier calls, which it remembers, are not taken for those of this one."""
    from msgspec import Raw

    from sidegate.contract.call import Asked

    seen: list[Request] = []
    plugin = redact()

    async def handler(call: Call) -> Reply:
        call.asked = Asked(fields={"previous_response_id": Raw(b'"resp_1"')}, read=call.asked.read)
        return await plugin(call, tells(Text("<EMAIL_1>"), seen=seen))

    class Outer(Redact):
        async def __call__(self, call: Call, handler_: Handler) -> Reply:
            return await handler(call)

    done = await drive(Outer(Settings(find=("email",)), host()), handler, request=user(MAIL))
    assert done.error is None
    assert seen[0].messages[0].text == "<EMAIL_000000_1>"
    assert done.text == "<EMAIL_1>"


# --- wherever text stands ---------------------------------------------------------------------------------------------


async def test_all_texts_of_a_request_are_looked_through() -> None:
    nested = json.dumps({"list": [MAIL, {"said": f'"{MAIL}"'}], "n": 1})
    ask = Request(
        model="demo",
        messages=(
            Message("system", (TextContent(MAIL),)),
            Message(
                "user", (TextContent(MAIL), FileContent(data="YW5uQGV4YW1wbGUuY29t", media_type="text/plain")), MAIL
            ),
            Message("assistant", (TextContent(MAIL), ToolUse("1", "f", '{"to":"ann\\u0040example.com"}'))),
            Message(
                "user", (ToolResult("1", (TextContent(nested),)), OpaqueContent("x", {"deep": [MAIL], "id": MAIL}))
            ),
        ),
        tools=(Tool("f", MAIL, {"properties": {"id": {"enum": [MAIL]}}}),),
        response_format=ResponseFormat("json_schema", {"const": MAIL}),
        stop=(MAIL,),
        user=MAIL,
        metadata={"who": MAIL},
        input=(MAIL, (1, 2)),
    )
    _, seen = await driven(redact(), ask=ask)
    mark = "<EMAIL_1>"
    system, turn, said, result = (message.content for message in seen.messages)
    assert system == (TextContent(mark),)
    assert turn == (TextContent(mark), FileContent(data="PEVNQUlMXzE+", media_type="text/plain"))
    assert seen.messages[1].name == mark
    assert said == (TextContent(mark), ToolUse("1", "f", f'{{"to":"{mark}"}}'))
    assert result[0] == ToolResult("1", (TextContent(nested.replace(MAIL, mark)),))
    assert result[1] == OpaqueContent("x", {"deep": [mark], "id": MAIL})
    assert seen.tools == (Tool("f", mark, {"properties": {"id": {"enum": [mark]}}}),)
    assert (seen.response_format, seen.stop) == (ResponseFormat("json_schema", {"const": mark}), (mark,))
    assert (seen.user, seen.metadata, seen.input) == (mark, {"who": mark}, (mark, (1, 2)))


async def test_a_field_without_a_word_may_not_hold_a_value() -> None:
    done, _ = await driven(redact(), ask=user("hi", extra={"suffix": {"a": [f"x {MAIL}"]}}))
    assert (error(done).status, error(done).code, error(done).param) == (400, "redaction_impossible", "suffix")
    assert MAIL not in error(done).message


async def test_a_request_that_holds_nothing_is_not_touched() -> None:
    ask = user("hi")
    done, seen = await driven(redact(), Text("x <EMAIL_1>"), ask=ask)
    assert seen is ask
    assert not done.call.notes.edited
    assert done.call.request_changed is None


@pytest.mark.parametrize(
    "content",
    [ImageContent(url="http://x"), FileContent(data="AA==", media_type="application/pdf"), OpaqueContent("a", {})],
)
async def test_what_cannot_be_looked_through_is_refused_where_it_is_asked_for(content: Any) -> None:
    ask = Request(model="demo", messages=(Message("user", (TextContent("hi"), content)),))
    passed, _ = await driven(redact(), ask=ask)
    assert passed.error is None
    refused, _ = await driven(redact(unreadable="refuse"), ask=ask)
    assert error(refused).code == "redaction_impossible"


async def test_tokens_cannot_be_looked_through() -> None:
    refused, _ = await driven(
        redact(unreadable="refuse"), ask=Request(model="m", input=((1, 2),)), operation="embeddings"
    )
    assert error(refused).code == "redaction_impossible"


async def test_a_large_request_is_looked_through_beside_the_loop() -> None:
    from sidegate.contract.call import Asked

    plugin, seen = redact(), []  # type: ignore[var-annotated]
    text = ("word " * 50 + MAIL + " ") * 400

    class Large(Redact):
        async def __call__(self, call: Call, handler: Handler) -> Reply:
            call.asked = Asked(body=text.encode(), read=lambda: user(text))
            return await plugin(call, handler)

    done = await drive(Large(Settings(find=("email",)), host()), tells(Text("<EMAIL_1>"), seen=seen))
    assert done.error is None
    assert seen[0].messages[0].text == text.replace(MAIL, "<EMAIL_1>")
    assert done.text == MAIL


# --- modes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "expected"), [("mask", "a <STAFF> b"), ("remove", "a  b"), ("reversible", "a <STAFF_1> b")]
)
async def test_modes_of_a_request(mode: Any, expected: str) -> None:
    _, seen = await driven(redact(Find(name="staff", expression=r"E-\d{6}", mode=mode)), ask=user("a E-123456 b"))
    assert seen.messages[0].text == expected


async def test_a_request_is_refused_without_its_value() -> None:
    done, seen = await driven(redact(Find(name="email", mode="refuse")))
    assert (error(done).status, error(done).code) == (400, "redaction_refused")
    assert "email" in error(done).message
    assert MAIL not in error(done).message
    assert seen.messages == ()


@both
@pytest.mark.parametrize(
    ("mode", "expected"), [("mask", "by <EMAIL>."), ("remove", "by ."), ("reversible", "by <EMAIL>.")]
)
async def test_modes_of_a_reply(stream: bool, mode: Any, expected: str) -> None:
    plugin = redact(Find(name="email", mode=mode, direction="reply"))
    done, seen = await driven(plugin, *letters(f"by {BOB}."), stream=stream)
    assert done.text == expected
    assert seen.messages[0].text == MAIL


@both
async def test_a_reply_is_refused_before_its_value_is_told(stream: bool) -> None:
    done, _ = await driven(
        redact(Find(name="email", mode="refuse", direction="reply")), *letters(f"by {BOB}."), stream=stream
    )
    assert (error(done).status, error(done).code) == (502, "redaction_refused")
    assert "bob" not in done.text
    assert BOB not in error(done).message


@both
async def test_the_callers_own_values_come_back_and_others_are_masked(stream: bool) -> None:
    done, _ = await driven(redact(Find(name="email", direction="both")), *letters(f"<EMAIL_1>, {BOB}."), stream=stream)
    assert done.text == f"{MAIL}, <EMAIL>."


# --- replies ----------------------------------------------------------------------------------------------------------

QUOTED = 'C:\\new "x"\n😀'


@both
@given(cuts=st.lists(st.integers(0, 80), max_size=9))
@settings(deadline=None, max_examples=30)
async def test_arguments_of_tools_stay_json(stream: bool, cuts: list[int]) -> None:
    plugin = redact(Find(name="secret", expression=r"C:[^!]{3,20}😀"))
    text = '{"path": "\\u003cSECRET_1\\u003e!", "n": [1, "<SECRET_1>"]}'
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [ToolCall(text[a:b], block=1) for a, b in zip(places, places[1:], strict=False)]
    done, _ = await driven(plugin, ToolCall("", "c1", "f", 0, 1), *pieces, ask=user(f"{QUOTED}!"), stream=stream)
    calls = [part for part in done.parts if isinstance(part, ToolCall)]
    assert (calls[0].id, calls[0].name) == ("c1", "f")
    assert json.loads("".join(call.arguments for call in calls)) == {"path": f"{QUOTED}!", "n": [1, QUOTED]}


async def test_a_structured_answer_stays_json() -> None:
    plugin = redact(Find(name="secret", expression=r"C:[^!]{3,20}😀"))
    ask = user(f"{QUOTED}!", response_format=ResponseFormat("json_object"))
    done, _ = await driven(plugin, *letters('{"a": "<SECRET_1>"}'), ask=ask)
    assert json.loads(done.text) == {"a": QUOTED}


async def test_choices_are_told_apart() -> None:
    parts = [part for pair in zip(letters("<EMAIL_1>"), letters("<EMAIL_9>", choice=1), strict=True) for part in pair]
    done, _ = await driven(redact(), *parts, Finish("stop", 1))
    texts = {choice: "".join(p.text for p in done.parts if type(p) is Text and p.choice == choice) for choice in (0, 1)}
    assert texts == {0: MAIL, 1: "<EMAIL_9>"}


async def test_text_that_is_held_stands_before_what_comes_after_it() -> None:
    done, _ = await driven(
        redact(), Text("see <EM"), ToolCall("{}", "c", "f", 0, 1), Text("AIL", block=2), BlockEnd(0, 2)
    )
    kinds = [(type(part).__name__, getattr(part, "text", "")) for part in done.parts[1:5]]
    assert kinds == [("Text", "see "), ("Text", "<EM"), ("ToolCall", ""), ("Text", "AIL")]


async def test_a_placeholder_that_other_content_parts_is_no_placeholder_any_more() -> None:
    done, _ = await driven(redact(), Text("<EMA"), ToolCall("{}", "c", "f", 0, 1), Text("IL_1>"))
    assert error(done).code == "split_text"
    assert MAIL not in done.text


async def test_refusals_citations_and_what_has_no_word_are_rewritten() -> None:
    cited = Citation(url="http://x/<EMAIL_1>", title="<EMAIL_1>", quote="q", data={"title": "<EMAIL_1>"})
    done, _ = await driven(
        redact(),
        RefusalText("no, <EMAIL"),
        RefusalText("_1>"),
        cited,
        Opaque("x", data={"a": ["<EMAIL_1>"], "id": "<EMAIL_1>"}),
    )
    assert "".join(part.text for part in done.parts if isinstance(part, RefusalText)) == f"no, {MAIL}"
    (citation,) = (part for part in done.parts if isinstance(part, Citation))
    assert (citation.url, citation.title, citation.data) == (f"http://x/{MAIL}", MAIL, None)
    (opaque,) = (part for part in done.parts if isinstance(part, Opaque))
    assert opaque.data == {"a": [MAIL], "id": "<EMAIL_1>"}


@both
async def test_thinking_passes_as_it_came_so_that_its_signature_holds(stream: bool) -> None:
    thought = [Reasoning("<EMAIL_1> a"), Reasoning("sks"), Reasoning(signature="sig", vendor="anthropic")]
    done, _ = await driven(redact(), *thought, BlockEnd(), Text("ok", block=1), stream=stream)
    assert done.error is None
    assert "".join(part.text for part in done.parts if isinstance(part, Reasoning)) == "<EMAIL_1> asks"


@both
@pytest.mark.parametrize("signed", [True, False])
async def test_thinking_is_looked_through_where_replies_are(stream: bool, signed: bool) -> None:
    """One that is signed and holds a value is refused, for it can be changed by nobody; others pass whole."""
    plugin = redact(Find(name="email", direction="reply"))
    seal = [Reasoning(signature="sig", vendor="anthropic")] if signed else []
    clean, _ = await driven(plugin, *map(Reasoning, "he asks me"), *seal, BlockEnd(), stream=stream)
    assert clean.error is None
    assert "".join(part.text for part in clean.parts if isinstance(part, Reasoning)) == "he asks me"
    found, _ = await driven(plugin, *map(Reasoning, f"it is {BOB} "), *seal, BlockEnd(), stream=stream)
    thought = "".join(part.text for part in found.parts if isinstance(part, Reasoning))
    if signed:
        assert error(found).code == "signed_block_changed"
    else:
        assert thought == "it is <EMAIL> "
    assert "bob" not in thought


async def test_an_embedding_is_not_looked_at() -> None:
    done, _ = await driven(redact(), ask=Request(model="m", input=(MAIL,)), operation="embeddings")
    assert not done.call.notes.edited


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("find", "why"),
    [
        (("emial",), "'emial' is not known, and has no expression; known are email, phone"),
        (("email", "email"), "twice"),
        ((Find(name="x", expression="a*"),), "the expression of 'x' may match the empty text"),
    ],
)
def test_settings_that_cannot_work_are_refused(find: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        redact(*find)


async def test_a_provider_that_fails_is_told_as_it_is() -> None:
    async def failing(call: Call) -> Reply:
        await call.send(Chunk.of(Text("<EMA")))
        raise Refusal(429, "slow_down", "Later.")

    done = await drive(redact(), failing, request=user(MAIL))
    assert error(done).code == "slow_down"
    assert done.text == ""
