"""Weights cut to size of sources that may hold several of the target's: sure of none of them.

A fused projection that is not taken apart plays the role of one of its parts, and its first rows are seldom that part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from automatch.core.expr import Expr, Resize, children
from automatch.core.mapping import Entry


def with_fused(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The same entries, those demoted to guesses whose source may be fused of them and of what was left open.

    That is where the source is several times as large, though weights of this size are taken as they are elsewhere, so
    that the target is no narrower model, and others of the same shape found nothing.
    """
    left = {entry.shape for entry in entries if entry.expr is None}
    kept = {size for entry in entries if entry.expr is not None and not entry.losses for size in entry.shape}
    return tuple(_told(entry) if _is_part(entry, left, kept) else entry for entry in entries)


def _is_part(entry: Entry, left: set[tuple[int, ...]], kept: set[int]) -> bool:
    if entry.status != "structural" or entry.expr is None or entry.shape not in left:
        return False
    return any(old % new == 0 and new in kept for old, new in _cuts(entry.expr))


def _cuts(expr: Expr) -> Iterator[tuple[int, int]]:
    """Sizes along the first axis of what is cut, before and after."""
    if isinstance(expr, Resize) and expr.fits[0] == "leading" and expr.of.shape[0] > expr.shape[0] > 0:
        yield expr.of.shape[0], expr.shape[0]
    for child in children(expr):
        yield from _cuts(child)


def _told(entry: Entry) -> Entry:
    reason = (
        f"{', '.join(entry.sources)} is several times as large, and other weights of this size found nothing: it may "
        "hold them as well, in any order"
    )
    evidence = replace(entry.evidence, reasons=(reason, *entry.evidence.reasons))
    return replace(entry, status="guessed", evidence=evidence)
