"""Exit statuses and first lines of `match`, `prove`, `show`, `check` and `convert`, on pairs that agree and do not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from automatch.cli import main, matching
from automatch.errors import InputsWarning, ModelError
from automatch.mapping import Mapping, load

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, activation, extra=False, idle=False):
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)
        self.activation = activation
        self.extra = nn.Linear(3, 3) if extra else nn.Identity()
        self.idle = nn.Parameter(torch.zeros(4)) if idle else None

    def forward(self, x):
        y = self.extra(self.second(self.activation(self.first(x))))
        return y if self.idle is None else y + 0 * self.idle.sum()


def inputs(): return torch.randn(6, 4)
def one(): return Net(torch.tanh)
def other(): return Net(torch.tanh)
def differs(): return Net(torch.sin)
def longer(): return Net(torch.tanh, extra=True)
def idle_one(): return Net(torch.tanh, idle=True)
def idle_other(): return Net(torch.tanh, idle=True)
one_inputs = other_inputs = differs_inputs = longer_inputs = idle_one_inputs = idle_other_inputs = inputs
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(CODE)
    return str(tmp_path / "nets.py")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "mapping.json"


def match(code: str, source: str, target: str, out: Path, *words: str) -> int:
    return main(["match", f"{code}:{source}", f"{code}:{target}", "-o", str(out), "--quiet", *words])


@pytest.mark.parametrize(
    ("pair", "words", "status", "verdict", "short"),
    [
        (("one", "other"), [], 0, "proved: all 4 weights; the output agrees", ""),
        (("one", "other"), ["--require", "proved"], 0, "proved: ", ""),
        (("one", "other"), ["--no-run"], 0, "not run: ", ""),
        (("one", "other"), ["--device", "meta"], 0, "not run: ", ""),
        (
            ("one", "other"),
            ["--no-run", "--require", "agrees"],
            1,
            "not run: ",
            "--require agrees is not met: the verdict is 'not run'",
        ),
        (("idle_one", "idle_other"), ["--require", "agrees"], 0, "agrees, in part shown: 4 of 5 weights proved", ""),
        (
            ("idle_one", "idle_other"),
            ["--require", "proved"],
            1,
            "agrees, in part shown: 4 of 5 weights proved",
            "--require proved is not met: the verdict is 'agrees, in part shown'",
        ),
        (("one", "differs"), [], 1, "refuted: draw 1: ", "the mapping is refuted: both models were run under it"),
        (("one", "differs"), ["--require", "proved"], 1, "refuted: ", "the mapping is refuted: "),
    ],
)
def test_the_status_of_match_and_the_line_that_says_why(
    code: str,
    out: Path,
    pair: tuple[str, str],
    words: list[str],
    status: int,
    verdict: str,
    short: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert match(code, *pair, out, *words) == status
    said = capsys.readouterr()
    assert said.out.startswith(verdict)
    assert load(out).verdict == verdict.split(":")[0]
    assert said.err.startswith(f"exit status 1: {short}" if short else "")
    assert len(said.err.splitlines()) == status


def test_unmapped_keys_are_named_and_the_file_is_written(
    code: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert match(code, "one", "longer", out, "--no-run") == 1
    left = [entry.target for entry in load(out).entries if entry.expr is None]
    said = capsys.readouterr().err
    assert said == f"exit status 1: 2 of 6 target weights are unmapped: {', '.join(left)}\n"


def test_a_proof_that_does_not_agree_says_so_first_and_last(
    code: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert match(code, "one", "other", out) == 0
    capsys.readouterr()
    words = ["prove", f"{code}:one", f"{code}:differs", "--mapping", str(out), "--quiet"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out.startswith("refuted: draw 1: ")
    assert said.err.startswith("exit status 1: the mapping is refuted")


def test_a_mapping_that_agrees_is_used_without_a_warning(
    code: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert match(code, "one", "other", out) == 0
    capsys.readouterr()
    source = tmp_path / "one.safetensors"
    save_file({weight.name: torch.zeros(weight.shape) for weight in load(out).record.source.weights}, source)
    converted = str(tmp_path / "other.safetensors")
    for words in (
        ["show", str(out)],
        ["check", str(out), str(out)],
        ["convert", str(source), "--mapping", str(out), "-o", converted, "--no-progress"],
        ["prove", f"{code}:one", f"{code}:other", "--mapping", str(out), "--no-progress"],
    ):
        assert main(words) == 0
        said = capsys.readouterr()
        assert said.out.startswith("proved: all 4 weights; the output agrees within ")
        assert said.err == ""


def test_a_refuted_mapping_converts_with_a_warning(
    code: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert match(code, "one", "differs", out) == 1
    capsys.readouterr()
    source = tmp_path / "one.safetensors"
    save_file({weight.name: torch.zeros(weight.shape) for weight in load(out).record.source.weights}, source)
    assert main(["apply", str(out), str(source), "-o", str(tmp_path / "other.safetensors"), "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("refuted: draw 1: ")
    assert said.err == f"warning: {out}: a run of both models refuted this mapping; what is made by it is wrong\n"


def test_options_are_handed_on_and_warnings_about_inputs_are_lines(
    code: str, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, Any]] = []

    def stand_in(source: object, target: object, **options: Any) -> Mapping:
        seen.append(options)
        warnings.warn("the source's ids are all 0:\nothers were drawn", InputsWarning, stacklevel=2)
        raise ModelError("seen enough")

    monkeypatch.setattr(matching, "match", stand_in)
    assert match(code, "one", "other", out, "--device", "cpu", "--budget-s", "30", "--no-run") == 2
    assert match(code, "one", "other", out) == 2
    assert [(given["device"], given["run"], given.get("budget_s")) for given in seen] == [
        ("cpu", False, 30.0),
        ("auto", True, None),
    ]
    lines = ["warning: the source's ids are all 0: others were drawn", "error: seen enough"]
    assert capsys.readouterr().err.splitlines() == 2 * lines


def test_progress_is_shown_unless_it_is_not_wanted(code: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["match", f"{code}:one", f"{code}:other", "-o", str(out)]
    said = []
    for option in ([], ["--progress"], ["--no-progress"], ["--quiet"]):
        assert main([*words, *option]) == 0
        said.append("building the models" in capsys.readouterr().err)
    assert said == [True, True, False, False]
