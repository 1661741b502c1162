"""From the exact mapping between small twins to the mapping between the models of full size."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias, get_args

from automatch.core.expr import Concat, Expr, Permute, Reshape, Slice, children
from automatch.core.graph import Graph, Weight
from automatch.core.mapping import Entry, MappingRecord, Side, Status
from automatch.errors import LiftError, together
from automatch.lift.evidence import evidence, notes
from automatch.lift.keys import Keys, keys_of, split
from automatch.lift.numbered import masked, numbers, resolved
from automatch.lift.pairs import grown_ones, pairs_of
from automatch.lift.rules import NotCovered, Rule, rule_for, rules_of
from automatch.lift.sizes import Choice, Reading, Site, Sizes, readings
from automatch.lift.usage import by_pattern, misused, shares

Found: TypeAlias = dict[str, list[Reading]]
"""For every full-size target key, what it may be made of; nothing for an unmapped key."""

STATUSES: tuple[Status, ...] = get_args(Status)
"""From the surest to the least; a rule is as sure as its least sure entry."""


def lift(small: MappingRecord, twins: tuple[Graph, Graph], full: tuple[Graph, Graph]) -> MappingRecord:
    """Carry a mapping between small twins over to models of full size, which are never run.

    1. A key's expression is that of its pattern in the twin, with numbers of layers and experts that follow the key's.
    2. Sizes become what stands in the same places of the full-size recordings, such that all shapes fit.
    3. Every key of the target must get exactly one expression, and every source weight must be used as often as in
       the twin.

    Args:
        small: The mapping between the twins, with an entry for every key of the target twin.
        twins: The recorded source and target twin.
        full: The recorded source and target of full size, from the same code.

    Returns:
        The mapping at full size. What was proved on the twins is `structural` there, and says so.

    Raises:
        LiftError: Keys are not covered, or in more than one way; all of them are listed, with the reasons.

    Example:
        >>> from automatch.core.expr import Source
        >>> from automatch.core.mapping import Evidence
        >>> def side(name, depth, size):
        ...     return Graph(tuple(Weight(f"{name}.{i}.w", (size,), "float32") for i in range(depth)))
        >>> twins, full = (side("a", 2, 3), side("b", 2, 3)), (side("a", 5, 8), side("b", 5, 8))
        >>> entries = [
        ...     Entry(f"b.{i}.w", (3,), "float32", "proved", Source(f"a.{i}.w", (3,)), Evidence("structure"))
        ...     for i in range(2)
        ... ]
        >>> sides = [Side("", graph.rung, graph.weights) for graph in twins]
        >>> lift(MappingRecord(*sides, tuple(entries)), twins, full).entries[4].expr
        Source(key='a.4.w', shape=(8,))
    """
    _same_keys(small, twins[1])
    _no_grown_ones(twins, full)
    source, twin_source = keys_of(full[0].weights), keys_of(twins[0].weights)
    rules = rules_of(small.entries)
    every = [rule for found in rules.values() for rule in found]
    sizes = Sizes(pairs_of(twins, full), source, _sites(every))
    targets = keys_of(full[1].weights).weights
    problems: dict[str, str] = {}
    chosen: dict[str, Rule] = {}
    found: Found = {}
    for key, weight in targets.items():
        try:
            chosen[key] = rule_for(rules.get(split(key)[0], []), split(key)[1])
            found[key] = _found(chosen[key], key, weight, twin_source, sizes)
        except NotCovered as reason:
            problems[key] = str(reason)
    exprs = _one_each(found, problems)
    _refuse(problems)
    mapped = [expr for expr in exprs.values() if expr is not None]
    twin_shares = shares((entry.expr for entry in small.entries if entry.expr is not None), twin_source)
    _refuse(dict(misused(twin_shares, shares(mapped, source))), of="source ")
    entries = tuple(_entry(key, targets[key], chosen[key], expr) for key, expr in exprs.items())
    return MappingRecord(Side.of(full[0]), Side.of(full[1]), entries, notes=notes(small, twins, full))


def _same_keys(small: MappingRecord, twin: Graph) -> None:
    mapped = {entry.target for entry in small.entries}
    keys = set(keys_of(twin.weights).weights)
    if mapped != keys:
        different = ", ".join(sorted(mapped ^ keys)[:3])
        raise LiftError(f"the mapping between the twins is not one for this target twin: {different}")


def _no_grown_ones(twins: tuple[Graph, Graph], full: tuple[Graph, Graph]) -> None:
    """Refuse twins with one entry where the models have several: what is done along that axis does not show."""
    found = grown_ones(twins, full)
    if found:
        headline = "the twins have sizes of 1 that are larger at full size; build twins where these are 3 or more:"
        raise together(LiftError, headline, found, limit=5)


def _sites(rules: Sequence[Rule]) -> dict[Site, tuple[int, ...]]:
    """All the bounds at which parts are cut, by what they are cut from; entries of stacks aside."""
    sites: dict[Site, set[int]] = {}
    for rule in rules:
        moving = {place for place, follows in enumerate(rule.follows) if not isinstance(follows, int)}
        for entry in rule.entries:
            for place, part in _slices(entry.expr, 0) if entry.expr is not None else ():
                if place not in moving:
                    sites.setdefault((masked(part.of), part.axis), set()).update((part.start, part.stop))
    return {site: tuple(sorted(bounds)) for site, bounds in sites.items()}


def _slices(expr: Expr, first: int) -> list[tuple[int, Slice]]:
    """The slices in an expression, each with the column of its start."""
    found: list[tuple[int, Slice]] = [(first, expr)] if isinstance(expr, Slice) else []
    done = first + len(found)
    for child in children(expr):
        found.extend(_slices(child, done))
        done += len(numbers(child))
    return found


def _found(rule: Rule, key: str, weight: Weight, twin: Keys, sizes: Sizes) -> list[Reading]:
    if rule.expr is None:
        return []
    form = resolved(rule.expr, rule.numbers(split(key)[1]), twin, sizes.keys)
    return readings(form, weight.shape, sizes)


def _one_each(found: Found, problems: dict[str, str]) -> dict[str, Expr | None]:
    """The one expression of each key; keys that have several become problems."""
    agreed = _agreed(found)
    chosen: dict[str, Expr | None] = {}
    for key, each in found.items():
        fitting = [reading for reading in each if all(choice in agreed for choice in reading.choices)]
        exprs = list(dict.fromkeys(reading.expr for reading in fitting or each))
        chosen[key] = exprs[0] if exprs else None
        if len(exprs) > 1:
            problems[key] = _ambiguous(exprs[0], exprs[1])
    return chosen


def _agreed(found: Found) -> set[Choice]:
    """The ways to cut a site that all keys which cut it allow."""
    allowed: dict[object, set[Choice]] = {}
    for each in found.values():
        own: dict[object, set[Choice]] = {}
        for site, shape, bounds in (choice for reading in each for choice in reading.choices):
            own.setdefault((site, shape), set()).add((site, shape, bounds))
        for place, choices in own.items():
            allowed[place] = allowed[place] & choices if place in allowed else choices
    return {choice for choices in allowed.values() for choice in choices}


def _ambiguous(one: Expr, other: Expr) -> str:
    return (
        f"its sizes can be read in several ways ({_difference(one, other)}): "
        "choose sizes for the twins that all differ, or that are no powers of two"
    )


def _difference(one: Expr, other: Expr) -> str:
    """The first place where two readings of one expression part."""
    for mine, theirs in zip(children(one), children(other), strict=False):
        if mine != theirs:
            return _difference(mine, theirs)
    return f"{_sizes(one)} or {_sizes(other)}"


def _sizes(expr: Expr) -> str:
    match expr:
        case Reshape(shape=shape):
            return f"reshape to {list(shape)}"
        case Slice(start=start, stop=stop):
            return f"entries [{start}:{stop}]"
        case Permute() | Concat():
            return f"shape {list(expr.shape)}"
        case _:
            return str(expr)


def _refuse(problems: dict[str, str], of: str = "") -> None:
    if problems:
        lines = by_pattern(problems)
        plural = "key is" if len(problems) == 1 else "keys are"
        fault = "used otherwise than in the twin" if of else "not covered by the mapping between the twins"
        raise together(LiftError, f"{len(problems):,} {of}{plural} {fault}:", lines, limit=len(lines))


def _entry(key: str, weight: Weight, rule: Rule, expr: Expr | None) -> Entry:
    weakest = max(rule.entries, key=lambda entry: STATUSES.index(entry.status))
    status: Status = "structural" if weakest.status == "proved" else weakest.status
    return Entry(key, weight.shape, weight.dtype, status, expr, evidence(weakest, prod(weight.shape)))
