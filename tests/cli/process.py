"""Python in a process of its own, where what matters is what gets imported or printed outside of pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import automatch

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(automatch.__file__).parent.parent)}


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments; a failure is in the result."""
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=ENVIRONMENT, check=False)
