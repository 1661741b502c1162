"""Measure a match of the full-size Wan pair, stage by stage, and how it grows with depth.

    python -m tests.benchmarks [--repeats 3] [--depths 10,20,40,80]

Every depth is measured in a process of its own, which matches once cold, then so many times warm; tables show the
first round and the median of the warm ones. Garbage is collected between stages, outside the timing. Weights are on
the meta device, so width costs nothing. `python -m tests.benchmarks.exact` measures the exact match of models that run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Measurement, Times
from tests.benchmarks.tables import figures

TRACING = ("trace source", "trace target")
MATCHING = ("canonicalize and lower", "align", "synthesize")
PUBLISHED = 40

SHARE_AIM = 0.1
MEMORY_AIM_MB = 1000
GROWTH_AIM = 2.0


def main() -> None:
    """Measure, and print the tables."""
    options = _options()
    depths = sorted({int(depth) for depth in options.depths.split(",")} | {PUBLISHED})
    console = Console(width=100)
    console.print(
        f"Python {platform.python_version()}, torch {version('torch')}, {os.cpu_count()} cores, "
        f"1 cold and {options.repeats} warm rounds per depth"
    )
    found = [_measured(depth, options.repeats) for depth in depths]
    for part in (*_stages(next(each for each in found if each.layers == PUBLISHED)), *_growth(found)):
        console.print(part, highlight=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="warm rounds per depth (default 3)")
    parser.add_argument("--depths", default="10,20,40,80", help="layers of the teacher (default 10,20,40,80)")
    return parser.parse_args()


def _measured(layers: int, repeats: int) -> Measurement:
    command = [sys.executable, "-m", "tests.benchmarks.measure", str(layers), str(repeats)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return Measurement(**json.loads(done.stdout))


def _warm(found: Measurement, *stages: str) -> float:
    return median(sum(times[stage] for stage in stages) for times in found.rounds[1:])


def _stages(found: Measurement) -> tuple[str, Table, str]:
    title = (
        f"\nWan 2.2 at full size: {found.layers} layers, {found.tensors:,} tensors, {found.nodes:,} nodes on both "
        f"sides; {found.mapped} of {found.total} weights mapped"
    )
    table = figures("stage", "cold s", "warm s", "share of tracing")
    every = tuple(found.rounds[0])
    rows: list[tuple[str, tuple[str, ...]]] = [(stage, (stage,)) for stage in every]
    rows += [("tracing", TRACING), ("matching", MATCHING), ("total", every)]
    for name, stages in rows:
        if name in ("tracing", "total"):
            table.add_section()
        seconds = _warm(found, *stages)
        table.add_row(
            name, *_seconds(_cold(found.rounds[0], stages), seconds), f"{seconds / _warm(found, *TRACING):.1%}"
        )
    return title, table, _verdict(found)


def _verdict(found: Measurement) -> str:
    share = _warm(found, *MATCHING) / _warm(found, *TRACING)
    notes = [
        _aim(f"matching is {share:.1%} of tracing (warm)", f"at most {SHARE_AIM:.0%}", share <= SHARE_AIM),
        _aim(
            f"peak memory {found.peak_mb:.0f} MB, of which {found.idle_mb:.0f} MB before the first model",
            f"under {MEMORY_AIM_MB} MB",
            found.peak_mb < MEMORY_AIM_MB,
        ),
    ]
    return "\n".join(notes)


def _growth(found: list[Measurement]) -> tuple[str, Table, str]:
    title = "\nGrowth with the teacher's layers (the student has 16): warm medians, and the ratio to the row above"
    table = figures("layers", "tensors", "nodes", "tracing s", "", "matching s", "", "total s", "", "peak MB")
    worst = 0.0
    for before, each in zip([None, *found], found, strict=False):
        cells = []
        for stages in (TRACING, MATCHING, tuple(each.rounds[0])):
            ratio = 0.0 if before is None else _warm(each, *stages) / _warm(before, *stages)
            cells += [*_seconds(_warm(each, *stages)), f"x{ratio:.2f}" if ratio else ""]
            worst = max(worst, ratio if before and each.layers == 2 * before.layers else 0.0)
        table.add_row(str(each.layers), f"{each.tensors:,}", f"{each.nodes:,}", *cells, f"{each.peak_mb:.0f}")
    note = _aim(f"doubling the layers costs at most x{worst:.2f}", f"at most x{GROWTH_AIM:g}", worst <= GROWTH_AIM)
    return title, table, note if worst else "  no depth is twice the one above: nothing to say about doubling"


def _cold(times: Times, stages: tuple[str, ...]) -> float:
    return sum(times[stage] for stage in stages)


def _seconds(*values: float) -> list[str]:
    return [f"{value:.3f}" if value < 1 else f"{value:.2f}" for value in values]


def _aim(fact: str, aim: str, met: bool) -> str:
    return f"  {fact}; the aim is {aim}: {'met' if met else 'NOT met'}"


if __name__ == "__main__":
    main()
