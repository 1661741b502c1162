"""Both models recorded once on fresh weights, so that a candidate costs no more than one run of the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from automatch.apply.fill import compute
from automatch.core.mapping import Entry, MappingRecord
from automatch.errors import AutomatchError
from automatch.inputs.prepare import Prepared
from automatch.interruption import let_through
from automatch.prove.conversion import EXACT, arrange
from automatch.prove.divergence import Divergence, Ran, compared
from automatch.prove.loading import of_record
from automatch.prove.parting import closely, programs
from automatch.prove.rightness import leading_to, right
from automatch.prove.spelled import SPELLINGS
from automatch.prove.steps import run
from automatch.prove.trial import Draw
from automatch.prove.values import CLOSE, COARSE, Known, apart, known, same_order
from automatch.trace.program import Program
from automatch.trace.recordings import Both, both

AGREE = 1e-7
"""How close outputs are that agree, in units of their entries; the proof that follows is stricter."""


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """How much of what the target computes is right under a mapping.

    Attributes:
        agrees: Whether the outputs do.
        sound: Of every step, whether it is right.
        count: How many steps that lead to an output are.
        ran: The target's steps.
        values: The target's weights.
    """

    agrees: bool
    sound: Sequence[bool]
    count: int
    ran: Ran
    values: Mapping[str, Tensor]

    @property
    def rank(self) -> tuple[bool, int]:
        """The larger, the better."""
        return self.agrees, self.count


@dataclass(frozen=True, eq=False)
class Bench:
    """Two recorded models, under the mapping that they were recorded for.

    Attributes:
        origin: The source's program.
        source: The source's steps.
        target: The target's program.
        state: The source's weights, by every key.
        names: By target key, the name that its weight has in the program.
        sources: By target key, the source keys that the mapping makes it of.
        other: What the source computes.
        outputs: Which outputs are compared.
        close: How close two numbers must be to be the same.
    """

    origin: Program
    source: Ran
    target: Program
    state: Mapping[str, Tensor]
    names: Mapping[str, str]
    sources: Mapping[str, tuple[str, ...]]
    other: Known
    outputs: Sequence[tuple[int, int]]
    close: float

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the axes of what the models compute in four and more axes: there are numbers of heads among them."""
        steps = self.source[0]
        return tuple(dict.fromkeys(size for step in steps if len(step.shape) > 3 for size in step.shape[1:-1]))

    @cached_property
    def standing(self) -> Standing:
        """How the target stands under the mapping."""
        return self.stands(self.target.values)

    @cached_property
    def parting(self) -> Divergence | None:
        """Where the models part under the mapping."""
        return self._parts(self.standing)

    def stands(self, values: Mapping[str, Tensor]) -> Standing:
        """How the target stands with these weights."""
        ran = run(replace(self.target, values=values), SPELLINGS)
        steps, ends = ran
        relevant = leading_to(steps, [end for end in (ends[pair[1]] for pair in self.outputs) if end is not None])
        sound = right(steps, relevant, self.other)
        agrees = all(self._same_output(ran, pair) for pair in self.outputs)
        return Standing(agrees, sound, sum(sound[place] for place in relevant), ran, values)

    def _same_output(self, ran: Ran, pair: tuple[int, int]) -> bool:
        ours, theirs = self.source[1][pair[0]], ran[1][pair[1]]
        if ours is None or theirs is None:
            return ours is theirs
        return same_order(self.source[0][ours].value, ran[0][theirs].value, max(self.close, AGREE))

    def _gap(self, ran: Ran) -> float:
        """How far the outputs are apart."""
        ends = [(self.source[1][one], ran[1][other]) for one, other in self.outputs]
        gaps = [apart(self.source[0][a].value, ran[0][b].value) for a, b in ends if a is not None and b is not None]
        return max((1.0 if gap is None else gap for gap in gaps), default=1.0)

    def changed(self, values: Mapping[str, Tensor], entries: Iterable[Entry]) -> dict[str, Tensor]:
        """Weights in which these entries are made anew."""
        made = dict(values)
        for entry in entries:
            if entry.expr is not None:
                found = compute(entry, entry.expr, self.state.__getitem__, torch.device("cpu"))
                made[self.names.get(entry.target, entry.target)] = found.double()
        return made

    def parts_at(self, standing: Standing) -> Divergence | None:
        """Where the models part."""
        return self.parting if standing is self.standing else self._parts(standing)

    def _parts(self, standing: Standing) -> Divergence | None:
        gap = self._gap(standing.ran)
        differing = [pair for pair in self.outputs if not self._same_output(standing.ran, pair)]

        def seen(close: float) -> Divergence | None:
            return compared(
                self.source,
                standing.ran,
                standing.values,
                differing,
                gap,
                self.sources,
                close,
                self.other,
                standing.sound,
            )

        return closely(seen, self.close == CLOSE, gap)


def bench_or_none(
    record: MappingRecord,
    source: nn.Module,
    target: nn.Module,
    source_inputs: object = None,
    target_inputs: object = None,
    *,
    seed: int = 0,
    prepared: Prepared | None = None,
    recordings: Both | None = None,
) -> Bench | None:
    """`bench`, or None where both models cannot be recorded."""
    try:
        return bench(record, source, target, source_inputs, target_inputs, seed, prepared, recordings)
    except (AutomatchError, RuntimeError, ValueError, IndexError, TypeError) as error:
        let_through(error)
        return None


def bench(
    record: MappingRecord,
    source: nn.Module,
    target: nn.Module,
    source_inputs: object,
    target_inputs: object,
    seed: int,
    prepared: Prepared | None,
    recordings: Both | None = None,
) -> Bench:
    """Both models as programs, on one draw of fresh weights.

    Raises:
        AutomatchError: A model or its inputs are not such that both can be recorded.
        ValueError: The models compute too many numbers.
    """
    reads = {key for entry in record.entries for key in entry.sources}
    reads |= {key for weight in record.source.weights for key in weight.keys if not reads.isdisjoint(weight.keys)}
    setting, start = arrange(
        of_record(record, source),
        source,
        target,
        source_inputs,
        target_inputs,
        reads=reads,
        seed=seed,
        prepared=prepared,
    )
    ours, theirs = programs(setting, Draw(1), recordings or both(source, target))
    # a run that was made already knows whether the models' own code computes in less than float64
    tolerance = start.tolerance if record.proof is None else record.proof.tolerance
    close = CLOSE if tolerance <= EXACT else COARSE
    ran = run(ours, SPELLINGS)
    state = {key: ours.values[weight.name] for weight in record.source.weights for key in weight.keys}
    names = {key: weight.name for weight in record.target.weights for key in weight.keys}
    sources = {entry.target: entry.sources for entry in record.entries}
    outputs = _outputs(record, ours, theirs)
    return Bench(ours, ran, theirs, state, names, sources, known(ran[0], close), outputs, close)


def _outputs(record: MappingRecord, ours: Program, theirs: Program) -> tuple[tuple[int, int], ...]:
    proof = record.proof
    if proof is not None and proof.outputs:
        return tuple((output.source, output.target) for output in proof.outputs)
    return tuple((place, place) for place in range(min(len(ours.outputs), len(theirs.outputs))))
