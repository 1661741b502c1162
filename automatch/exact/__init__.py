"""Are two models the same function? Then which element of one's weights is which of the other's: gradient colours.

Both recorded programs are run on values of the search's own choosing, and the correspondence is read off the gradients.
The method and its limits are told in `docs/matching.md`.
"""

from automatch.exact.budget import Budget
from automatch.exact.entries import Exact, exact_entries
from automatch.exact.leftovers import completed
from automatch.exact.plain import joined, resizes
from automatch.exact.possible import impossible
from automatch.exact.readings import LARGEST, UNLIKE, could_agree

__all__ = [
    "LARGEST",
    "UNLIKE",
    "Budget",
    "Exact",
    "completed",
    "could_agree",
    "exact_entries",
    "impossible",
    "joined",
    "resizes",
]
