"""`automatch convert`: plan a conversion and print the plan, or run it and show how far it is."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from automatch.checkpoint.index import find
from automatch.cli.console import show
from automatch.cli.gathering import gathered
from automatch.cli.throughput import throughput
from automatch.cli.verdicts import warned
from automatch.conversion.convert import Converted, Format, Options, convert, prepare
from automatch.mapping import Mapping, load
from automatch.report.plan import plan_report, size_text
from automatch.report.render import verdict


def run(
    checkpoint: Path, mapping: Path, output: Path, options: Options, *, format: Format, dry_run: bool, quiet: bool
) -> None:
    """Convert, or say what would be done.

    Raises:
        AutomatchError: The checkpoint, the mapping and the place do not fit; nothing is written.
    """
    steps: list[Any] = [partial(load, mapping), lambda: checkpoint.exists() or find(checkpoint)]
    found: Mapping = gathered(steps)[0]
    if _first():
        warned(found.record, str(mapping))  # before the work, which may be long
    if dry_run:
        if _first():
            show([verdict(found.record), *_plan(checkpoint, found, output, options, format)])
        return
    with throughput(quiet or not _first()) as progress:
        done = convert(
            checkpoint,
            found,
            output,
            **asdict(options),
            format=format,
            progress=progress,
        )
    if _first():
        show([verdict(found.record)])
        print("\n".join(_result(done, found, output)))


def _result(done: Converted, mapping: Mapping, output: Path) -> list[str]:
    target = mapping.record.target.name or "the target"
    weights = f"{mapping.summary().mapped:,} of {len(mapping):,} weights of {target}"
    lines = [f"note: {note}" for note in done.plan.notes]
    lines += [f"taken over from an interrupted run: {name}" for name in done.resumed]
    return [*lines, f"wrote {output}: {weights}, {size_text(done.plan.nbytes)}"]


def _plan(checkpoint: Path, mapping: Mapping, output: Path, options: Options, format: Format) -> list[RenderableType]:
    if format == "dcp":
        from automatch.conversion.distributed import prepare_distributed

        return plan_report(prepare_distributed(checkpoint, mapping, output, options).plan, (), str(output))
    job = prepare(checkpoint, mapping, output, options)
    return plan_report(job.plan, job.shards, str(output))


def _first() -> bool:
    """Whether this process speaks for those that convert together."""
    return os.environ.get("RANK", "0") == "0"
