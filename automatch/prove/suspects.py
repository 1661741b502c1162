"""Which weights lead to a step: those that it reads, then those that made its operands, nearest first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heappop, heappush

from automatch.prove.steps import Step

BESIDE = 0.75
"""How much farther a scale or bias is than the product that it is applied to."""

PASSED = 1.0
"""How much farther everything is behind a product, or a sum, of data with data."""

PLAIN = 0.8
"""How much nearer a weight of equal numbers is: all others are random, so nothing was read for it."""

SETTLED = 3.0
"""How much farther everything is behind an operand that is as it should be."""

FAR = 1.5
"""How much farther than the nearest a suspected weight may be."""

ENDLESS = 6.0
"""Where the walk ends."""


def blamed(
    step: Step, steps: Sequence[Step], plain: Collection[str] = (), settled: Collection[int] = ()
) -> tuple[str, ...]:
    """Names of the weights that lead to a step, most likely first.

    The walk ends at products with a weight: what lies behind them was right, or their value would not be known.

    Args:
        step: The step where two models part.
        steps: All of its model's.
        plain: Weights whose numbers are all equal.
        settled: Steps that are as in the other model, in their order as well.
    """
    behind = _behind(step, steps, settled)
    behind = {name: far - PLAIN * (name in plain) for name, far in behind.items() if name not in step.weights}
    order = sorted(behind, key=behind.__getitem__)
    near = min(behind.values(), default=0.0)
    if step.weights and near >= SETTLED:
        return step.weights
    return (*step.weights, *(name for name in order if behind[name] <= near + FAR))


def _behind(step: Step, steps: Sequence[Step], settled: Collection[int]) -> dict[str, float]:
    """How far each weight is that the operands of a step were made with."""
    distance: dict[str, float] = {}
    queue = [(SETTLED * (operand in settled), place, operand) for place, operand in enumerate(step.operands)]
    seen: set[int] = set()
    while queue:
        far, _, index = heappop(queue)
        if index in seen or far > ENDLESS:
            continue
        seen.add(index)
        here = steps[index]
        for name in here.weights:
            distance.setdefault(name, far if here.is_product else far + BESIDE)
        if here.is_product and here.weights:
            continue
        joins = len(here.operands) > 1 and (here.is_product or here.op in ("add", "sub"))
        for operand in here.operands:
            farther = SETTLED * (operand in settled and index not in settled)
            heappush(queue, (far + PASSED * joins + farther, len(seen) * 16 + len(queue), operand))
    return distance
