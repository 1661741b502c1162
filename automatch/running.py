"""What running both models makes of a structural answer: proved, searched for where that fails, or refuted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from torch import nn

from automatch.core.mapping import MappingRecord
from automatch.errors import AutomatchError
from automatch.exact import Budget, Exact, completed, exact_entries, joined, resizes
from automatch.inputs.prepare import Prepared, searched
from automatch.interruption import let_through
from automatch.prove import prove, with_proof
from automatch.region import searched_region
from automatch.repair import bench_or_none, repaired

WRONG = 1e-5
"""A gap from which on a wrong weight may be the cause; below, numbers that somebody rounded to float32 are."""

SAME = "give both models inputs of the same content on which they give outputs of the same shape"
"""What to do where nothing could be compared."""

FEW = 4
"""Runs of the target that other readings of a few weights may cost before anything is searched."""

MOST = 8
"""Mappings that a search leaves to be tried by runs."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Two models that hold numbers, and what they are run on.

    Attributes:
        source: The source.
        target: The target.
        prepared: Their inputs.
        say: Told what begins.
    """

    source: nn.Module
    target: nn.Module
    prepared: Prepared
    say: Callable[[str], None]

    def judged(self, record: MappingRecord, locate: bool = False) -> MappingRecord:
        """A mapping with what a run of both models showed of it.

        Args:
            record: The mapping.
            locate: Whether to look for the place where outputs that differ first part, and to doubt what lies behind.
        """
        self.say("proving")
        try:
            proof = prove(record, self.source, self.target, None, None, prepared=self.prepared, locate=locate)
        except (AutomatchError, RuntimeError) as error:  # a model may refuse fresh weights or float64
            let_through(error)
            return replace(record, not_run=f"the models could not be run: {error}")
        return with_proof(record, proof)


def settled(bench: Bench, structural: MappingRecord, budget_s: float | None) -> MappingRecord:
    """The mapping that a run of both models confirms, or the structural one with what speaks against it.

    1. The structural answer is run. Where outputs agree, that is all: what is left open moves no output.
    2. Else what is wrong is sought where the models part: a few weights are read differently, then that part of both
       programs is searched.
    3. Only where that does not help, gradients of the whole models are searched for a correspondence, element by
       element; what they find, joined with structure where they are silent, is run.
    4. Where none agrees, the likeliest is kept, with the place where the models part.
    """
    first = structural if resized(structural) else bench.judged(structural)
    if _agrees(first):
        # what is open now moves no output, so that gradients say nothing of it
        return max([first, *_filled(bench, first)], key=_rank)
    budget = Budget.of(budget_s)
    for mended in _mended(bench, replace(structural, proof=first.proof), budget):
        agreeing = _agreeing(bench, chain(completed(mended), [mended]))
        if agreeing is not None:
            return agreeing
    exact = _searched(bench, budget)
    agreeing = _agreeing(bench, _candidates(structural, exact))
    return _unconfirmed(bench, structural, exact, budget) if agreeing is None else agreeing


def _agreeing(bench: Bench, candidates: Iterator[MappingRecord]) -> MappingRecord | None:
    """The first mapping that a run of both models confirms; None where there is none among the likeliest."""
    judged = (bench.judged(candidate) for candidate in islice(candidates, MOST))
    return next(filter(_agrees, judged), None)


def _mended(bench: Bench, refuted: MappingRecord, budget: Budget) -> Iterator[MappingRecord]:
    """The mapping with what is wrong where the models part found there, cheapest way first; none where it is not."""
    if _gap(refuted) < WRONG and not resized(refuted):
        return
    both, prepared, say = (bench.source, bench.target), bench.prepared, bench.say
    made = bench_or_none(refuted, *both, prepared=prepared)
    if made is None:
        return
    if not resized(refuted):
        found = repaired(refuted, *both, None, None, prepared=prepared, say=say, budget=budget, made=made, most=FEW)
        if found is not None:
            yield found
    found = searched_region(refuted, *both, prepared=prepared, say=say, budget=budget, made=made)
    if found is not None and not resized(found):
        yield found


def _searched(bench: Bench, budget: Budget) -> Exact:
    """What gradients say on fresh inputs; on the examples, where no output of both agrees on those."""
    fresh, given = searched(bench.prepared, bench.source, bench.target), (bench.prepared.source, bench.prepared.target)
    exact = exact_entries(bench.source, bench.target, *fresh, bench.say, budget)
    if not exact.note or fresh[0] is given[0] or exact.gave_up:
        return exact
    other = exact_entries(bench.source, bench.target, *given, bench.say, budget)
    return other if other.balanced else exact


def _unconfirmed(bench: Bench, structural: MappingRecord, exact: Exact, budget: Budget) -> MappingRecord:
    """The likeliest mapping of those that no run confirms, mended where the place of their parting leads to a fault.

    A search that did not end in balance contributes nothing.
    """
    likeliest = next(_candidates(structural, exact), structural) if exact.balanced else structural
    why = resized(likeliest)
    if why:
        return _noted(replace(likeliest, not_run=why), exact.note)
    judged = bench.judged(likeliest, locate=True)
    if judged.proof is not None and judged.proof.outcome == "nothing":
        judged = replace(judged, not_run=judged.proof.reason, next_step=SAME)
    if _gap(judged) >= WRONG:
        suspected = replace(likeliest, proof=judged.proof)
        both = bench.source, bench.target, None, None
        mended = repaired(suspected, *both, prepared=bench.prepared, say=bench.say, budget=budget)
        judged = judged if mended is None else bench.judged(mended, locate=True)
    return _noted(judged, exact.note)


def _gap(record: MappingRecord) -> float:
    """How far the outputs are apart, in units of their scale."""
    return max((output.gap for output in record.proof.outputs), default=0.0) if record.proof is not None else 0.0


def _candidates(structural: MappingRecord, exact: Exact) -> Iterator[MappingRecord]:
    """Mappings that a search leaves to be tried, likeliest first."""
    if not exact.entries:
        return
    for record in joined(structural, exact):
        yield from completed(record)


def _agrees(record: MappingRecord) -> bool:
    return record.proof is not None and record.proof.outcome == "agree"


def _filled(bench: Bench, record: MappingRecord) -> Iterator[MappingRecord]:
    """The mapping with weights that are open given those that are left over, where a run still agrees; if any are."""
    for candidate in islice(completed(record), MOST):
        if candidate.entries != record.entries:
            judged = bench.judged(replace(candidate, proof=None))
            if _agrees(judged):
                yield judged
                return


def _rank(record: MappingRecord) -> tuple[int, int, int]:
    statuses = [entry.status for entry in record.entries]
    return -statuses.count("unmapped"), statuses.count("proved"), -statuses.count("guessed")


def resized(record: MappingRecord) -> str:
    """Which weights have other sizes in the source, so that no run can compare the models; empty where none has."""
    keys = [entry.target for entry in record.entries if entry.expr is not None and resizes(entry.expr)]
    share = f"{len(keys)} of {len(record.entries)} weights"
    return f"{share} were made of others of another size, such as {keys[0]}" if keys else ""


def _noted(record: MappingRecord, note: str) -> MappingRecord:
    return replace(record, notes=(*record.notes, note)) if note else record
