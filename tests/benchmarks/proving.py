"""A proof of models whose numbers do not fit into memory, beside the same proof where they do.

    python -m tests.benchmarks.proving [--dim 1024] [--layers 12]

Two decoders of one class are proved to be each other, in a fresh process each: on numbers in memory; in a file, as on a
machine without free memory; and in a file with a limit on all memory but files (`RLIMIT_DATA`), below what the first
one took. Memory is told apart: *own* is what no file stands behind and has to fit.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import automatch
from automatch.prove import room
from fixtures.decoder import Llama, LlamaConfig

WAYS = ("memory", "file", "limited")

SHARE = 0.8
"""The limit, as a share of what the proof in memory took."""


def main() -> None:
    """Run every way in a process of its own and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.proving", description=__doc__)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measured(options.way, options.dim, options.layers, options.limit)))
        return
    table = Table("numbers", "s", "own GB", "all GB", "limit GB", "answer", title="a proof of one decoder by another")
    limit = 0
    for way in WAYS:
        command = [sys.executable, "-m", "tests.benchmarks.proving", "--way", way, "--limit", str(limit)]
        command += ["--dim", str(options.dim), "--layers", str(options.layers)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(ran.stdout.splitlines()[-1])
        limit = limit or int(SHARE * found["own"])
        row = found["seconds"], found["own"] / 1e9, found["all"] / 1e9
        limited = f"{limit / 1e9:.2f}" if way == "limited" else ""
        table.add_row(f"in {way}", *(f"{number:.2f}" for number in row), limited, found["answer"])
    Console().print(table)


def measured(way: str, dim: int, layers: int, limit: int) -> dict[str, object]:
    """One proof, how long it took, and what memory at most, in bytes."""
    config = LlamaConfig(vocabulary=8000, dim=dim, ffn_dim=4 * dim, layers=layers, heads=16, kv_heads=4)
    torch.manual_seed(0)
    source, target = Llama(config).eval(), Llama(config).eval()
    ids = torch.randint(0, 8000, (2, 16))
    if way != "memory":
        room.__dict__["available"] = _none_free
    if way == "limited":
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    watch = _Watch()
    watch.start()
    started = time.perf_counter()
    mapping = automatch.match(source, target, source_inputs=ids, target_inputs=ids)
    seconds = time.perf_counter() - started
    watch.ended = True
    watch.join()
    proved = sum(entry.status == "proved" for entry in mapping.entries)
    answer = f"{mapping.verdict} ({proved} of {len(mapping.entries)})"
    return {"seconds": seconds, "own": watch.own, "all": watch.all, "answer": answer}


def _none_free() -> int:
    return 0


class _Watch(threading.Thread):
    """The most memory that this process held while it ran, by whether a file stands behind it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.all = 0
        self.ended = False

    def run(self) -> None:
        """Look every few milliseconds."""
        while not self.ended:
            lines = Path("/proc/self/status").read_text().splitlines()
            sizes = {
                line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("Rss", "VmR"))
            }
            self.own, self.all = max(self.own, sizes["RssAnon"]), max(self.all, sizes["VmRSS"])
            time.sleep(0.005)


if __name__ == "__main__":
    main()
