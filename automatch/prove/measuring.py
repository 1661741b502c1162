"""What a draw shows of each weight: gradients entered in the ledger, and a control that all living weights matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automatch.core.memory import give_back
from automatch.inputs.plan import Call
from automatch.interruption import let_through
from automatch.prove.differentiable import Differentiable
from automatch.prove.influence import Gradient, Ledger, disturb, disturbance, enough, measure
from automatch.prove.loading import Numbers
from automatch.prove.outputs import Gap, OutputPair, common, gap
from automatch.prove.runs import run
from automatch.trace.lines import blame
from automatch.trace.weights import identity

JOLT = 0.01
"""The relative disturbance of the control: every living weight at once."""

JOLTED = 3
"""How many draws are disturbed; those after these look for a few more elements alone."""

LARGE = 1_500_000
"""Numbers of gradients that were let go, after which their memory is given back."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A target on a draw, and what it is compared with.

    Attributes:
        target: The target on the numbers of the draw, which are changed.
        call: What it is called with.
        number: The number of the draw.
        first: The source's outputs.
        pairs: Which outputs are compared.
        gaps: How far they are apart.
        narrow: Whether numbers in less than float64 took part.
    """

    target: Numbers
    call: Call
    number: int
    first: Sequence[Tensor]
    pairs: Sequence[OutputPair]
    gaps: tuple[Gap, ...]
    narrow: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it.

    Attributes:
        jolted: How far the outputs are after a small disturbance of all living weights; empty where it was not run.
        unmeasured: Why the influence of weights could not be had; empty where it could.
    """

    jolted: tuple[Gap, ...] = ()
    unmeasured: str = ""


def measured(bench: Bench, ledger: Ledger) -> Measured:
    """Enter one backward pass, then disturb what is alive and see how far the outputs move."""
    weights = _differentiable(bench.target)
    still_open = ledger.open()
    wanted = {key: tensor for key, tensor in weights.items() if key not in ledger.found or key in still_open}
    if not wanted:
        return Measured()
    unmeasured = _entered(bench, wanted, _Entering(ledger, weights, enough(bench.gaps), bench.narrow))
    if unmeasured or bench.number >= JOLTED:
        return Measured((), unmeasured)
    for key, tensor in weights.items():
        if key in ledger.found:
            disturb(tensor, JOLT * disturbance(tensor), ledger.found[key].alive)
    third, failure = run(bench.target, bench.call, "target")
    if failure:
        return Measured((), failure)
    both = [common(bench.first[pair.source], third[pair.target]) for pair in bench.pairs]
    return Measured(tuple(gap(*pair) for pair in both))


def _entered(bench: Bench, weights: Mapping[str, Tensor], enter: _Entering) -> str:
    """Hand over the gradients of some weights; why that failed, empty where it did not."""
    give_back(sum(tensor.numel() for tensor in weights.values()))
    first = not enter.ledger.found
    for tensor in weights.values():
        tensor.requires_grad_(True)
    try:
        with Differentiable() as mode:
            second, failure = run(bench.target, bench.call, "target", graph=True)
        if failure:
            return failure
        with torch.enable_grad():  # a stand-in is run without
            outputs = [common(bench.first[pair.source], second[pair.target])[1] for pair in bench.pairs]
        second = ()
        if not first and not any(output.requires_grad for output in outputs):
            for key in weights:  # what is left open, no output depends on
                enter(key, None)
            return ""
        give_back(sum(tensor.numel() for tensor in weights.values()))
        marks = {key: identity(tensor) for key, tensor in weights.items()}
        tables = {key: mode.tables[mark] for key, mark in marks.items() if mark in mode.tables}
        measure(outputs, weights, tables, torch.Generator().manual_seed(bench.number), enter)
    except RuntimeError as error:  # no output has a graph, or an operator no derivative
        let_through(error)
        return blame(error)
    finally:
        for tensor in weights.values():
            tensor.requires_grad_(False)
    return ""


@dataclass(slots=True)
class _Entering:
    """Enters gradients into a ledger, one at a time.

    Attributes:
        ledger: The ledger.
        weights: What they are the gradients of.
        enough: How far an element must move the outputs to be seen.
        narrow: Whether numbers in float32 took part.
        freed: Numbers of the gradients that were let go since memory was given back.
    """

    ledger: Ledger
    weights: Mapping[str, Tensor]
    enough: float
    narrow: bool
    freed: int = 0

    def __call__(self, key: str, found: Tensor | None) -> None:
        """Enter one.

        Raises:
            RuntimeError: It is not finite.
        """
        tensor = self.weights[key].detach()
        if self.freed + tensor.numel() > LARGE:
            give_back(self.freed)
            self.freed = 0
        gradient = Gradient.of(found, tuple(tensor.shape))
        if not np.isfinite(gradient.values).all():
            raise RuntimeError("gradients are not finite")
        self.ledger.add(key, gradient, self.enough / disturbance(tensor), self.narrow)
        self.freed += tensor.numel()


def _differentiable(target: Numbers) -> dict[str, Tensor]:
    """Every floating tensor of the target's state dict under its first key, of which gradients can be taken."""
    tensors = target.state()
    first = {identity(tensor): key for key, tensor in reversed(tensors.items())}
    return {
        key: tensor
        for key, tensor in tensors.items()
        if first[identity(tensor)] == key and tensor.is_floating_point() and tensor.is_leaf
    }
