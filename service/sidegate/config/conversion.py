"""Conversion: plain data into Structs, strictly, telling every mistake with its whole place.

`msgspec.convert` stops at the first mistake and leaves the keys of mappings out of the place. So Structs, mappings and
lists are walked here, and msgspec judges the leaves.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Struct, UnsetType
from msgspec.structs import FieldInfo, fields

from sidegate.config.masking import Interpolated
from sidegate.config.mistakes import Mistakes, Path, nearest

T = TypeVar("T")

_FAILED: Any = object()
_LARGEST_SECRET = 64 * 1024


class Conversion:
    """Converts values; what is wrong goes to `mistakes`.

    Text in quotes is no number. Text that came whole from the environment may be one, because there all is text.
    With `base`, `X_file` stands for `X` wherever a Struct has the one and not the other: the file's text is the value,
    without its last line break, and is a secret.
    """

    def __init__(self, mistakes: Mistakes, base: FilePath | None = None) -> None:
        self._mistakes = mistakes
        self._base = base

    def convert(self, value: Any, wanted: type[T], path: Path = ()) -> T | None:
        """`value` as `wanted`, or `None` after the mistakes were noted."""
        before = len(self._mistakes.found)
        made: T = self._any(value, wanted, path)
        return made if len(self._mistakes.found) == before and made is not _FAILED else None

    def _any(self, value: Any, wanted: Any, path: Path) -> Any:
        inner = _arm(value, _bare(wanted))
        if isinstance(inner, type) and issubclass(inner, Struct) and inner.__struct_config__.tag is None:
            return self._struct(value, inner, path)
        arguments = get_args(inner)
        if isinstance(value, dict) and get_origin(inner) is dict and arguments[1] is not Any:
            return self._mapping(value, wanted, arguments, path)
        if isinstance(value, list) and _repeats(inner):
            made = [self._any(item, arguments[0], (*path, index)) for index, item in enumerate(value)]
            return _FAILED if any(item is _FAILED for item in made) else self._leaf(made, wanted, path)
        return self._leaf(value, wanted, path)

    def _struct(self, value: Any, wanted: type[Struct], path: Path) -> Any:
        if not isinstance(value, dict):
            return self._leaf(value, wanted, path)
        try:
            known = fields_of(wanted)
        except NameError as error:
            self._mistakes.add(path, f"the types of {wanted.__qualname__} cannot be resolved: {error}")
            return _FAILED
        made = {}
        for name, item in self._with_files(value, known, path).items():
            if name not in known:
                self._mistakes.add(path, f"unknown field `{name}`{nearest(name, known)}")
                made[name] = _FAILED
            else:
                made[known[name].name] = self._any(item, known[name].type, (*path, name))
        for name, field in known.items():
            if field.required and field.name not in made:
                made[field.name] = _FAILED
                if not _comes_from_file(name, value, known, self._base):
                    self._mistakes.add(path, f"missing required field `{name}`")
        return _FAILED if any(item is _FAILED for item in made.values()) else self._made(wanted, made, path)

    def _made(self, wanted: type[Struct], made: dict[str, Any], path: Path) -> Any:
        try:
            return wanted(**made)
        except (ValueError, TypeError) as error:  # its own `__post_init__` says no
            self._mistakes.add(path, str(error))
            return _FAILED

    def _mapping(self, value: dict[str, Any], wanted: Any, arguments: tuple[Any, ...], path: Path) -> Any:
        made = {key: self._any(item, arguments[1], (*path, key)) for key, item in value.items()}
        for key in value:
            if self._leaf(key, arguments[0], (*path, key)) is _FAILED:
                return _FAILED
        return _FAILED if any(item is _FAILED for item in made.values()) else self._leaf(made, wanted, path)

    def _leaf(self, value: Any, wanted: Any, path: Path) -> Any:
        strict = not (isinstance(value, Interpolated) and value.whole)
        if wanted is not Any and isinstance(value, Interpolated):
            value = str(value)
        try:
            return msgspec.convert(value, wanted, strict=strict)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            self._mistakes.add(path, _problem(error, value, wanted, strict))
            return _FAILED

    # --- files that hold a value --------------------------------------------------------------------------------------

    def _with_files(self, value: dict[str, Any], known: Mapping[str, FieldInfo], path: Path) -> dict[str, Any]:
        if self._base is None:
            return value
        found = {}
        for name, item in value.items():
            meant = name.removesuffix("_file")
            if name in known or meant not in known or meant == name:
                found[name] = item
            elif meant in value:
                self._mistakes.add(path, f"`{meant}` and `{name}` exclude each other")
            elif (text := read_secret(item, self._base, (*path, name), self._mistakes)) is not None:
                found[meant] = Interpolated(text, True, frozenset({text}))
        return found


@cache
def fields_of(wanted: type[Struct]) -> Mapping[str, FieldInfo]:
    """The fields by their names. Kept, for msgspec compiles each annotation whenever it is asked."""
    return types.MappingProxyType({field.encode_name: field for field in fields(wanted)})


def convert_settings(
    value: dict[str, Any], wanted: type[T], place: str, mistakes: Mistakes, base: FilePath | None = None
) -> T | None:
    """Settings whose type only their owner knows. The place within them is said last: `- at $.rpm`."""
    inner = Mistakes()
    made = Conversion(inner, base).convert(value, wanted)
    mistakes.secrets |= inner.secrets
    for where, problem in inner.found:
        mistakes.add(place, f"{problem} - at $.{where}" if where else problem)
    return made


def read_secret(name: Any, base: FilePath, path: Path, mistakes: Mistakes) -> str | None:
    """The text of a file without its last line break; `None` after a mistake. The name is not repeated in messages:
    who confuses `api_key` and `api_key_file` writes the key there."""
    if not isinstance(name, str) or not name:
        mistakes.add(path, "expected the name of a file")
        return None
    try:
        with (base / name).open("rb") as file:
            text = file.read(_LARGEST_SECRET + 1).decode().rstrip("\r\n")
    except UnicodeError:
        mistakes.add(path, "the file is not UTF-8 text")
    except (OSError, ValueError) as error:
        mistakes.add(path, f"the file cannot be read: {getattr(error, 'strerror', None) or 'not a path'}")
    else:
        if text and len(text) <= _LARGEST_SECRET:
            mistakes.secrets.add(text)
            return text
        mistakes.add(path, "the file is too large" if text else "the file is empty")
    return None


def _comes_from_file(name: str, value: Mapping[str, Any], known: Mapping[str, Any], base: FilePath | None) -> bool:
    return base is not None and f"{name}_file" in value and f"{name}_file" not in known


def _bare(wanted: Any) -> Any:
    while get_origin(wanted) is Annotated:
        wanted = get_args(wanted)[0]
    return wanted


def _arm(value: Any, wanted: Any) -> Any:
    """The one arm of a union that a mapping or a list can only mean; the union itself where that is open."""
    if get_origin(wanted) not in (Union, types.UnionType):
        return wanted
    arms = [_bare(arm) for arm in get_args(wanted) if arm not in (type(None), UnsetType)]
    if isinstance(value, dict):
        arms = [arm for arm in arms if get_origin(arm) is dict or (isinstance(arm, type) and issubclass(arm, Struct))]
    elif isinstance(value, list):
        arms = [arm for arm in arms if _repeats(arm)]
    else:
        return wanted
    return arms[0] if len(arms) == 1 else wanted


def _repeats(wanted: Any) -> bool:
    """Whether it is a list of one type: `list[X]`, `tuple[X, ...]`."""
    arguments = get_args(wanted)
    return get_origin(wanted) is list or (get_origin(wanted) is tuple and arguments[1:] == (...,))


def _problem(error: Exception, value: Any, wanted: Any, strict: bool) -> str:
    """msgspec's message without its ornaments, and without the value where that is not the config's own text."""
    bare = _bare(wanted)
    if get_origin(bare) is Literal:
        allowed = [str(choice) for choice in get_args(bare)]
        hint = nearest(value, allowed) if isinstance(value, str) and strict else ""
        return f"expected one of {', '.join(f'`{choice}`' for choice in allowed)}{hint}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    text = str(error)
    if text.startswith("Invalid enum value"):
        return "is none of the allowed values"
    return text.replace("`", "")
