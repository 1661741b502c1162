"""Are two models the same function? Then which element of one's weights is which of the other's: gradient colours.

Both recorded programs are run on values of the search's own choosing, and the correspondence is read off the gradients.
The method and its limits are told in `docs/matching.md`.
"""

from automatch.exact.entries import Exact, exact_entries
from automatch.exact.leftovers import completed

__all__ = ["Exact", "completed", "exact_entries"]
