"""Weights kept as lengths and directions on the source's side, and as one on the target's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import automatch
from automatch.core.expr import text


class Old(nn.Module):
    def __init__(self, kind: str, axis: int = 0) -> None:
        super().__init__()
        self.stem, self.conv = nn.Linear(4, 6), nn.Conv1d(6, 8, 3)
        norm = nn.utils.weight_norm if kind == "hook" else nn.utils.parametrizations.weight_norm
        norm(self.conv, dim=axis)


class New(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Linear(4, 6), nn.Conv1d(6, 8, 3)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("kind", "axis"), [("hook", 0), ("parametrization", 0), ("parametrization", 2)])
def test_directions_are_multiplied_by_lengths(kind: str, axis: int) -> None:
    old, new = Old(kind, axis), New()
    state = {key: torch.rand(value.shape) + 0.5 for key, value in old.state_dict().items()}
    old.load_state_dict(state)
    found = automatch.match(state, new.state_dict())
    new.load_state_dict(found.apply(state), strict=True)

    expr = found["conv.weight"].expr
    assert expr is not None
    assert text(expr).startswith("weight_norm(")
    assert found["conv.weight"].status == "guessed"
    x = torch.randn(2, 6, 5)
    torch.testing.assert_close(new.conv(x), old.conv(x))


def test_lengths_that_are_no_lengths_are_left_alone() -> None:
    old = {
        "conv.weight_g": torch.zeros(8, 6, 3),
        "conv.weight_v": torch.zeros(8, 6, 3),
        "stem.weight": torch.zeros(6, 4),
    }
    found = automatch.match(old, {"conv.weight": torch.zeros(8, 6, 3), "stem.weight": torch.zeros(6, 4)})

    assert len(found["conv.weight"].sources) == 1


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_where_both_sides_keep_them_apart_they_stay_apart() -> None:
    hook, parametrization = Old("hook").state_dict(), Old("parametrization").state_dict()
    found = automatch.match(hook, parametrization)

    assert found["conv.parametrizations.weight.original0"].sources == ("conv.weight_g",)
    assert found["conv.parametrizations.weight.original1"].sources == ("conv.weight_v",)
