"""`automatch match`: build both models, match them, write the mapping, print its summary, judge it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from automatch import Mapping, match
from automatch.align.policy import LayerPolicy
from automatch.cli import statuses
from automatch.cli.building import Made, make_both
from automatch.cli.console import show, warnings_as_lines
from automatch.cli.gathering import gathered
from automatch.cli.options import MatchOptions
from automatch.cli.progress import progress, without_torch_logs
from automatch.cli.references import seeded
from automatch.cli.sides import request
from automatch.cli.twins import options as twin_options
from automatch.errors import AutomatchError, InputsError, PolicyError
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
    options: MatchOptions,
    *,
    twins: tuple[str | None, str | None] = (None, None),
) -> int:
    """Match two models that the user names, and write the mapping; nothing is written where anything fails.

    Args:
        source: The side that has the weights.
        target: The side that needs them.
        output: The mapping file to write.
        options: How to go about it.
        twins: What the user calls small models of both sides' code, built with real tensors; None twice for none.

    Returns:
        The exit status: 1 where the mapping is short of what is required of it.

    Raises:
        AutomatchError: A model, its inputs or the output cannot be used, or the matching refused.
    """
    steps: list[Any] = [
        lambda: request("source", *source),
        lambda: request("target", *target),
        lambda: twin_options(*twins) if any(twins) else {},
        partial(policy, options.layers),
        partial(writable, output),
    ]
    ours, theirs, small, layers, _ = gathered(steps)
    with warnings_as_lines(), progress(not options.progress) as stage, without_torch_logs():
        stage("building the models")
        with seeded(0):
            # what twins are for is too large to run
            made = make_both(ours, theirs, options.device, run=options.run and not small)
        mapping = _matched(*made, options, layers=layers, progress=stage, **small)
        mapping.save(output)
    show(summary(mapping.record))
    print(f"\nwrote {output}")
    return statuses.of(statuses.shortfall(mapping.record, options.require))


def _matched(source: Made, target: Made, options: MatchOptions, **more: Any) -> Mapping:
    """The mapping between two models with their inputs; how to give inputs is said where they are missing."""
    budget: dict[str, Any] = {} if options.budget_s is None else {"budget_s": options.budget_s}
    try:
        return match(
            source[0],
            target[0],
            source_inputs=source[1],
            target_inputs=target[1],
            run=options.run,
            device=options.device,
            new_rows=options.new_rows,
            allow_untraced=options.allow_untraced,
            **budget,
            **more,
        )
    except InputsError as error:
        raise InputsError(f"{error}\n{INPUTS_HELP}") from error


def policy(text: str) -> LayerPolicy:
    """The layer policy from its text.

    Raises:
        PolicyError: It is neither a policy nor a list of numbers.
    """
    match text:
        case "uniform" | "first" | "last":
            return text
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise PolicyError(f"--layers {text!r} is unknown; use uniform, first, last, or source layers such as 0,2,5")
    return [int(word) for word in words]


def writable(output: Path) -> None:
    """Find out before the work, not after it, that the output has nowhere to go.

    Raises:
        AutomatchError: The output is a folder, or lies in a folder that is not there.
    """
    if output.is_dir():
        raise AutomatchError(f"--output {output} is a folder; name the file to write")
    if not output.parent.is_dir():
        raise AutomatchError(f"--output {output}: there is no folder {str(output.parent)!r}; create it first")
