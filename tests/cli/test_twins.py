"""The twins of `automatch match`: what becomes of their names, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from automatch.cli import main, matching, twins
from automatch.errors import ModelError
from automatch.mapping import Mapping

CODE = """
import torch
from torch import nn

def large(): return nn.Linear(400, 300)
def large_inputs(): return torch.zeros(2, 400)
def small(): return nn.Linear(4, 3)
def small_inputs(): return torch.zeros(2, 4)
def other(): return nn.Linear(4, 3)
def state(): return {"weight": torch.zeros(3, 4)}
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(CODE)
    return str(tmp_path / "nets.py")


def test_names_become_factories_of_real_models_and_their_inputs(code: str) -> None:
    found = twins.options(f"{code}:small", f"{code}:other")
    assert list(found) == ["source_twin", "source_twin_inputs", "target_twin", "target_twin_inputs"]
    made = found["source_twin"]()
    assert isinstance(made, nn.Linear)
    assert made.weight.device.type == "cpu"
    assert found["source_twin_inputs"][0][0].shape == (2, 4)
    assert found["target_twin_inputs"] is None


def test_the_command_hands_models_and_twins_to_match(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def match(source: object, target: object, **options: Any) -> Mapping:
        seen.update(options, source=source, target=target)
        raise ModelError("seen enough")

    monkeypatch.setattr(matching, "match", match)
    words = ["--source-twin", f"{code}:small", "--target-twin", f"{code}:small", "--layers", "first", "--quiet"]
    assert main(["match", f"{code}:large", f"{code}:large", "-o", str(tmp_path / "m.json"), *words]) == 2
    assert seen["source"].weight.is_meta
    assert seen["source_inputs"][0][0].shape == (2, 400)
    assert seen["target_twin"]().weight.shape == (3, 4)
    assert seen["layers"] == "first"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--source-twin", "{code}:small"], "--target-twin is missing"),
        (["--target-twin", "{code}:small"], "--source-twin is missing"),
        (["--source-twin", "{code}:tiny", "--target-twin", "{code}:small"], "has no 'tiny'"),
        (["--source-twin", "{code}:small", "--target-twin", "{file}"], "is a checkpoint; name a factory"),
    ],
)
def test_what_names_no_pair_of_twins_is_refused(
    code: str, tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"weight": torch.zeros(3, 4)}, file)
    words = [option.format(code=code, file=file) for option in options]
    assert main(["match", f"{code}:large", f"{code}:large", "-o", str(tmp_path / "m.json"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m.json").exists()


def test_a_twin_without_code_is_refused(code: str) -> None:
    found = twins.options(f"{code}:state", f"{code}:small")
    with pytest.raises(ModelError, match=r":state makes no nn\.Module"):
        found["source_twin"]()
