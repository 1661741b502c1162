"""What the operators of a program mean to colouring: which only move elements, which scale them, which contract."""

from __future__ import annotations

MOVES = frozenset(
    """
    view _unsafe_view reshape permute transpose t numpy_T mT clone contiguous unsqueeze squeeze flatten unflatten alias
    to _to_copy type_as dropout detach lift_fresh_copy lift_fresh slice select expand repeat broadcast_to expand_as
    index narrow split split_with_sizes chunk unbind getitem tile flip roll swapaxes movedim unfold index_select
    """.split()
)
CONTRACTIONS = frozenset(
    """
    linear conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d matmul mm bmm addmm
    einsum baddbmm bilinear
    """.split()
)
"""Operators that sum products of a weight's elements with data."""
SCALINGS = frozenset("mul add sub div neg rsub".split())
RANDOM = frozenset("randn rand randn_like rand_like randint normal bernoulli multinomial randperm".split())
