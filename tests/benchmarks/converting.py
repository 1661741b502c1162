"""Measure conversions of a checkpoint of some 2 GB against copying it, side by side in one run.

    python -m tests.benchmarks.converting [--folder /tmp] [--rounds 3]

Every contestant is a process of its own and converts the same file, taking turns: `cp`; load, concatenate and save by
hand; `transformers`' own conversion on load followed by its save; and `automatch convert` for moves, rotary
permutations, transposes and a cast, with digests, and from an archive of `torch.save` with and without its
checksums. Before each, what the last one wrote is removed and the disk is let come to rest.
Times are of the whole process, its imports included, first as it ends, then with what it wrote on the disk (`sync`);
automatch has its output on the disk before it ends, the others have not. Tables show medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from automatch.core.mapping_file import write
from tests.benchmarks.experts import MAPPINGS

Command = Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a contestant took: seconds to its end, seconds to the disk, and its peak memory in MB."""

    seconds: float
    settled: float
    peak: float


def main() -> None:
    """Measure, and print the table."""
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        _run(_python("tests.benchmarks.contestants", "write", folder / "source"), folder)
        size = (folder / "source" / "model.safetensors").stat().st_size
        for kind, record in MAPPINGS.items():
            write(record(), folder / f"{kind}.json")
        contestants = _contestants(folder)
        rounds: dict[str, list[Run]] = {name: [] for name in contestants}
        for _ in range(options.rounds):
            for name, command in contestants.items():
                rounds[name].append(_run(command, folder))
        idle = _run(_python("tests.benchmarks.contestants", "nothing"), folder).peak
    _print({name: _median(runs) for name, runs in rounds.items()}, size, idle)


def _contestants(folder: Path) -> dict[str, Command]:
    source, out = folder / "source", folder / "out"
    file = source / "model.safetensors"
    ours = {
        f"automatch, {kind}": _python(
            "automatch", "convert", file, "--mapping", folder / f"{kind}.json", "-o", out / "model.safetensors"
        )
        for kind in MAPPINGS
    }
    archive = tuple(source / "model.pt" if part == file else part for part in ours["automatch, stacked"])
    return {
        "cp": ("cp", file, out / "model.safetensors"),
        "by hand": _python("tests.benchmarks.contestants", "by_hand", source, out / "model.safetensors"),
        "transformers": _python("tests.benchmarks.contestants", "transformers", source, out),
        **ours,
        "automatch, to float32": (*ours["automatch, stacked"], "--dtype", "float32"),
        "automatch, with digests": (*ours["automatch, stacked"], "--digests"),
        "automatch, .pt, checksums checked": archive,
        "automatch, .pt, --no-checksums": (*archive, "--no-checksums"),
    }


def _python(module: str, *arguments: str | Path) -> Command:
    return (sys.executable, "-m", module, *arguments)


def _run(command: Command, folder: Path) -> Run:
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    os.sync()
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    os.sync()
    if status:
        raise SystemExit(f"{' '.join(map(str, command))} failed")
    return Run(seconds, time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e6)


def _median(runs: Sequence[Run]) -> Run:
    return Run(*(median(getattr(run, name) for run in runs) for name in ("seconds", "settled", "peak")))


def _print(runs: dict[str, Run], size: int, idle: float) -> None:
    console = Console(width=100)
    console.print(
        f"Python {platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}, "
        f"{os.cpu_count()} cores; a checkpoint of {size / 1e9:.2f} GB; a process that imports torch and does nothing "
        f"takes {idle:.0f} MB"
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in ("seconds", "of cp's rate", "with sync", "of cp's rate", "peak MB"):
        table.add_column(column, justify="right")
    for name, run in runs.items():
        rates = runs["cp"].seconds / run.seconds, runs["cp"].settled / run.settled
        table.add_row(
            name, f"{run.seconds:.2f}", f"{rates[0]:.2f}", f"{run.settled:.2f}", f"{rates[1]:.2f}", f"{run.peak:.0f}"
        )
    console.print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.converting")
    parser.add_argument("--folder", default=None, help="where files are made; some 10 GB are needed")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
