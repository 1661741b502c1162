"""Where a run refuted a mapping and led to a few weights, other readings of these are tried, and kept if a run agrees.

Both models are recorded once on fresh weights. A candidate costs one run of the target; it is better where more of
what the target computes is right (`bench`). Candidates are what conversions get wrong (`edits`, `families`): the layout
within heads, the order of parts, a constant factor, a transpose, an offset of rows, another source. One fault repeats
in every layer, so a candidate is applied to a whole family of keys, and to one key alone; what helps more is kept.
Nothing found here is believed before `automatch.prove.prove` agrees.
"""

from automatch.repair.bench import bench_or_none
from automatch.repair.search import repaired

__all__ = ["bench_or_none", "repaired"]
