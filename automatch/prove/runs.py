"""One run of a stand-in in float64: its outputs, or why there are none."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from automatch.inputs.draws import own
from automatch.inputs.plan import Call
from automatch.interruption import let_through
from automatch.prove.outputs import real_floats
from automatch.prove.precision import Watch
from automatch.trace.isolate import stand_in
from automatch.trace.lines import blame
from automatch.trace.widened import Widened


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run gave: outputs, or why there are none; and whether numbers in less than float64 took part."""

    outputs: tuple[Tensor, ...]
    failure: str
    narrow: bool

    @staticmethod
    def of(model: nn.Module, call: Call, number: int, side: str) -> Ran:
        """Run a stand-in, and see what numbers take part."""
        with Watch() as watch:
            outputs, failure = run(model, call, number, side)
        return Ran(outputs, failure, watch.narrow)


def run(model: nn.Module, call: Call, number: int, side: str, *, graph: bool = False) -> tuple[tuple[Tensor, ...], str]:
    """A stand-in's outputs in float64, or why there are none.

    It is a stand-in of it that runs, so that nothing a forward keeps reaches another run.

    Code that casts to float32 by itself does not always run on float64 weights; its casts are then widened.
    """
    for manner in (nullcontext(), Widened()):
        torch.manual_seed(number)  # whatever a forward draws is the same on both sides
        try:
            with stand_in(model) as copied, manner, torch.set_grad_enabled(graph):
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
