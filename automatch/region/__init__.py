"""Where a run refuted a mapping, the part of both programs in which they first part is coloured, and nothing else.

Values that both sides hold alike are held fixed (`held`); a region lies between them and a value behind the place where
the models part (`boundaries`, `cutting`). What colouring finds there is a proposal for the other blocks (`carrying`).
One such step after another, until the outputs agree (`search`). Nothing found here is believed before
`automatch.prove.prove` agrees.
"""

from automatch.region.search import searched_region

__all__ = ["searched_region"]
