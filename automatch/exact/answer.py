"""From a finished search to an expression for every target weight that it determines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod

import numpy as np

from automatch.core.expr import Affine, Concat, Expr, Sum
from automatch.core.graph import Shape
from automatch.exact.correspond import NONE, Sums, sums
from automatch.exact.extend import Column, extended
from automatch.exact.form import Leaf
from automatch.exact.gathered import ROUNDING, Weight, empty_column, free_to_write, merged, place, slim
from automatch.exact.gradients import Side
from automatch.exact.search import Found
from automatch.exact.siblings import Biased, biased_contractions
from automatch.exact.solve import solved
from automatch.exact.terms import Terms, terms_of
from automatch.exact.tolerance import Flags, Floats, Ints, held_once
from automatch.synthesize.layout import MOST_MENTIONS, element_map, expression


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
    gathered: dict[str, Weight] = {}
    compounds: list[tuple[Leaf, Weight]] = []
    for number, leaf in enumerate(target.form.leaves):
        if not leaf.floating:
            continue
        check()
        one = _of_leaf(made, read, number)
        if leaf.compound:
            compounds.append((leaf, one))
        else:
            name = leaf.weights[0]
            gathered[name] = merged(gathered[name], one) if name in gathered else one
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


def _of_leaf(made: Answer, read: Sums, number: int) -> Weight:
    """One target leaf in terms of its stored weight: the leaf's own affine is undone."""
    leaf = made.target.form.leaves[number]
    start, stop = int(made.target.starts[number]), int(made.target.starts[number + 1])
    sources, known, free = read.sources(start, stop), read.known[start:stop].copy(), read.free[start:stop]
    columns: list[Column] = []
    shift = np.zeros(leaf.size)
    problem = ""
    for summand in sources:
        places = np.flatnonzero(summand >= 0)
        lies_in = made.source.leaf_of(summand[places])
        for source_leaf in np.flatnonzero(np.bincount(lies_in)):
            terms = made.terms[int(source_leaf)]
            chosen = places[lies_in == source_leaf]
            if isinstance(terms, str):
                problem = terms
                known[chosen] = False
                continue
            inside = summand[chosen] - made.source.starts[int(source_leaf)]
            shift[chosen] += terms.shift[inside]
            for term in terms.terms:
                place(columns, leaf.size, chosen, made.number(term.origin), term.index[inside], term.scale[inside])
    alone = np.flatnonzero(known & np.logical_and.reduce([summand < 0 for summand in sources]))
    neutral = made.target.roles[number].of(lambda role: replace(role, flat=False).fill)
    shift[alone] = np.where(free[alone], 0.0, neutral[alone])  # twins that leave the sum to another are zero
    shift -= leaf.shift
    shift /= leaf.scale
    shift[~known | (np.abs(shift) < 1e-12)] = 0.0
    columns = [slim(replace(column, scale=_tidy(column.scale / leaf.scale))) for column in columns]
    return Weight(leaf.shape, columns, held_once(shift), ~known, bool(free.any()), int(known.sum()), problem, ~known)


def _tidy(scale: Floats) -> Floats:
    """Factors that are one up to a float32 rounding."""
    return np.where(np.abs(scale - 1) < ROUNDING, 1.0, scale)


def _extend(made: Answer, one: Weight) -> None:
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
        filled.append(slim(changed))
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


def _follow_siblings(made: Answer, gathered: Mapping[str, Weight]) -> None:
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


def _follow(made: Answer, one: Weight, factor: Weight, item: Biased, beside: Mapping[int, _Beside]) -> None:
    if not factor.columns:
        return
    main = factor.columns[0]
    one.columns, one.shift = list(map(free_to_write, one.columns)), one.shift.copy()
    for channel in np.flatnonzero(one.missing[item.bias]):
        row = item.rows[channel]
        living = row[(main.origin[row] >= 0) & ~factor.missing[row]]
        if not len(living) or int(main.origin[living[0]]) not in beside:
            continue
        place = beside[int(main.origin[living[0]])]
        leaf, inside = int(place.leaf[main.index[living[0]]]), int(place.index[main.index[living[0]]])
        _give_bias(made, one, int(item.bias[channel]), leaf, inside)


def _give_bias(made: Answer, one: Weight, element: int, leaf: int, inside: int) -> None:
    if leaf == NONE:
        one.missing[element], one.shift[element] = False, 0.0
        return
    terms = made.terms[leaf]
    if isinstance(terms, str) or made.source.form.leaves[leaf].compound:
        return
    term, chosen = terms.terms[0], np.array([element])
    one.missing[element] = False
    place(one.columns, len(one.missing), chosen, made.number(term.origin), term.index[[inside]], np.ones(1))


def _write(made: Answer, name: str, one: Weight) -> None:
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


def _expression(made: Answer, one: Weight) -> Expr:
    used = [column for column in one.columns if (column.origin >= 0).any()]
    parts = []
    for number, column in enumerate(used or [empty_column(len(one.shift))]):
        shift = one.shift if number == 0 else np.broadcast_to(0.0, len(one.shift))
        parts.append(_as_stored(made, one.shape, column, shift) or _of_column(made, one.shape, column, shift))
    return parts[0] if len(parts) == 1 else Sum(tuple(parts))


def _as_stored(made: Answer, shape: Shape, column: Column, shift: Floats) -> Expr | None:
    """A weight that is another one as it stands, up to a factor and a term, or several end to end; else None."""
    constant = all(not len(part) or part.strides == (0,) for part in (column.scale, shift))
    bounds = [0, *(np.flatnonzero(column.origin[1:] != column.origin[:-1]) + 1).tolist(), len(column.origin)]
    if not constant or not len(shift) or len(bounds) > MOST_MENTIONS:
        return None
    parts: list[Expr] = []
    for start, stop in pairwise(bounds):
        number, index = int(column.origin[start]), column.index[start:stop]
        origin = made.origins[number] if number >= 0 else None
        if origin is None or prod(origin.shape) != stop - start or origin.shape[1:] != shape[1:]:
            return None
        if len(origin.shape) != len(shape) or not np.array_equal(index, np.arange(len(index), dtype=index.dtype)):
            return None
        parts.append(origin)
    scale, term = float(column.scale[0]), float(shift[0])
    if len(parts) > 1:
        return Concat(tuple(parts), 0) if (scale, term) == (1.0, 0.0) else None
    return parts[0] if (scale, term) == (1.0, 0.0) else Affine(parts[0], scale, term)


def _of_column(made: Answer, shape: Shape, column: Column, shift: Floats) -> Expr:
    origins, leaf = np.unique(column.origin, return_inverse=True)
    first = int(origins[0] < 0)
    chosen = tuple(made.origins[int(origin)] for origin in origins[first:])
    return expression(element_map(shape, chosen, leaf.reshape(-1) - first, column.index, column.scale, shift))


def _solve(made: Answer, compounds: list[tuple[Leaf, Weight]], check: Callable[[], None]) -> None:
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
