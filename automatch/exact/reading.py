"""A leaf as its readers see it: which of its elements stand where in an operand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from automatch.exact.form import Form, Leaf
from automatch.exact.ops import MOVES
from automatch.exact.tolerance import Ints
from automatch.trace.program import name_of

_CASTS = ("to", "_to_copy", "type_as", "dropout")


def as_read(form: Form, leaf: Leaf, operand: fx.Node) -> Ints | None:
    """The leaf's flat indices, moved as the leaf is on its way to an operand; None where that is not a move.

    Example:
        For a weight stored `[in, out]` and transposed before a linear layer reads it, entry `[o, i]` of the result is
        `i * out + o`.
    """
    path = []
    while operand is not leaf.root:
        path.append(operand)
        dynamic = [item for item in operand.all_input_nodes if item not in form.static]
        if len(dynamic) != 1:
            return None
        operand = dynamic[0]
    value: Any = torch.arange(leaf.size).reshape(leaf.shape)
    if leaf.repeats:
        value = value.expand([int(size) for size in leaf.root.meta["val"].shape])
    for node in reversed(path):
        name = name_of(node)
        args, kwargs = fx.map_arg((node.args[1:], dict(node.kwargs)), lambda item: form.static.get(item))
        run: Callable[..., Any] = node.target  # type: ignore[assignment]
        if name == "embedding":
            value = value[args[0]]
        elif name in MOVES and name not in _CASTS:
            value = run(value, *args, **kwargs)
    if not isinstance(value, Tensor):
        return None  # all parts of it at once, as a concatenation of them reads it
    index: Ints = value.numpy()
    return index
