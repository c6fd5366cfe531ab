"""What one rule says against a value, or against what there is of it."""

from __future__ import annotations

from bisect import bisect_left

from sidegate_plugins._json_prefix import Kind
from sidegate_plugins._schema_rule import Rule


def of_kind(rule: Rule, kind: Kind, negative: bool) -> str | None:
    """What its first character says against a value."""
    if rule.kinds is not None and kind not in rule.kinds:
        allowed = ", ".join(sorted(rule.kinds)) or "nothing"
        return f"{kind} is not allowed here, but {'integer' if rule.integer and allowed == 'number' else allowed}"
    if kind != "number":
        return None
    if negative and ((rule.minimum or 0) > 0 or (rule.above is not None and rule.above >= 0)):
        return "it is negative"
    if not negative and ((rule.maximum or 0) < 0 or (rule.below is not None and rule.below <= 0)):
        return "it is not negative"
    return None


def of_number(rule: Rule, value: int | float) -> str | None:
    if rule.integer and isinstance(value, float) and not value.is_integer():
        return "is not an integer"
    if rule.minimum is not None and value < rule.minimum:
        return f"is less than {rule.minimum}"
    if rule.maximum is not None and value > rule.maximum:
        return f"is greater than {rule.maximum}"
    if rule.above is not None and value <= rule.above:
        return f"is not greater than {rule.above}"
    if rule.below is not None and value >= rule.below:
        return f"is not less than {rule.below}"
    if rule.numbers is not None and value not in rule.numbers:
        return "is none of the values allowed"
    return None


def may_become(strings: tuple[str, ...], said: str) -> bool:
    at = bisect_left(strings, said)
    return at < len(strings) and strings[at].startswith(said)


def is_one(strings: tuple[str, ...], said: str) -> bool:
    at = bisect_left(strings, said)
    return at < len(strings) and strings[at] == said
