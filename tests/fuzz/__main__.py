"""A campaign: `python -m tests.fuzz --pairs 2000 --seed 0 [--jobs 2] [--only SEED]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.fuzz.campaign import run, run_all

ENOUGH = 0.95


def main() -> int:
    """Match the pairs, print those that are not exact, and the totals; 1 on a false proof or too few exact."""
    arguments = _arguments()
    if arguments.only is not None:
        result = run(arguments.only)
        _say(result.line)
        return int(result.outcome == "false_proof")
    started, counts = time.perf_counter(), Counter[str]()
    for result in run_all(range(arguments.seed, arguments.seed + arguments.pairs), arguments.jobs):
        counts[result.outcome] += 1
        counts["equal"] += result.verdict.equal
        if result.outcome != "exact":
            _say(result.line)
    _say(
        f"{arguments.pairs} pairs: {counts['exact']} exact ({counts['equal']} equal to the reference), "
        f"{counts['unsure']} unsure, {counts['false_proof']} false proofs, {time.perf_counter() - started:.0f} s"
    )
    return int(counts["false_proof"] > 0 or counts["exact"] < ENOUGH * arguments.pairs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="how many pairs")
    parser.add_argument("--seed", type=int, default=0, help="the first pair's seed; the next ones count up")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes")
    parser.add_argument("--only", type=int, metavar="SEED", help="this pair alone, with its result whatever it is")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
