"""The divergence of a conversion whose outputs differ: both models on the numbers of one draw, compared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import nn

from automatch.core.mapping import ProofRecord
from automatch.errors import AutomatchError
from automatch.exact.budget import UNBOUNDED, Budget, OutOfBudget
from automatch.inputs.prepare import Prepared
from automatch.interruption import let_through
from automatch.prove.conversion import EXACT, arrange
from automatch.prove.divergence import Divergence, Parting, first_divergence
from automatch.prove.loading import Conversion, Convert
from automatch.prove.trial import Draw, Setting, loaded
from automatch.prove.values import CLOSE, COARSE
from automatch.prove.weights import Manner
from automatch.trace.inputs import Inputs
from automatch.trace.lines import blame
from automatch.trace.program import Program
from automatch.trace.recordings import Both, both

__all__ = ["DRAWS", "Parting", "closely", "parting", "programs"]

DRAWS = (Draw(1), Draw(1, Manner(temper=0.4)), Draw(0))
"""Draws that are tried until one shows where the models part; the first takes the example inputs as they are, last."""


FAINT = 1e-2
"""Outputs that differ by less may do so for something that is too small to be seen beside numbers in float32."""


def parting(
    proof: ProofRecord,
    convert: Convert | Conversion,
    source: nn.Module,
    target: nn.Module,
    source_inputs: object,
    target_inputs: object,
    *,
    sources: Mapping[str, tuple[str, ...]] | None = None,
    reads: Collection[str] | None = None,
    seed: int = 0,
    prepared: Prepared | None = None,
    budget: Budget = UNBOUNDED,
    recordings: Both | None = None,
) -> Parting:
    """Find where two models part whose outputs were seen to differ; never raises.

    Args:
        proof: What the run of both showed.
        convert: The conversion, as for `prove_conversion`; so are the models, their inputs, `reads` and `seed`.
        source: The source model.
        target: The target model.
        source_inputs: Example inputs of the source.
        target_inputs: Example inputs of the target.
        sources: By target key, the source keys that it is made of, to be named beside it.
        reads: Source keys that the conversion reads.
        seed: Where all randomness starts.
        prepared: What both are run on, where that is known already.
        budget: How long it may take.
        recordings: What was recorded of both already.
    """
    recordings = recordings or both(source, target)
    reason = "all that the outputs are made of occurs on both sides; only its order differs"
    try:
        setting, _ = arrange(
            convert, source, target, source_inputs, target_inputs, reads=reads, seed=seed, prepared=prepared
        )
        for number, draw in enumerate(DRAWS, 1):
            if number > 1:
                budget.check(f"before values were compared on draw {number} of {len(DRAWS)}", "the proof")
            found = _of_draw(setting, draw, proof, sources, recordings)
            if found is not None:
                return Parting(found)
    except (AutomatchError, OutOfBudget) as error:
        reason = " ".join(str(error).split())
    except Exception as error:  # a diagnosis must not hide what it diagnoses
        let_through(error)
        reason = blame(error)
    return Parting(None, reason)


def programs(setting: Setting, draw: Draw, recordings: Both) -> tuple[Program, Program]:
    """Both models as programs, on the weights and inputs of a draw.

    Raises:
        TraceError: A model cannot be recorded.
        MappingError: The conversion gives keys or shapes that the target does not have.
        TypeError: A model cannot be copied.
    """
    source, target = recordings
    with loaded(setting, draw) as ready:
        ours = source.program(Inputs(*ready.ours), ready.source)
        return ours, target.program(Inputs(*ready.theirs), ready.target)


def _of_draw(
    setting: Setting,
    draw: Draw,
    proof: ProofRecord,
    sources: Mapping[str, tuple[str, ...]] | None,
    recordings: Both,
) -> Divergence | None:
    ours, theirs = programs(setting, draw, recordings)
    differing = [output for output in proof.outputs if not output.gap <= proof.tolerance]
    outputs = [(output.source, output.target) for output in differing]
    gap = max((output.gap for output in differing), default=1.0)

    def seen(close: float) -> Divergence | None:
        return first_divergence(ours, theirs, outputs=outputs, output_gap=gap, sources=sources, close=close)

    return closely(seen, proof.tolerance <= EXACT, gap)


def closely(seen: Callable[[float], Divergence | None], exact: bool, gap: float) -> Divergence | None:
    """Where two models part, as closely as their numbers allow.

    Args:
        seen: Finds it, given how close two numbers must be to be the same.
        exact: Whether all numbers of both are float64.
        gap: How far their outputs are apart.
    """
    if exact:
        return seen(CLOSE)
    found = seen(COARSE)
    if found is not None and (found.cause or gap > FAINT):
        return found
    # an epsilon may show far behind, in a small difference
    closer = seen(CLOSE)
    return closer if closer is not None and closer.cause else found
