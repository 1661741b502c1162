from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from automatch.cli.sides import make, request
from automatch.errors import InputsError, ModelError

CODE = """
import torch
from torch import nn

def net(): return nn.Linear(3, 2)
def net_inputs(): return torch.zeros(1, 3)
def other(): return nn.Linear(3, 2)
def weights(): return {"w": torch.zeros(2)}
def weights_inputs(): raise AssertionError("not asked for")
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(CODE)
    return str(tmp_path / "nets.py")


def test_inputs_beside_the_factory_are_used_by_themselves(code: str) -> None:
    model, inputs = make(request("source", f"{code}:net", None, []), "meta")
    assert isinstance(model, nn.Linear)
    assert inputs is not None
    assert inputs[0][0].shape == (1, 3)


def test_shapes_take_the_place_of_inputs_beside_the_factory(code: str) -> None:
    _, inputs = make(request("source", f"{code}:net", None, ["input=f32[7,3]"]), "meta")
    assert inputs is not None
    assert inputs[1]["input"].shape == (7, 3)


def test_a_factory_without_inputs_gives_none(code: str) -> None:
    assert make(request("target", f"{code}:other", None, []), "cpu")[1] is None


def test_a_checkpoint_stays_a_path(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").touch()
    path = str(tmp_path / "m.safetensors")
    assert make(request("source", path, None, []), "meta") == (Path(path), None)


def test_inputs_of_a_state_dict_are_not_looked_for(code: str) -> None:
    weights, inputs = make(request("source", f"{code}:weights", None, []), "meta")
    assert torch.is_tensor(weights["w"])
    assert inputs is None


def test_inputs_given_twice_are_refused(code: str) -> None:
    with pytest.raises(InputsError, match="either --target-inputs or --target-input"):
        request("target", f"{code}:net", "net_inputs", ["f32[1,3]"])


def test_a_wrong_shape_is_found_before_any_code_runs(tmp_path: Path) -> None:
    (tmp_path / "never.py").write_text("raise AssertionError('ran')")
    with pytest.raises(InputsError, match="no input shape"):
        request("source", f"{tmp_path / 'never.py'}:net", None, ["f32"])


@pytest.mark.parametrize(("inputs", "shapes"), [("net_inputs", []), (None, ["f32[1]"])])
def test_inputs_for_a_checkpoint_or_a_state_dict_are_refused(
    code: str, tmp_path: Path, inputs: str | None, shapes: list[str]
) -> None:
    (tmp_path / "m.safetensors").touch()
    with pytest.raises(InputsError, match=r"m\.safetensors holds tensors and no code"):
        request("source", str(tmp_path / "m.safetensors"), inputs, shapes)
    with pytest.raises(InputsError, match=r"nets\.py:weights holds tensors and no code"):
        make(request("target", f"{code}:weights", inputs, shapes), "meta")


def test_an_inputs_function_that_is_not_there_is_named(code: str) -> None:
    with pytest.raises(ModelError, match=r"nets\.py has no 'net_input'; did you mean net_inputs"):
        make(request("source", f"{code}:net", "net_input", []), "meta")
