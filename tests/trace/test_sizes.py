from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import nn

from automatch.trace import trace
from automatch.trace.sizes import sizes_of


class Attention(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads, self.scale, self.causal, self.layer_idx = heads, 0.5, True, 3
        self.proj = nn.Linear(4, 4)


class Model(nn.Module):
    def __init__(self, config: object, heads: tuple[int, ...] = (2, 2)) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Attention(each) for each in heads)
        self.table = torch.zeros(3)


@dataclass
class Config:
    width: int = 8
    kv_heads: int = 3


def test_a_model_gives_its_attributes_and_those_of_its_modules() -> None:
    assert sizes_of(Model(None)) == (("layers.*.heads", 2),)
    assert sizes_of(Model(None, (2, 4))) == (("layers.0.heads", 2), ("layers.1.heads", 4))


def test_configurations_of_many_kinds_are_read() -> None:
    class WithDict:
        def to_dict(self) -> dict[str, int]:
            return {"width": 8, "kv_heads": 3}

    expected = {"config.width": 8, "config.kv_heads": 3, "layers.*.heads": 2}
    for config in ({"width": 8, "kv_heads": 3}, Config(), SimpleNamespace(width=8, kv_heads=3), WithDict()):
        assert dict(sizes_of(Model(config))) == expected


def test_a_configuration_among_properties_is_read() -> None:
    class Hidden(nn.Module):
        @property
        def config(self) -> dict[str, int]:
            return {"width": 8}

    assert sizes_of(Hidden()) == (("config.width", 8),)


def test_leaf_modules_of_torch_are_left_out_and_those_that_hold_others_are_not() -> None:
    assert sizes_of(nn.Linear(8, 4)) == ()
    assert dict(sizes_of(nn.TransformerEncoderLayer(8, 4)))["self_attn.num_heads"] == 4


def test_tracing_names_alone_keeps_the_sizes() -> None:
    assert trace(Model(Config()), names_only=True).sizes == sizes_of(Model(Config()))
    assert trace({"w": torch.zeros(2)}, names_only=True).sizes == ()
