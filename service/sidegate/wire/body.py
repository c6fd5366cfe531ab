"""A request body, decoded one level deep: what is not looked at keeps its bytes.

Every failure is a `BadRequest` that names the field. The bodies are hostile: malformed, deep, of wrong types.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import MsgspecError, Raw, Struct

from sidegate.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidegate.wire.dialect import Fields

T = TypeVar("T")

UNREADABLE = (MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding hostile JSON may raise: the latter two are no `MsgspecError`."""

_ENCODER = msgspec.json.Encoder()
_FIELDS: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])
_PLACE = re.compile(r"^(?P<problem>.*) - at `\$\.?(?P<place>.*)`$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(\w+)`")
_MESSAGE_LIMIT = 500


def read_fields(body: bytes) -> Fields:
    """The fields of a JSON object. Raises `BadRequest` (`invalid_json`) where `body` is not one, or not UTF-8."""
    try:
        fields = _FIELDS.decode(body)
        if not body.isascii():
            # Skipped values are not checked by the decoder (measured), and would reach the provider.
            body.decode("utf-8")
    except RecursionError as error:
        raise _invalid("The body is nested too deeply.") from error
    except msgspec.ValidationError as error:
        raise _invalid("The body must be a JSON object.") from error
    except (MsgspecError, UnicodeDecodeError) as error:
        raise _invalid("The body is not valid JSON.") from error
    return fields


def write_fields(fields: Mapping[str, Any]) -> bytes:
    """The object again; values that nobody decoded keep their bytes."""
    return _ENCODER.encode(fields)


def encode(obj: Any) -> Raw:
    """A value for a field."""
    return Raw(_ENCODER.encode(obj))


def value(fields: Mapping[str, Raw], name: str, type: type[T]) -> T | None:
    """One field as `type`, strictly; `None` where it is missing or null. Raises `BadRequest` naming it."""
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return msgspec.json.decode(raw, type=type)
    except UNREADABLE as error:
        raise wrong_type(error, name) from error


def convert(fields: Mapping[str, Any], decoder: msgspec.json.Decoder[T]) -> T:
    """All known fields at once, as a Struct. Raises `BadRequest` with the place, such as `messages[0].role`."""
    try:
        return decoder.decode(_ENCODER.encode(fields))
    except UNREADABLE as error:
        raise wrong_type(error) from error


def read_as(value: Any, type: type[T], place: str) -> T:
    """A decoded value as `type`, strictly. Raises `BadRequest` with the place."""
    try:
        return msgspec.convert(value, type)
    except UNREADABLE as error:
        raise wrong_type(error, place) from error


def names_of(type: type[Struct]) -> frozenset[str]:
    """The names of a Struct's fields in JSON."""
    return frozenset(type.__struct_encode_fields__)


def others(fields: Mapping[str, Raw], names: frozenset[str]) -> dict[str, Any]:
    """The fields without a word of our own, decoded. Raises `BadRequest` for one that cannot be."""
    found: dict[str, Any] = {}
    for name in fields.keys() - names:
        try:
            found[name] = msgspec.json.decode(fields[name])
        except UNREADABLE as error:
            raise wrong_type(error, name) from error
    return found


def wrong_type(error: Exception, prefix: str = "") -> BadRequest:
    """A decoder's complaint as a `BadRequest`; `prefix` is the place of what was decoded."""
    problem = str(error) if isinstance(error, MsgspecError) else "The value cannot be read."
    found = _PLACE.match(problem)
    place = prefix
    if found:
        problem, place = found["problem"], _join(prefix, found["place"])
    missing = _MISSING.search(problem)
    if missing:
        problem, place = "missing", _join(place, missing[1])
    return BadRequest((f"{place}: {problem}" if place else problem)[:_MESSAGE_LIMIT], param=place or None)


def check_duplicates(body: bytes) -> None:
    """Refuses a body in which an object repeats a key (`duplicate_key`): a guard would read one value and the provider
    the other. For calls whose request a plugin reads; the standard library's decoder is the one that shows the pairs.
    """
    try:
        json.loads(body.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError as error:
        raise _invalid("The body is nested too deeply.") from error
    except ValueError as error:
        raise _invalid("The body is not valid JSON.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise BadRequest(f"The key {key[:100]!r} appears twice.", param=key[:100], code="duplicate_key")
        seen.add(key)
    return found


def _join(prefix: str, place: str) -> str:
    if not prefix or not place:
        return prefix or place
    return f"{prefix}{place}" if place.startswith("[") else f"{prefix}.{place}"


def _invalid(message: str) -> BadRequest:
    return BadRequest(message, code="invalid_json")
