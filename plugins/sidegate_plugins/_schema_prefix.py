"""Holds a JSON text to its schema while it grows: says so as soon as nothing that follows could make it fit.

It never says so of the beginning of a text that fits. It may be silent about one that does not: what it looks at is in
`_schema_rules`, and the whole text is checked at its end, elsewhere. What one piece may cost is bounded; a text that
would cost more is let go on without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sidegate_plugins._json_prefix import GaveUp, Kind, Malformed, Prefix
from sidegate_plugins._schema_faults import is_one, may_become, of_kind, of_number
from sidegate_plugins._schema_rule import Rule
from sidegate_plugins._schema_rules import ANY, Rules, Template

MOST_STEPS = 5_000
"""That one piece may take: 1 to 10 ms, by what they are."""
DEEPEST: Final = 512


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a text can no longer fit, and where: `pointer` is a JSON pointer (RFC 6901) into it."""

    pointer: str
    message: str
    malformed: bool = False
    """It is not JSON."""


class SchemaPrefix:
    """One text on its way. Cut it into pieces as you like: it is told the same."""

    def __init__(self, rules: Rules) -> None:
        self._follower = _Follower(rules)
        self._prefix = Prefix(self._follower)
        self._over = False

    def feed(self, text: str) -> Mismatch | None:
        """More of it. A mismatch is told once."""
        if self._over:
            return None
        try:
            self._follower.left = MOST_STEPS
            self._prefix.feed(text)
        except GaveUp:
            self._over = True
        except _Broken as broken:
            self._over = True
            return Mismatch(broken.pointer, broken.message)
        except Malformed as error:
            self._over = True
            return Mismatch(self._follower.pointer(), f"it is not valid JSON: {error}", malformed=True)
        return None


class _Broken(Exception):
    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer
        self.message = message


class _Union:
    """Templates of which one must hold."""

    __slots__ = ("left", "owner", "size")

    def __init__(self, owner: _Claim, size: int) -> None:
        self.owner = owner
        self.size = size
        self.left = size


class _Claim:
    """A template that holds of one value, as far as can be seen."""

    __slots__ = ("dead", "outer", "rules", "union")

    def __init__(self, rules: tuple[Rule, ...], outer: _Claim | None, union: _Union | None) -> None:
        self.rules = rules
        self.outer = outer
        """Of the object or array the value is in: breaks with this one. `None` in a union, and at the root."""
        self.union = union
        self.dead = False


class _Place:
    """A value that is under way."""

    __slots__ = ("claims", "count", "inner", "key", "kind", "length", "names", "said", "size")

    def __init__(self, kind: Kind, claims: list[_Claim], size: int) -> None:
        self.kind = kind
        self.claims = claims
        self.size = size
        self.count = 0
        self.key: str | int | None = None
        self.names: set[str] | None = set() if kind == "object" else None
        self.inner: list[tuple[_Claim, Template]] = []
        """What the next value in it is held to."""
        self.length = 0
        self.said = ""

    def rules(self) -> Iterator[tuple[_Claim, Rule]]:
        for claim in self.claims:
            for rule in claim.rules:
                if claim.dead:
                    break
                yield claim, rule


class _Follower:
    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._places: list[_Place] = []
        self._reads = False
        self.left = 0

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise GaveUp

    def pointer(self, *last: str | int) -> str:
        """To the value under way."""
        steps = [place.key for place in self._places[:-1]] + list(last)
        told = (str(step).replace("~", "~0").replace("/", "~1") for step in steps)
        return "".join(f"/{step}" for step in told)

    # --- what was read ------------------------------------------------------------------------------------------------

    def begin(self, kind: Kind, negative: bool) -> None:
        place = self._place(kind)
        if len(self._places) >= DEEPEST:
            raise GaveUp
        self._places.append(place)
        for claim, rule in place.rules():
            if (problem := of_kind(rule, kind, negative)) is not None:
                self._break(claim, problem)
        self._reads = kind == "string" and any(rule.reads_text for _, rule in place.rules())

    def text(self, piece: str) -> None:
        if not self._reads:
            return
        place = self._places[-1]
        self.spend(place.size)
        place.length += len(piece)
        keeps = False
        for claim, rule in place.rules():
            if rule.max_length is not None and place.length > rule.max_length:
                self._break(claim, f"it is longer than {rule.max_length}")
            elif rule.strings is not None:
                keeps, said = True, place.said + piece
                if not may_become(rule.strings, said):
                    self._break(claim, f"{said[:40]!r} begins none of the values allowed")
        if keeps:
            place.said += piece

    def end_string(self) -> None:
        place = self._places[-1]
        if self._reads:
            for claim, rule in place.rules():
                if rule.min_length is not None and place.length < rule.min_length:
                    self._break(claim, f"it is shorter than {rule.min_length}")
                elif rule.strings is not None and not is_one(rule.strings, place.said):
                    self._break(claim, f"{place.said[:40]!r} is none of the values allowed")
        self._places.pop()

    def number(self, text: str) -> None:
        value = int(text) if text.removeprefix("-").isdecimal() else float(text)
        for claim, rule in self._places[-1].rules():
            if (problem := of_number(rule, value)) is not None:
                self._break(claim, f"{text[:40]} {problem}")
        self._places.pop()

    def end_word(self) -> None:
        self._places.pop()

    def key(self, name: str) -> None:
        place = self._places[-1]
        assert place.names is not None
        if name in place.names:
            raise Malformed("a key appears twice in one object")
        place.names.add(name)
        place.count += 1
        place.key = name
        for claim, rule in place.rules():
            if rule.max_properties is not None and place.count > rule.max_properties:
                self._break(claim, f"it has more than {rule.max_properties} properties")
        self._enter(place, name)

    def close(self) -> None:
        place = self._places[-1]
        self.spend(place.size)
        for claim, rule in place.rules():
            if (problem := _of_whole(rule, place)) is not None:
                self._break(claim, problem)
        self._places.pop()

    # --- claims -------------------------------------------------------------------------------------------------------

    def _place(self, kind: Kind) -> _Place:
        if not self._places:
            whole = self._rules.whole
            if whole.never:
                raise _Broken("", "no value is allowed")
            return _Place(kind, list(_claims(whole, None)), whole.size)
        outer = self._places[-1]
        if outer.kind == "array":
            outer.key = outer.count
            outer.count += 1
            for claim, rule in outer.rules():
                if rule.max_items is not None and outer.count > rule.max_items:
                    self._break(claim, f"it has more than {rule.max_items} items")
            self._enter(outer, outer.key)
        claims = [each for claim, template in outer.inner if not claim.dead for each in _claims(template, claim)]
        size = sum(template.size for _, template in outer.inner)
        self.spend(size)
        return _Place(kind, claims, size)

    def _enter(self, place: _Place, key: str | int) -> None:
        """Find what the value at `key` is held to by each claim on the object or array it is in."""
        self.spend(place.size)
        place.inner = []
        before = self._rules.looked_at
        for claim in place.claims:
            if claim.dead or (template := self._template(claim.rules, key)) is ANY:
                continue
            if template.never:
                what = f"item {key}" if isinstance(key, int) else f"the property {key[:80]!r}"
                self._break(claim, f"{what} is not allowed")
            else:
                place.inner.append((claim, template))
        self.spend(4 * (self._rules.looked_at - before))

    def _template(self, rules: tuple[Rule, ...], key: str | int) -> Template:
        found = (rule.item(key) if isinstance(key, int) else rule.property(key) for rule in rules)
        nodes = tuple(node for node in found if node is not None)
        return self._rules.template(nodes) if nodes else ANY

    def _break(self, claim: _Claim, problem: str) -> None:
        """The claim cannot hold any more, nor can what needs it."""
        most = 1
        while not claim.dead:
            claim.dead = True
            if (union := claim.union) is not None:
                most = max(most, union.size)
                union.left -= 1
                if union.left:
                    return
                claim = union.owner
            elif claim.outer is not None:
                claim = claim.outer
            else:
                told = problem if most == 1 else f"{problem} (nor does it fit the other of {most} alternatives)"
                raise _Broken(self.pointer(), told)


def _claims(template: Template, outer: _Claim | None, union: _Union | None = None) -> Iterator[_Claim]:
    """A claim for the template, and for each in its groups."""
    claim = _Claim(template.rules, outer, union)
    yield claim
    for group in template.groups:
        within = _Union(claim, len(group))
        for one in group:
            yield from _claims(one, None, within)


def _of_whole(rule: Rule, place: _Place) -> str | None:
    """What the end of an object or an array says against it."""
    if place.kind == "array":
        short = rule.min_items is not None and place.count < rule.min_items
        return f"it has fewer than {rule.min_items} items" if short else None
    assert place.names is not None
    for name in rule.required:
        if name not in place.names:
            return f"the property {name[:80]!r} is missing"
    if rule.min_properties is not None and place.count < rule.min_properties:
        return f"it has fewer than {rule.min_properties} properties"
    return None
