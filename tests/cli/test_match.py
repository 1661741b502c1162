"""`automatch match` from end to end, on two small perceptrons, and on everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from automatch.cli import main
from automatch.mapping import load
from tests.cli.process import run_python

CODE = """
import torch
from torch import nn


class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class New(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, images):
        return self.net(images)


class Untraceable(New):
    def forward(self, images):
        while float(images.sum()) < 100:
            images = images + 1
        return self.net(images).tolist()


def old(): return Old()
def old_inputs(): return torch.linspace(-1, 1, 8).reshape(2, 4)
def new(): return New()
def new_inputs(): return {"images": torch.linspace(-1, 1, 8).reshape(2, 4)}
def bare(): return New()
def wide_inputs(): return torch.linspace(-1, 1, 10).reshape(2, 5)
def untraceable(): return Untraceable()
def untraceable_inputs(): return torch.linspace(-1, 1, 8).reshape(2, 4)
def raises(): raise ValueError("no weights today")
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(CODE)
    return str(tmp_path / "nets.py")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "mapping.json"


def test_two_factories_become_a_mapping_and_its_summary(
    code: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["match", f"{code}:old", f"{code}:new", "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert load(out)["net.2.weight"].sources == ("second.weight",)
    assert "Old -> New" in said.out
    assert f"wrote {out}" in said.out
    assert "total                 4  100.0%" in said.out
    assert "tracing" in said.err


def test_the_same_command_writes_the_same_bytes(code: str, out: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    for path in (out, again):
        assert main(["match", f"{code}:old", f"{code}:new", "-o", str(path), "--quiet"]) == 0
    assert out.read_bytes() == again.read_bytes()


def test_quiet_leaves_the_summary_and_no_progress(code: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", f"{code}:old", f"{code}:new", "-o", str(out), "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "total" in said.out


@pytest.mark.parametrize(
    "options",
    [
        ["--target-inputs", "new_inputs"],
        ["--target-input", "images=f32[2,4]"],
        ["--target-input", "f32[2,4]", "--device", "cpu"],
        ["--target-inputs", "{code}:old_inputs"],
    ],
)
def test_inputs_may_be_named_or_described(code: str, out: Path, options: list[str]) -> None:
    words = [option.format(code=code) for option in options]
    assert main(["match", *words, f"{code}:old", f"{code}:bare", "-o", str(out), "--quiet"]) == 0
    assert load(out).record.target.rung == "export"


def test_a_checkpoint_is_matched_by_names_and_shapes(code: str, out: Path, tmp_path: Path) -> None:
    source = tmp_path / "old.safetensors"
    names = {"net.0.weight": (8, 4), "net.0.bias": (8,), "net.2.weight": (3, 8), "net.2.bias": (3,)}
    save_file({name: torch.zeros(shape) for name, shape in names.items()}, source)
    assert main(["match", str(source), f"{code}:new", "-o", str(out), "--quiet"]) == 0
    assert load(out)["net.0.bias"].sources == ("net.0.bias",)


def test_a_mapping_that_was_written_converts_a_checkpoint(code: str, out: Path, tmp_path: Path) -> None:
    source, converted = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    weights = {"first.weight": (8, 4), "first.bias": (8,), "second.weight": (3, 8), "second.bias": (3,)}
    save_file({name: torch.randn(shape) for name, shape in weights.items()}, source)
    assert main(["match", f"{code}:old", f"{code}:new", "-o", str(out), "--quiet"]) == 0
    assert main(["apply", str(out), str(source), "-o", str(converted)]) == 0
    assert torch.equal(load_file(converted)["net.2.bias"], load_file(source)["second.bias"])


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["{code}:odl", "{code}:new"], ["nets.py has no 'odl'", "did you mean old"]),
        (["{code}:old", "nowhere.py:new"], ["there is no file 'nowhere.py'"]),
        (["{code}:raises", "{code}:new"], ["nets.py:raises failed: ValueError: no weights today (nets.py:"]),
        (["{code}:old", "{code}:bare"], ["needs example inputs", "--source-input"]),
        (["{code}:old", "{code}:new", "--target-inputs", "wide_inputs"], ["inputs", "5"]),
        (["{code}:old", "{code}:new", "--target-input", "images=f32"], ["'images=f32' is no input shape"]),
        (["{code}:old", "{code}:new", "--target-input", "pixels=f32[2,4]"], ["pixels"]),
        (["{code}:old", "{code}:untraceable", "--device", "meta"], ["could not be traced", "nets.py:"]),
        (["{code}:old", "{code}:new", "--layers", "middle"], ["--layers 'middle' is unknown", "uniform, first, last"]),
        (["{tmp}/broken.safetensors", "{code}:new"], ["broken.safetensors"]),
        (["{tmp}/absent.safetensors", "{code}:new"], ["absent.safetensors"]),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    code: str, out: Path, tmp_path: Path, words: list[str], messages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not a checkpoint")
    before = set(tmp_path.iterdir())
    filled = [word.format(code=code, tmp=tmp_path) for word in words]
    assert main(["match", *filled, "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert "error: " in said
    assert "Traceback" not in said
    for message in messages:
        assert message in said
    assert {path for path in tmp_path.iterdir() if path.name != "__pycache__"} == before


def test_torch_logs_nothing_beside_the_error(code: str, out: Path) -> None:
    words = ["match", f"{code}:old", f"{code}:new", "--target-inputs", "wide_inputs", "-o", str(out)]
    done = run_python("-m", "automatch", *words)
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert all(line.startswith("[") for line in lines[: lines.index(next(x for x in lines if x.startswith("error: ")))])
    assert "Traceback" not in done.stderr


def test_a_mapping_that_is_there_survives_a_failure(code: str, out: Path) -> None:
    out.write_text("the old one")
    assert main(["match", f"{code}:old", f"{code}:raises", "-o", str(out)]) == 2
    assert out.read_text() == "the old one"


@pytest.mark.parametrize(("place", "message"), [(".", "is a folder"), ("no/such/mapping.json", "there is no folder")])
def test_an_output_that_cannot_be_is_found_before_the_work(
    tmp_path: Path, place: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["match", "nowhere.py:a", "nowhere.py:b", "-o", str(tmp_path / place)]) == 2
    assert message in capsys.readouterr().err


def test_an_untraceable_side_is_taken_by_names_where_that_is_allowed(code: str, out: Path) -> None:
    words = ["match", f"{code}:bare", f"{code}:untraceable", "--source-inputs", "old_inputs", "--device", "meta"]
    assert main([*words, "-o", str(out), "--quiet", "--allow-untraced"]) == 0
    assert load(out).record.target.rung == "names"
