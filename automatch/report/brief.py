"""Expressions in few words, for the cells of a table."""

from __future__ import annotations

import re
from collections.abc import Sequence

from automatch.core.expr import Concat, Expr, Resize, text

RESIZED = "~"
"""Stands before a part that is resized, where `brief` is asked to mark it."""

_KEY = re.compile(rf"{RESIZED}?[\w.{{}}-]+")


def brief(expr: Expr, mark: str = "") -> str:
    """An expression without the details of its resizing, parts that differ in one word written once.

    Args:
        expr: The expression.
        mark: What to put before a resized part.

    Example:
        >>> from automatch.core.expr import Source
        >>> parts = tuple(Resize(Source(f"a.{n}.w", (8, 8)), (4, 4), ("leading", "leading"), 2.0) for n in "qkv")
        >>> print(brief(Concat(parts), mark="~"))
        cat(~a.{q,k,v}.w)
        >>> print(text(Concat(parts[:1])))
        cat(resize(a.q.w, 4x4) * 2)
    """
    match expr:
        case Resize(of=of):
            return mark + brief(of, mark)
        case Concat(parts=parts, axis=axis):
            inner = _alternatives([brief(part, mark) for part in parts])
            return f"cat({inner})" if axis == 0 else f"cat({inner}, dim={axis})"
        case _:
            return text(expr)


def _alternatives(names: Sequence[str]) -> str:
    """`a.q.w, a.k.w` as `a.{q,k}.w`; as they are where they differ in more than one word between dots."""
    split = [name.split(".") for name in names]
    plain = all(_KEY.fullmatch(name) for name in names)
    if len(names) < 2 or not plain or len({len(words) for words in split}) > 1:
        return ", ".join(names)
    columns = list(zip(*split, strict=True))
    differing = [place for place, words in enumerate(columns) if len(set(words)) > 1]
    # the first word carries the mark of a resized part, which cannot be shared
    if len(differing) != 1 or differing[0] == 0:
        return ", ".join(names)
    place = differing[0]
    return ".".join([*split[0][:place], f"{{{','.join(columns[place])}}}", *split[0][place + 1 :]])
