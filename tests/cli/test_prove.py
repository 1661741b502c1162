"""`automatch prove` from end to end, on two small models, with mappings right, wrong and written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from automatch.cli import main
from automatch.mapping import load

CODE = """
import torch
from torch import nn


class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.end = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(8, 3)

    def forward(self, x):
        return self.end(torch.cat([self.q(x), self.k(x)], -1).tanh())


class New(nn.Module):
    def __init__(self):
        super().__init__()
        self.qk, self.out = nn.Linear(4, 8, bias=False), nn.Linear(8, 3)
        self.shift = nn.Parameter(torch.zeros(1, 8))
        self.idle = nn.Parameter(torch.zeros(2))

    def forward(self, images):
        y = self.qk(images) + self.shift
        return self.out(y.tanh())


class OldBare(Old):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(4, 4, bias=False)


def old(): return OldBare()
def old_inputs(): return torch.zeros(2, 4)
def new(): return New()
def new_inputs(): return {"images": torch.zeros(2, 4)}
def bare(): return New()
def on_meta():
    with torch.device("meta"): return New()
def on_meta_inputs(): return torch.zeros(2, 4)
def weights(): return New().state_dict()
"""

RIGHT: dict[str, Any] = {
    "qk.weight": ["q.weight", "k.weight"],
    "shift": {"constant": 0.0},
    "out.weight": "end.weight",
    "out.bias": "end.bias",
    "idle": None,
}


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "nets_to_prove.py").write_text(CODE)
    return str(tmp_path / "nets_to_prove.py")


def wanted(tmp_path: Path, **other: Any) -> str:
    weights = {**RIGHT, **{key.replace("__", "."): value for key, value in other.items()}}
    path = tmp_path / "expected.json"
    path.write_text(json.dumps({"format": "automatch.expected", "version": 1, "weights": weights}))
    return str(path)


def prove(code: str, mapping: str, *words: str, target: str = "new") -> int:
    return main(["prove", f"{code}:old", f"{code}:{target}", "--mapping", mapping, "--quiet", *words])


def test_an_expectation_that_is_right_is_proved_and_written(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "proved.json"
    assert prove(code, wanted(tmp_path), "-o", str(output)) == 0
    said = capsys.readouterr().out
    assert "OldBare -> New" in said
    assert "outputs agree" in said
    assert "weights: 4 proved, 0 in part, 1 not shown" in said
    assert f"wrote {output}" in said
    made = load(output)
    assert made["qk.weight"].status == made["shift"].status == "proved"
    assert made["idle"].status == "unmapped"
    assert main(["show", str(output), "out.bias"]) == 0
    assert "3 of 3 elements: every element would have shown" in capsys.readouterr().out
    assert main(["show", str(output)]) == 0
    said = capsys.readouterr().out
    assert "outputs agree" in said
    assert "proved" in said


def test_a_mapping_file_is_taken_as_well(code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert prove(code, wanted(tmp_path), "-o", str(first)) == 0
    assert prove(code, str(first), "-o", str(second), "--draws", "4") == 0
    proof = load(second).record.proof
    assert proof is not None
    assert proof.draws == 4


def test_a_wrong_one_is_not_and_says_how_far_off(code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "m.json"
    assert prove(code, wanted(tmp_path, qk__weight=["k.weight", "q.weight"]), "-o", str(output)) == 1
    said = capsys.readouterr().out
    assert "OUTPUTS DIFFER" in said
    assert "the models first part at linear in out" in said
    assert "most likely first: out.weight (from end.weight); qk.weight (from k.weight" in " ".join(said.split())
    assert "0 proved" in said
    assert load(output).summary().proved == 0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"qk__weight": "q.weight"}, "qk.weight [8, 4]: q.weight [4, 4] neither join nor add up to it"),
        ({"qk__weight": "v.weight"}, "qk.weight: the source has no v.weight"),
        ({"more": "q.weight"}, "more: the target has no such weight"),
    ],
)
def test_an_expectation_that_cannot_be_run_is_an_error(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict[str, Any], message: str
) -> None:
    assert prove(code, wanted(tmp_path, **other)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("on_meta", "the target model New is on the meta device"),
        ("weights", "the target comes as OrderedDict, but a proof runs the model"),
        ("bare", "the target model New needs example inputs"),
    ],
)
def test_what_cannot_be_run_is_an_error(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, message: str
) -> None:
    assert prove(code, wanted(tmp_path), target=target) == 2
    assert message in capsys.readouterr().err


def test_inputs_may_be_given_as_shapes(code: str, tmp_path: Path) -> None:
    shape = "--source-input", "f32[3,4]", "--target-input", "images=f32[3,4]"
    assert prove(code, wanted(tmp_path), *shape, target="bare") == 0


def test_too_few_draws_are_refused(code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prove(code, wanted(tmp_path), "--draws", "2") == 2
    assert "2 draws prove too little" in capsys.readouterr().err


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    main(["prove", "--help"])
    said = capsys.readouterr().out
    for option in ("--mapping", "--output", "--draws", "--source-inputs", "--target-input"):
        assert option in said
