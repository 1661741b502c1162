"""A state dict for the target, computed from one for the source."""

from __future__ import annotations

from collections import abc

import torch
from torch import Tensor

from automatch.apply.evaluate import evaluate
from automatch.apply.fit import Fit, Held, fit, warn_of
from automatch.checkpoint.dtypes import dtype_name
from automatch.core.expr import Expr, text
from automatch.core.mapping import Entry, MappingRecord
from automatch.errors import MappingError, together
from automatch.interruption import let_through


def fill(
    record: MappingRecord, state_dict: abc.Mapping[str, Tensor], allow_unread: abc.Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Every target weight that the mapping determines, in the target's order.

    A weight keeps the dtype of the sources it is made of; one made of constants alone has the dtype that the mapping
    recorded for the target. Every tensor owns its memory, tied keys included.

    Args:
        record: The mapping.
        state_dict: The source's keys and tensors; tensors on the meta device give tensors on the meta device.
        allow_unread: Patterns of tensors that may be left out though the mapping never knew them; None leaves out all
            of them, with a warning.

    Raises:
        MappingError: Values are no tensors, or do not fit the mapping (`automatch.apply.fit`; all findings are listed),
            or an expression cannot be computed in the source's dtype.
    """
    found = fitted(record, state_dict, allow_unread)
    if allow_unread is None:
        warn_of(found.unread, "the state dict", stacklevel=4)
    names = found.names
    device = next((value.device for value in state_dict.values()), torch.device("cpu"))
    return {
        entry.target: compute(entry, entry.expr, lambda key: state_dict[names[key]], device)
        for entry in record.entries
        if entry.expr is not None
    }


def fitted(
    record: MappingRecord, state_dict: abc.Mapping[str, Tensor], allow_unread: abc.Sequence[str] | None = None
) -> Fit:
    """How a mapping reads a state dict; nothing is made.

    Raises:
        MappingError: Values are no tensors, or do not fit the mapping; all findings are listed.
    """
    strange = [f"{key}: {type(value).__name__}" for key, value in state_dict.items() if not isinstance(value, Tensor)]
    if strange:
        raise together(MappingError, "the state dict holds values that are no tensors; leave them out:", strange)
    held = {key: Held(tuple(value.shape), dtype_name(value.dtype)) for key, value in state_dict.items()}

    def same(one: str, other: str) -> bool:
        return _same(state_dict[one], state_dict[other])

    return fit(record, held, "the state dict", same=same, allow_unread=allow_unread)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values; of tensors on the meta device nobody knows that they do not."""
    return one is other or one.is_meta or other.is_meta or torch.equal(one, other.to(one.device))


def compute(entry: Entry, expr: Expr, read: abc.Callable[[str], Tensor], device: torch.device) -> Tensor:
    """One entry's tensor.

    Args:
        entry: The entry.
        expr: Its expression.
        read: Gives the tensor of a source key.
        device: Where a tensor made of constants alone is put.

    Raises:
        MappingError: The entry's dtype is unknown to torch, or the dtype of its sources does not allow the arithmetic.
    """
    try:
        return evaluate(expr, read, dtype=torch_dtype(entry), device=device)
    except RuntimeError as error:
        let_through(error)
        raise MappingError(f"{entry.target} = {text(expr)} cannot be computed: {error}") from error


def torch_dtype(entry: Entry) -> torch.dtype:
    """The dtype that an entry records.

    Raises:
        MappingError: This torch has no dtype of that name.
    """
    dtype = getattr(torch, entry.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise MappingError(f"{entry.target}: dtype {entry.dtype!r} is unknown to torch {torch.__version__}")
    return dtype
