"""Expressions: how one target weight is made from source weights.

A small closed algebra of frozen values. Every expression knows its own shape; `automatch.apply.evaluate` runs it,
`automatch.core.expr_json` writes and reads it. The operators are in `expr_ops`, how they are printed in `expr_text`.

Example:
    >>> q, k, v = (Source(f"attn.{n}.weight", (8, 8)) for n in "qkv")
    >>> in_proj = Concat((q, k, v), axis=0)
    >>> in_proj.shape
    (24, 8)
    >>> print(text(in_proj))
    cat(attn.q.weight, attn.k.weight, attn.v.weight)
"""

from automatch.core.expr_ops import (
    COMPUTING_FITS,
    MOVING_FITS,
    Affine,
    Arithmetic,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Fit,
    Function,
    Gather,
    Movement,
    Permute,
    Product,
    Reduce,
    Reduction,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    children,
    source_leaves,
    sources,
)
from automatch.core.expr_text import text

__all__ = [
    "COMPUTING_FITS",
    "MOVING_FITS",
    "Affine",
    "Arithmetic",
    "Concat",
    "Constant",
    "Elementwise",
    "Expr",
    "Fit",
    "Function",
    "Gather",
    "Movement",
    "Permute",
    "Product",
    "Reduce",
    "Reduction",
    "Reshape",
    "Resize",
    "Slice",
    "Source",
    "Sum",
    "children",
    "source_leaves",
    "sources",
    "text",
]
