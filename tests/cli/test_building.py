"""Where `automatch match` builds models: how often factories are called, and on which device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from automatch.cli.building import Placement, make_both
from automatch.cli.references import Factory
from automatch.cli.sides import SideRequest, request
from automatch.errors import ModelError

CODE = """
import torch
from torch import nn

calls = []

def told(name, model):
    calls.append((name, str(torch.empty(0).device)))
    return model

def first(): return told("first", nn.Linear(4, 3))
def second(): return told("second", nn.Linear(4, 3))
def large(): return told("large", nn.Linear(400, 300))
def needs_values(): return told("needs_values", nn.Linear(4, int(torch.tensor(3).item())))
def fails():
    calls.append(("fails", str(torch.empty(0).device)))
    raise ValueError("no weights today")
def loaded():
    with torch.device("cpu"): return told("loaded", nn.Linear(4, 3))
def state(): return told("state", {"weight": torch.zeros(3, 4)})
instance = nn.Linear(4, 3)
def inputs(): return torch.zeros(2, 4)
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("automatch.exact.readings.LARGEST", 1000)
    (tmp_path / "nets.py").write_text(CODE)
    return str(tmp_path / "nets.py")


def built(code: str, *names: str, placement: Placement = "auto", run: bool = True) -> tuple[list[Any], list[Any]]:
    """The models of two factories, and the calls that made them, each with its device."""
    sides = [_side(code, name) for name in names]
    made = make_both(sides[0], sides[1], placement, run=run)
    return [model for model, _ in made], _calls(sides[0])


def _side(code: str, name: str) -> SideRequest:
    return request("source", f"{code}:{name}", "inputs" if name not in ("state",) else None, ())


def _calls(side: SideRequest) -> list[Any]:
    assert isinstance(side.model, Factory)
    return list(side.model.module.calls)


def is_meta(model: nn.Module) -> bool:
    return next(model.parameters()).is_meta


def test_models_that_can_be_run_are_counted_on_meta_and_built_with_numbers(code: str) -> None:
    models, calls = built(code, "first", "second")
    assert calls == [("first", "meta"), ("second", "meta"), ("first", "cpu"), ("second", "cpu")]
    assert not any(map(is_meta, models))


@pytest.mark.parametrize("names", [("first", "large"), ("large", "first")])
def test_where_one_is_too_large_both_stay_on_meta(code: str, names: tuple[str, str]) -> None:
    models, calls = built(code, *names)
    assert calls == [(name, "meta") for name in names]
    assert all(map(is_meta, models))


def test_nothing_is_built_with_numbers_where_nothing_is_run(code: str) -> None:
    assert built(code, "first", "second", run=False)[1] == [("first", "meta"), ("second", "meta")]
    assert all(device == "meta" for _, device in built(code, "state", "first")[1])


def test_a_factory_that_needs_values_is_built_on_the_cpu(code: str) -> None:
    models, calls = built(code, "needs_values", "first")
    assert ("needs_values", "cpu") in calls
    assert not any(map(is_meta, models))


def test_a_factory_that_fails_anywhere_is_told_as_on_the_cpu(code: str) -> None:
    with pytest.raises(ModelError, match=r"nets\.py:fails failed: ValueError: no weights today \(nets\.py:\d+\)$"):
        built(code, "fails", "first")


def test_what_holds_numbers_at_once_is_built_once(code: str) -> None:
    models, calls = built(code, "loaded", "instance")
    assert [name for name, _ in calls] == ["loaded"]
    assert not any(map(is_meta, models))


def test_a_checkpoint_stays_a_path_and_the_other_side_on_meta(code: str, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").touch()
    checkpoint = request("source", str(tmp_path / "m.safetensors"), None, ())
    (path, _), (model, inputs) = make_both(checkpoint, _side(code, "first"), "auto", run=True)
    assert path == tmp_path / "m.safetensors"
    assert is_meta(model)
    assert inputs is not None


@pytest.mark.parametrize("placement", ["meta", "cpu"])
def test_a_device_that_is_named_is_the_only_one(code: str, placement: Placement) -> None:
    _, calls = built(code, "large", "first", placement=placement)
    assert calls == [("large", placement), ("first", placement)]


def test_instances_are_taken_as_they_are(code: str) -> None:
    models, calls = built(code, "instance", "instance")
    assert models[0] is models[1]
    assert calls == []
