"""`automatch rules` and `automatch adapt` from end to end, on two layouts of one perceptron."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from automatch.cli import main
from automatch.mapping import load

CODE = """
import torch
from torch import nn


class Old(nn.Module):
    def __init__(self, depth, width, heads):
        super().__init__()
        self.heads = heads
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


class New(nn.Module):
    def __init__(self, depth, width):
        super().__init__()
        self.w = nn.ParameterList(torch.randn(width, width) for _ in range(depth))
        self.b = nn.ParameterList(torch.randn(width) for _ in range(depth))

    def forward(self, x):
        for w, b in zip(self.w, self.b):
            x = torch.tanh(x @ w + b)
        return x


def old(): return Old(2, 6, 2)
def old_inputs(): return torch.randn(3, 6)
def new(): return New(2, 6)
def new_inputs(): return old_inputs()
def large_old(): return Old(5, 8, 4)
def large_new(): return New(5, 8)
def other(): return nn.Linear(3, 3)
"""

RULES = """format = "automatch.rules"
version = 1
source = "Old"
target = "New"

[proved]
"w.{i}" = "layers.{i}.weight.T"
"b.{i}" = "layers.{i}.bias"
"""

AMBIGUOUS = """format = "automatch.rules"
version = 1
[sizes]
heads = ["source.heads", "2"]
[structural]
"w.{i}" = "rotary_pairs(layers.{i}.weight, heads=heads).T"
"b.{i}" = "layers.{i}.bias"
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(CODE)
    return str(tmp_path / "nets.py")


@pytest.fixture
def mapping(code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path = str(tmp_path / "mapping.json")
    torch.manual_seed(0)
    assert main(["match", f"{code}:old", f"{code}:new", "-o", path]) == 0
    capsys.readouterr()
    return path


def test_rules_are_printed(mapping: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", mapping]) == 0
    assert capsys.readouterr().out == RULES


def test_rules_are_written_and_carried_over(
    mapping: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules, out = tmp_path / "rules.toml", tmp_path / "large.json"
    assert main(["rules", mapping, mapping, "-o", str(rules)]) == 0
    assert capsys.readouterr().out == f"2 rules for 4 weights, 0 sizes\nwrote {rules}\n"
    assert rules.read_text() == RULES
    assert main(["adapt", str(rules), f"{code}:large_old", f"{code}:large_new", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"structural +10\n", said)
    assert said.endswith(f"wrote {out}\n")
    assert load(out)["w.4"].sources == ("layers.4.weight",)


def test_sizes_come_from_the_configuration_beside_a_checkpoint(code: str, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(AMBIGUOUS.replace('["source.heads", "2"]', '"source.config.num_heads"'))
    shapes = (("weight", (8, 8)), ("bias", (8,)))
    weights = {f"layers.{i}.{name}": torch.zeros(shape) for i in range(5) for name, shape in shapes}
    save_file(weights, tmp_path / "m.safetensors")
    files = [str(tmp_path / name) for name in ("rules.toml", "m.safetensors", "o.json")]
    words = ["adapt", *files[:2], f"{code}:large_new", "-o", files[2]]
    assert main(words) == 1
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 4}))
    assert main(words) == 0


def test_what_is_left_undetermined_is_exit_status_1_until_the_size_is_given(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.toml").write_text(AMBIGUOUS)
    out = tmp_path / "o.json"
    words = ["adapt", str(tmp_path / "rules.toml"), f"{code}:large_old", f"{code}:large_new", "-o", str(out)]
    assert main(words) == 1
    assert "unmapped              5" in capsys.readouterr().out
    assert "heads may be 4 or 2: give the size" in load(out)["w.0"].evidence.reasons[0]
    assert main([*words, "--size", "heads=4"]) == 0
    assert load(out)["w.0"].status == "structural"


def test_everything_that_is_wrong_is_an_error_with_the_next_step(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules, out = tmp_path / "rules.toml", ["-o", str(tmp_path / "o.json")]
    rules.write_text(RULES)
    models = [f"{code}:large_old", f"{code}:large_new"]
    assert main(["adapt", str(tmp_path / "none.toml"), *models, *out]) == 2
    assert "none.toml" in capsys.readouterr().err
    assert main(["adapt", str(rules), *models, *out, "--size", "heads"]) == 2
    assert (
        "--size is written as heads=32 or heads=source.config.num_heads; this is not:\n  'heads'"
        in capsys.readouterr().err
    )
    assert main(["adapt", str(rules), *models, *out, "--size", "heads=2"]) == 2
    assert "the rules have no size heads; they have none" in capsys.readouterr().err
    assert main(["adapt", str(rules), f"{code}:other", f"{code}:large_new", *out]) == 2
    assert "the rules do not fit these models:" in capsys.readouterr().err
    assert main(["adapt", str(rules), f"{code}:large_new", f"{code}:large_new", *out]) == 2
    assert "it is converted already" in capsys.readouterr().err
    assert not (tmp_path / "o.json").exists()
    assert main(["rules", str(rules)]) == 2
    assert "rules.toml" in capsys.readouterr().err
