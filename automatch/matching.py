"""From two models to a mapping: the whole story in one place."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torch import nn
from torch.export import ExportedProgram

from automatch.align.names import align_names
from automatch.align.policy import LayerPolicy
from automatch.align.structure import align_structure
from automatch.canonicalize import to_landmarks
from automatch.core.alignment import Alignment
from automatch.core.expr import Resize, children
from automatch.core.graph import Graph
from automatch.core.mapping import Entry, MappingRecord, Side
from automatch.errors import AutomatchError, LiftError
from automatch.exact import Exact, completed, exact_entries
from automatch.lift import lift
from automatch.mapping import Mapping
from automatch.prove import prove, with_proof
from automatch.synthesize import synthesize
from automatch.trace import trace

if TYPE_CHECKING:
    from torch import Tensor

    from automatch.core.expr import Expr

Model: TypeAlias = "nn.Module | ExportedProgram | MappingABC[str, Tensor] | str | PathLike[str]"
Twin: TypeAlias = Callable[[], nn.Module]
Progress: TypeAlias = Callable[[str], None]


def match(
    source: Model,
    target: Model,
    *,
    source_inputs: Any = None,
    target_inputs: Any = None,
    layers: LayerPolicy = "uniform",
    source_twin: Twin | None = None,
    target_twin: Twin | None = None,
    source_twin_inputs: Any = None,
    target_twin_inputs: Any = None,
    run: bool = True,
    device: Literal["auto", "meta", "cpu"] = "auto",
    budget_s: float | None = None,
    allow_untraced: bool = False,
    progress: bool | Progress | None = False,
) -> Mapping:
    """Find out how one model's weights map onto another's.

    Neither model is changed, and models on the meta device are never materialised.

    1. Where both sides are modules that hold numbers, and compute the same function, running them finds the exact
       conversion, element by element.
    2. What that leaves open, and pairs of different size or function, are aligned by structure; where one side is
       known by its state dict alone, by names and shapes.
    3. Both models are run on fresh weights under the mapping; what that shows is `proved`.

    Args:
        source: Where weights come from: a module (real or meta), an exported program, a state dict (meta tensors will
            do), or the path of a checkpoint.
        target: What they are for, in the same forms.
        source_inputs: Example inputs `(args, kwargs)` of the source's forward. Needed where they cannot be derived and
            the side has code.
        target_inputs: The same for the target. For an exact match both models get the same content.
        layers: Which source layer a target layer takes where depths differ: `uniform` (`int(i * n / m)`), `first`,
            `last`, or a list of source layers. Anything but `uniform` leaves the answer to structure alone.
        source_twin: Makes a small model of the source's code, with numbers, where the source is too large to run. The
            conversion is found and proved between the twins, and carried over to full size; it must cover every key.
        target_twin: The same for the target; its sizes must be to the source twin's as the full sizes are.
        source_twin_inputs: Example inputs of the source's twin.
        target_twin_inputs: The same for the target's.
        run: Whether models that hold numbers may be run. Without, nothing is exact and nothing is proved.
        device: Where models are run.
        budget_s: Seconds that running may take.
        allow_untraced: Whether a model that cannot be traced may be matched by names and shapes alone.
        progress: Called with a short sentence at the start of each stage.

    Returns:
        A mapping with an entry for every key of the target's state dict.

    Raises:
        InputsError: Inputs are missing or do not fit a model's forward.
        TraceError: A model cannot be traced.
        CheckpointError: A path is not a checkpoint.
        PolicyError: A list of layers does not fit the models.
        LiftError: The twins' conversion was not proved, or does not cover the full size; all open keys are listed.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> teacher = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> student = nn.ModuleDict({"a": nn.Linear(4, 8), "b": nn.Linear(8, 2)})
        >>> student.forward = lambda x: student["b"](student["a"](x).relu())
        >>> x = ((torch.randn(3, 4),), {})
        >>> mapping = match(teacher, student, source_inputs=x, target_inputs=x)
        >>> mapping["b.weight"].sources
        ('2.weight',)
    """
    say = progress if callable(progress) else _silent
    pair = _Pair(source, target, source_inputs, target_inputs, layers, allow_untraced, say)
    if source_twin is not None or target_twin is not None:
        if source_twin is None or target_twin is None:
            raise LiftError("a twin of one side alone has nothing to be matched with.\nNext: pass both twins.")
        small = _Pair(source_twin(), target_twin(), source_twin_inputs, target_twin_inputs, layers, False, say)
        return Mapping(_through_twins(pair, small))
    run = run and layers == "uniform"  # a list of layers is a decision, which no run can confirm
    exact = exact_entries(source, target, source_inputs, target_inputs, say) if run else Exact()
    if exact.complete:
        whole = MappingRecord(exact.sides[0], exact.sides[1], exact.in_order())
        judged = pair.judged(whole)
        if judged.proof is None or judged.proof.outcome != "differ":
            return Mapping(judged)
    structural = pair.by_structure()
    if exact.note:
        structural = replace(structural, notes=(*structural.notes, exact.note))
    candidates = [*completed(_merged(structural, exact)), structural] if exact.entries else [structural]
    tried = [candidate for candidate in candidates if run and pair.runs(candidate)]
    return Mapping(_first_confirmed(pair, tried) if tried else candidates[0])


@dataclass(frozen=True, slots=True)
class _Pair:
    """What was asked."""

    source: Model
    target: Model
    source_inputs: Any
    target_inputs: Any
    layers: LayerPolicy
    allow_untraced: bool
    say: Progress

    def by_structure(self) -> MappingRecord:
        ours, theirs = self.graphs()
        self.say("matching")
        alignment = _align(ours, theirs, self.layers)
        entries = synthesize(alignment, ours, theirs)
        return MappingRecord(Side.of(ours), Side.of(theirs), entries, alignment.chains, alignment.notes)

    def graphs(self) -> tuple[Graph, Graph]:
        both = _has_code(self.source) and _has_code(self.target)
        record = self._recorded if both else self._known
        return record(self.source, self.source_inputs, "source"), record(self.target, self.target_inputs, "target")

    def _recorded(self, side: Model, inputs: Any, label: str) -> Graph:
        return trace(side, inputs, label=label, allow_untraced=self.allow_untraced, progress=self.say)

    def _known(self, side: Model, inputs: Any, label: str) -> Graph:
        """A side of which the other has no code: its own tells when weights run, if inputs for it were given."""
        bare = trace(side, inputs, label=label, names_only=True, progress=self.say)
        if inputs is None or not isinstance(side, nn.Module):
            return bare
        try:
            return self._recorded(side, inputs, label)
        except AutomatchError as error:
            reason = str(error).splitlines()[0]
            return replace(bare, notes=(*bare.notes, f"matched by names and shapes, its code left aside: {reason}"))

    def runs(self, record: MappingRecord) -> bool:
        """Whether running both models under a mapping can say anything."""
        modules = [side for side in (self.source, self.target) if isinstance(side, nn.Module)]
        real = len(modules) == 2 and not any(_is_meta(module) for module in modules)
        return real and not any(entry.expr is not None and _resizes(entry.expr) for entry in record.entries)

    def judged(self, record: MappingRecord) -> MappingRecord:
        """A mapping with what a run of both models showed of it."""
        assert isinstance(self.source, nn.Module)
        assert isinstance(self.target, nn.Module)
        self.say("proving")
        try:
            proof = prove(record, self.source, self.target, self.source_inputs, self.target_inputs)
        except (AutomatchError, RuntimeError) as error:  # a model may refuse fresh weights or float64
            return replace(record, notes=(*record.notes, f"not proved: {error}"))
        return with_proof(record, proof)


def _through_twins(pair: _Pair, small: _Pair) -> MappingRecord:
    """The conversion between two small models of the same code, carried over to full size."""
    inputs = {"source_inputs": small.source_inputs, "target_inputs": small.target_inputs}
    found = match(small.source, small.target, **inputs, progress=small.say).record
    if found.proof is None or found.proof.outcome != "agree":
        reason = found.proof.reason if found.proof is not None else "; ".join(found.notes) or "they could not be run"
        raise LiftError(
            f"the conversion between the twins was not proved, so there is nothing to carry over: {reason}\n"
            "Next: check that both twins compute the same function on their inputs, or match without twins."
        )
    pair.say("carrying over to full size")
    return lift(found, small.graphs(), pair.graphs())


def _first_confirmed(pair: _Pair, candidates: list[MappingRecord]) -> MappingRecord:
    """The first candidate that a run confirms; else the first, its exact entries no more than guesses if refuted."""
    first: MappingRecord | None = None
    for record in candidates:
        judged = pair.judged(record)
        if judged.proof is not None and judged.proof.outcome == "agree":
            return judged
        first = first or judged
    assert first is not None
    refuted = first.proof is not None and first.proof.outcome == "differ"
    return replace(first, entries=tuple(map(_doubted, first.entries))) if refuted else first


def _doubted(entry: Entry) -> Entry:
    """An entry whose gradients agreed, in a mapping under which the outputs differ."""
    if entry.evidence.method != "colours":
        return entry
    reasons = ("a run of both models refuted the mapping as a whole", *entry.evidence.reasons)
    return replace(entry, status="guessed", evidence=replace(entry.evidence, reasons=reasons))


def _merged(structural: MappingRecord, exact: Exact) -> MappingRecord:
    """Exact entries where there are any, structural ones with the reason elsewhere."""
    entries = tuple(
        exact.entries.get(entry.target) or _with_reason(entry, exact.problems.get(entry.target, ""))
        for entry in structural.entries
    )
    return replace(structural, entries=entries)


def _with_reason(entry: Entry, problem: str) -> Entry:
    if not problem:
        return entry
    return replace(entry, evidence=replace(entry.evidence, reasons=(*entry.evidence.reasons, problem)))


def _resizes(expr: Expr) -> bool:
    return isinstance(expr, Resize) or any(_resizes(child) for child in children(expr))


def _align(source: Graph, target: Graph, layers: LayerPolicy) -> Alignment:
    if not source.nodes or not target.nodes:
        return align_names(source, target, layers)
    return align_structure(to_landmarks(source), to_landmarks(target), layers)


def _has_code(model: Model) -> bool:
    return isinstance(model, nn.Module | ExportedProgram)


def _is_meta(model: nn.Module) -> bool:
    return any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def _silent(_: str) -> None:
    """Report nothing."""
