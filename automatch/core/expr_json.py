"""Expressions as JSON, and back.

An expression is an object whose `op` names the operator; its other fields are the operator's, in a fixed order.

Example:
    >>> from automatch.core.expr import Affine, Source
    >>> to_json(Affine(Source("norm.weight", (4,)), shift=1.0))["op"]
    'affine'
    >>> from_json({"op": "constant", "value": 1.0, "shape": [4]}, "$")
    Constant(value=1.0, shape=(4,))
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TypeAlias, assert_never, cast, get_args

from automatch.core.expr import (
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
)
from automatch.core.expr_index_runs import from_runs, to_runs
from automatch.core.json_fields import (
    Members,
    boolean,
    integer,
    items,
    name,
    natural,
    number,
    number_to_json,
    one_of,
    shape,
)
from automatch.errors import MappingFormatError

FITS: tuple[Fit, ...] = get_args(Fit)
FUNCTIONS: tuple[Function, ...] = get_args(Function)
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
DEEPEST = 100
"""How many operators may stand inside one another; conversions need fewer than ten, a damaged file has any number."""

Build: TypeAlias = Callable[[Members, int], Expr]


def to_json(expr: Expr) -> dict[str, object]:
    """An expression as a JSON value with a fixed order of fields.

    Raises:
        ValueError: A number is NaN, or more than `DEEPEST` operators stand inside one another.
    """
    if _depth(expr) > DEEPEST:
        raise ValueError(f"more than {DEEPEST} operators stand inside one another")
    return _write(expr)


def from_json(value: object, where: str) -> Expr:
    """Read an expression, and refuse everything that is not one.

    Args:
        value: What `json.loads` gave.
        where: The value's JSON path, for messages.

    Raises:
        MappingFormatError: An operator is unknown, a field is missing, not known or of the wrong type, or the shapes
            are impossible; one fault a line, each with its JSON path.
    """
    return _read(value, where, 1)


def _depth(expr: Expr) -> int:
    return 1 + max(map(_depth, children(expr)), default=0)


def _write(expr: Expr) -> dict[str, object]:
    match expr:
        case Source(key=key, shape=shape):
            return {"op": "source", "key": key, "shape": list(shape)}
        case Constant(value=value, shape=shape):
            return {"op": "constant", "value": number_to_json(value), "shape": list(shape)}
        case Concat() | Slice() | Permute() | Reshape() | Gather():
            return _write_movement(expr)
        case Affine() | Sum() | Product() | Elementwise() | Reduce():
            return _write_arithmetic(expr)
        case Resize(of=of, shape=shape, fits=fits, scale=scale):
            how = {"shape": list(shape), "fits": list(fits), "scale": number_to_json(scale)}
            return {"op": "resize", **how, "of": _write(of)}
        case _:
            assert_never(expr)


def _write_movement(expr: Movement) -> dict[str, object]:
    match expr:
        case Concat(parts=parts, axis=axis):
            return {"op": "concat", "axis": axis, "parts": [_write(part) for part in parts]}
        case Slice(of=of, axis=axis, start=start, stop=stop):
            return {"op": "slice", "axis": axis, "start": start, "stop": stop, "of": _write(of)}
        case Permute(of=of, axes=axes):
            return {"op": "permute", "axes": list(axes), "of": _write(of)}
        case Reshape(of=of, shape=shape):
            return {"op": "reshape", "shape": list(shape), "of": _write(of)}
        case Gather(of=of, shape=shape, index=index):
            runs = [list(run) for run in to_runs(index)]
            return {"op": "gather", "shape": list(shape), "runs": runs, "of": _write(of)}
        case _:
            assert_never(expr)


def _write_arithmetic(expr: Arithmetic) -> dict[str, object]:
    match expr:
        case Affine(of=of, scale=scale, shift=shift):
            numbers = {"scale": number_to_json(scale), "shift": number_to_json(shift)}
            return {"op": "affine", **numbers, "of": _write(of)}
        case Sum(parts=parts):
            return {"op": "sum", "parts": [_write(part) for part in parts]}
        case Product(parts=parts):
            return {"op": "product", "parts": [_write(part) for part in parts]}
        case Elementwise(of=of, function=function):
            return {"op": "elementwise", "function": function, "of": _write(of)}
        case Reduce(of=of, kind=kind, axes=axes, keepdim=keepdim):
            return {"op": "reduce", "kind": kind, "axes": list(axes), "keepdim": keepdim, "of": _write(of)}
        case _:
            assert_never(expr)


def _read(value: object, where: str, depth: int) -> Expr:
    if depth > DEEPEST:
        raise MappingFormatError(f"{where}: more than {DEEPEST} operators stand inside one another")
    members = Members.of(value, where)
    op = members.take("op", one_of(*_BUILDERS))
    if op not in _BUILDERS:
        raise MappingFormatError("\n".join(members.faults))
    try:
        return _BUILDERS[op](members, depth + 1)
    except ValueError as error:
        raise MappingFormatError(f"{where}: {error}") from None


def _source(members: Members, _: int) -> Expr:
    key, size = members.take("key", name), members.take("shape", shape)
    members.close()
    return Source(key, size)


def _constant(members: Members, _: int) -> Expr:
    value, size = members.take("value", number), members.take("shape", shape)
    members.close()
    return Constant(value, size)


def _concat(members: Members, depth: int) -> Expr:
    axis, parts = members.take("axis", natural), _parts(members, depth)
    members.close()
    for index, part in enumerate(parts):
        if axis >= len(part.shape):
            place = f"{members.where}.parts[{index}]"
            raise MappingFormatError(f"{place}: shape {list(part.shape)} has no axis {axis} to be joined along")
    return Concat(parts, axis)


def _slice(members: Members, depth: int) -> Expr:
    axis, start, stop = (members.take(field, natural) for field in ("axis", "start", "stop"))
    of = _of(members, depth)
    members.close()
    return Slice(of, axis, start, stop)


def _permute(members: Members, depth: int) -> Expr:
    axes, of = members.take("axes", items(natural)), _of(members, depth)
    members.close()
    return Permute(of, axes)


def _reshape(members: Members, depth: int) -> Expr:
    size, of = members.take("shape", shape), _of(members, depth)
    members.close()
    return Reshape(of, size)


def _gather(members: Members, depth: int) -> Expr:
    size, runs = members.take("shape", shape), members.take("runs", items(items(integer)))
    of = _of(members, depth)
    members.close()
    return Gather(of, size, from_runs(runs, prod(size)))


def _affine(members: Members, depth: int) -> Expr:
    scale, shift = members.take("scale", number), members.take("shift", number)
    of = _of(members, depth)
    members.close()
    return Affine(of, scale, shift)


def _sum(members: Members, depth: int) -> Expr:
    parts = _parts(members, depth)
    members.close()
    return Sum(parts)


def _product(members: Members, depth: int) -> Expr:
    parts = _parts(members, depth)
    members.close()
    return Product(parts)


def _elementwise(members: Members, depth: int) -> Expr:
    function, of = members.take("function", one_of(*FUNCTIONS)), _of(members, depth)
    members.close()
    return Elementwise(of, cast(Function, function))


def _reduce(members: Members, depth: int) -> Expr:
    kind, axes = members.take("kind", one_of(*REDUCTIONS)), members.take("axes", items(natural))
    keepdim, of = members.take("keepdim", boolean), _of(members, depth)
    members.close()
    return Reduce(of, cast(Reduction, kind), axes, keepdim)


def _resize(members: Members, depth: int) -> Expr:
    size, fits = members.take("shape", shape), members.take("fits", items(one_of(*FITS)))
    scale, of = members.take("scale", number), _of(members, depth)
    members.close()
    for axis, (old, fit) in enumerate(zip(of.shape, fits, strict=False)):
        if fit not in ("keep", "leading", "middle") and old == 0:
            raise MappingFormatError(f"{members.where}.fits[{axis}]: there is no entry for {fit!r}")
    return Resize(of, size, cast("tuple[Fit, ...]", fits), scale)


def _of(members: Members, depth: int) -> Expr:
    return members.take("of", lambda value, where: _read(value, where, depth))


def _parts(members: Members, depth: int) -> tuple[Expr, ...]:
    return members.take("parts", items(lambda value, where: _read(value, where, depth)))


_BUILDERS: dict[str, Build] = {
    "source": _source,
    "constant": _constant,
    "concat": _concat,
    "slice": _slice,
    "permute": _permute,
    "reshape": _reshape,
    "affine": _affine,
    "sum": _sum,
    "gather": _gather,
    "product": _product,
    "elementwise": _elementwise,
    "reduce": _reduce,
    "resize": _resize,
}
