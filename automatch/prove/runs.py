"""One run of a model on the numbers of a draw: its outputs, or why there are none."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from automatch.inputs.draws import own
from automatch.inputs.plan import Call
from automatch.interruption import let_through
from automatch.prove.loading import Numbers
from automatch.prove.outputs import real_floats
from automatch.prove.precision import Watch
from automatch.trace.lines import blame
from automatch.trace.widened import Widened


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run gave: outputs, or why there are none; and whether numbers in less than float64 took part."""

    outputs: tuple[Tensor, ...]
    failure: str
    narrow: bool

    @staticmethod
    def of(numbers: Numbers, call: Call, side: str, narrow: bool | None = None) -> Ran:
        """Run a model, and see what numbers take part where that is not known."""
        if narrow is not None:
            return Ran(*run(numbers, call, side), narrow)
        with numbers.watched(), Watch() as watch:
            outputs, failure = run(numbers, call, side)
        return Ran(outputs, failure, watch.narrow)


def run(numbers: Numbers, call: Call, side: str, *, graph: bool = False) -> tuple[tuple[Tensor, ...], str]:
    """A model's outputs in float64, or why there are none; whatever its forward draws is the same in every run.

    Code that casts to float32 by itself does not always run on float64 weights; its casts are then widened.
    """
    for manner in (nullcontext(), Widened()):
        with numbers.stand_in() as copied:
            try:
                with manner, torch.set_grad_enabled(graph):
                    args, kwargs = own(call)
                    outputs = real_floats(copied(*args, **kwargs))
                break
            except Exception as error:  # the model's own code raises whatever it likes
                let_through(error)
                failure = f"the {side} does not run in float64: {blame(error)}"
                if "dtype" not in str(error):
                    return (), failure
    else:
        return (), failure
    if not all(bool(torch.isfinite(output).all()) for output in outputs):
        return (), f"{side} outputs are not finite"
    return outputs, ""
