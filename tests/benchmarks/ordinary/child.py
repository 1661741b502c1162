"""One row in a process of its own; the last line that it prints is what it found, as JSON.

    PYTHONPATH=TREE python -P child.py ROW [--check]

`automatch` comes from PYTHONPATH, so that any commit can be measured. Everything else comes from the tree that this
file lies in, so that all commits are measured with the same rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]


def main(row: str, *words: str) -> None:
    """Measure the row, or check its reference."""
    for package in ("tests", "fixtures"):
        _bind(package)
    from tests.benchmarks.ordinary.measuring import checked, measured
    from tests.benchmarks.ordinary.rows import ROWS

    chosen = next(each for each in ROWS if each.name == row)
    print(json.dumps(checked(chosen) if "--check" in words else measured(chosen)))


def _bind(package: str) -> None:
    """Let imports of a package find it in this file's tree, whatever PYTHONPATH says."""
    module = ModuleType(package)
    module.__path__ = [str(ROOT / package)]
    sys.modules[package] = module


if __name__ == "__main__":
    main(*sys.argv[1:])
