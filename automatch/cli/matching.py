"""`automatch match`: build both models, match them, write the mapping, print its summary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from automatch import match
from automatch.align.policy import LayerPolicy
from automatch.cli.console import show
from automatch.cli.gathering import gathered
from automatch.cli.progress import progress, without_torch_logs
from automatch.cli.references import Device
from automatch.cli.sides import make, request
from automatch.cli.twins import options
from automatch.errors import AutomatchError, InputsError
from automatch.report.summary import summary

Named: TypeAlias = tuple[str, str | None, Sequence[str]]
"""A side as the user names it: the model, the inputs function, shapes of inputs."""

INPUTS_HELP = (
    "On the command line: a function FACTORY_inputs beside the factory, --source-inputs NAME, or shapes such as "
    '--source-input "x=f32[1,3,8,8]" (the same for the target).'
)


def run(
    source: Named,
    target: Named,
    output: Path,
    *,
    twins: tuple[str | None, str | None] = (None, None),
    layers: LayerPolicy = "uniform",
    device: Device = "meta",
    allow_untraced: bool = False,
    quiet: bool = False,
) -> None:
    """Match two models that the user names, and write the mapping; nothing is written where anything fails.

    Args:
        source: The side that has the weights.
        target: The side that needs them.
        output: The mapping file to write.
        twins: What the user calls small models of both sides' code, built with real tensors; None twice for none.
        layers: The layer policy.
        device: Where factories build.
        allow_untraced: Whether names and shapes alone will do where a model cannot be traced.
        quiet: Whether to show no progress.

    Raises:
        AutomatchError: A model, its inputs or the output cannot be used, or the matching refused.
    """
    steps: list[Any] = [
        lambda: request("source", *source, device),
        lambda: request("target", *target, device),
        lambda: options(*twins) if any(twins) else {},
        partial(writable, output),
    ]
    ours, theirs, small, _ = gathered(steps)
    with progress(quiet) as stage, without_torch_logs():
        stage("building the models")
        (teacher, teacher_inputs), (student, student_inputs) = map(make, (ours, theirs))
        try:
            mapping = match(
                teacher,
                student,
                source_inputs=teacher_inputs,
                target_inputs=student_inputs,
                layers=layers,
                allow_untraced=allow_untraced,
                progress=stage,
                **small,
            )
        except InputsError as error:
            raise InputsError(f"{error}\n{INPUTS_HELP}") from error
        mapping.save(output)
    show(summary(mapping.record))
    print(f"\nwrote {output}")


def writable(output: Path) -> None:
    """Find out before the work, not after it, that the output has nowhere to go.

    Raises:
        AutomatchError: The output is a folder, or lies in a folder that is not there.
    """
    if output.is_dir():
        raise AutomatchError(f"--output {output} is a folder; name the file to write")
    if not output.parent.is_dir():
        raise AutomatchError(f"--output {output}: there is no folder {str(output.parent)!r}; create it first")
