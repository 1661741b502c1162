"""The answer as data: an entry per target weight, with its expression, its status and the evidence for it.

`automatch.mapping.Mapping` is the public face of a `MappingRecord`; stages exchange the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from automatch.core.expr import Expr, sources
from automatch.core.function import function_of
from automatch.core.graph import Function, Graph, Rung, Shape, Weight
from automatch.core.losses import Loss, losses

Status: TypeAlias = Literal["proved", "structural", "guessed", "unmapped"]
Method: TypeAlias = Literal["colours", "structure", "names", "rules"]
Verdict: TypeAlias = Literal["proved", "agrees, in part shown", "not run", "refuted"]
"""What is known of a mapping as a whole. See `MappingRecord.verdict`."""


@dataclass(frozen=True, slots=True)
class Rival:
    """Another reading that was considered for the same target weight.

    Attributes:
        sources: The source keys it would have used.
        reason: How far behind it is, or why nothing tells it apart.
    """

    sources: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What runs of both models showed of one target weight; see `automatch.prove`.

    Attributes:
        elements: How many of its elements would have shown in an output, had they been wrong.
        of: How many it has.
        reason: What that rests on, or why it is not all, as a sentence.
    """

    elements: int
    of: int
    reason: str

    @property
    def whole(self) -> bool:
        """Whether it was shown down to the last element."""
        return self.of > 0 and self.elements == self.of


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why an entry is what it is.

    Attributes:
        method: What decided: `"colours"` (both models were run), `"structure"` (graphs), `"names"` (keys and shapes
            alone), `"rules"` (what is known of other models of the family).
        reasons: Sentences for a person, most telling first; for an unmapped entry, why.
        cost: What the chosen correspondence cost in the assignment, 0 best; None where nothing was assigned.
        margin: How much more the runner-up would have cost; None where there was no other. Small means a guess; large
            is no proof.
        rivals: The runners-up, best first.
        resized: One sentence per part that was resized: key, both shapes, how, and the scale.
        source_layer: The source layer that the entry's layer was paired with; None outside repeated blocks.
        shown: What runs of both models showed; None where they were not run, or their outputs differed.
    """

    method: Method
    reasons: tuple[str, ...] = ()
    cost: float | None = None
    margin: float | None = None
    rivals: tuple[Rival, ...] = ()
    resized: tuple[str, ...] = ()
    source_layer: int | None = None
    shown: Shown | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What one target weight is made of.

    Attributes:
        target: The state-dict key.
        shape: Its shape.
        dtype: Its dtype (`"float32"`).
        status: How sure the answer is: `proved`, `structural`, `guessed` or `unmapped`.
        expr: The expression over source weights; None exactly where the status is `unmapped`.
        evidence: Why.

    Raises:
        ValueError: The expression is missing where the entry is mapped (or present where it is not), or its shape is
            not the target's.
    """

    target: str
    shape: Shape
    dtype: str
    status: Status
    expr: Expr | None
    evidence: Evidence

    def __post_init__(self) -> None:
        """Refuse an entry that contradicts itself."""
        if (self.expr is None) != (self.status == "unmapped"):
            raise ValueError(f"{self.target}: status {self.status!r} contradicts expression {self.expr!r}")
        if self.expr is not None and self.expr.shape != self.shape:
            shapes = f"expression of shape {list(self.expr.shape)}, target of {list(self.shape)}"
            raise ValueError(f"{self.target}: {shapes}")

    @property
    def sources(self) -> tuple[str, ...]:
        """Source keys the entry reads, in order of first use; empty for constants and unmapped entries."""
        return () if self.expr is None else sources(self.expr)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What was left out, repeated or invented to make the target's size; empty where the weight is exact.

        The status says whether the source is right, whatever is lost of it.
        """
        return losses(self.expr)

    @property
    def standing(self) -> str:
        """Status and losses in one: `structural, cut`."""
        return ", ".join((self.status, *self.losses))


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models, as far as a mapping needs to know it.

    Attributes:
        name: What people call it (a class name, a file name).
        rung: The rung of the tracing ladder that recorded it.
        weights: Its state dict, without the tensors.
        notes: Remarks of the tracing.
        sizes: Whole numbers that the model or its configuration carries; see `Graph.sizes`.
        function: What it computes; None where its code was not recorded.
    """

    name: str
    rung: Rung
    weights: tuple[Weight, ...]
    notes: tuple[str, ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    function: Function | None = None

    @staticmethod
    def of(graph: Graph) -> Side:
        """What a mapping keeps of a recorded model."""
        return Side(graph.name, graph.rung, graph.weights, graph.notes, graph.sizes, function_of(graph))


@dataclass(frozen=True, slots=True)
class LayerPairing:
    """How the layers of one chain of repeated blocks were paired.

    Attributes:
        source: What the source's layers are called (`"blocks.{i}"`), or a description where they have no common name.
        target: The same for the target.
        source_depth: Number of source layers.
        policy: The policy that paired them: `uniform`, `first`, `last` or `explicit`.
        layers: For every target layer, in order, the source layer it takes.
    """

    source: str
    target: str
    source_depth: int
    policy: str
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ComparedOutput:
    """One output of both models that was compared.

    Attributes:
        source: Place among the tensors in the source's output.
        target: Place among the tensors in the target's.
        shape: Shape of what was compared, axes of size 1 left out.
        gap: The largest difference in any draw, in units of the output's scale.
        disturbed: The smallest such difference in any draw after all weights that matter were changed by a hundredth;
            None where that was not run.
    """

    source: int
    target: int
    shape: Shape
    gap: float
    disturbed: float | None = None


@dataclass(frozen=True, slots=True)
class ProofRecord:
    """What running both models showed of the mapping as a whole.

    Attributes:
        outcome: `agree`: all compared outputs did, in all draws; `differ`: some did not; `nothing`: no comparison was
            possible, or none that says anything.
        reason: The same as a sentence, with what stood in the way.
        draws: Draws of all source weights that were run and compared.
        tolerance: The largest gap that counts as agreement.
        source_inputs: Shapes of the source's inputs.
        target_inputs: Shapes of the target's.
        lengths: Whether inputs of another length were run as well.
        outputs: The outputs that were compared.
        notes: What the claim is limited by: inputs and constants that kept their values.
        divergence: Where the outputs differ: sentences on where the models first part, and the suspected weights.
    """

    outcome: Literal["agree", "differ", "nothing"]
    reason: str
    draws: int
    tolerance: float
    source_inputs: str
    target_inputs: str
    lengths: str = ""
    outputs: tuple[ComparedOutput, ...] = ()
    notes: tuple[str, ...] = ()
    divergence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MappingRecord:
    """Everything that matching two models found out.

    Attributes:
        source: The source side.
        target: The target side.
        entries: One per key of the target's state dict, in its order, tied keys included.
        chains: How chains of repeated blocks were paired.
        notes: Remarks for the reader (operators that no stage understands, disagreements between sources of evidence).
        proof: What running both models showed; None where they were not run.
        not_run: Why they were not, as a sentence; empty where they were, or where nobody says.
        next_step: What would prove the mapping, as a sentence; empty where nothing is known.
    """

    source: Side
    target: Side
    entries: tuple[Entry, ...]
    chains: tuple[LayerPairing, ...] = ()
    notes: tuple[str, ...] = field(default=())
    proof: ProofRecord | None = None
    not_run: str = ""
    next_step: str = ""

    @property
    def verdict(self) -> Verdict:
        """What is known of the mapping as a whole.

        1. `refuted`: both models were run under it, and their outputs differ.
        2. `proved`: their outputs agree, and every weight was shown down to the last element.
        3. `agrees, in part shown`: their outputs agree; of some weights no output told all, or nothing was found.
        4. `not run`: they were not run, or nothing could be compared.
        """
        if self.proof is None or self.proof.outcome == "nothing":
            return "not run"
        if self.proof.outcome == "differ":
            return "refuted"
        return "proved" if all(entry.status == "proved" for entry in self.entries) else "agrees, in part shown"

    @property
    def unused(self) -> tuple[str, ...]:
        """Source keys that no entry reads, in state-dict order; tied keys count as read when one of them is."""
        used = {key for entry in self.entries for key in entry.sources}
        return tuple(weight.name for weight in self.source.weights if used.isdisjoint(weight.keys))
