"""The ways in which two programs are read, and which of them allow that both compute one function."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from automatch.exact.budget import UNBOUNDED, Budget
from automatch.exact.fold import folded
from automatch.exact.form import Recipe
from automatch.exact.normalise import normalised
from automatch.exact.outputs import Pairing, pair_outputs
from automatch.exact.scores import scores_scaled
from automatch.interruption import let_through
from automatch.trace.program import Program

RECIPES = (
    Recipe(),
    Recipe(effective=True),
    Recipe(by_use=True),
    Recipe(by_use=True, effective=True),
    Recipe(effective=True, folded=True),
    Recipe(flat=True),
    Recipe(flat=True, effective=True),
    Recipe(flat=True, by_use=True),
    Recipe(flat=True, by_use=True, effective=True),
    Recipe(by_use=True, effective=True, folded=True),
    Recipe(flat=True, effective=True, folded=True),
)
"""From the plainest reading on; each is tried only where those before it do not account for all elements."""

UNLIKE = "no output of one model agrees with an output of the other where all weights are alike"
"""Why two programs are two functions."""

LARGEST = 60_000_000
"""Numbers that a side may hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Two programs, rewritten and paired once for every reading.

    Attributes:
        source: Where weights come from.
        target: What they are for.
    """

    source: Program
    target: Program
    _rewritten: dict[tuple[bool, bool], tuple[Program, Program]] = field(default_factory=dict, init=False)
    _paired: dict[Recipe, Pairing] = field(default_factory=dict, init=False)

    def programs(self, recipe: Recipe) -> tuple[Program, Program]:
        """Both programs in the spelling of a reading."""
        spelling = (recipe.effective, recipe.folded)
        if spelling not in self._rewritten:
            self._rewritten[spelling] = _read(self.source, *spelling), _read(self.target, *spelling)
        return self._rewritten[spelling]

    def pairing(self, recipe: Recipe) -> Pairing:
        """Which output is which in a reading."""
        if recipe not in self._paired:
            self._paired[recipe] = pair_outputs(*self.programs(recipe), recipe)
        return self._paired[recipe]

    def allows(self, recipe: Recipe) -> bool:
        """Whether both may be one function in this reading, and it is none that was met already.

        Reading every use of a weight apart changes nothing where each has one.
        """
        if recipe.by_use and not self.pairing(replace(recipe, by_use=False)).shared:
            return False
        return self.pairing(recipe).agree


def searchable(program: Program) -> bool:
    """Whether a program is small enough to be coloured."""
    return sum(value.numel() for value in program.values.values()) <= LARGEST


def could_agree(source: Program, target: Program, budget: Budget = UNBOUNDED) -> bool:
    """Whether two programs may be one function at all.

    Where all elements of one role hold one value, no order of channels and no layout can be told from another, so two
    programs of one function give the same outputs there; two functions do not, in any reading. That costs a few runs
    of both, and no gradient.

    Args:
        source: Where weights come from.
        target: What they are for.
        budget: How long the question may take.

    Returns:
        False where they differ in every reading; True where they do not, where they cannot be run on such values, are
        too large for it, or no time is left.

    Example:
        >>> from torch import nn, randn
        >>> from automatch.trace.inputs import normalise
        >>> from automatch.trace.program import record
        >>> x = normalise(randn(2, 4))
        >>> one, other = (record(nn.Sequential(nn.Linear(4, 4), act), x) for act in (nn.GELU(), nn.Tanh()))
        >>> could_agree(one, other), could_agree(one, one)
        (False, True)
    """
    if not searchable(source) or not searchable(target):
        return True
    readings = Readings(source, target)
    for recipe in RECIPES:
        try:
            if budget.spent or readings.allows(recipe):
                return True
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
            let_through(error)
            return True  # recorded code met odd values, which says nothing
    return False


def _read(program: Program, gathered: bool, moved: bool) -> Program:
    plain = normalised(program, gathered)
    return folded(scores_scaled(plain)) if moved else plain
