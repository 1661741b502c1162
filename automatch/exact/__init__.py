"""Are two models the same function? Then which element of one's weights is which of the other's: gradient colours.

Both recorded programs are run on values of the search's own choosing, and the correspondence is read off the gradients.
The method and its limits are told in `docs/matching.md`.
"""

from automatch.exact.budget import Budget
from automatch.exact.entries import LARGEST, Exact, exact_entries
from automatch.exact.leftovers import completed
from automatch.exact.plain import joined, resizes
from automatch.exact.possible import impossible

__all__ = ["LARGEST", "Budget", "Exact", "completed", "exact_entries", "impossible", "joined", "resizes"]
