"""Writes docs/configuration.md: every setting with type, default and meaning, from the types the gateway reads it by.

`scripts/docs` writes the page; a test fails where the page differs from what this gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias, cast

import msgspec
from msgspec import NODEFAULT, Struct, inspect

from sidegate.settings import Settings
from sidegate.upstream.demo import DemoSettings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
BUILT_IN = "sidegate_plugins."

AnyStruct: TypeAlias = type[Struct]

HEAD = """\
# Configuration

Every setting, generated from the types that the gateway reads the config by; a test holds this page to them.

A config is one file of YAML, TOML or JSON. An unknown key is a mistake, and all mistakes are told at once, each with
its place (those within plugins once the rest is right): `sidegate check CONFIG`. `sidegate explain CONFIG` shows what
a config comes to.

- `${NAME}` in a text is the environment's variable, `${NAME:-otherwise}` with a default. `$$` is a dollar sign.
- Secrets are best kept in files: `api_key_file` beside `api_key`, here and in the settings of plugins.
- Relative paths start from the folder of the config file.
- A name is 1 to 64 letters, digits, `_`, `.` and `-`, and begins with a letter or digit.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_config(), *_demo(), *_plugins()]).rstrip() + "\n"


def _config() -> Iterator[str]:
    places = {Settings: "The top of the file"} | dict(_places(Settings))
    for kind, place in places.items():
        yield f"## {place}\n"
        yield from _section(kind, {known: _anchor(title) for known, title in places.items()})


def _demo() -> Iterator[str]:
    yield "## `providers.*.settings` of the demo provider\n"
    yield "What it does with them: [the demo provider](demo-provider.md).\n"
    yield from _table(DemoSettings, {})


def _plugins() -> Iterator[str]:
    yield "## Settings of the plugins\n"
    yield "What stands under `settings` of a `use`. `sidegate plugins NAME` shows those of any plugin, yours too.\n"
    points = {point.name: point for point in entry_points(group="sidegate.plugins")}
    for name, point in sorted(points.items()):
        if not point.value.startswith(BUILT_IN):
            continue
        kind: AnyStruct = point.load().settings_type()
        summary = (import_module(point.module).__doc__ or "").partition("\n")[0]
        inner = {known: f"`{name}`: `{place}`" for known, place in _paths(kind, "")}
        yield f"### `{name}`\n"
        yield f"{summary} See [{name}](plugins/{name}.md).\n"
        links = {known: _anchor(title) for known, title in inner.items()}
        yield from _table(kind, links)
        for known, title in inner.items():
            yield f"#### {title}\n"
            yield from _section(known, links)


def _places(kind: AnyStruct) -> Iterator[tuple[AnyStruct, str]]:
    """The Structs inside, each once, with where they stand: `providers.*.timeouts`."""
    found: dict[AnyStruct, list[str]] = {}
    for inner, path in _paths(kind, ""):
        found.setdefault(inner, []).append(f"`{path}`")
    for inner, paths in found.items():
        yield inner, ", ".join(paths)


def _paths(kind: AnyStruct, prefix: str) -> Iterator[tuple[AnyStruct, str]]:
    for field in _fields(kind):
        for inner, suffix in _structs(field.type):
            path = f"{prefix}{field.encode_name}{suffix}"
            yield inner, path
            yield from _paths(inner, f"{path}.")


def _structs(kind: inspect.Type) -> Iterator[tuple[AnyStruct, str]]:
    """The Structs of a field, with what stands between: `.*` for a name, `[]` for a place in a list."""
    match kind:
        case inspect.Metadata():
            yield from _structs(kind.type)
        case inspect.StructType():
            yield kind.cls, ""
        case inspect.DictType():
            yield from ((inner, f".*{suffix}") for inner, suffix in _structs(kind.value_type))
        case inspect.VarTupleType() | inspect.ListType():
            yield from ((inner, f"[]{suffix}") for inner, suffix in _structs(kind.item_type))
        case inspect.UnionType():
            yield from {inner: suffix for arm in kind.types for inner, suffix in _structs(arm)}.items()
        case _:
            return


# --- a Struct ---------------------------------------------------------------------------------------------------------


def _section(kind: AnyStruct, links: dict[AnyStruct, str]) -> Iterator[str]:
    text = " ".join((kind.__doc__ or "").split())
    if text:
        yield f"{text}\n"
    yield from _table(kind, links)


def _table(kind: AnyStruct, links: dict[AnyStruct, str]) -> Iterator[str]:
    yield "| setting | type | default | meaning |"
    yield "|---|---|---|---|"
    for field in _fields(kind):
        cells = (f"`{field.encode_name}`", _type(field.type, links), _default(field), description(field.type))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _fields(kind: AnyStruct) -> tuple[inspect.Field, ...]:
    return cast("inspect.StructType", inspect.type_info(kind)).fields


def description(kind: inspect.Type) -> str:
    """What the type says of itself, or the first of its arms that does; of a Struct, its docstring."""
    match kind:
        case inspect.Metadata():
            own = (kind.extra_json_schema or {}).get("description")
            return " ".join(own.split()) if isinstance(own, str) else description(kind.type)
        case inspect.UnionType():
            return next((said for arm in kind.types if (said := description(arm))), "")
        case inspect.StructType():
            return (kind.cls.__doc__ or "").partition("\n")[0]
        case _:
            return ""


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is NODEFAULT:
        if field.default_factory is NODEFAULT:
            return ""
        value = field.default_factory()
    if isinstance(value, Struct):
        return f"`{{{', '.join(_changed(value))}}}`"
    return f"`{msgspec.json.encode(value).decode()}`".replace('"', "").replace("``", "empty").replace("`null`", "none")


def _changed(value: Struct) -> Iterator[str]:
    """What differs in it from its own defaults."""
    for field in msgspec.structs.fields(value):
        found = getattr(value, field.name)
        if found != field.default and field.default is not NODEFAULT:
            yield f"{field.encode_name}: {found}"


# --- types ------------------------------------------------------------------------------------------------------------


def _type(kind: inspect.Type, links: dict[AnyStruct, str]) -> str:
    match kind:
        case inspect.Metadata():
            return _type(kind.type, links)
        case inspect.UnionType():
            arms = [_type(arm, links) for arm in kind.types if not isinstance(arm, inspect.NoneType)]
            return " or ".join(dict.fromkeys(arm for arm in arms if arm))
        case inspect.LiteralType():
            return ", ".join(f"`{value}`" for value in kind.values)
        case inspect.IntType() | inspect.FloatType():
            return " ".join(["integer" if isinstance(kind, inspect.IntType) else "number", *_bounds(kind)])
        case inspect.StrType():
            longest = f" of up to {kind.max_length} characters" if kind.max_length else ""
            return f"text{longest}"
        case inspect.DictType():
            return f"mapping to {_type(kind.value_type, links)}"
        case inspect.VarTupleType() | inspect.ListType():
            return f"list of {_type(kind.item_type, links)}"
        case inspect.StructType():
            return f"[{kind.cls.__name__}]({links[kind.cls]})" if kind.cls in links else kind.cls.__name__
        case _:
            return {"BoolType": "boolean", "AnyType": "anything", "DateTimeType": "date and time"}[type(kind).__name__]


def _bounds(kind: inspect.IntType | inspect.FloatType) -> Iterator[str]:
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    if low is not None:
        yield f"{'≥' if kind.ge is not None else '>'} {low:,}"
    if high is not None:
        yield f"{'≤' if kind.le is not None else '<'} {high:,}"


def _anchor(title: str) -> str:
    """As GitHub makes them of a heading."""
    kept = (letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return "#" + "".join(kept).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
