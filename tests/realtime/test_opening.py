"""The shared floor of sockets: masks, close codes, and what a handshake says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from sidegate.cors import Origins
from sidegate.errors import Cancelled, CutError, Ending, GatewayStopping, Refusal
from sidegate.sockets.closing import Closed, closing_for, may_be_sent, passed_on, reason_bytes
from sidegate.sockets.masking import Masks
from sidegate.sockets.opening import Opening, read_opening


def frame(payload: int, masked: bool) -> bytes:
    bit = 0x80 if masked else 0
    if payload < 126:
        head = bytes([0x82, bit | payload])
    elif payload < 2**16:
        head = bytes([0x82, bit | 126]) + payload.to_bytes(2, "big")
    else:
        head = bytes([0x82, bit | 127]) + payload.to_bytes(8, "big")
    # A payload that looks like the head of a frame without a mask.
    return head + (b"\x11\x22\x33\x44" if masked else b"") + b"\x82\x05" * (payload // 2) + b"\x82" * (payload % 2)


def whole(data: bytes, cuts: list[int]) -> bool:
    masks, places = Masks(), sorted({cut % (len(data) + 1) for cut in cuts})
    pieces = [data[at:to] for at, to in zip([0, *places], [*places, len(data)], strict=True)]
    return all(masks.hold(piece) for piece in pieces if piece)


@given(
    st.lists(st.sampled_from([0, 1, 5, 125, 126, 127, 300, 65535, 65536]), min_size=1, max_size=4),
    st.lists(st.integers(0, 200_000)),
    st.data(),
)
def test_a_frame_without_a_mask_is_seen_wherever_the_bytes_are_cut(
    sizes: list[int], cuts: list[int], data: st.DataObject
) -> None:
    assert whole(b"".join(frame(size, True) for size in sizes), cuts)
    bare = data.draw(st.integers(0, len(sizes) - 1))
    assert not whole(b"".join(frame(size, at != bare) for at, size in enumerate(sizes)), cuts)


def opening(*headers: tuple[str, str], origins: tuple[str, ...] = (), upgrades: bool = True) -> Opening:
    told = CIMultiDictProxy(CIMultiDict([("Host", "gate.example:8080"), *headers]))
    return read_opening(told, Origins(origins) if origins else None, upgrades=upgrades)


def code(found: Opening) -> str | None:
    return found.wrong.code if found.wrong is not None else None


def test_a_key_in_a_subprotocol_stands_where_plugins_look_for_it() -> None:
    found = opening(("Sec-WebSocket-Protocol", "realtime, openai-insecure-api-key.sk-1, openai-beta.realtime-v1"))
    assert found.headers["authorization"] == "Bearer sk-1"
    assert found.protocols == ("realtime", "openai-beta.realtime-v1")
    assert found.wrong is None


def test_two_keys_are_no_key() -> None:
    name = "Sec-WebSocket-Protocol"
    assert code(opening((name, "openai-insecure-api-key.a"), ("Authorization", "Bearer b"))) == "ambiguous_credentials"
    assert code(opening((name, "openai-insecure-api-key.a, sidegate-api-key.b"))) == "ambiguous_credentials"


def test_a_page_of_another_origin_opens_nothing_unless_it_is_named() -> None:
    assert code(opening(("Origin", "https://app.example"))) == "origin_not_allowed"
    assert code(opening(("Origin", "null"))) == "origin_not_allowed"
    assert code(opening(("Origin", "http://gate.example:8080"))) is None
    assert code(opening(("Origin", "http://gate.example"))) == "origin_not_allowed"
    assert code(opening(("Origin", "https://app.example"), origins=("https://app.example",))) is None
    assert code(opening()) is None


def test_what_is_no_handshake_is_told_what_would_be_one() -> None:
    wrong = opening(upgrades=False).wrong
    assert wrong is not None
    assert wrong.status == 426
    assert wrong.headers["Sec-WebSocket-Version"] == "13"


def test_how_a_call_ended_is_how_its_socket_is_closed() -> None:
    found = {
        1000: None,
        1001: GatewayStopping(),
        1008: Refusal(429, "insufficient_quota", "No."),
        1013: Refusal(503, "overloaded", "No."),
        1014: CutError("Cut."),
        4499: Cancelled(Ending.CANCELLED),
    }
    assert {how: closing_for(error).code for how, error in found.items()} == {how: how for how in found}


def test_a_code_that_no_frame_bears_is_not_passed_on() -> None:
    assert passed_on(Closed(1006)).code == 1014
    assert passed_on(Closed(1005)).code == 1000
    assert passed_on(Closed(1015)).code == 1014
    assert passed_on(Closed(4001, "mine")) == Closed(4001, "mine")
    assert not any(may_be_sent(number) for number in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000))


def test_a_long_reason_is_cut_between_characters() -> None:
    assert len(reason_bytes("ä" * 100)) == 122
    assert reason_bytes("ä" * 100).decode() == "ä" * 61
