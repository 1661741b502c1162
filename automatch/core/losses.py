"""What a resized weight lost of its source, or has beyond it.

The status of an entry says whether its source is right. Whether all of it is there, and nothing else, is another thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

from automatch.core.expr_ops import Expr, Fit, Resize, children

Loss: TypeAlias = Literal["cut", "repeated", "filled", "interpolated"]
"""What happened to a weight of another size.

- `cut`: entries of the source were left out.
- `repeated`: entries of the source stand in several places.
- `filled`: entries were invented: zeros, or the mean of others.
- `interpolated`: every entry is a mixture of several.
"""

_LOSSES: dict[Fit, Loss] = {
    "leading": "cut",
    "middle": "cut",
    "tile": "repeated",
    "pad": "filled",
    "zeros": "filled",
    "mean": "filled",
    "cubic": "interpolated",
}


def losses(expr: Expr | None) -> tuple[Loss, ...]:
    """What an expression lost or invented, each once, in a fixed order; empty where it is exact.

    Example:
        >>> from automatch.core.expr_ops import Source
        >>> losses(Resize(Source("w", (4, 8)), (6, 2), ("tile", "leading")))
        ('cut', 'repeated')
    """
    found = set() if expr is None else set(_losses(expr))
    return tuple(loss for loss in get_args(Loss) if loss in found)


def _losses(expr: Expr) -> Iterator[Loss]:
    if isinstance(expr, Resize):
        sizes = zip(expr.of.shape, expr.shape, expr.fits, strict=True)
        found = [_LOSSES[fit] for old, new, fit in sizes if old != new]
        yield from found or (["cut"] if expr.scale != 1.0 else [])  # a factor makes up for what was left out before
    for child in children(expr):
        yield from _losses(child)
