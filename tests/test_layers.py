"""The order of layers: import-linter's contracts hold, and they speak of every part of the package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_contract_of_import_linter_is_kept() -> None:
    pytest.importorskip("importlinter")
    # In a process of its own: the linter sets up logging and the import path for itself.
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", done.stdout), done.stdout


def test_every_part_of_the_package_is_in_a_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    parts = {path.stem for path in (ROOT / "automatch").glob("[!_]*.py")}
    parts |= {path.parent.name for path in (ROOT / "automatch").glob("*/__init__.py")}
    assert {f"automatch.{part}" for part in parts} == set(layers)
