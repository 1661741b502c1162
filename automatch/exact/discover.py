"""Find the conversion between two recorded programs: try ways to read them until one accounts for everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from automatch.exact.answer import Determined, answer
from automatch.exact.budget import UNBOUNDED, Budget
from automatch.exact.form import Recipe, form
from automatch.exact.gradients import Side, side
from automatch.exact.readings import RECIPES, UNLIKE, Readings
from automatch.exact.search import Found, Search
from automatch.exact.snap import snap
from automatch.trace.program import Program

_DRAWS = 3

_FAR = 0.05
"""The share of living elements without a partner above which no other draw is tried: chance hides a few, not many."""


@dataclass(frozen=True, slots=True, eq=False)
class Discovery:
    """What running two programs side by side found.

    Attributes:
        weights: By target weight, what it is made of.
        problems: By target weight, why that is not known.
        partial: By target weight, what some of its elements are made of.
        recipe: How the programs were read.
        fault: How many elements found no partner; 0 where the reading accounts for everything.
    """

    weights: dict[str, Determined]
    problems: dict[str, str]
    partial: dict[str, Determined]
    recipe: Recipe
    fault: int


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """A reading and what the search made of it; `left` is how much it leaves open: without a partner, with several."""

    recipe: Recipe
    source: Side
    target: Side
    found: Found
    left: tuple[int, int]


def discover(
    source: Program,
    target: Program,
    seed: int = 0,
    *,
    say: Callable[[str], None] | None = None,
    budget: Budget = UNBOUNDED,
) -> Discovery | str:
    """Find out which element of one program's weights is which of the other's.

    Args:
        source: Where weights come from.
        target: What they are for.
        seed: Decides the generic values.
        say: Told how far the search is.
        budget: How long it may take.

    Returns:
        The discovery, or the reason why the programs do not look like one function.

    Raises:
        OutOfBudget: The budget is spent.
    """
    readings = Readings(source, target)
    best: _Trial | None = None
    recipes: tuple[Recipe, ...] = RECIPES
    for draw in range(seed, seed + _DRAWS):
        agreeing = []
        for number, recipe in enumerate(recipes, 1):
            doing = f"at reading {number} of {len(recipes)}" + (f", draw {draw - seed + 1}" if draw > seed else "")
            budget.check(doing)
            if say is not None:
                say(f"colouring: {doing.removeprefix('at ')}")
            if not readings.allows(recipe):
                continue
            agreeing.append(recipe)
            trial = _try(readings, recipe, draw, partial(budget.check, doing))
            if best is None or trial.left < best.left:
                best = trial
            if best.left == (0, 0):
                break
        if best is None or best.found.fault == 0 or best.found.fault > _FAR * best.found.alive:
            break
        recipes = tuple(agreeing)  # an unlucky draw may saturate what it should tell apart
    if best is None:
        return UNLIKE
    made = answer(best.found, best.source, best.target, partial(budget.check, "at writing down what it found"))
    return Discovery(made.weights, made.problems, made.partial, best.recipe, best.found.fault)


def _try(readings: Readings, recipe: Recipe, seed: int, check: Callable[[], None]) -> _Trial:
    (source, target), pairing = readings.programs(recipe), readings.pairing(recipe)
    forms = form(source, pairing.source, recipe), form(target, pairing.target, recipe)
    snap(forms)
    ours, theirs = side(forms[0]), side(forms[1])
    found = Search(ours, theirs, pairing.shapes, seed, check).run()
    return _Trial(recipe, ours, theirs, found, (found.fault, found.undecided))
