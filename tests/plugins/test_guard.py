"""What `guard` lets pass: patterns, an endpoint that moderates, and what is held meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
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
    RefusalText,
    Reply,
    Request,
    Text,
    TextContent,
    ToolCall,
    ToolResult,
    ToolUse,
)
from sidegate.errors import ConnectError, PhaseTimeout, Refusal, ReplyError
from sidegate.testing import Driven, KeptEvents, drive, host
from sidegate_plugins._guard_moderation import Moderation
from sidegate_plugins.guard import Guard, Settings
from tests.plugins.speaking import error, letters, tells, user

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
DENY = {"bombs": r"(?i)\bpipe\s?bomb"}
CLEAN = {"flagged": False, "categories": {}, "category_scores": {}}


class Endpoint:
    """Stands for `host.http`: keeps what it was asked, and answers what the test says."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any] | Exception) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.headers: Mapping[str, str] = {}
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout: float, max_bytes: int) -> bytes:
        asked = json.loads(body)
        self.asked.append(asked)
        self.reached.set()
        self.headers = headers
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        answer = self.answer(asked)
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    async def get(self, url: str, headers: Mapping[str, str], *, timeout: float, max_bytes: int) -> bytes:
        raise AssertionError("nothing is fetched")

    @property
    def texts(self) -> list[str]:
        return ["".join(asked["input"]) for asked in self.asked]


def flags(*words: str, category: str = "violence") -> Endpoint:
    """An endpoint of OpenAI's shape that flags texts with one of these words."""

    def answer(asked: dict[str, Any]) -> Any:
        found = [any(word in text for word in words) for text in asked["input"]]
        scores = [{category: 0.9 if each else 0.1} for each in found]
        return {
            "results": [
                {"flagged": each, "categories": {category: each}, "category_scores": score}
                for each, score in zip(found, scores, strict=True)
            ]
        }

    return Endpoint(answer)


async def guard(endpoint: Endpoint | None = None, moderation: Mapping[str, Any] | None = None, **given: Any) -> Guard:
    if endpoint is not None:
        given["moderation"] = Moderation(url="http://moderator/v1/moderations", **(moderation or {}))
    plugin = Guard(Settings(**given), host(http=endpoint) if endpoint else host())
    await plugin.start()
    return plugin


async def driven(plugin: Guard, *parts: Part, ask: Request | None = None, stream: bool = True, **more: Any) -> Driven:
    return await drive(plugin, tells(*parts, stream=stream), request=ask or user("hi"), stream=stream, **more)


def is_denied(done: Driven, rule: str) -> bool:
    return (error(done).status, error(done).code) == (400, "content_filter") and f"`{rule}`" in error(done).message


# --- requests: patterns -----------------------------------------------------------------------------------------------

PIPE = "How do I build a Pipe Bomb?"


@pytest.mark.parametrize(
    "content",
    [
        TextContent(PIPE),
        ToolResult("1", (TextContent(PIPE),)),
        FileContent(data="YSBwaXBlIGJvbWI=", media_type="text/plain"),
        FileContent(data="AA==", name="pipe bomb.pdf"),
        OpaqueContent("x", {"deep": ["a pipe bomb"]}),
    ],
)
async def test_what_a_user_may_not_say_is_denied_wherever_it_stands(content: Any) -> None:
    ask = Request(model="demo", messages=(Message("user", (TextContent("see"), content)), Message("assistant", ())))
    done = await driven(await guard(deny=DENY), Text("never"), ask=ask)
    assert is_denied(done, "bombs")
    assert "ipe" not in error(done).message
    assert done.parts == []


async def test_the_log_says_the_rule_and_not_the_words() -> None:
    kept = KeptEvents()
    plugin = Guard(Settings(deny=DENY), host(log=kept))
    await plugin.start()
    await drive(plugin, tells(), request=user(PIPE))
    assert kept.events == [("guard_denied", {"call": "0" * 32, "stage": "request", "rule": "bombs"})]


async def test_roles_say_whose_turns_are_judged() -> None:
    use = ToolUse("1", "f", '{"q": "pipe\\u0020bomb"}')
    for role, content in (("system", TextContent(PIPE)), ("assistant", TextContent(PIPE)), ("assistant", use)):
        ask = Request(model="demo", messages=(Message(role, (content,)), *user("hi").messages))  # type: ignore[arg-type]
        assert (await driven(await guard(deny=DENY), ask=ask)).error is None
        assert is_denied(await driven(await guard(deny=DENY, roles=(role,)), ask=ask), "bombs")


async def test_turns_before_the_models_last_one_can_be_left_out() -> None:
    said = Message("assistant", (TextContent("no"),))
    ask = Request(model="demo", messages=(*user(PIPE).messages, said, *user("sorry").messages))
    assert is_denied(await driven(await guard(deny=DENY), ask=ask), "bombs")
    assert (await driven(await guard(deny=DENY, turns="latest"), ask=ask)).error is None


async def test_what_is_embedded_and_fields_without_a_word_are_judged() -> None:
    plugin = await guard(deny=DENY)
    embedded = await driven(plugin, ask=Request(model="m", input=("a", PIPE)), operation="embeddings")
    assert is_denied(embedded, "bombs")
    assert is_denied(await driven(plugin, ask=user("a", extra={"suffix": PIPE})), "bombs")


async def test_where_something_is_allowed_nothing_else_is() -> None:
    plugin = await guard(allow={"weather": "(?i)weather", "news": "(?i)news"}, check="request")
    said = Message("assistant", (TextContent("Sunny."),))
    assert (await driven(plugin, ask=user("The Weather?"))).error is None
    assert is_denied(await driven(plugin, ask=user("A poem")), "allow")
    after = Request(model="m", messages=(*user("The weather?").messages, said, *user("A poem").messages))
    assert is_denied(await driven(plugin, ask=after), "allow")
    assert is_denied(await driven(plugin, ask=Request(model="m")), "allow")
    assert is_denied(await driven(plugin, ask=Request(model="m", input=("news", "x")), operation="embeddings"), "allow")


async def test_what_is_denied_is_denied_though_it_is_allowed() -> None:
    plugin = await guard(allow={"any": "."}, deny=DENY)
    assert is_denied(await driven(plugin, ask=user(PIPE)), "bombs")


async def test_what_cannot_be_judged_is_refused_where_it_is_asked_for() -> None:
    ask = Request(model="m", messages=(Message("user", (TextContent("x"), ImageContent(url="http://x"))),))
    assert (await driven(await guard(deny=DENY), ask=ask)).error is None
    assert error(await driven(await guard(deny=DENY, unreadable="refuse"), ask=ask)).code == "content_unreadable"


async def test_a_guard_of_requests_leaves_replies_alone() -> None:
    done = await driven(await guard(deny=DENY, check="request"), Text("pipe bomb"))
    assert done.text == "pipe bomb"
    assert not done.call.notes.edited
    assert done.call.stages == []


async def test_a_guard_of_replies_leaves_requests_alone() -> None:
    assert (await driven(await guard(deny=DENY, check="reply"), ask=user(PIPE))).error is None


# --- replies: patterns ------------------------------------------------------------------------------------------------


@both
async def test_a_reply_is_stopped_before_the_words_are_told(stream: bool) -> None:
    done = await driven(await guard(deny=DENY), *letters("So, a pipe bomb is"), stream=stream)
    assert is_denied(done, "bombs")
    assert done.text == ("So, a " if stream else "")


@given(cuts=st.lists(st.integers(0, 60), max_size=8), text=st.text("pie bomPx ", max_size=40))
@settings(deadline=None, max_examples=100)
async def test_what_passes_does_not_hang_on_where_the_reply_is_cut(cuts: list[int], text: str) -> None:
    plugin = await guard(deny=DENY)
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [Text(text[a:b]) for a, b in zip(places, places[1:], strict=False)]
    done = await driven(plugin, *pieces)
    whole = await driven(plugin, Text(text), stream=False)
    assert (done.error is None) is (whole.error is None)
    if done.error is None:
        assert done.text == whole.text == text


@given(cuts=st.lists(st.integers(0, 120), max_size=30), escaped=st.booleans())
@settings(deadline=None, max_examples=100)
async def test_no_beginning_of_a_match_passes_in_arguments_however_they_are_escaped(
    cuts: list[int], escaped: bool
) -> None:
    word = "".join(f"\\u{ord(letter):04x}" for letter in "pipe bomb") if escaped else "pipe bomb"
    before = '{"q": "how to '
    text = before + word + '"}'
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [ToolCall(text[a:b]) for a, b in zip(places, places[1:], strict=False)]
    done = await driven(await guard(deny=DENY), ToolCall("", "1", "f"), *pieces)
    assert is_denied(done, "bombs")
    told = "".join(part.arguments for part in done.parts if isinstance(part, ToolCall))
    assert before.startswith(told)


@pytest.mark.parametrize(
    "parts",
    [
        [Reasoning("a pipe "), Reasoning("bomb")],
        [RefusalText("a pipe "), RefusalText("bomb")],
        [ToolCall("", "1", "f"), ToolCall('{"q": "pipe\\u00'), ToolCall('20bomb"}')],
        [Text("x"), Citation(quote="a pipe bomb")],
        [Opaque("x", data={"deep": ["a pipe bomb"]})],
        [Text("a pipe "), ToolCall("{}", "1", "f", 0, 1), Text("bomb")],
        [Text("a pipe "), Text("x", choice=1), Text("bomb")],
    ],
)
@both
async def test_a_reply_is_judged_wherever_its_words_stand(parts: list[Part], stream: bool) -> None:
    assert is_denied(await driven(await guard(deny=DENY), *parts, stream=stream), "bombs")


@pytest.mark.parametrize("first", [Text(""), ToolCall("", "1", "f"), Reasoning()])
async def test_a_reply_does_not_begin_before_its_first_words_are_judged(first: Part) -> None:
    """A client that has seen nothing gets a status."""
    kind = type(first)
    more: Part = ToolCall('"pipe bomb"') if kind is ToolCall else kind(text="a pipe bomb")  # type: ignore[call-arg]
    done = await driven(await guard(deny=DENY, every=1), first, more)
    assert is_denied(done, "bombs")
    endpoint = flags("bomb")
    moderated = await driven(await guard(endpoint, check="reply", every=1), first, more)
    assert is_denied(moderated, "violence")
    assert moderated.parts == []
    alone = await driven(await guard(deny=DENY), first)
    assert first in alone.parts


async def test_the_same_words_in_two_choices_are_no_match() -> None:
    parts: list[Part] = [Text("a pipe "), Text("bomb", choice=1), Finish("stop", 1)]
    assert (await driven(await guard(deny=DENY), *parts)).error is None


@both
async def test_what_may_pass_passes_in_its_order_and_as_it_came(stream: bool) -> None:
    parts: list[Part] = [
        Reasoning("thinking of p"), Reasoning(signature="s", vendor="anthropic"), BlockEnd(), Text("a pip", block=1),
        Citation(title="t", start=0, end=5, block=1), ToolCall("", "1", "f", 0, 2), ToolCall('{"a": "pi', block=2),
        ToolCall('"}', block=2), BlockEnd(0, 2), Text("e", block=1), BlockEnd(0, 1), Opaque("x", data={}),
    ]  # fmt: skip
    done = await driven(await guard(deny=DENY), *parts, stream=stream)
    assert done.error is None
    assert done.parts[1:-3] == parts


async def test_no_more_is_held_than_may_become_a_match() -> None:
    sent: list[str] = []

    async def handler(call: Call) -> Reply:
        for piece in ("Hello ", "there, pi", "gs. A pipe"):
            await call.send(Chunk.of(Text(piece)))
            sent.append("".join(part.text for part in done_parts(call) if isinstance(part, Text)))
        raise Refusal(418, "over", "Over.")

    def done_parts(call: Call) -> list[Part]:
        return call._outlet.parts  # type: ignore[attr-defined, no-any-return]

    await drive(await guard(deny=DENY), handler, request=user("hi"))
    assert sent == ["Hello ", "Hello ", "Hello there, pi"]


# --- an endpoint that moderates ---------------------------------------------------------------------------------------


async def test_a_request_is_moderated_with_the_key_and_the_model() -> None:
    endpoint = flags("kill")
    plugin = await guard(endpoint, {"key": "sk-1", "model": "omni"})
    assert (await driven(plugin, ask=user("hi", "there"))).error is None
    assert endpoint.asked[0] == {"input": ["hi", "there"], "model": "omni"}
    assert endpoint.headers["Authorization"] == "Bearer sk-1"
    assert is_denied(await driven(plugin, ask=user("hi", "kill")), "violence")


async def test_long_texts_are_asked_in_pieces() -> None:
    endpoint = flags("kill")
    await driven(await guard(endpoint, {"piece": 100}, check="request"), ask=user("a" * 250))
    assert [len(text) for text in endpoint.asked[0]["input"]] == [100, 100, 50]


@pytest.mark.parametrize(
    ("result", "thresholds", "rule"),
    [
        ({"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.6}}, {}, "hate"),
        ({"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.6}}, {"hate": 0.7}, None),
        ({"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.6}}, {"hate": 0.5}, "hate"),
        ({"flagged": True, "categories": {"a": True, "b": True}, "category_scores": {"a": 0.1}}, {"a": 0.5}, "b"),
        ({"flagged": True}, {}, "flagged"),
        ({"flagged": True, "categories": {}}, {}, "flagged"),
        ({"flagged": False, "categories": {"a": None}}, {}, None),
        ({"flagged": True, "categories": {"x`\n<": True}}, {}, "x___"),
    ],
)
async def test_verdicts_of_openais_shape(result: Any, thresholds: dict[str, float], rule: str | None) -> None:
    endpoint = Endpoint(lambda asked: {"id": "m", "results": [result]})
    done = await driven(await guard(endpoint, {"thresholds": thresholds}, check="request"))
    assert done.error is None if rule is None else is_denied(done, rule)


async def test_a_webhook_says_yes_or_no() -> None:
    endpoint = Endpoint(lambda asked: {"allow": "bad" not in asked["texts"][0], "rule": "house rules"})
    plugin = await guard(endpoint, {"kind": "webhook"})
    assert (await driven(plugin, Text("fine"))).error is None
    assert endpoint.asked[0] == {"call": "0" * 32, "stage": "request", "texts": ["hi"]}
    assert endpoint.asked[1] == {"call": "0" * 32, "stage": "reply", "texts": ["fine"]}
    assert is_denied(await driven(plugin, ask=user("bad")), "house rules")


@pytest.mark.parametrize("kind", ["openai", "webhook"])
@pytest.mark.parametrize(
    "answer",
    [
        ConnectError("down"),
        *(ReplyError("a redirect", provider_status=302), PhaseTimeout("total", 1), b"", b"<html>"),
        *(b"{}", b"null", b'{"results": []}', b'{"results": [{"flagged": "no"}]}', b'{"results": [{"flagged": null}]}'),
        *(b'{"allow": "yes"}', b'{"allow": null}', b"[" * 100_000),
        b'{"results": [{"flagged": false}, {"flagged": false}]}',
    ],
)
@pytest.mark.parametrize("check", ["request", "reply"])
async def test_whatever_is_no_clear_yes_does_not_pass(kind: str, answer: Any, check: str) -> None:
    endpoint = Endpoint(answer if isinstance(answer, Exception) else lambda asked: answer)
    done = await driven(await guard(endpoint, {"kind": kind}, check=check), Text("fine"))
    assert (error(done).status, error(done).code) == (503, "moderation_unavailable")
    assert done.text == ""


async def test_a_category_whose_score_is_missing_is_no_clear_yes() -> None:
    endpoint = Endpoint(lambda asked: {"results": [CLEAN]})
    done = await driven(await guard(endpoint, {"thresholds": {"hate": 0.5}}, check="request"))
    assert error(done).code == "moderation_unavailable"


async def test_an_endpoint_that_is_silent_is_no_clear_yes() -> None:
    endpoint = flags()
    endpoint.open.clear()
    done = await driven(await guard(endpoint, {"timeout": 0.05}, check="request"))
    assert error(done).code == "moderation_unavailable"


async def test_no_more_questions_at_a_time_than_may_be() -> None:
    endpoint = flags()
    endpoint.open.clear()
    plugin = await guard(endpoint, {"at_once": 2, "timeout": 30}, check="request")
    calls = [asyncio.ensure_future(driven(plugin)) for _ in range(5)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(endpoint.asked) == 2
    endpoint.open.set()
    assert [done.error for done in await asyncio.gather(*calls)] == [None] * 5


async def test_patterns_are_asked_first() -> None:
    endpoint = flags("x")
    assert is_denied(await driven(await guard(endpoint, deny=DENY), ask=user(PIPE)), "bombs")
    assert endpoint.asked == []


# --- what is held for it ----------------------------------------------------------------------------------------------


async def test_nothing_of_a_stream_passes_before_it_is_judged() -> None:
    endpoint = flags("kill")
    plugin = await guard(endpoint, check="reply", every=20, window=40)
    done = await driven(plugin, *letters("One good sentence. Two. And then they kill them all. "))
    assert is_denied(done, "violence")
    assert done.text == "One good sentence. Two."


async def test_text_is_judged_at_the_end_of_a_sentence_and_at_the_window_with_what_was_before() -> None:
    endpoint = flags("kill")
    plugin = await guard(endpoint, check="reply", every=10, window=20)
    text = "One two. Three four. " + "x" * 30
    done = await driven(plugin, *letters(text))
    assert done.text == text
    assert endpoint.texts == [
        "One two. Three four.",
        "One two. Three four. " + "x" * 19,
        text,
    ]


async def test_a_whole_reply_is_judged_once() -> None:
    endpoint = flags("kill")
    parts: list[Part] = [Text("a. " * 50), Text("b. " * 50, choice=1), ToolCall('{"a": 1}', "1", "f", 0, 1)]
    done = await driven(await guard(endpoint, check="reply", every=10, window=10), *parts, stream=False)
    assert done.error is None
    assert endpoint.asked == [{"input": ["a. " * 50, "b. " * 50, '{"a": 1}']}]


async def test_what_stands_beside_the_text_is_judged_before_it_passes() -> None:
    endpoint = flags("kill")
    plugin = await guard(endpoint, check="reply")
    done = await driven(plugin, Opaque("x", data={"a": ["kill"]}), Text("fine"))
    assert is_denied(done, "violence")
    assert done.parts == []


async def test_a_reply_without_words_asks_nobody() -> None:
    endpoint = flags("kill")
    done = await driven(await guard(endpoint, check="reply"), Text(""), Text(" \n"))
    assert done.error is None
    assert endpoint.asked == []


async def test_no_more_is_held_than_a_reply_may_be_held() -> None:
    endpoint = flags("kill")
    plugin = await guard(endpoint, check="reply")

    class Small(Guard):
        async def __call__(self, call: Call, handler: Handler) -> Reply:
            call.hold_limit = 1000
            return await plugin(call, handler)

    small = Small(plugin.settings, plugin.host)
    done = await drive(small, tells(Text("x" * 2000), stream=False), request=user("hi"), stream=False)
    assert error(done).code == "reply_too_large"


async def test_a_call_that_is_cancelled_leaves_no_question_behind() -> None:
    endpoint = flags()
    endpoint.open.clear()
    plugin = await guard(endpoint, {"at_once": 1, "timeout": 30}, check="reply")
    task = asyncio.ensure_future(driven(plugin, Text("fine")))
    await endpoint.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    endpoint.open.set()
    assert (await driven(plugin, Text("fine"))).text == "fine"


async def test_what_was_held_is_dropped_where_the_provider_fails() -> None:
    async def failing(call: Call) -> Reply:
        await call.send(Chunk.of(Text("a pipe")))
        raise Refusal(429, "slow_down", "Later.")

    done = await drive(await guard(deny=DENY), failing, request=user("hi"))
    assert error(done).code == "slow_down"
    assert done.text == ""


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "nothing would be judged"),
        ({"allow": {"a": "x"}, "check": "reply"}, "allow is for requests"),
        ({"deny": {"a": "x*"}}, "deny: the expression of 'a' may match the empty text"),
        ({"deny": DENY, "every": 500, "window": 100}, "window is smaller than every"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Guard(Settings(**given), host())
