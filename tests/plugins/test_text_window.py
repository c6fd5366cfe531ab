"""Texts in pieces: what is found, what is held, and patterns that are refused."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sidegate.errors import Refusal
from sidegate_plugins._redact_known import KNOWN
from sidegate_plugins._text_pattern import MOST, parsed
from sidegate_plugins._text_window import JsonWindow, Patterns, Window, rewritten

NAMES = list(KNOWN)
ALL = Patterns([parsed(known.expression) for known in KNOWN.values()], [known.check for known in KNOWN.values()])
OWN = [
    r"\d+(?!\w)",
    r"\bfoo\b",
    r"@\bbar",
    r"a{2,4}b?",
    r"(?:ab|abc|b){1,5}d",
    r"(?:fo|ba)+d",
    r"x.*?y",
    r"a{,}b",
    r"a{}|1{2}",
    r"(?m)^[]a]|b$",
    r"(?<=key=)\S+",
    r"foo(?=bar)",
    r"end$",
    r"^begin",
    r"(?i)Kill(?-i:All)",
    r"[^\W\d]{3}-\d{1,3}",
]


def marked(number: int, value: str) -> str:
    return f"⟦{number}:{value}⟧"


def seen(text: str, patterns: Patterns) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []

    def note(number: int, value: str) -> str:
        found.append((number, value))
        return value

    rewritten(text, patterns, note)
    return found


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[a:b] for a, b in zip(places, places[1:], strict=False)]


def fed(window: Window | JsonWindow, parts: list[str]) -> str:
    return "".join([*map(window.feed, parts), window.flush()])


alike = st.text(st.sampled_from('abcdfoxybarkey=@ .-12349"\\nK\nllAénd$]{}'), max_size=60)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijkl"
SAMPLES = [
    "bob@example.com", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "+49 (30) 123456", "10.0.0.1",
    "2001:db8::1",
    "123-45-6789", "sk-abcdefghijklmnopqrst", "AKIAIOSFODNN7EXAMPLE", " ", "x", "1", ".", "@", "\\n", "é", "eyJ",
]  # fmt: skip
telling = st.lists(st.sampled_from(SAMPLES), max_size=12).map("".join)
cuts = st.lists(st.integers(0, 200), max_size=12)


# --- wherever it is cut -----------------------------------------------------------------------------------------------


@given(text=alike, cuts=cuts, which=st.lists(st.sampled_from(OWN), min_size=1, max_size=3, unique=True))
@settings(deadline=None, max_examples=300)
def test_what_is_found_does_not_hang_on_where_the_text_is_cut(text: str, cuts: list[int], which: list[str]) -> None:
    patterns = Patterns([parsed(each) for each in which])
    assert fed(Window(patterns, marked), pieces(text, cuts)) == rewritten(text, patterns, marked)


@given(text=alike, which=st.sampled_from(OWN))
@settings(deadline=None, max_examples=200)
def test_what_is_found_is_what_the_expression_finds(text: str, which: str) -> None:
    patterns = Patterns([parsed(which)])
    expected = re.sub(which, lambda found: marked(0, found[0]), text)
    assert rewritten(text, patterns, marked) == expected


@given(text=telling, cuts=cuts, times=st.sampled_from((1, 15)))
@settings(deadline=None, max_examples=150)
def test_known_values_are_found_wherever_they_are_cut(text: str, cuts: list[int], times: int) -> None:
    """Also in texts of a length at which they are looked for in another way."""
    text = "".join([text, " or "] * times)
    whole = rewritten(text, ALL, marked)
    assert fed(Window(ALL, marked), pieces(text, cuts)) == whole
    assert times > 1 or fed(Window(ALL, marked), list(text)) == whole


json_values = st.recursive(
    telling, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(telling, inner, max_size=3)
)


@given(value=json_values, cuts=cuts, ascii=st.booleans())
@settings(deadline=None, max_examples=200)
def test_texts_in_json_are_what_plain_ones_would_be(value: object, cuts: list[int], ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii)
    said = fed(JsonWindow(ALL, marked), pieces(text, cuts))
    assert json.loads(said) == mapped(value)


def mapped(value: object) -> object:
    match value:
        case str():
            return rewritten(value, ALL, marked)
        case list():
            return [mapped(each) for each in value]
        case dict():
            return {mapped(name): mapped(each) for name, each in value.items()}
        case _:
            return value


@given(text=st.text(max_size=40), cuts=cuts)
@settings(deadline=None)
def test_json_text_in_which_nothing_is_found_means_what_it_meant(text: str, cuts: list[int]) -> None:
    patterns = Patterns([parsed("never-there")])
    encoded = json.dumps([text, 1.5, None])
    assert json.loads(fed(JsonWindow(patterns, marked), pieces(encoded, cuts))) == [text, 1.5, None]


@pytest.mark.parametrize("text", ['{"a": "b', '"\\', '"\\u00', '{"a": "\\ud83d', "not json at all", '"" ""'])
def test_text_that_is_no_json_passes_as_it_came(text: str) -> None:
    for cut in range(len(text)):
        assert fed(JsonWindow(ALL, marked), [text[:cut], text[cut:]]) == text


def test_an_escape_hides_nothing() -> None:
    said = rewritten('{"to":"bob\\u0040example.com"}', ALL, lambda *_: '<"1">', is_json=True)
    assert said == '{"to":"<\\"1\\">"}'


def test_a_number_gives_way_to_a_string() -> None:
    said = rewritten('{"card":4111111111111111,"n":12}', ALL, lambda *_: "<CARD>", is_json=True)
    assert json.loads(said) == {"card": "<CARD>", "n": 12}


# --- what is held -----------------------------------------------------------------------------------------------------


def test_only_what_may_become_a_match_is_held() -> None:
    window = Window(Patterns([parsed(r"<NAME_\d{1,3}>")]), marked)
    assert window.feed("1 < 2 and <N") == "1 < 2 and "
    assert window.held == 2
    assert window.feed("one") == "<None"
    assert window.held == 0


def test_a_long_match_is_held_no_longer_than_it_may_be() -> None:
    window = Window(Patterns([parsed(r"ID-\d{1,20}")]), marked)
    for _ in range(100):
        window.feed("ID-" + "1" * 50)
        assert window.held <= 23


def test_text_that_goes_on_inside_of_a_match_after_other_content_is_refused() -> None:
    window = Window(Patterns([parsed("secret")]), marked)
    assert window.feed("a sec") + window.flush() == "a sec"
    with pytest.raises(Refusal):
        window.feed("ret")


def test_text_may_go_on_after_other_content() -> None:
    window = Window(Patterns([parsed("secret")]), marked)
    said = [window.feed("a sec"), window.flush(), window.feed("ond "), window.feed("secret"), window.flush()]
    assert "".join(said) == "a second ⟦0:secret⟧"


# --- expressions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("a*", "empty text"),
        ("(?=a)", "empty text"),
        ("a|", "empty text"),
        ("(a", "no regular expression"),
        (r"(a)\1", "has \\1"),
        ("(?>ab)", "not for texts in pieces"),
        ("a++b", "possessive"),
        ("(?:a{1,9}){1,9}b", "may take too long"),
        (r"(?:a|a){1,20}b", "may take too long"),
        (r"\s*\s*\s*x", "may take too long"),
        (r"\w+\s*\w+!", "may take too long"),
        (r"(?:\w+\.)+x", "characters far"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(expression: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parsed(expression)


@pytest.mark.parametrize("known", NAMES)
def test_what_is_known_keeps_the_bounds(known: str) -> None:
    assert parsed(KNOWN[known].expression).reach <= 4096


def test_a_repeat_without_end_has_one() -> None:
    assert seen("#" + "1" * (MOST + 10), Patterns([parsed(r"#\d+")])) == [(0, "#" + "1" * MOST)]


@pytest.mark.parametrize(
    "text", ["a" * 20_000, "a@" * 10_000, "1 " * 10_000, "a." * 10_000, "eyJ" * 7000, "-----" * 4000]
)
def test_no_text_takes_long(text: str) -> None:
    """A safety net of seconds for what takes some hundredths."""
    before = time.process_time()
    rewritten(text, ALL, marked)
    assert time.process_time() - before < 20


# --- what is known ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Mail bob.o'neil+x@mail.example.co.uk.", "email: bob.o'neil+x@mail.example.co.uk"),
        (r"a line\nann@example.com", "email: ann@example.com"),
        ("björn@exämple.com", "email: björn@exämple.com"),
        ("not@an", None),
        ("call +49 (30) 1234-567 now", "phone: +49 (30) 1234-567"),
        ("call 415-555-2671", "phone: 415-555-2671"),
        ("in 2024-01-02 and 1,234,567.89", None),
        ("DE89 3704 0044 0532 0130 00 is mine", "iban: DE89 3704 0044 0532 0130 00"),
        ("GB82WEST12345698765432", "iban: GB82WEST12345698765432"),
        ("DE88 3704 0044 0532 0130 00", None),
        ("XX89370400440532013000", None),
        ("4111 1111 1111 1111 12/27", "credit_card: 4111 1111 1111 1111"),
        ("n: 3 378282246310005", "credit_card: 378282246310005"),
        ("4111 1111 1111 1112", None),
        ("id 20240101123456789", None),
        ("123-45-6789", "ssn: 123-45-6789"),
        ("000-45-6789", None),
        ("at 192.168.0.255.", "ipv4: 192.168.0.255"),
        ("1.2.3.4.5 and 300.1.1.1", None),
        ("at 2001:db8::1: no", "ipv6: 2001:db8::1"),
        ("::ffff:10.0.0.1", "ipv6: ::ffff:10.0.0.1"),
        ("at 12:30:45 std::dec", None),
        (r"key\nsk-proj-abcdefghijklmnop1234", "api_key: sk-proj-abcdefghijklmnop1234"),
        ("AKIAIOSFODNN7EXAMPLE", "api_key: AKIAIOSFODNN7EXAMPLE"),
        ("ghp_" + "a1" * 18, "api_key: ghp_" + "a1" * 18),
        ("risk-management-of-everything", None),
        (JWT, f"jwt: {JWT}"),
    ],
)  # fmt: skip
def test_known_patterns(text: str, found: str | None) -> None:
    told = [f"{NAMES[number]}: {value}" for number, value in seen(text, ALL)]
    assert told == ([] if found is None else [found])


def test_a_private_key_is_found_whole() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIE" * 400 + "\n-----END RSA PRIVATE KEY-----"
    assert rewritten(f"x {key} y", ALL, lambda number, _: NAMES[number]) == "x private_key y"


# --- any expression ---------------------------------------------------------------------------------------------------

ATOMS = ["a", "b", "c", r"\w", "[ab]", "[^a]", ".", r"\s", " ", r"(?<=a)", "(?<!b)", r"\b", r"\B", "$", "^"]
REPEATS = ["", "", "", "", "", "?", "{1,2}", "{2}", "+?", "{,3}", "*"]
groups = st.sampled_from(["(?:%s)", "(%s)", "(?i:%s)", "(?=%s)", "(?!%s)"])


def sequences(atoms: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    item = st.tuples(atoms, st.sampled_from(REPEATS)).map("".join)
    return st.lists(st.lists(item, min_size=1, max_size=4).map("".join), min_size=1, max_size=2).map("|".join)


expressions = sequences(
    st.recursive(
        st.sampled_from(ATOMS),
        lambda inner: st.tuples(groups, sequences(inner)).map(lambda both: both[0] % both[1]),
        max_leaves=4,
    )
)


@given(expression=expressions, texts=st.lists(st.text("abcA \n", max_size=14), min_size=4, max_size=4))
@settings(deadline=None, max_examples=100)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_any_expression_finds_what_it_finds_wherever_a_text_is_cut(expression: str, texts: list[str]) -> None:
    try:
        patterns = Patterns([parsed(expression)])
    except ValueError:
        assume(False)
    for text in texts:
        expected = re.sub(expression, lambda found: marked(0, found[0]), text)
        assert fed(Window(patterns, marked), [text]) == expected
        assert fed(Window(patterns, marked), list(text)) == expected
