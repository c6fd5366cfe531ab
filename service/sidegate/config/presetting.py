"""Presetting: what a preset says of a provider stands under what the config says itself.

Done on plain data, before it is converted: so each setting can be overridden, and a preset's are judged as any.
"""

from __future__ import annotations

import re
from typing import Any

from sidegate.config.mistakes import Mistakes, Path

_RESOURCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
"""A label of a host name, RFC 1123 section 2.1: nothing else may stand where it goes."""
_PLACE = "{resource}"
_OPENAIS = frozenset({"openai", "openai_responses"})
"""Both are spoken at one URL."""
_OF_ANY_DIALECT = frozenset({"base_url", "key_header", "key_scheme", "system"})


def with_presets(filled: dict[str, Any], mistakes: Mistakes) -> dict[str, Any]:
    """The config, its providers complete with what their presets say."""
    providers = filled.get("providers")
    if not isinstance(providers, dict):
        return filled
    made = {name: _provider(("providers", name), given, mistakes) for name, given in providers.items()}
    return {**filled, "providers": made}


def _provider(path: Path, given: Any, mistakes: Mistakes) -> Any:
    if not isinstance(given, dict):
        return given
    name = given.get("preset")
    if isinstance(name, str) and name:
        given = _over(str(name), path, given, mistakes)
    if "resource" in given or _PLACE in str(given.get("base_url", "")):
        return _with_resource(path, given, mistakes)
    return given


def _over(name: str, path: Path, given: dict[str, Any], mistakes: Mistakes) -> dict[str, Any]:
    """The config's own fields over those of the preset; of an unknown preset it is only said that it is none."""
    from sidegate.presets import PRESETS, unknown  # only where there is one

    preset = PRESETS.get(name)
    if preset is None:
        mistakes.add((*path, "preset"), unknown(name))
        return {"dialect": "openai", **given}
    known = dict(preset.settings)
    dialect = given.get("dialect", known["dialect"])
    if dialect == known["dialect"] or not isinstance(dialect, str):
        return {**known, **given}
    if not given.get("base_url") and dialect not in preset.also and not {dialect, known["dialect"]} <= _OPENAIS:
        mistakes.add((*path, "dialect"), f"is not what the preset `{name}` leads to: say a `base_url` for it")
    known = {field: value for field, value in known.items() if field in _OF_ANY_DIALECT}
    return {**known, **preset.also.get(dialect, {}), **given}


def _with_resource(path: Path, given: dict[str, Any], mistakes: Mistakes) -> dict[str, Any]:
    resource, url = given.get("resource"), str(given.get("base_url", ""))
    if not resource:
        mistakes.add(path, "needs `resource`, the name that its URL begins with, or a `base_url`")
    elif not isinstance(resource, str):
        return given  # is told by the conversion
    elif not _RESOURCE.fullmatch(resource):
        mistakes.add((*path, "resource"), "expected one part of a host's name: letters, digits and hyphens")
    elif _PLACE not in url:
        mistakes.add((*path, "resource"), f"has no place: the base URL has no `{_PLACE}`")
    else:
        return {**given, "base_url": url.replace(_PLACE, str(resource))}
    return {**given, "resource": "", "base_url": ""}
