"""Processes of `torchrun` for the tests of conversions."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.cli.process import ENVIRONMENT

ALONE = {name: value for name, value in ENVIRONMENT.items() if name not in ("RANK", "WORLD_SIZE")}
QUIET = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "TORCH_CPP_LOG_LEVEL": "FATAL"}


def run_ranked(size: int, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a module under `torchrun` in a number of processes on this machine; a failure is in the result."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", "-m", module]
    return subprocess.run(
        [*command, *words], capture_output=True, text=True, env=ALONE | QUIET, check=False, timeout=120
    )


def rank() -> int:
    """Which of them this process is."""
    return int(os.environ["RANK"])
