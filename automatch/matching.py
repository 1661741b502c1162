"""From two models to a mapping: the whole story in one place."""

from __future__ import annotations

import sys
import time
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
from automatch.core.alignment import Alignment, NewRows
from automatch.core.graph import Graph
from automatch.core.mapping import MappingRecord, Side
from automatch.errors import AutomatchError, InputsError, LiftError, ModelError
from automatch.exact import Budget, impossible
from automatch.inputs.content import with_content
from automatch.inputs.prepare import prepare, warn
from automatch.inputs.uses import uses
from automatch.interruption import of_caller
from automatch.lift import lift
from automatch.mapping import Mapping
from automatch.running import Bench, resized, settled
from automatch.synthesize import synthesize
from automatch.trace import trace
from automatch.trace.inputs import needed
from automatch.trace.recordings import Recordings
from automatch.trace.undisturbed import undisturbed

if TYPE_CHECKING:
    from torch import Tensor

Model: TypeAlias = "nn.Module | ExportedProgram | MappingABC[str, Tensor] | str | PathLike[str]"
Twin: TypeAlias = Callable[[], nn.Module]
Progress: TypeAlias = Callable[[str], None]
Device: TypeAlias = Literal["auto", "meta", "cpu"]

BUDGET_S = 600.0
"""Seconds that a search may take where nobody says."""


@undisturbed
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
    device: Device = "auto",
    budget_s: float | None = BUDGET_S,
    new_rows: NewRows = "mean",
    allow_untraced: bool = False,
    progress: bool | Progress = False,
) -> Mapping:
    """Find out how one model's weights map onto another's.

    Neither model is changed, and models on the meta device are never materialised.

    1. Both sides are aligned by structure; where one is known by its state dict alone, by names and shapes.
    2. Where both are modules that hold numbers, and their sizes allow that they compute one function, they are run on
       fresh weights and inputs under the mapping. What that shows is `proved`.
    3. Where outputs differ, the exact conversion is searched for, element by element, by
       gradients, and run again. `Mapping.verdict` says what came of it.

    Args:
        source: Where weights come from: a module (real or meta), an exported program, a state dict (meta tensors will
            do), or the path of a checkpoint.
        target: What they are for, in the same forms.
        source_inputs: Example inputs `(args, kwargs)` of the source's forward. Needed where they cannot be derived and
            the side has code. A tensor on the meta device is a shape; content of the right kind is drawn for it.
        target_inputs: The same for the target. Models that are run get the same content.
        layers: Which source layer a target layer takes where depths differ: `uniform` (`int(i * n / m)`), `first`,
            `last`, or a list of source layers. Anything but `uniform` leaves the answer to structure alone.
        source_twin: Makes a small model of the source's code, with numbers, where the source is too large to run. The
            conversion is found and proved between the twins, and carried over to full size; it must cover every key.
        target_twin: The same for the target; its sizes must be to the source twin's as the full sizes are.
        source_twin_inputs: Example inputs of the source's twin.
        target_twin_inputs: The same for the target's.
        run: Whether models that hold numbers may be run. Without, nothing is exact and nothing is proved.
        device: `auto` takes the models as they are; `meta` leaves their numbers aside, so that nothing is run; `cpu`
            asks for models that hold numbers.
        budget_s: Seconds from the call on after which runs and searches end; None for as long as they take. What was
            left, and how to go on, is said. Recording a model is not cut short.
        new_rows: What rows of a vocabulary (and outputs for classes) begin as that only the target has: the `mean` of
            the source's rows, or `zeros`. The mapping says `filled` of them.
        allow_untraced: Whether a model that cannot be traced may be matched by names and shapes alone.
        progress: Whether to print every stage to standard error; or a function that is called with a short sentence.

    Returns:
        A mapping with an entry for every key of the target's state dict.

    Raises:
        InputsError: Inputs are missing or do not fit a model's forward, or both models would be run on inputs that
            should hold the same content and do not.
        ModelError: `device="cpu"` was asked for, and a model is on the meta device.
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
    say, budget = of_caller(_reporter(progress)), Budget.of(budget_s)
    pair = _Pair.of(source, target, (source_inputs, target_inputs), layers, allow_untraced, say, new_rows)
    _refuse_meta(pair, device)
    if source_twin is not None or target_twin is not None:
        if source_twin is None or target_twin is None:
            raise LiftError("a twin of one side alone has nothing to be matched with.\nNext: pass both twins.")
        inputs = source_twin_inputs, target_twin_inputs
        small = _Pair.of(source_twin(), target_twin(), inputs, "uniform", False, say)
        return Mapping(_through_twins(pair, small, budget))
    return Mapping(_matched(pair, run, device, budget))


def _matched(pair: _Pair, run: bool, device: Device, budget: Budget) -> MappingRecord:
    """The answer of structure, and what a run of both models makes of it."""
    graphs = pair.graphs()
    structural = pair.by_structure(graphs)
    reason, following = _reason_not_to_run(pair, structural, graphs, run, device)
    if reason:
        return replace(structural, not_run=reason, next_step=following)
    bench = pair.bench(graphs)
    conflict, why = bench.prepared.conflict, resized(structural)
    if conflict and why:  # models whose inputs differ as their weights do are not run
        return replace(structural, not_run=why)
    if conflict:
        raise InputsError(conflict)
    warn(bench.prepared, stacklevel=5)  # the function that people call is wrapped
    return settled(replace(bench, budget=budget), structural)


@dataclass(frozen=True, slots=True)
class _Pair:
    """What was asked, and what was recorded for it: no model is recorded twice on inputs of the same shapes."""

    source: Model
    target: Model
    source_inputs: Any
    target_inputs: Any
    layers: LayerPolicy
    allow_untraced: bool
    say: Progress
    new_rows: NewRows
    recordings: tuple[Recordings | None, Recordings | None]

    @staticmethod
    def of(
        source: Model,
        target: Model,
        inputs: tuple[Any, Any],
        layers: LayerPolicy,
        allow_untraced: bool,
        say: Progress,
        new_rows: NewRows = "mean",
    ) -> _Pair:
        """A pair of which nothing was recorded yet."""
        first, second = (
            Recordings(side, label) if isinstance(side, nn.Module) else None
            for side, label in ((source, "source"), (target, "target"))
        )
        return _Pair(source, target, *inputs, layers, allow_untraced, say, new_rows, (first, second))

    @property
    def sides(self) -> tuple[tuple[str, Model], tuple[str, Model]]:
        return ("source", self.source), ("target", self.target)

    @property
    def on_meta(self) -> str:
        """Which sides are on the meta device, as the subject of a sentence; empty where none is."""
        labels = [label for label, side in self.sides if isinstance(side, nn.Module) and _is_meta(side)]
        return f"the {' and the '.join(labels)} {'is' if len(labels) == 1 else 'are'}" if labels else ""

    def by_structure(self, graphs: tuple[Graph, Graph]) -> MappingRecord:
        ours, theirs = graphs
        self.say("matching")
        alignment = _align(ours, theirs, self.layers)
        entries = synthesize(alignment, ours, theirs, self.new_rows)
        return MappingRecord(Side.of(ours), Side.of(theirs), entries, alignment.chains, alignment.notes)

    def graphs(self) -> tuple[Graph, Graph]:
        both = _has_code(self.source) and _has_code(self.target)
        record = self._recorded if both else self._known
        return record(0), record(1)

    def _side(self, place: int) -> tuple[Model, Any, str]:
        return ((self.source, self.source_inputs, "source"), (self.target, self.target_inputs, "target"))[place]

    def _recorded(self, place: int) -> Graph:
        side, inputs, label = self._side(place)
        recordings = self.recordings[place]
        if recordings is None:
            return trace(side, inputs, label=label, progress=self.say)
        given = with_content(recordings.model, inputs)
        return recordings.graph(given, allow_untraced=self.allow_untraced, progress=self.say)

    def _known(self, place: int) -> Graph:
        """A side of which the other has no code: its own tells when weights run, if inputs for it were given."""
        side, inputs, label = self._side(place)
        bare = trace(side, inputs, label=label, names_only=True, progress=self.say)
        if inputs is None or not isinstance(side, nn.Module):
            return bare
        try:
            return self._recorded(place)
        except AutomatchError as error:
            reason = str(error).splitlines()[0]
            return replace(bare, notes=(*bare.notes, f"matched by names and shapes, its code left aside: {reason}"))

    def bench(self, graphs: tuple[Graph, Graph]) -> Bench:
        """Both models and what they are run on.

        Raises:
            InputsError: There are no inputs.
        """
        source, target = self.recordings
        assert source is not None
        assert target is not None
        ours = needed(source.model, self.source_inputs, "source")
        theirs = needed(target.model, self.target_inputs, "target")
        prepared = prepare((source.model, ours), (target.model, theirs), (uses(graphs[0]), uses(graphs[1])))
        return Bench(source.model, target.model, prepared, self.say, (source, target))


def _refuse_meta(pair: _Pair, device: Device) -> None:
    if device == "cpu" and pair.on_meta:
        raise ModelError(
            f"device='cpu' was asked for, but {pair.on_meta} on the meta device.\n"
            "Next: build with numbers, or leave device out."
        )


def _reason_not_to_run(
    pair: _Pair, structural: MappingRecord, graphs: tuple[Graph, Graph], run: bool, device: Device
) -> tuple[str, str]:
    """Why both models are not run, and what would prove the mapping; empty where they are run."""
    for label, side in pair.sides:
        if isinstance(side, ExportedProgram):
            return f"the {label} is an exported program, which is only read", _NAME_BOTH
        if not isinstance(side, nn.Module):
            return f"the {label} is known by its keys alone", _NAME_BOTH
    if pair.layers != "uniform":
        return "layers were chosen by the caller, which no run can confirm", ""
    different = impossible(structural, *graphs)
    if different:
        return f"the models are two functions, which no run can compare: {different}", ""
    if not run:
        return "a run was not wanted (run=False, --no-run)", "match again with one"
    if pair.on_meta:
        return f"{pair.on_meta} on the meta device", _WITH_NUMBERS
    if device == "meta":
        return "the models' numbers were to be left aside (device='meta')", _WITH_NUMBERS
    return "", ""


_NAME_BOTH = "name factories of both models: automatch prove SOURCE TARGET --mapping FILE"
_WITH_NUMBERS = (
    "build both models with numbers (--device cpu), or small ones of the same code (--source-twin, --target-twin)"
)


def _through_twins(pair: _Pair, small: _Pair, budget: Budget) -> MappingRecord:
    """The conversion between two small models of the same code, carried over to full size."""
    found = _matched(small, True, "auto", budget)
    if found.proof is None or found.proof.outcome != "agree":
        reason = found.proof.reason if found.proof is not None else found.not_run or "they could not be run"
        raise LiftError(
            f"the conversion between the twins was not proved, so there is nothing to carry over: {reason}\n"
            "Next: check that both twins compute the same function on their inputs, or match without twins."
        )
    pair.say("carrying over to full size")
    why = f"it was run between small twins of the same code: {found.proof.reason}"
    return replace(lift(found, small.graphs(), pair.graphs()), not_run=why)


def _align(source: Graph, target: Graph, layers: LayerPolicy) -> Alignment:
    if not source.nodes or not target.nodes:
        return align_names(source, target, layers)
    return align_structure(to_landmarks(source), to_landmarks(target), layers)


def _has_code(model: Model) -> bool:
    return isinstance(model, nn.Module | ExportedProgram)


def _is_meta(model: nn.Module) -> bool:
    return any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def _reporter(progress: bool | Progress) -> Progress:
    """What is told of every stage: a function of the caller's, a line on standard error, or nothing."""
    if callable(progress):
        return progress
    started = time.perf_counter()

    def line(sentence: str) -> None:
        if progress:
            print(f"[{time.perf_counter() - started:6.1f} s] {sentence}", file=sys.stderr, flush=True)  # noqa: T201

    return line
