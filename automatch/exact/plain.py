"""What the outputs say of a weight, joined with what structure says of the rest.

An element that no output tells is not made up from those that are told: it takes the structural answer, where that is
right in all that was seen. Where the outputs leave a choice (how a sum is split, how length and direction share a
weight norm), structure chooses. What is left is a guess, and called one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from automatch.apply.evaluate import evaluate
from automatch.core.expr import Expr, Resize, children, source_leaves
from automatch.core.mapping import Entry, MappingRecord
from automatch.errors import MappingError
from automatch.exact.answer import Determined
from automatch.exact.entries import Exact


def joined(structural: MappingRecord, exact: Exact) -> Iterator[MappingRecord]:
    """Mappings to try, likeliest first: structure in all that is open, structure in what was not seen, neither.

    Args:
        structural: What structure says.
        exact: What the outputs say.
    """
    made: list[tuple[Entry, ...]] = []
    for chooses, continues in ((True, True), (False, True), (False, False)):
        entries = tuple(_entry(entry, exact, chooses, continues) for entry in structural.entries)
        if entries not in made:
            made.append(entries)
            yield replace(structural, entries=entries)


def _entry(structural: Entry, exact: Exact, chooses: bool, continues: bool) -> Entry:
    """One entry.

    Args:
        structural: What structure says.
        exact: What the outputs say.
        chooses: Whether structure decides where outputs leave a choice.
        continues: Whether structure decides what no output tells.
    """
    key = structural.target
    found, told = exact.determined.get(key), exact.entries.get(key) or exact.partial.get(key)
    if found is None or told is None:
        return _with_reason(structural, exact.problems.get(key, ""))
    settled = found.plain and not found.solved  # which bias of a sum is whose follows from the weights beside them
    if found.unseen is None and (settled or not found.free):
        return told
    known = structural.expr is not None and not resizes(structural.expr)
    if known and chooses and found.free:
        return _with_reason(structural, "outputs depend on a combination with other weights only; structure chooses")
    if known and continues and _agrees(structural, found):
        share = f"{found.seen:,} of {found.of:,} elements"
        return _with_reason(structural, f"the outputs tell {share}, and they are as structure says; so is the rest")
    if key in exact.entries and (found.unseen is None or (found.plain and not found.padded)):
        return told
    reason = "what no output tells is padded with zeros" if found.padded else "what no output tells is made up"
    return replace(_with_reason(told, reason), status="guessed")


def _agrees(structural: Entry, found: Determined) -> bool:
    """Whether the structural answer is right in every element that was seen."""
    assert structural.expr is not None
    if found.unseen is None:
        return structural.expr == found.expr
    seen = torch.from_numpy(~found.unseen)
    chance = torch.Generator().manual_seed(5)
    leaves = {leaf.key: leaf for expr in (structural.expr, found.expr) for leaf in source_leaves(expr)}
    drawn = {key: torch.rand(leaf.shape, generator=chance, dtype=torch.float64) + 0.5 for key, leaf in leaves.items()}
    try:
        one, other = (
            evaluate(expr, drawn.__getitem__, dtype=torch.float64).reshape(-1)[seen]
            for expr in (structural.expr, found.expr)
        )
    except MappingError:
        return False
    return torch.allclose(one, other, rtol=1e-6, atol=1e-9)


def _with_reason(entry: Entry, reason: str) -> Entry:
    if not reason:
        return entry
    return replace(entry, evidence=replace(entry.evidence, reasons=(*entry.evidence.reasons, reason)))


def resizes(expr: Expr) -> bool:
    """Whether an expression loses or invents numbers."""
    return isinstance(expr, Resize) or any(resizes(child) for child in children(expr))
