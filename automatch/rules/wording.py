"""Terms and readings as a person would write them; `automatch.rules.reading` reads them back.

Example:
    >>> from automatch.rules.reading import read_term
    >>> print(term_text(read_term("cat( layers.{i}.q.weight ,rotary_pairs(layers.{i}.k.weight,heads=kv_heads) )")))
    cat(layers.{i}.q.weight, rotary_pairs(layers.{i}.k.weight, heads=kv_heads))
    >>> print(term_text(read_term("{width**0.5}*(1+norm.weight) / a[0:-2*n, :, 3].T")))
    {width ** 0.5} * ((1 + norm.weight) / a[0:-2 * n, :, 3].T)
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import assert_never

from automatch.rules import formula as formulas
from automatch.rules.pattern import Pattern
from automatch.rules.ruleset import Axis, Carried, Count, Derived, Reading
from automatch.rules.terms import (
    Bound,
    Call,
    Combine,
    Fill,
    Fit,
    Index,
    Join,
    Key,
    Power,
    Rotary,
    Scalar,
    Scale,
    Term,
    Total,
    Transpose,
    View,
    WeightNorm,
)

PLAIN_KEY = re.compile(r"(?!\d+(\.\d+)?([eE]\d+)?$)(?!\{[^{}]*\}$)(?:[\w.]|\{[^{}]*\})+")
"""Keys that need no quotes; what looks like a number or a single hole does."""

RESERVED = {"ones", "zeros", "full", "for", "None"}
FILLS = {1.0: "ones", 0.0: "zeros"}
SUM, PRODUCT, ATOM = 0, 1, 2


def key_text(pattern: Pattern) -> str:
    """A key's pattern, in quotes where it would be read as something else."""
    written = str(pattern)
    plain = PLAIN_KEY.fullmatch(written) and written not in RESERVED
    if plain and not written.startswith(".") and ".." not in written and written.rsplit(".", 1)[-1] not in ("T", ""):
        return written
    return json.dumps(written, ensure_ascii=False)


def term_text(term: Term) -> str:
    """A term as text."""
    return _written(term, SUM)


def _written(term: Term, level: int) -> str:
    """The text, in brackets where what surrounds it binds tighter."""
    text, own = _with_level(term)
    return f"({text})" if own < level else text


def _with_level(term: Term) -> tuple[str, int]:
    match term:
        case Key(pattern=pattern):
            return key_text(pattern), ATOM
        case Fill():
            return _fill(term), ATOM
        case Join() | Rotary() | WeightNorm() | Fit():
            return _call(term), ATOM
        case Index() | Transpose() | View() | Total():
            return _suffixed(term), ATOM
        case Scale(of=of, scale=scale, shift=shift):
            return _scaled(of, scale, shift)
        case Combine(kind="+", parts=parts):
            return " + ".join(_written(part, PRODUCT) for part in parts), SUM
        case Combine(parts=parts):
            return _product(parts), PRODUCT
        case Call(function="reciprocal", of=of):
            return f"1 / {_written(of, ATOM)}", PRODUCT
        case Call(function=function, of=of):
            return f"{function}({term_text(of)})", ATOM
        case _:
            assert_never(term)


def _fill(term: Fill) -> str:
    name = FILLS.get(term.value) or f"full[{number_text(term.value)}]"
    return name if term.shape is None else f"{name}({', '.join(map(formulas.text, term.shape))})"


def _call(term: Join | Rotary | WeightNorm | Fit) -> str:
    match term:
        case Join(kind=kind, parts=parts, axis=axis, groups=groups, each=each):
            written = ", ".join(map(term_text, parts)) + (f" for {each}" if each else "")
            named = [written, *([f"groups={formulas.text(groups)}"] if groups is not None else [])]
            return f"{kind}({', '.join([*named, *_axis(axis)])})"
        case Rotary(of=of, order=order, heads=heads, first=first, axis=axis):
            named = [f"heads={formulas.text(heads)}", *([f"first={formulas.text(first)}"] if first is not None else [])]
            return f"rotary_{order}({', '.join([term_text(of), *named, *_axis(axis)])})"
        case WeightNorm(g=g, v=v, axis=axis):
            return f"weight_norm({', '.join([term_text(g), term_text(v), *_axis(axis)])})"
        case Fit(of=of, shape=shape, form=form, indexed=indexed, new_rows=new_rows):
            sizes = map(formulas.text, shape or ())
            named = [] if form == "matrix" else [f"form={form}"]
            named += [f"dim{each.axis}={each.entries}" for each in indexed]
            named += [] if new_rows == "mean" else [f"new={new_rows}"]
            return f"resize({', '.join([term_text(of), *sizes, *named])})"
        case _:
            assert_never(term)


def _axis(axis: int | None) -> list[str]:
    return [] if axis == 0 else [f"dim={axis}"]


def _suffixed(term: Index | Transpose | View | Total) -> str:
    of = _written(term.of, ATOM)
    match term:
        case Index(bounds=bounds):
            places = {bound.axis: _bound(bound) for bound in bounds}
            return f"{of}[{', '.join(places.get(axis, ':') for axis in range(max(places) + 1))}]"
        case Transpose(axes=(1, 0)):
            return f"{of}.T"
        case Transpose(axes=axes):
            return f"{of}.permute({', '.join(map(str, axes))})"
        case View(shape=shape):
            return f"{of}.reshape({', '.join(map(formulas.text, shape))})"
        case Total(kind=kind, axes=axes, keepdim=keepdim):
            dims = str(axes[0]) if len(axes) == 1 else str(axes)
            return f"{of}.{kind}(dim={dims}{', keepdim=True' if keepdim else ''})"
        case _:
            assert_never(term)


def _bound(bound: Bound) -> str:
    start = "" if bound.start is None else formulas.text(bound.start)
    if bound.single:
        return start
    return f"{start}:{'' if bound.stop is None else formulas.text(bound.stop)}"


def _scaled(of: Term, scale: Scalar, shift: Scalar) -> tuple[str, int]:
    if scale == 1.0:
        text, level = _written(of, PRODUCT), PRODUCT
    elif scale == -1.0:
        text, level = f"-{_written(of, ATOM)}", PRODUCT
    else:
        text, level = f"{scalar_text(scale)} * {_written(of, ATOM)}", PRODUCT
    return (text, level) if shift == 0.0 else (f"{scalar_text(shift)} + {text}", SUM)


def _product(parts: Sequence[Term]) -> str:
    above = [_written(part, ATOM) for part in parts if not _below(part)]
    below = [_written(part.of, ATOM) for part in parts if isinstance(part, Call) and _below(part)]
    return " / ".join([" * ".join(above) or "1", *below])


def _below(part: Term) -> bool:
    return isinstance(part, Call) and part.function == "reciprocal"


def scalar_text(scalar: Scalar) -> str:
    """A factor or a summand: a number, or sizes in braces."""
    if not isinstance(scalar, Power):
        return number_text(scalar)
    written = formulas.text(scalar.of)
    if scalar.exponent == 1.0:
        return f"{{{written}}}"
    inner = written if not isinstance(scalar.of, formulas.Binary) else f"({written})"
    return f"{{{inner} ** {number_text(scalar.exponent)}}}"


def number_text(value: float) -> str:
    """A number to its last bit, whole ones without a fraction."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def reading_text(reading: Reading) -> str:
    """Where a size is read, as text."""
    match reading:
        case Axis(side=side, key=key, axis=axis):
            return f"{side}[{key}][{axis}]"
        case Carried(side=side, path=path):
            return f"{side}.{path}"
        case Count(side=side, key=key):
            return f"{side}.count({key})"
        case Derived(formula=formula):
            return formulas.text(formula)
        case _:
            assert_never(reading)
