"""What a process has taken of memory at most."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_memory() -> float:
    """The high-water mark of this process's resident memory, in MB.

    Linux keeps `ru_maxrss` across `exec`, so that a child may show its parent's mark; `VmHWM` starts anew.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return mark / 1e6 if sys.platform == "darwin" else mark * 1024 / 1e6
