"""What rules make of a source where there is no target: the keys and shapes of the model that they lead to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from automatch.core.graph import Shape, Weight
from automatch.core.mapping import Side
from automatch.errors import RulesError
from automatch.known.blocks import in_blocks
from automatch.rules import pattern as patterns
from automatch.rules.build import Scope, shape_of
from automatch.rules.formula import Binary, Formula, Name, Number
from automatch.rules.measure import Measure
from automatch.rules.pattern import Choice, Hole, Pattern
from automatch.rules.ruleset import Rule, RuleSet
from automatch.rules.terms import Fill, Fit, Join, Term, children, keys
from automatch.rules.used import sizes_of

Words = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lead:
    """Where rules lead to.

    Attributes:
        target: The keys that they can make of a source, block by block.
        missing: Patterns of keys that they cannot, each with the reason.
    """

    target: Side
    missing: tuple[str, ...] = ()


def lead_of(rules: RuleSet, source: Side) -> Lead:
    """The target that rules lead to from a source.

    Args:
        rules: The rules; sizes that only the target tells are not there.
        source: The source's keys, shapes and sizes.

    Example:
        >>> from automatch.rules.pattern import parse
        >>> from automatch.rules.reading import read_term
        >>> rules = RuleSet("", "", (Rule(parse("h.{i}.w"), read_term("layers.{i + 1}.w.T")),))
        >>> side = Side("", "names", tuple(Weight(f"layers.{i}.w", (2, 3), "float32") for i in (1, 2)))
        >>> [(weight.name, weight.shape) for weight in lead_of(rules, side).target.weights]
        [('h.0.w', (3, 2)), ('h.1.w', (3, 2))]
    """
    measure = Measure(source, Side("", "names", ()), rules.sizes)
    found: dict[str, Shape] = {}
    missing: dict[str, str] = {}
    for rule in rules.rules:
        for words in _assignments(rule, list(measure.source.weights)):
            try:
                found.setdefault(patterns.fill(rule.target, words), _shape(rule, words, rules, measure))
            except RulesError as error:  # the rule says nothing here
                missing.setdefault(str(rule.target), str(error))
    dtype = next((weight.dtype for weight in source.weights), "float32")
    weights = tuple(Weight(key, found[key], dtype) for key in in_blocks(list(found)))
    made = {str(rule.target) for rule in rules.rules if any(patterns.match(rule.target, key) for key in found)}
    said = tuple(f"{target}: {why}" for target, why in missing.items() if target not in made)
    return Lead(Side(rules.target, "names", weights), said)


def _assignments(rule: Rule, source: Sequence[str]) -> Iterator[Words]:
    """What a rule's variables may stand for, so that its sources are there."""
    if rule.term is None:
        return
    wanted = set(rule.target.variables)
    leaf = next((key for key in _leaves(rule.term) if wanted <= set(key.variables)), None)
    if not wanted:
        yield {}
    if leaf is None or not wanted:
        return
    expression = _expression(leaf, rule.target)
    for key in source if expression is not None else ():
        match = expression.fullmatch(key) if expression is not None else None
        words = None if match is None else _words(leaf, match.groups())
        if words is not None:
            yield words


def _leaves(term: Term) -> Iterator[Pattern]:
    """Mentions of source weights outside loops."""
    if isinstance(term, Join) and term.each:
        return
    if not children(term):
        yield from keys(term)
    for child in children(term):
        yield from _leaves(child)


def _expression(leaf: Pattern, target: Pattern) -> re.Pattern[str] | None:
    choices = {piece.name: piece.words for piece in target.pieces if isinstance(piece, Choice)}
    written = ""
    for piece in leaf.pieces:
        if isinstance(piece, str):
            written += re.escape(piece)
        elif isinstance(piece, Hole) and _variable(piece.formula) is not None:
            name = _variable(piece.formula) or ""
            written += f"({'|'.join(map(re.escape, choices[name]))})" if name in choices else "([0-9]+)"
        else:
            return None
    return re.compile(written)


def _variable(formula: Formula) -> str | None:
    """The variable of a formula that can be turned round: `i`, `i + 1`, `i - 1`."""
    match formula:
        case Name(name=name):
            return name
        case Binary(op="+" | "-", left=Name(name=name), right=Number()):
            return name
        case _:
            return None


def _words(leaf: Pattern, found: Sequence[str]) -> Words | None:
    words: dict[str, str] = {}
    holes = (piece for piece in leaf.pieces if isinstance(piece, Hole))
    for piece, text in zip(holes, found, strict=True):
        match piece.formula:
            case Binary(op=op, left=Name(name=name), right=Number(value=value)):
                number = int(text) - value if op == "+" else int(text) + value
                word = str(number) if number >= 0 else ""
            case Name(name=name):
                word = text
            case _:
                return None
        if words.setdefault(name, word) != word or not word:
            return None
    return words


def _shape(rule: Rule, words: Words, rules: RuleSet, measure: Measure) -> Shape:
    """The shape of what a rule makes.

    Raises:
        RulesError: Sizes or sources are missing, or several sizes are possible.
    """
    assert rule.term is not None
    if isinstance(rule.term, Fill | Fit) and rule.term.shape is None:
        raise RulesError("only a target tells its shape")
    sizes: dict[str, int] = {}
    for name in sizes_of(rule, rules):
        values = measure.values(name, words)
        if len(values) != 1:
            several = f"may be {' or '.join(map(str, values))}" if values else "is told by a target alone"
            raise RulesError(f"the size {name} {several}")
        sizes[name] = values[0]
    return shape_of(rule.term, Scope(measure.source, words, sizes, ()))
