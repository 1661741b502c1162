"""What the code of one side tells where the other has none: when its weights run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import automatch
from automatch.mapping import Mapping


class Block(nn.Module):
    """Two norms whose names do not say which runs first; the keys list the later one first."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.omega = nn.LayerNorm(8), nn.LayerNorm(8)
        self.o_proj, self.down_proj = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.o_proj(self.omega(x))
        after: torch.Tensor = x + self.down_proj(self.alpha(x))
        return after


def target() -> nn.Module:
    return nn.Sequential(Block(), Block())


def checkpoint() -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    for i in range(2):
        for name in ("input_layernorm", "post_attention_layernorm"):
            state |= {f"layers.{i}.{name}.{kind}": torch.zeros(8) for kind in ("weight", "bias")}
        for name in ("o_proj", "down_proj"):
            state |= {f"layers.{i}.{name}.weight": torch.zeros(8, 8), f"layers.{i}.{name}.bias": torch.zeros(8)}
    return state


def norms(mapping: Mapping) -> dict[str, tuple[tuple[str, ...], str]]:
    return {key: (mapping[key].sources, mapping[key].status) for key in ("1.omega.weight", "1.alpha.bias")}


def test_norms_are_told_apart_by_when_they_run() -> None:
    mapping = automatch.match(checkpoint(), target(), target_inputs=torch.zeros(2, 8))

    assert norms(mapping) == {
        "1.omega.weight": (("layers.1.input_layernorm.weight",), "structural"),
        "1.alpha.bias": (("layers.1.post_attention_layernorm.bias",), "structural"),
    }


def test_without_inputs_they_are_guessed() -> None:
    assert {status for _, status in norms(automatch.match(checkpoint(), target())).values()} == {"guessed"}


@pytest.mark.parametrize("given", [torch.zeros(2, 5), (torch.zeros(2, 8), 1, 2)])
def test_code_that_cannot_be_recorded_is_left_aside_with_a_note(given: object) -> None:
    mapping = automatch.match(checkpoint(), target(), target_inputs=given)

    assert any("left aside" in note for note in mapping.record.target.notes)
    assert mapping["1.o_proj.weight"].sources == ("layers.1.o_proj.weight",)
