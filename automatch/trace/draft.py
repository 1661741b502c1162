"""The second rung: `torch.export.draft_export`, which runs on real numbers beside the imagined ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from torch._logging._internal import DTRACE_ENV_VAR

from automatch.trace.export import of_export
from automatch.trace.inputs import Inputs
from automatch.trace.isolate import stand_in
from automatch.trace.recording import ONE_PATH, Recording
from automatch.trace.weights import Inventory


def record(model: nn.Module, inputs: Inputs, inventory: Inventory) -> Recording:
    """Export a model whose control flow depends on data, along the branches that these inputs take."""
    with _no_report_left_behind(), stand_in(model) as copied:
        program = torch.export.draft_export(copied, inputs.args, inputs.kwargs, strict=False)
    return replace(of_export(program, model, inputs, inventory), notes=(ONE_PATH,))


@contextmanager
def _no_report_left_behind() -> Iterator[None]:
    """Draft export writes its report to a file that it never removes; give it a folder that goes away."""
    before = os.environ.get(DTRACE_ENV_VAR)
    with tempfile.TemporaryDirectory(prefix="automatch-") as folder:
        try:
            os.environ[DTRACE_ENV_VAR] = folder
            yield
        finally:
            if before is None:
                os.environ.pop(DTRACE_ENV_VAR, None)
            else:
                os.environ[DTRACE_ENV_VAR] = before
