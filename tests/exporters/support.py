"""Modules that exporters emit, run; and what automatch itself makes of the same rules."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping as Table
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automatch.core.graph import Shape, Weight
from automatch.core.mapping import Side
from automatch.mapping import Mapping
from automatch.rules.adapt import adapt
from automatch.rules.file import loads
from automatch.rules.ruleset import RuleSet

_NUMBERS = count()
LINTS = "E4,E7,E9,F,W,I,B,UP,RUF,SIM,D,RET"
NO_LINTS = "D203,D213,D407,D413"


def rules_of(body: str) -> RuleSet:
    """A rule set from the sections of its file."""
    return loads(f'format = "automatch.rules"\nversion = 1\n{body}', "test")


def module_of(source: str, folder: Path) -> Any:
    """The module that some source is, imported; it passes the formatter and the linter first."""
    path = folder / f"emitted_{next(_NUMBERS)}.py"
    path.write_text(source)
    ruff = [sys.executable, "-m", "ruff"]
    told = subprocess.run([*ruff, "format", "--isolated", "--diff", path], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + source
    lints = ["--select", LINTS, "--ignore", NO_LINTS]
    told = subprocess.run([*ruff, "check", "--isolated", *lints, path], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def weights(shapes: Table[str, Shape], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Weights of these shapes, no two entries alike in float32."""
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=generator).to(dtype) for key, shape in shapes.items()}


def known(
    rules: RuleSet, source: Table[str, Tensor], targets: Table[str, Shape], sizes: Table[str, int] | None = None
) -> dict[str, Tensor]:
    """What automatch makes of the rules: the converted weights."""
    dtype = str(next(iter(source.values())).dtype).removeprefix("torch.")
    old = Side("", "names", tuple(Weight(key, tuple(value.shape), dtype) for key, value in source.items()))
    new = Side("", "names", tuple(Weight(key, shape, dtype) for key, shape in targets.items()))
    record = adapt(rules, old, new, sizes)
    made = Mapping(record).apply(dict(source))
    return {key: made[key] for key in targets if key in made}


def assert_same(found: Table[str, Tensor], wanted: Table[str, Tensor]) -> None:
    """Equal keys, dtypes and bits."""
    assert sorted(found) == sorted(wanted)
    for key, value in wanted.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key
