"""Rules put together that transformers has to apply together: those that read the same weights.

The library knows keys by regular expressions with one group in them, so rules are written out for every word that they
have, and have the one variable `i` at most: a number, or several with the same text between them before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from automatch.errors import RulesError
from automatch.exporters.expressions import renamed
from automatch.exporters.plan import Step, plan
from automatch.rules import formula as formulas
from automatch.rules.formula import Binary, Formula, Name, Number
from automatch.rules.pattern import Choice, Hole, Pattern, Piece
from automatch.rules.ruleset import Rule
from automatch.rules.terms import Join, Key, Term, children, keys, with_children, with_formulas
from automatch.rules.terms import formulas as formulas_in

LAYER = "i"
_SPECIAL = set("\\^$*+?()[]|{}")


@dataclass(frozen=True, slots=True)
class Unit:
    """Weights that are made together.

    Attributes:
        rules: How; the targets have no words and no number but that of the layer.
        sources: The keys that they read; a star stands for the numbers of a list, such as experts.
        excepted: Layers that other rules speak of.
        layer: The regular expression for `{i}`.
        offsets: For a key that is renamed and has several numbers, which stand otherwise in the source: by how much
            each is larger there, by the name of its variable.
    """

    rules: tuple[Rule, ...]
    sources: tuple[Pattern, ...]
    excepted: tuple[str, ...] = ()
    layer: str = r"\d+"
    offsets: tuple[tuple[str, int], ...] = ()

    @property
    def targets(self) -> tuple[Pattern, ...]:
        """The keys that are made."""
        return tuple(rule.target for rule in self.rules)


def units(rules: Sequence[Rule]) -> tuple[list[Unit], list[str]]:
    """The units of some rules, and what is wrong with the rules that are in none."""
    problems: list[str] = []
    found: list[Unit] = []
    for step in _steps(rules, problems):
        for rule in _written_out(step.rule):
            try:
                spanned, layer = _spanned(rule)
                normal = _normal(spanned)
                found.append(Unit((normal,), _sources(normal), _excepted(step), layer))
            except RulesError as error:
                numbered = _numbered_key(rule) if not step.excepted else None
                if numbered is not None:
                    found.append(numbered)
                else:
                    problems.append(f"{rule.target}: {error}")
    return _joined(found), problems


def _steps(rules: Sequence[Rule], problems: list[str]) -> Iterator[Step]:
    try:
        pending = list(plan(rules))
    except RulesError as error:
        problems.append(str(error))
        return
    while pending:
        step = pending.pop(0)
        if isinstance(step, Step):
            yield step
        else:
            pending[:0] = step.steps


def _excepted(step: Step) -> tuple[str, ...]:
    found: list[str] = []
    for excepted in step.excepted:
        if len(excepted) != 1 or not excepted[0][1].isdecimal():
            raise RulesError("another rule speaks of some of its keys; write rules that do not overlap")
        found.append(excepted[0][1])
    return tuple(dict.fromkeys(found))


# Words and numbers


def _written_out(rule: Rule) -> Iterator[Rule]:
    """A rule for every choice of words."""
    choices = {piece.name: piece.words for piece in rule.target.pieces if isinstance(piece, Choice)}
    for words in product(*choices.values()):
        chosen = dict(zip(choices, words, strict=True))
        term = rule.term and _chosen(rule.term, chosen)
        yield replace(rule, target=_with_words(rule.target, chosen), term=term)


def _chosen(term: Term, words: Mapping[str, str]) -> Term:
    numbers = {name: Number(int(word)) for name, word in words.items() if word.isdecimal()}
    term = with_formulas(term, [_valued(formula, numbers) for formula in formulas_in(term)])
    return _with_keys(term, lambda pattern: _with_words(pattern, words))


def _valued(formula: Formula, numbers: Mapping[str, Number]) -> Formula:
    if isinstance(formula, Name):
        return numbers.get(formula.name, formula)
    if isinstance(formula, Number):
        return formula
    return replace(formula, left=_valued(formula.left, numbers), right=_valued(formula.right, numbers))


def _with_words(pattern: Pattern, words: Mapping[str, str]) -> Pattern:
    return _merged(_word(piece, words) for piece in pattern.pieces)


def _word(piece: Piece, words: Mapping[str, str]) -> Piece:
    if isinstance(piece, Choice):
        return words[piece.name]
    if isinstance(piece, str):
        return piece
    if isinstance(piece.formula, Name):
        return words.get(piece.formula.name, piece)
    formula = _valued(piece.formula, {name: Number(int(word)) for name, word in words.items() if word.isdecimal()})
    return str(formulas.evaluate(formula, {})) if not formulas.names(formula) else Hole(formula)


def _merged(pieces: Iterator[Piece]) -> Pattern:
    """Pieces with neighbouring texts made one."""
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return Pattern(tuple(found))


def _with_keys(term: Term, change: Callable[[Pattern], Pattern]) -> Term:
    if isinstance(term, Key):
        return Key(change(term.pattern))
    return with_children(term, [_with_keys(child, change) for child in children(term)])


def _spanned(rule: Rule) -> tuple[Rule, str]:
    """A rule with all numbers of its key made one variable, and the regular expression for it."""
    places = [place for place, piece in enumerate(rule.target.pieces) if not isinstance(piece, str)]
    if len(places) < 2 or rule.term is None:
        return rule, r"\d+"
    span = rule.target.pieces[places[0] : places[-1] + 1]
    names = set(Pattern(span).variables)
    if names & {name for formula in formulas_in(rule.term) for name in formulas.names(formula)}:
        raise RulesError(f"its numbers {', '.join(sorted(names))} count for more than for its key")
    layer = "".join(piece.replace(".", r"\.") if isinstance(piece, str) else r"\d+" for piece in span)
    term = _with_keys(rule.term, lambda pattern: _one(pattern, span))
    return replace(rule, target=_one(rule.target, span), term=term), layer


def _one(pattern: Pattern, span: tuple[Piece, ...]) -> Pattern:
    for place in range(len(pattern.pieces) - len(span) + 1):
        if pattern.pieces[place : place + len(span)] == span:
            rest = pattern.pieces[place + len(span) :]
            return Pattern((*pattern.pieces[:place], Hole(Name(LAYER)), *rest))
    raise RulesError(f"its numbers stand otherwise in {pattern}; transformers' patterns have one place for numbers")


def _normal(rule: Rule) -> Rule:
    """A rule whose layer's variable is called `i`, checked for what keys of transformers can say."""
    assert rule.term is not None
    variables = rule.target.variables
    loops = set(_loops(rule.term))
    if LAYER in loops:
        raise RulesError(f"{LAYER} is both a layer and what a list runs over; give one of them another name")
    names = {variables[0]: LAYER} if variables else {}
    target = _numbered(rule.target, names, set())
    term = with_formulas(rule.term, [renamed(formula, names) for formula in formulas_in(rule.term)])
    term = _with_keys(term, lambda pattern: _numbered(pattern, names, loops))
    if not keys(term):
        raise RulesError("it is made of no weight; transformers makes weights of weights")
    if variables and any(LAYER not in pattern.variables for pattern in keys(term)):
        raise RulesError("all layers share a weight of the source, which transformers reads for one weight only")
    return replace(rule, target=target, term=term)


def _loops(term: Term) -> Iterator[str]:
    if isinstance(term, Join) and term.each:
        yield term.each
    for child in children(term):
        yield from _loops(child)


def _numbered(pattern: Pattern, names: Mapping[str, str], loops: set[str]) -> Pattern:
    text = "".join(piece for piece in pattern.pieces if isinstance(piece, str))
    if set(text) & _SPECIAL:
        raise RulesError(f"{pattern} has characters that mean something else in transformers' patterns")
    holes = [piece for piece in pattern.pieces if not isinstance(piece, str)]
    for hole in holes:
        if not isinstance(hole, Hole) or not isinstance(hole.formula, Name):
            raise RulesError(f"{pattern} has a number that is computed; transformers keeps the numbers of keys")
    own = [hole.formula.name for hole in holes if isinstance(hole, Hole) and isinstance(hole.formula, Name)]
    if len(own) != len(set(own)) or len([name for name in own if name in loops]) > 1:
        raise RulesError(f"{pattern} has the same number twice, or two lists of numbers")
    return Pattern(tuple(_renamed(piece, names) for piece in pattern.pieces))


def _renamed(piece: Piece, names: Mapping[str, str]) -> Piece:
    return piece if not isinstance(piece, Hole) else Hole(renamed(piece.formula, names))


def _numbered_key(rule: Rule) -> Unit | None:
    """A renamed key with numbers that stand otherwise in the source, or are counted from elsewhere; None for others."""
    names = [_names(piece)[0] for piece in rule.target.pieces if isinstance(piece, Hole)]
    if not isinstance(rule.term, Key) or len(names) != len(set(names)):
        return None
    key = rule.term.pattern
    text = "".join(piece for piece in (*key.pieces, *rule.target.pieces) if isinstance(piece, str))
    offsets = [_offset(piece.formula) for piece in key.pieces if isinstance(piece, Hole)]
    found = dict(offset for offset in offsets if offset is not None)
    if len(found) < len(offsets) or sorted(found) != sorted(names) or set(text) & _SPECIAL:
        return None
    return Unit((rule,), (key,), offsets=tuple(found.items()))


def _offset(formula: Formula) -> tuple[str, int] | None:
    """A variable and what is added to it; None for other formulas."""
    match formula:
        case Name(name=name):
            return name, 0
        case Binary(op="+", left=Name(name=name), right=Number(value=value)):
            return name, value
        case Binary(op="+", left=Number(value=value), right=Name(name=name)):
            return name, value
        case Binary(op="-", left=Name(name=name), right=Number(value=value)):
            return name, -value
        case _:
            return None


# Which rules belong together


def starred(pattern: Pattern) -> Pattern:
    """A key with a star for every number but the layer's.

    Example:
        >>> from automatch.rules.pattern import parse
        >>> print(starred(parse("layers.{i}.experts.{e}.w1.weight")))
        layers.{i}.experts.*.w1.weight
    """
    return _merged(piece if isinstance(piece, str) or LAYER in _names(piece) else "*" for piece in pattern.pieces)


def _names(piece: Piece) -> tuple[str, ...]:
    return Pattern((piece,)).variables


def _sources(rule: Rule) -> tuple[Pattern, ...]:
    return () if rule.term is None else tuple(dict.fromkeys(map(starred, keys(rule.term))))


def _joined(single: Sequence[Unit]) -> list[Unit]:
    """Units that share a source, directly or through others, made one; in the order of the first."""
    groups: list[list[Unit]] = []
    for unit in single:
        touched = [group for group in groups if any(_related(unit, other) for other in group)]
        groups = [group for group in groups if group not in touched]
        groups.append([*(other for group in touched for other in group), unit])
    order = {unit.targets: place for place, unit in enumerate(single)}
    sorted_groups = [sorted(group, key=lambda unit: order[unit.targets]) for group in groups]
    return [_union(group) for group in sorted(sorted_groups, key=lambda group: order[group[0].targets])]


def _related(unit: Unit, other: Unit) -> bool:
    same = (unit.excepted, unit.layer, bool(unit.offsets)) == (other.excepted, other.layer, bool(other.offsets))
    return same and bool(set(unit.sources) & set(other.sources))


def _union(group: Sequence[Unit]) -> Unit:
    rules = tuple(rule for unit in group for rule in unit.rules)
    sources = tuple(dict.fromkeys(key for unit in group for key in unit.sources))
    return replace(group[0], rules=rules, sources=sources)


def texts(unit: Unit, some: Sequence[Pattern]) -> list[str]:
    """Keys of a unit with stars for all numbers."""
    layer = "*" if unit.offsets else unit.layer.replace(r"\d+", "*").replace(r"\.", ".")
    return ["".join(piece if isinstance(piece, str) else layer for piece in key.pieces) for key in some]
