"""Patterns that `redact` knows by name, with the checks that tell the real from what only looks like it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from types import MappingProxyType
from typing import NamedTuple

from sidegate_plugins._text_window import Check


class Known(NamedTuple):
    expression: str
    check: Check | None = None


def card(text: str) -> int:
    """The longest beginning that is a card's number: 13 to 19 digits, the last by Luhn's rule (ISO/IEC 7812-1)."""
    if text[0] not in "23456":
        return 0
    return _longest(text, 13, 19, _luhn)


def iban(text: str) -> int:
    """The beginning that is as long as its country has it and right modulo 97 (ISO 13616)."""
    length = _IBAN_LENGTHS.get(text[:2].upper())
    return 0 if length is None else _longest(text, length, length, _mod97)


def ipv4(text: str) -> int:
    try:
        IPv4Address(text)
    except AddressValueError:
        return 0
    return len(text)


def ipv6(text: str) -> int:
    """A colon after it is a mark of the sentence's."""
    for end in (len(text), len(text) - 1):
        try:
            IPv6Address(text[:end])
        except AddressValueError:
            if not text.endswith(":"):
                return 0
        else:
            return end
    return 0


def _luhn(compact: str) -> bool:
    digits = [int(digit) for digit in reversed(compact)]
    return sum(digits[0::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def _mod97(compact: str) -> bool:
    return int("".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])) % 97 == 1


def _longest(text: str, least: int, most: int, right: Check | object) -> int:
    """The end of the longest beginning that is right, of so many letters and digits, and not inside of a word."""
    ends = [at + 1 for at, letter in enumerate(text) if letter.isalnum()]
    for count in range(min(most, len(ends)), least - 1, -1):
        end = ends[count - 1]
        compact = "".join(letter for letter in text[:end] if letter.isalnum())
        if not text[end : end + 1].isalnum() and callable(right) and right(compact):
            return end
    return 0


_IBAN_LENGTHS = {
    text[:2]: int(text[2:])
    for text in [
        "AD24",
        "AE23",
        "AL28",
        "AT20",
        "AZ28",
        "BA20",
        "BE16",
        "BG22",
        "BH22",
        "BI27",
        "BR29",
        "BY28",
        "CH21",
        "CR22",
        "CY28",
        "CZ24",
        "DE22",
        "DJ27",
        "DK18",
        "DO28",
        "EE20",
        "EG29",
        "ES24",
        "FI18",
        "FK18",
        "FO18",
        "FR27",
        "GB22",
        "GE22",
        "GI23",
        "GL18",
        "GR27",
        "GT28",
        "HN28",
        "HR21",
        "HU28",
        "IE22",
        "IL23",
        "IQ23",
        "IS26",
        "IT27",
        "JO30",
        "KW30",
        "KZ20",
        "LB28",
        "LC32",
        "LI21",
        "LT20",
        "LU20",
        "LV21",
        "LY25",
        "MC27",
        "MD24",
        "ME22",
        "MK19",
        "MN20",
        "MR27",
        "MT31",
        "MU30",
        "NI28",
        "NL18",
        "NO15",
        "OM23",
        "PK24",
        "PL28",
        "PS29",
        "PT25",
        "QA29",
        "RO24",
        "RS22",
        "RU33",
        "SA24",
        "SC31",
        "SD18",
        "SE24",
        "SI19",
        "SK24",
        "SM27",
        "SO23",
        "ST25",
        "SV28",
        "TL23",
        "TN24",
        "TR26",
        "UA29",
        "VA22",
        "VG24",
        "XK20",
        "YE30",
    ]
}
"""Of the registry of ISO 13616."""

_APART = r"(?:(?<=\\[nrt])|(?<![A-Za-z0-9]))"
"""Not inside of a word; what stands after a written-out `\\n` is not."""

KNOWN: Mapping[str, Known] = MappingProxyType(
    {
        "email": Known(r"(?<!\\)\w[\w.%+'-]{0,63}@(?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24}"),
        "phone": Known(
            r"(?<![\w+])(?<!\d[ .-])(?:\+|00)[1-9](?:[ ().\/-]{0,2}\d){6,14}(?!\d)"
            r"|(?<![\w-])(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w-])"
        ),
        "iban": Known(_APART + r"[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}", iban),
        "credit_card": Known(r"(?<!\d)\d(?:[ -]?\d){12,22}", card),
        "ssn": Known(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"),
        "ipv4": Known(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)", ipv4),
        "ipv6": Known(r"(?<![\w:.])[0-9A-Fa-f:]{3,39}(?:(?:\.\d{1,3}){3})?(?!\w)", ipv6),
        "api_key": Known(
            _APART + r"(?:sk-[\w-]{16,256}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[opsur]_[A-Za-z0-9]{36,251}"
            r"|github_pat_\w{22,255}|glpat-[\w-]{20,64}|xox[abeoprs]-[\w-]{10,250}|AIza[\w-]{35}"
            r"|[prs]k_(?:live|test)_[A-Za-z0-9]{16,247}|hf_[A-Za-z0-9]{30,64}|npm_[A-Za-z0-9]{36}"
            r"|(?:gsk|xai)[_-][A-Za-z0-9]{40,100}|SG\.[\w-]{16,32}\.[\w-]{16,64})"
        ),
        "jwt": Known(_APART + r"eyJ[\w-]{10,512}\.eyJ[\w-]{10,2048}\.[\w-]{10,1024}"),
        "private_key": Known(
            r"-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY-----[^-]{64,3900}"
            r"-----END (?:[A-Z]{2,12} ){0,2}PRIVATE KEY-----"
        ),
    }
)
