"""What running both models makes of a structural answer: proved, searched for where that fails, or refuted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from math import prod

from torch import nn

from automatch.core.mapping import MappingRecord, Side
from automatch.errors import AutomatchError
from automatch.exact import UNLIKE, Budget, Exact, completed, could_agree, exact_entries, joined, resizes
from automatch.exact.budget import UNBOUNDED
from automatch.inputs.prepare import Prepared, searched
from automatch.interruption import let_through
from automatch.propose import proposals
from automatch.propose.cut_tables import is_cut
from automatch.prove import Proof, prove, with_proof
from automatch.prove.divergence import Divergence, Parting
from automatch.prove.trial import NOT_COMPARABLE
from automatch.region import searched_region
from automatch.repair import bench_or_none, repaired
from automatch.repair.bench import Bench as Recorded
from automatch.repair.search import BUDGET
from automatch.trace.recordings import Both

WRONG = 1e-5
"""A gap from which on a wrong weight may be the cause; below, numbers that somebody rounded to float32 are."""

SAME = "give both models inputs of the same content on which they give outputs of the same shape"
"""What to do where nothing could be compared."""

SEARCHED = 0.8
"""The share of the budget by which a search has to end: what it finds is still to be proved."""

FEW = 4
"""Runs of the target that other readings of a few weights may cost before anything is searched."""

LARGE = 2_000_000
"""Numbers a side, from which on a search of the whole models takes long enough to be worth an early refusal."""

MORE = "the search ended before it was through, since its budget was spent: a larger budget_s lets it go on"
"""What to do where there was too little time."""

APART = (
    "compare the code of both where they part: their outputs differ even where all weights are alike, "
    "which the order of weights alone seldom explains"
)
"""What to do where two models look like two functions."""

SOME = 40
"""Runs of a large target that other readings may cost in the end; one where both look like two functions."""

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
        recordings: What was recorded of both.
        budget: How long all of it may take.
    """

    source: nn.Module
    target: nn.Module
    prepared: Prepared
    say: Callable[[str], None]
    recordings: Both
    budget: Budget = UNBOUNDED

    def judged(self, record: MappingRecord, locate: bool = False) -> MappingRecord:
        """A mapping with what a run of both models showed of it.

        Args:
            record: The mapping.
            locate: Whether to look for the place where outputs that differ first part, and to doubt what lies behind.
        """
        both = self.source, self.target, None, None
        try:
            proof = prove(
                record,
                *both,
                prepared=self.prepared,
                locate=locate,
                budget=self.budget,
                say=self.say,
                recordings=self.recordings,
            )
        except (AutomatchError, RuntimeError) as error:  # a model may refuse fresh weights or float64
            let_through(error)
            return replace(record, not_run=f"the models could not be run: {error}")
        return with_proof(record, proof)


def settled(bench: Bench, structural: MappingRecord) -> MappingRecord:
    """The mapping that a run of both models confirms, or the structural one with what speaks against it.

    1. The structural answer is run, then other proposals: the same names, tables cut elsewhere, conversions that are
       known. Where outputs agree, that is all: what is left open moves no output.
    2. Else what is wrong is sought where the models part: a few weights are read differently, then that part of both
       programs is searched.
    3. Only where that does not help, gradients of the whole models are searched for a correspondence, element by
       element; what they find, joined with structure where they are silent, is run.
    4. Where none agrees, the likeliest is kept, with the place where the models part.

    Nothing is searched where no outputs can be compared, and the whole is not where both look like two functions.
    """
    refuted: MappingRecord | None = None
    for proposal in proposals(structural):
        judged = proposal if resized(proposal) else bench.judged(proposal)
        if _agrees(judged):
            # what is open now moves no output, so that gradients say nothing of it
            return max([judged, *_filled(bench, judged)], key=_rank)
        refuted = refuted or judged
        if bench.budget.spent:
            return _unfinished(refuted)
    assert refuted is not None
    if refuted.proof is not None and NOT_COMPARABLE in refuted.proof.reason:
        return replace(refuted, not_run=refuted.proof.reason, next_step=SAME)
    recorded = _recorded(bench, refuted)
    why = "" if recorded is None else _two_functions(bench, refuted, recorded)
    # a refuted mapping's statuses are doubts, which are none of what structure said
    doubtful = replace(structural, proof=refuted.proof)
    for mended in _mended(bench, doubtful, recorded) if why in ("", UNLIKE) else ():
        agreeing = _agreeing(bench, chain(completed(mended), [mended]))
        if agreeing is not None:
            return agreeing
    exact = Exact(note=f"the whole models were not searched: {why}") if why else _searched(bench)
    agreeing = _agreeing(bench, _candidates(structural, exact))
    if agreeing is not None:
        return agreeing
    found = _unconfirmed(bench, structural, exact, recorded, refuted, some=1 if why else SOME)
    told = replace(found, next_step=APART) if why == UNLIKE and found.verdict == "refuted" else found
    return _last(told, refuted, exact.gave_up or bench.budget.spent)


def _unfinished(judged: MappingRecord) -> MappingRecord:
    """What is answered where the budget ended before anything was searched."""
    if judged.proof is not None and judged.proof.outcome == "nothing":
        return replace(judged, not_run=judged.proof.reason)
    return replace(judged, not_run=judged.not_run or resized(judged), next_step=MORE)


def _last(record: MappingRecord, refuted: MappingRecord, gave_up: bool) -> MappingRecord:
    """What is answered in the end: where there was no time left to run it, the mapping that was refuted."""
    ran = record.proof is not None and record.proof.outcome != "nothing"
    told = refuted.proof is not None and refuted.proof.outcome == "differ"
    found = refuted if told and not ran and not resized(record) else record
    return replace(found, next_step=MORE) if gave_up and found.verdict == "refuted" else found


def _agreeing(bench: Bench, candidates: Iterator[MappingRecord]) -> MappingRecord | None:
    """The first mapping that a run of both models confirms; None where there is none among the likeliest."""
    judged = (bench.judged(candidate) for candidate in islice(candidates, MOST))
    return next(filter(_agrees, judged), None)


def _recorded(bench: Bench, refuted: MappingRecord) -> Recorded | None:
    """Both models as programs under a refuted mapping, to be compared value by value; None where that is not worth it.

    Nor is it where numbers that somebody rounded to float32 may be all that differs.
    """
    if _gap(refuted) < WRONG and not resized(refuted):
        return None
    both = bench.source, bench.target
    return bench_or_none(refuted, *both, prepared=bench.prepared, recordings=bench.recordings)


def _two_functions(bench: Bench, refuted: MappingRecord, recorded: Recorded) -> str:
    """Why nothing that a search of the whole finds can make both agree; empty where it may.

    Large models are not searched for nothing, so an operator that is to blame for what differs is enough there.
    """
    if _is_large(refuted) and not resized(refuted):
        found = _place(recorded)
        if found is not None and found.cause and found.factor is None:
            return found.cause
    return "" if could_agree(recorded.origin, recorded.target, bench.budget) else UNLIKE


def _is_large(record: MappingRecord) -> bool:
    return max(_numbers(side) for side in (record.source, record.target)) >= LARGE


def _numbers(side: Side) -> int:
    return sum(prod(weight.shape) for weight in side.weights)


def _mended(bench: Bench, refuted: MappingRecord, recorded: Recorded | None) -> Iterator[MappingRecord]:
    """The mapping with what is wrong where the models part found there, cheapest way first; none where it is not."""
    if recorded is None:
        return
    both, prepared, budget = (bench.source, bench.target), bench.prepared, bench.budget
    if not resized(refuted):
        found = repaired(
            refuted, *both, None, None, prepared=prepared, say=bench.say, budget=budget, made=recorded, most=FEW
        )
        if found is not None:
            yield found
    found = searched_region(refuted, *both, prepared=prepared, say=bench.say, budget=budget, made=recorded)
    if found is not None and not resized(found):
        yield found


def _searched(bench: Bench) -> Exact:
    """What gradients say on fresh inputs; on the examples, where no output of both agrees on those."""
    budget = bench.budget.part(SEARCHED)
    if budget.spent:
        note = f"the search gave up after {budget.seconds:g} s, before it began; a larger budget_s lets it go on"
        return Exact(note=note, gave_up=True)
    fresh, given = searched(bench.prepared, bench.source, bench.target), (bench.prepared.source, bench.prepared.target)
    exact = exact_entries(bench.source, bench.target, *fresh, bench.say, budget, bench.recordings)
    if not exact.note or fresh[0] is given[0] or exact.gave_up:
        return exact
    other = exact_entries(bench.source, bench.target, *given, bench.say, budget, bench.recordings)
    return other if other.balanced else exact


def _place(recorded: Recorded) -> Divergence | None:
    """Where both models part; None where that is not found."""
    try:
        return recorded.parting
    except Exception as error:  # a diagnosis must not hide what it diagnoses
        let_through(error)
        return None


def _located(bench: Bench, record: MappingRecord, refuted: MappingRecord, recorded: Recorded | None) -> MappingRecord:
    """A mapping that a run refutes, with the place where the models part; `refuted` is it as it was judged before."""
    proof, place = refuted.proof, None if recorded is None else _place(recorded)
    if proof is None or proof.outcome != "differ" or place is None:
        return bench.judged(record, locate=True)
    parting = Parting(place)
    return with_proof(record, Proof(replace(proof, divergence=parting.sentences), {}, parting))


def _unconfirmed(
    bench: Bench,
    structural: MappingRecord,
    exact: Exact,
    recorded: Recorded | None,
    refuted: MappingRecord,
    some: int,
) -> MappingRecord:
    """The likeliest mapping of those that no run confirms, mended where the place of their parting leads to a fault.

    A search that did not end in balance contributes nothing.

    Args:
        bench: Both models.
        structural: What structure says.
        exact: What a search found.
        recorded: Both models as programs under the structural mapping.
        refuted: The structural mapping as it was judged.
        some: How many runs of a large target mending may cost.
    """
    likeliest = next(_candidates(structural, exact), structural) if exact.balanced else structural
    why = resized(likeliest)
    if why:
        return _noted(replace(likeliest, not_run=why), exact.note)
    if likeliest is structural:
        judged = _located(bench, structural, refuted, recorded)
    else:
        judged = bench.judged(likeliest, locate=True)
    if judged.proof is not None and judged.proof.outcome == "nothing":
        judged = replace(judged, not_run=judged.proof.reason, next_step=SAME)
    if _gap(judged) >= WRONG:
        suspected = replace(likeliest, proof=judged.proof)
        both = bench.source, bench.target, None, None
        mended = repaired(
            suspected,
            *both,
            prepared=bench.prepared,
            say=bench.say,
            budget=bench.budget,
            recordings=bench.recordings,
            made=recorded if likeliest is structural else None,
            most=some if _is_large(suspected) else BUDGET,
        )
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
        if candidate.entries == record.entries:
            continue
        judged = bench.judged(replace(candidate, proof=None))
        if _agrees(judged):
            yield judged
            return


def _rank(record: MappingRecord) -> tuple[int, int, int]:
    statuses = [entry.status for entry in record.entries]
    return -statuses.count("unmapped"), statuses.count("proved"), -statuses.count("guessed")


def resized(record: MappingRecord) -> str:
    """Which weights have other sizes in the source, so that no run can compare the models; empty where none has.

    A table of which the target holds fewer rows is no reason: both models name the rows that both have.
    """
    made = [entry for entry in record.entries if entry.expr is not None and resizes(entry.expr)]
    keys = [entry.target for entry in made if not is_cut(entry)]
    share = f"{len(keys)} of {len(record.entries)} weights"
    return f"{share} were made of others of another size, such as {keys[0]}" if keys else ""


def _noted(record: MappingRecord, note: str) -> MappingRecord:
    """The mapping with why nothing else was found, unless it agrees."""
    return replace(record, notes=(*record.notes, note)) if note and not _agrees(record) else record
