"""What a lifted mapping rests on, in words: the proof was on the twins, and nothing was run at full size."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from automatch.core.graph import Graph
from automatch.core.mapping import ComparedOutput, Entry, Evidence, MappingRecord

LIFTED = "lifted to full size, where nothing was run: numbers of layers and sizes were replaced"


def evidence(entry: Entry, size: int) -> Evidence:
    """The evidence of a twin's entry, as evidence of a key at full size."""
    how = f"{_known(entry)} on the twin ({entry.target}, {prod(entry.shape):,} entries for {size:,}), then {LIFTED}"
    rivals = tuple(
        f"on the twin, {', '.join(rival.sources)} came next: {rival.reason}" for rival in entry.evidence.rivals
    )
    shown = () if entry.evidence.shown is None else (f"on the twin: {entry.evidence.shown.reason}",)
    reasons = (how, *entry.evidence.reasons, *shown, *rivals) if entry.expr is not None else entry.evidence.reasons
    return replace(entry.evidence, reasons=reasons, rivals=(), source_layer=None, shown=None)


def notes(small: MappingRecord, twins: tuple[Graph, Graph], full: tuple[Graph, Graph]) -> tuple[str, ...]:
    """Remarks on the whole: sizes of the twins and of the models, and the twins' proof."""
    sizes = " and ".join(
        f"{_entries(twin):,} for {_entries(large):,} entries ({side})"
        for side, twin, large in zip(("source", "target"), twins, full, strict=True)
    )
    first = f"found between small twins of the same code, {sizes}, and {LIFTED}"
    return (first, *_proof(small), *small.notes)


def _known(entry: Entry) -> str:
    return {"proved": "proved", "guessed": "guessed"}.get(entry.status, "determined")


def _entries(graph: Graph) -> int:
    return sum(prod(weight.shape) for weight in graph.weights)


def _proof(small: MappingRecord) -> tuple[str, ...]:
    proof = small.proof
    if proof is None:
        return ("proof on the twin: none, the twins were not run",)
    outputs = "; ".join(map(_output, proof.outputs))
    about = f"{proof.draws} draws, tolerance {proof.tolerance:g}" + (f", {outputs}" if outputs else "")
    return (f"proof on the twin: {proof.reason} ({about})", *(f"proof on the twin: {note}" for note in proof.notes))


def _output(output: ComparedOutput) -> str:
    return f"output {list(output.shape)} within {output.gap:.1e}"
