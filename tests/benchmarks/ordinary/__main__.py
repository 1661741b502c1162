"""Measure what an ordinary match of well-known models costs, side by side with other commits.

    python -m tests.benchmarks.ordinary [--against COMMIT]... [--rows mobilenet,gpt2] [--large] [--timeout 900]
    python -m tests.benchmarks.ordinary --check [--rows ...] [--large]

The call is a user's: `automatch.match(source, target, source_inputs=..., target_inputs=...)` on models that hold
numbers. Every row is matched once in a fresh process for each tree, the present one first, row after row. Seconds are
of the call alone, the first in its process; peak memory is of the process, and "before" is the same when the models had
been made. Students are held against the same match on the meta device, and only for them a small match goes first, so
that neither pays for what torch does once. "Right" is exact: what the mapping makes of changed source weights, against
a conversion written by hand; for students, whether every weight is made of its namesake. A factor is another commit's
seconds over the present tree's.

Threads of torch wait for each other: on a machine of two cores that others used, one and the same match of MobileNetV2
took 19 and 157 seconds. Where a machine is shared, `--threads 1` and seconds of processor time tell more.

Needs the extra `benchmarks`; rows whose libraries are missing are not measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console

from tests.benchmarks.ordinary.results import Found, Outcome, found, table
from tests.benchmarks.ordinary.rows import ROWS, Row
from tests.benchmarks.ordinary.trees import PRESENT, Tree, checked_out, run

WIDTH = 200


def main() -> None:
    """Measure and print the table, or check the references."""
    options = _options()
    rows = _rows(options.rows, options.large)
    # Otherwise a process that is told to end leaves its temporary trees behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # which the children inherit
    if options.check:
        sys.exit(0 if all([_check(row, options.timeout) for row in rows]) else 1)
    with checked_out(options.against) as trees:
        outcomes = [(row, _measured(row, trees, options.timeout)) for row in rows]
    console = Console(width=WIDTH)
    console.print(_machine(), table(outcomes), *_counts(outcomes), sep="\n", highlight=False)


def _rows(names: str, large: bool) -> Sequence[Row]:
    if not names:
        return [row for row in ROWS if large or not row.large]
    wanted = names.split(",")
    strange = set(wanted) - {row.name for row in ROWS}
    if strange:
        raise SystemExit(f"no such row: {', '.join(sorted(strange))}; there are {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if row.name in wanted]


def _measured(row: Row, trees: Sequence[Tree], timeout: float) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    for tree in trees:
        outcomes[tree.label] = outcome = _outcome(row, tree, timeout)
        print(f"{row.name}, {tree.label}: {_said(outcome)}", file=sys.stderr, flush=True)
    return outcomes


def _said(outcome: Outcome) -> str:
    """An outcome in a line, for who waits for the table."""
    if isinstance(outcome, str):
        return outcome
    cost = f"{outcome.wall_s:.1f} s ({outcome.processor_s:.1f} of processor), {outcome.peak_mb / 1000:.2f} GB"
    return f"{cost}, {outcome.verdict}, {outcome.right} of {outcome.of} right"


def _outcome(row: Row, tree: Tree, timeout: float) -> Outcome:
    if row.missing:
        return _without(row)
    fields = run(row.name, tree, timeout)
    return fields if isinstance(fields, str) else found(fields)


def _check(row: Row, timeout: float) -> bool:
    fields = _without(row) if row.missing else run(row.name, PRESENT, timeout, "--check")
    if isinstance(fields, str):
        print(f"{row.title}: {fields}")
        return bool(row.missing)
    gap = fields["gap"]
    how = "names of the student" if gap is None else f"outputs differ by {gap:.1e} of their scale"
    print(f"{row.title}: {how}: {'right' if fields['right'] else 'WRONG'}", flush=True)
    return bool(fields["right"])


def _without(row: Row) -> str:
    return f"not measured: no {', '.join(row.missing)}"


def _machine() -> str:
    libraries = ", ".join(f"{name} {_version(name)}" for name in ("torch", "timm", "torchvision", "transformers"))
    threads = os.environ.get("OMP_NUM_THREADS")
    cores = f"{os.cpu_count()} cores" + (f", {threads} threads of torch" if threads else "")
    return f"Python {platform.python_version()}, {libraries}; {cores}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _counts(outcomes: Sequence[tuple[Row, Mapping[str, Outcome]]]) -> list[str]:
    """For every tree, how many rows meet their aims."""
    lines = []
    for tree in outcomes[0][1] if outcomes else ():
        each = [(row, trees[tree]) for row, trees in outcomes if not row.missing]
        met = sum(isinstance(outcome, Found) and not any(outcome.missed(row.aim)) for row, outcome in each)
        lines.append(f"  {tree}: {met} of {len(each)} rows meet their aims")
    return lines


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.ordinary", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--against", action="append", default=[], metavar="COMMIT", help="may be given several times")
    parser.add_argument("--rows", default="", help=f"of {','.join(row.name for row in ROWS)} (default all but large)")
    parser.add_argument("--large", action="store_true", help="with the row of 200 million numbers a side: 16 GB")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that a process may take (default 900)")
    parser.add_argument("--threads", type=int, help="of torch (default as it chooses; 1 where the machine is shared)")
    parser.add_argument("--check", action="store_true", help="verify the references by running both models, no match")
    return parser.parse_args()


if __name__ == "__main__":
    main()
