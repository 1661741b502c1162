"""Expressions computed on real tensors.

Example:
    >>> import torch
    >>> from automatch.core.expr import Affine, Source
    >>> weights = {"norm.weight": torch.tensor([0.0, 0.5])}
    >>> evaluate(Affine(Source("norm.weight", (2,)), shift=1.0), weights.__getitem__)
    tensor([1.0000, 1.5000])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import assert_never

import torch
from torch import Tensor

from automatch.apply.axis_fits import along
from automatch.apply.reductions import as_fractional, reduced
from automatch.core.expr import (
    COMPUTING_FITS,
    Affine,
    Arithmetic,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Function,
    Gather,
    Movement,
    Permute,
    Product,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    children,
    source_leaves,
)
from automatch.errors import MappingError


def evaluate(
    expr: Expr,
    read: Callable[[str], Tensor],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Compute an expression.

    The result has the sources' dtype (promoted as torch does where they differ) and lies on their device, the meta
    device included. Arithmetic on floats narrower than float32 is done in float32 and rounded once. An entry has the
    same bits whatever is computed beside it, so that a tensor may be made in parts. The result is contiguous and owns
    its memory: it never aliases a source.

    Args:
        expr: What to compute.
        read: Gives the tensor of a source key; called once a key.
        dtype: The dtype of an expression that reads no source.
        device: The device of an expression that reads no source.

    Raises:
        MappingError: A source tensor has another shape than the expression says.

    Example:
        >>> from automatch.core.expr import Concat, Resize
        >>> q, k = (Resize(Source(name, (4, 4)), (2, 2), ("leading", "leading")) for name in "qk")
        >>> evaluate(Concat((q, k)), lambda name: torch.ones(4, 4)).shape
        torch.Size([4, 2])
    """
    with torch.no_grad():
        leaves = _read_leaves(expr, read)
        if leaves:
            dtype = promoted(leaf.dtype for leaf in leaves.values())
            device = next(iter(leaves.values())).device
        working = working_dtype(expr, dtype)
        at_work = {key: leaf.to(working) for key, leaf in leaves.items()}
        result = _run(expr, _Bench(at_work, working, torch.device(device)))
        if dtype.is_floating_point:
            result = result.to(dtype)
        return _owned(result, list(leaves.values()))


def promoted(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The dtype that holds the values of several, as torch promotes them."""
    return reduce(_promote, dtypes)


def working_dtype(expr: Expr, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which an expression is computed whose sources are promoted to `dtype`."""
    return torch.float32 if _is_narrow(dtype) and computes(expr) else dtype


def _read_leaves(expr: Expr, read: Callable[[str], Tensor]) -> dict[str, Tensor]:
    leaves: dict[str, Tensor] = {}
    for leaf in source_leaves(expr):
        if leaf.key not in leaves:
            leaves[leaf.key] = read(leaf.key).detach()
        found = tuple(leaves[leaf.key].shape)
        if found != leaf.shape:
            raise MappingError(f"{leaf.key}: shape {list(found)}, but the mapping was made for {list(leaf.shape)}")
    return leaves


@dataclass(frozen=True, slots=True)
class _Bench:
    """What an expression is computed with: the tensors it reads, and what its constants are made as."""

    leaves: dict[str, Tensor]
    dtype: torch.dtype
    device: torch.device


def _run(expr: Expr, bench: _Bench) -> Tensor:
    match expr:
        case Source(key=key):
            return bench.leaves[key]
        case Constant(value=value, shape=shape):
            return torch.full(shape, value, dtype=bench.dtype, device=bench.device)
        case Concat() | Slice() | Permute() | Reshape() | Gather():
            return _move(expr, bench)
        case Affine() | Sum() | Product() | Elementwise() | Reduce():
            return _compute(expr, bench)
        case Resize(of=of):
            return _resize(_run(of, bench), expr)
        case _:
            assert_never(expr)


def _move(expr: Movement, bench: _Bench) -> Tensor:
    match expr:
        case Concat(parts=parts, axis=axis):
            return torch.cat([_run(part, bench) for part in parts], dim=axis)
        case Slice(of=of, axis=axis, start=start, stop=stop):
            return _run(of, bench).narrow(axis, start, stop - start)
        case Permute(of=of, axes=axes):
            return _run(of, bench).permute(axes)
        case Reshape(of=of, shape=shape):
            return _run(of, bench).reshape(shape)
        case Gather(of=of, shape=shape, index=index):
            return _gather(_run(of, bench), index).reshape(shape)
        case _:
            assert_never(expr)


def _compute(expr: Arithmetic, bench: _Bench) -> Tensor:
    match expr:
        case Affine(of=of, scale=scale, shift=shift):
            return affine(_run(of, bench), scale, shift)
        case Sum(parts=parts):
            return reduce(torch.add, [_run(part, bench) for part in parts])
        case Product(parts=parts):
            return reduce(torch.mul, [_run(part, bench) for part in parts])
        case Elementwise(of=of, function=function):
            return FUNCTIONS[function](_run(of, bench))
        case Reduce(of=of, kind=kind, axes=axes, keepdim=keepdim):
            return reduced(_run(of, bench), kind, axes, keepdim)
        case _:
            assert_never(expr)


def _gather(x: Tensor, index: tuple[int, ...]) -> Tensor:
    return x.reshape(-1).index_select(0, torch.tensor(index, dtype=torch.int64, device=x.device))


# The functions below are composed of those that give an entry the same bits wherever in a tensor it stands. Torch's own
# compute the last few entries of a thread's share in another way.


def _sigmoid(x: Tensor) -> Tensor:
    return torch.reciprocal(1 + torch.exp(-as_fractional(x)))


def _logit(x: Tensor) -> Tensor:
    x = as_fractional(x)
    return torch.log(x / (1 - x))


def _atanh(x: Tensor) -> Tensor:
    x = as_fractional(x)
    return (torch.log1p(x) - torch.log1p(-x)) / 2


def _softplus(x: Tensor) -> Tensor:
    # torch's own gives x itself above a threshold, which is not exact in float64
    x = as_fractional(x)
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


def _inverse_softplus(x: Tensor) -> Tensor:
    # log(exp(x) - 1) without overflow for large x and without cancellation for small ones
    return x + torch.log(-torch.expm1(-x))


FUNCTIONS: dict[Function, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "square": torch.square,
    "abs": torch.abs,
    "tanh": torch.tanh,
    "atanh": _atanh,
    "sigmoid": _sigmoid,
    "logit": _logit,
    "softplus": _softplus,
    "inverse_softplus": _inverse_softplus,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
}


def affine(x: Tensor, scale: float, shift: float) -> Tensor:
    """`scale * x + shift`; whole numbers stay whole where they can."""
    scaled = x if scale == 1.0 else x * _number(scale, x.dtype)
    return scaled if shift == 0.0 else scaled + _number(shift, x.dtype)


def _number(value: float, dtype: torch.dtype) -> float | int:
    """A factor or term that does not turn integers into floats where it need not."""
    whole = not dtype.is_floating_point and not dtype.is_complex and value.is_integer()
    return int(value) if whole else value


def _resize(x: Tensor, how: Resize) -> Tensor:
    for axis, (old, new, fit) in enumerate(zip(x.shape, how.shape, how.fits, strict=True)):
        x = along(x, axis, (old, new), fit, 0, (0, new))
    return affine(x, how.scale, 0.0)


def computes(expr: Expr) -> bool:
    """Whether anything in the expression is arithmetic, rather than movement."""
    match expr:
        case Affine() | Sum() | Product() | Elementwise() | Reduce():
            return True
        case Resize(scale=scale, fits=fits) if scale != 1.0 or not COMPUTING_FITS.isdisjoint(fits):
            return True
        case _:
            return any(computes(child) for child in children(expr))


def _is_narrow(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point and dtype.itemsize < 4


def _promote(first: torch.dtype, second: torch.dtype) -> torch.dtype:
    if first == second:
        return first
    # torch refuses to promote 8-bit floats; bfloat16 holds every value of all of them.
    wide = [torch.bfloat16 if dtype.is_floating_point and dtype.itemsize == 1 else dtype for dtype in (first, second)]
    return torch.promote_types(*wide)


def _owned(x: Tensor, leaves: list[Tensor]) -> Tensor:
    """The same values in memory of their own, contiguous and without slack, as `safetensors` and `torch.save` want."""
    storage = x.untyped_storage()
    alone = all(storage.data_ptr() != leaf.untyped_storage().data_ptr() for leaf in leaves)
    exact = x.is_contiguous() and storage.nbytes() == x.numel() * x.itemsize
    return x if alone and exact else x.clone(memory_format=torch.contiguous_format)
