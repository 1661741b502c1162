"""From a finished search to an expression for every target weight that it determines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automatch.core.expr import Expr, Sum
from automatch.core.graph import Shape
from automatch.exact.correspond import NONE, Sums, sums
from automatch.exact.extend import Column, extended
from automatch.exact.form import Leaf
from automatch.exact.gradients import Side
from automatch.exact.search import Found
from automatch.exact.siblings import Biased, biased_contractions
from automatch.exact.solve import solved
from automatch.exact.terms import Terms, terms_of
from automatch.exact.tolerance import Flags, Floats, Ints
from automatch.synthesize.layout import ElementMap, expression

_ROUNDING = 1e-6  # factors of a float32 normaliser are one and the same as their float64 spelling


@dataclass(frozen=True, slots=True, eq=False)
class Determined:
    """What the outputs say of one target weight.

    Attributes:
        expr: What it is made of.
        seen: How many of its elements the outputs determine; the others follow along its axes or its sibling.
        of: How many it has.
        free: Whether it is one of several choices that give the same outputs.
        unseen: By element, whether no output told what it is; None where all were told.
        plain: Whether the elements that were told are all made in one way.
        padded: Whether some of those that were not are zeros.
        solved: Whether only a value that it makes with other weights is told, and it was solved for.
    """

    expr: Expr
    seen: int
    of: int
    free: bool
    unseen: Flags | None = None
    plain: bool = True
    padded: bool = False
    solved: bool = False


@dataclass(slots=True, eq=False)
class _Weight:
    """The elements of one target weight while they are gathered: one column a summand."""

    shape: Shape
    columns: list[Column]
    shift: Floats
    missing: Flags
    free: bool = False
    seen: int = 0
    problem: str = ""
    unseen: Flags = field(default_factory=lambda: np.zeros(0, bool))
    made_up: bool = False

    def summands(self, chosen: Flags) -> Ints:
        """Of how many source elements those chosen are made."""
        count = sum((column.origin >= 0).astype(np.int64) for column in self.columns)
        found: Ints = np.broadcast_to(count, chosen.shape)[chosen]
        return found

    @property
    def plain(self) -> bool:
        """Whether what was seen is made in one way, which the rest goes on with.

        That is, no element has several summands where others have one.
        """
        if self.made_up:
            return False
        seen = self.summands(~self.unseen)
        return not len(seen) or int(seen.max()) <= 1 or bool((seen == seen[0]).all())

    @property
    def padded(self) -> bool:
        """Whether some of what was not seen is made of nothing."""
        return bool((self.summands(self.unseen) == 0).any())


@dataclass(slots=True, eq=False)
class Answer:
    """Gathers what a search found, weight by weight.

    Attributes:
        source: The source's elements.
        target: The target's.
        weights: What was determined.
        problems: By target weight, why it was not.
        partial: Of those, the weights of which some elements were determined; the others are zeros.
    """

    source: Side
    target: Side
    weights: dict[str, Determined] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    partial: dict[str, Determined] = field(default_factory=dict)
    origins: list[Expr] = field(default_factory=list)
    numbers: dict[Expr, int] = field(default_factory=dict)
    terms: list[Terms | str] = field(default_factory=list)

    def number(self, origin: Expr) -> int:
        """The number of an origin; equal ones share it."""
        if origin not in self.numbers:
            self.numbers[origin] = len(self.origins)
            self.origins.append(origin)
        return self.numbers[origin]


def answer(found: Found, source: Side, target: Side, check: Callable[[], None] = lambda: None) -> Answer:
    """The expressions that a search determines.

    Args:
        found: What the search found.
        source: The source's elements.
        target: The target's.
        check: Called before every weight; ends it by raising.
    """
    made = Answer(source, target)
    made.terms = [terms_of(leaf, source.form) for leaf in source.form.leaves]
    read = sums(found, source, target)
    gathered: dict[str, _Weight] = {}
    compounds: list[tuple[Leaf, _Weight]] = []
    for number, leaf in enumerate(target.form.leaves):
        if not leaf.floating:
            continue
        check()
        one = _of_leaf(made, read, number)
        if leaf.compound:
            compounds.append((leaf, one))
        else:
            name = leaf.weights[0]
            gathered[name] = _merged(gathered[name], one) if name in gathered else one
    del read
    for one in gathered.values():
        check()
        _extend(made, one)
    _follow_siblings(made, gathered)
    for name, one in gathered.items():
        check()
        _write(made, name, one)
    _solve(made, compounds, check)
    return made


def _of_leaf(made: Answer, read: Sums, number: int) -> _Weight:
    """One target leaf in terms of its stored weight: the leaf's own affine is undone."""
    leaf = made.target.form.leaves[number]
    part = slice(int(made.target.starts[number]), int(made.target.starts[number + 1]))
    sources, known = read.sources[part], read.known[part].copy()
    neutral = made.target.roles[number].of(lambda role: replace(role, flat=False).fill)
    columns: list[Column] = []
    shift = np.zeros(leaf.size)
    problem = ""
    for summand in range(sources.shape[1]):
        lies_in = np.where(sources[:, summand] >= 0, made.source.leaf_of(sources[:, summand]), NONE)
        for source_leaf in np.unique(lies_in[lies_in >= 0]):
            terms = made.terms[int(source_leaf)]
            chosen = np.flatnonzero(lies_in == source_leaf)
            if isinstance(terms, str):
                problem = terms
                known[chosen] = False
                continue
            inside = sources[chosen, summand] - made.source.starts[int(source_leaf)]
            shift[chosen] += terms.shift[inside]
            for term in terms.terms:
                _place(columns, leaf.size, chosen, made.number(term.origin), term.index[inside], term.scale[inside])
    alone = known & (sources < 0).all(1)
    free_zeros = alone & read.free[part]
    shift[alone] = neutral[alone]
    shift[free_zeros] = 0.0  # twins that leave the sum to another
    columns = [_slim(replace(column, scale=_tidy(column.scale / leaf.scale))) for column in columns]
    shift = np.where(known, (shift - leaf.shift) / leaf.scale, 0.0)
    shift[np.abs(shift) < 1e-12] = 0.0
    free = bool(read.free[part].any())
    return _Weight(leaf.shape, columns, _held_once(shift), ~known, free, int(known.sum()), problem, ~known)


def _slim(column: Column) -> Column:
    """A column that is held until all weights are gathered: in as few numbers as will do."""
    return Column(_held_once(column.origin), _held_once(column.index.astype(np.int32)), _held_once(column.scale))


def _held_once(values: NDArray[Any]) -> NDArray[Any]:
    """Values that are all the same, as one number that stands for all; not to be written to."""
    same = len(values) > 1 and bool((values == values[0]).all())
    return np.broadcast_to(values[0], values.shape) if same else values


def _free_to_write(column: Column) -> Column:
    return Column(column.origin.copy(), column.index.copy(), column.scale.copy())


def _tidy(scale: Floats) -> Floats:
    """Factors that are one up to a float32 rounding."""
    return np.where(np.abs(scale - 1) < _ROUNDING, 1.0, scale)


def _place(columns: list[Column], size: int, chosen: Ints, origin: int, index: Ints, scale: Floats) -> None:
    """Put one summand of some elements into the first column that has room for all of them."""
    column_number = next((k for k, column in enumerate(columns) if (column.origin[chosen] < 0).all()), len(columns))
    if column_number == len(columns):
        columns.append(Column(np.full(size, NONE, np.int64), np.zeros(size, np.int64), np.ones(size)))
    column = columns[column_number]
    column.origin[chosen] = origin
    column.index[chosen] = index
    column.scale[chosen] = scale


def _merged(first: _Weight, second: _Weight) -> _Weight:
    """Two readings of one weight: the second fills what the first leaves open."""
    new = first.missing & ~second.missing
    size = len(first.missing)
    columns = list(first.columns)
    while len(columns) < len(second.columns):
        columns.append(Column(np.full(size, NONE, np.int64), np.zeros(size, np.int64), np.ones(size)))
    empty = Column(np.full(size, NONE, np.int64), np.zeros(size, np.int64), np.ones(size))
    merged = []
    for number, column in enumerate(columns):
        other = second.columns[number] if number < len(second.columns) else empty
        merged.append(
            Column(
                np.where(new, other.origin, column.origin),
                np.where(new, other.index, column.index),
                np.where(new, other.scale, column.scale),
            )
        )
    missing = first.missing & second.missing
    clash = ~first.missing & ~second.missing & _differ(first, second)
    if clash.any():
        problem = f"its uses ask for different source weights in {int(clash.sum()):,} elements"
        return _Weight(first.shape, merged, first.shift, missing | clash, first.free, 0, problem, missing.copy())
    shift = np.where(new, second.shift, first.shift)
    seen = int((~missing).sum())
    free, problem = first.free or second.free, first.problem or second.problem
    return _Weight(first.shape, merged, shift, missing, free, seen, problem, missing.copy())


def _differ(first: _Weight, second: _Weight) -> Flags:
    """Elements for which two readings of a weight name different sources."""
    differ = np.abs(first.shift - second.shift) > _ROUNDING * (1 + np.abs(first.shift))
    for one, other in zip(first.columns, second.columns, strict=False):
        named = (one.origin >= 0) & (other.origin >= 0)
        differ |= (one.origin != other.origin) | (named & (one.index != other.index))
    for longer in (first.columns[len(second.columns) :], second.columns[len(first.columns) :]):
        for column in longer:
            differ |= column.origin >= 0
    return differ


def _extend(made: Answer, one: _Weight) -> None:
    if not one.missing.any() or one.missing.all() or one.problem:
        return
    shapes = {number: origin.shape for number, origin in enumerate(made.origins)}
    known = ~one.missing
    filled: list[Column] = []
    left = np.zeros(len(one.missing), bool)
    for column in one.columns:
        # a column that only some of the known elements have is not continued
        if (column.origin[known] < 0).any():
            if any((other.origin[known] >= 0).all() for other in one.columns):
                filled.append(column)
                continue
            left |= one.missing
        changed, missing, made_up = extended(column, one.missing, one.shape, shapes)
        one.made_up = one.made_up or made_up
        filled.append(_slim(changed))
        left |= missing
    one.columns, one.missing = filled, left if one.columns else one.missing


@dataclass(frozen=True, slots=True, eq=False)
class _Beside:
    """By element of a source weight, the bias beside the output channel that it helps to make.

    Attributes:
        leaf: The bias's leaf; `NONE` where the channel has no bias.
        index: The place in that leaf.
    """

    leaf: Ints
    index: Ints


def _follow_siblings(made: Answer, gathered: Mapping[str, _Weight]) -> None:
    """A dead bias takes, channel by channel, the bias that stands beside its factor's source; none there is zero."""
    beside = _beside(made)
    for item in biased_contractions(made.target.form):
        factor, bias = made.target.form.leaves[item.factor], made.target.form.leaves[item.of]
        if factor.compound or bias.compound or bias.weights[0] not in gathered or factor.weights[0] not in gathered:
            continue
        one = gathered[bias.weights[0]]
        if one.missing.any():
            _follow(made, one, gathered[factor.weights[0]], item, beside)


def _beside(made: Answer) -> dict[int, _Beside]:
    """For every source weight that is a leaf, the biases beside its channels."""
    found: dict[int, _Beside] = {}
    for number, leaf in enumerate(made.source.form.leaves):
        terms = made.terms[number]
        if not leaf.compound and not isinstance(terms, str):
            empty = np.full(leaf.size, NONE, np.int64)
            found.setdefault(made.number(terms.terms[0].origin), _Beside(empty, empty.copy()))
    for item in biased_contractions(made.source.form):
        terms = made.terms[item.factor]
        if made.source.form.leaves[item.factor].compound or isinstance(terms, str):
            continue
        place = found[made.number(terms.terms[0].origin)]
        place.leaf[item.rows] = item.of
        place.index[item.rows] = item.bias[:, None]
    return found


def _follow(made: Answer, one: _Weight, factor: _Weight, item: Biased, beside: Mapping[int, _Beside]) -> None:
    if not factor.columns:
        return
    main = factor.columns[0]
    one.columns, one.shift = list(map(_free_to_write, one.columns)), one.shift.copy()
    for channel in np.flatnonzero(one.missing[item.bias]):
        row = item.rows[channel]
        living = row[(main.origin[row] >= 0) & ~factor.missing[row]]
        if not len(living) or int(main.origin[living[0]]) not in beside:
            continue
        place = beside[int(main.origin[living[0]])]
        leaf, inside = int(place.leaf[main.index[living[0]]]), int(place.index[main.index[living[0]]])
        _give_bias(made, one, int(item.bias[channel]), leaf, inside)


def _give_bias(made: Answer, one: _Weight, element: int, leaf: int, inside: int) -> None:
    if leaf == NONE:
        one.missing[element], one.shift[element] = False, 0.0
        return
    terms = made.terms[leaf]
    if isinstance(terms, str) or made.source.form.leaves[leaf].compound:
        return
    term, chosen = terms.terms[0], np.array([element])
    one.missing[element] = False
    _place(one.columns, len(one.missing), chosen, made.number(term.origin), term.index[[inside]], np.ones(1))


def _write(made: Answer, name: str, one: _Weight) -> None:
    if one.missing.any():
        share = f"{int(one.missing.sum()):,} of {len(one.missing):,} elements"
        made.problems[name] = one.problem or f"no output tells what {share} are"
        if not one.problem and not one.missing.all():
            one.shift = np.where(one.missing, 0.0, one.shift)
            how = _expression(made, one), one.seen, prod(one.shape), one.free
            made.partial[name] = Determined(*how, one.unseen | one.missing, one.plain, padded=True)
        return
    unseen = one.unseen if one.unseen.any() else None
    how = _expression(made, one), one.seen, prod(one.shape), one.free
    made.weights[name] = Determined(*how, unseen, one.plain, one.padded)


def _expression(made: Answer, one: _Weight) -> Expr:
    used = [column for column in one.columns if (column.origin >= 0).any()]
    parts = []
    for number, column in enumerate(used or [Column(np.full(len(one.shift), NONE), np.zeros(0, int), np.ones(0))]):
        origins, leaf = np.unique(column.origin, return_inverse=True)
        first = int(origins[0] < 0)
        chosen = tuple(made.origins[int(origin)] for origin in origins[first:])
        shift = one.shift if number == 0 else np.zeros(len(one.shift))
        size = len(one.shift)
        index = column.index.astype(np.int64) if len(column.index) == size else np.zeros(size, np.int64)
        scale = column.scale if len(column.scale) == size else np.ones(size)
        parts.append(expression(ElementMap(one.shape, chosen, leaf.reshape(-1) - first, index, scale, shift)))
    return parts[0] if len(parts) == 1 else Sum(tuple(parts))


def _solve(made: Answer, compounds: list[tuple[Leaf, _Weight]], check: Callable[[], None]) -> None:
    for leaf, one in compounds:
        check()
        wanted = [name for name in leaf.weights if name not in made.weights]
        if not wanted:
            continue
        if one.missing.any():
            _extend(made, one)
        if one.missing.any():
            made.problems |= dict.fromkeys(wanted, one.problem or "no output tells what all its elements are")
            continue
        whole = _expression(made, one)
        given = {name: made.weights[name].expr for name in leaf.weights if name in made.weights}
        found = solved(leaf, made.target.form, whole, given)
        if isinstance(found, str):
            made.problems |= dict.fromkeys(wanted, found)
            continue
        for name, expr in found.items():
            made.problems.pop(name, None)
            made.weights[name] = Determined(expr, prod(expr.shape), prod(expr.shape), len(found) > 1, solved=True)
