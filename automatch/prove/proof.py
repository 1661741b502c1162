"""The proof of a mapping, and the mapping with what was proved written into it.

Where outputs differ, the place where the two models first part is looked for as well (`automatch.prove.parting`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from automatch.core.mapping import Entry, MappingRecord, Shown, Status
from automatch.exact.budget import UNBOUNDED, Budget
from automatch.inputs.prepare import Prepared, warn
from automatch.prove.conversion import DRAWS, Proof, prepared_for, prove_conversion
from automatch.prove.doubt import doubted
from automatch.prove.loading import of_record
from automatch.prove.parting import parting
from automatch.trace.recordings import Both, both
from automatch.trace.undisturbed import undisturbed


@undisturbed
def prove(
    record: MappingRecord,
    source: nn.Module,
    target: nn.Module,
    source_inputs: object,
    target_inputs: object,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    outputs: Sequence[tuple[int, int]] | None = None,
    prepared: Prepared | None = None,
    locate: bool = True,
    budget: Budget = UNBOUNDED,
    say: Callable[[str], None] | None = None,
    recordings: Both | None = None,
) -> Proof:
    """Run both models on fresh weights under a mapping, and say what that showed; where they differ, where first.

    Args:
        record: The mapping; it is frozen.
        source: The source model, with real tensors; it stays as it is.
        target: The target model, likewise.
        source_inputs: Example inputs of the source: `(args, kwargs)`, a tuple, a dict, one tensor, or None for those
            that the model carries.
        target_inputs: The same for the target.
        draws: How many fresh draws of all source weights, at least three.
        seed: Where all randomness starts.
        outputs: Which outputs to compare, as places among both models' output tensors; None pairs them by shape.
        prepared: What both are run on, where that is known already; it takes the place of both sides' inputs.
        locate: Whether to look for the place where outputs that differ first part.
        budget: How long it may take, as for `prove_conversion`.
        say: Told what begins.
        recordings: What was recorded of both already.

    Raises:
        ModelError: A model is on the meta device.
        InputsError: Inputs are missing, or `draws` is below three.
        MappingError: The mapping was made for other models.
    """
    reads = {key for entry in record.entries for key in entry.sources}
    reads |= {key for weight in record.source.weights for key in weight.keys if not reads.isdisjoint(weight.keys)}
    recordings = recordings or both(source, target)
    if prepared is None:
        prepared = prepared_for(source, target, source_inputs, target_inputs, recordings)
        warn(prepared, stacklevel=5)  # this function is wrapped
    asked = source, target, source_inputs, target_inputs
    conversion = of_record(record, source)
    proof = prove_conversion(
        conversion,
        *asked,
        reads=reads,
        draws=draws,
        seed=seed,
        outputs=outputs,
        prepared=prepared,
        budget=budget,
        say=say,
    )
    if proof.record.outcome != "differ" or not locate:
        return proof
    made_of = {entry.target: entry.sources for entry in record.entries}
    found = parting(
        proof.record,
        conversion,
        *asked,
        sources=made_of,
        reads=reads,
        seed=seed,
        prepared=prepared,
        budget=budget,
        recordings=recordings,
    )
    return replace(proof, record=replace(proof.record, divergence=found.sentences), parting=found)


def with_proof(record: MappingRecord, proof: Proof) -> MappingRecord:
    """The mapping with every entry's status as the proof leaves it.

    1. Shown down to the last element: `proved`, whatever it was.
    2. Shown in part: `structural`; the expression that its seen elements confirm speaks for the others, unless it was
       a guess of what no output tells.
    3. Not shown: as before, except that nothing stays `proved` that this proof did not show.
    4. Where the outputs differ: `guessed`, as far as that bears on it (`automatch.prove.doubt`).
    """
    entries = tuple(_judged(entry, proof.shown.get(entry.target)) for entry in record.entries)
    judged = replace(record, entries=entries, proof=proof.record, not_run="", next_step="")
    return doubted(judged, proof.parting) if proof.record.outcome == "differ" else judged


def _judged(entry: Entry, shown: Shown | None) -> Entry:
    if entry.status == "unmapped":
        return entry
    return replace(entry, status=_status(entry, shown), evidence=replace(entry.evidence, shown=shown))


def _status(entry: Entry, shown: Shown | None) -> Status:
    if shown is not None and shown.whole:
        return "proved"
    made_up = entry.status == "guessed" and entry.evidence.method == "colours"
    if (shown is not None and shown.elements and not made_up) or entry.status == "proved":
        return "structural"
    return entry.status
