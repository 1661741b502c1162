from __future__ import annotations

import pytest

from automatch.align.names.patterns import collapse, depths, shared_prefix
from automatch.core.graph import Shape, Weight
from tests.align.names import keylists


def weights(keys: dict[str, Shape]) -> list[Weight]:
    return [Weight(name, shape, "float32") for name, shape in keys.items()]


def paths(keys: dict[str, Shape], chains: bool = True) -> list[str]:
    return [".".join(pattern.path) for pattern in collapse(weights(keys), chains=chains)]


def test_repeated_blocks_collapse_and_short_sequences_do_not() -> None:
    keys: dict[str, Shape] = {}
    for i in range(12):
        keys |= {f"blocks.{i}.ffn.0.weight": (32, 8), f"blocks.{i}.ffn.2.weight": (8, 32)}

    assert paths(keys) == ["blocks.{}.ffn.0.weight", "blocks.{}.ffn.2.weight"]
    assert len(paths(keys, chains=False)) == 24


def test_numbers_are_ordered_as_numbers() -> None:
    keys: dict[str, Shape] = dict.fromkeys(sorted(f"h.{i}.{leaf}" for i in range(12) for leaf in ("a", "b")), (4, 4))

    assert depths(collapse(weights(keys))) == {("h", "{}"): tuple(range(12))}


def test_stages_of_different_widths_are_no_chain_but_their_blocks_are() -> None:
    chains = depths(collapse(weights(keylists.resnet())))

    assert {".".join(chain): len(found) for chain, found in chains.items()} == {
        "layer1.{}": 3,
        "layer2.{}": 4,
        "layer3.{}": 6,
        "layer4.{}": 3,
    }


def test_blocks_in_blocks_are_chains_in_chains() -> None:
    keys: dict[str, Shape] = {
        f"layers.{i}.experts.{j}.{leaf}.weight": (8, 8) for i in range(3) for j in range(4) for leaf in ("up", "down")
    }
    (pattern, _) = collapse(weights(keys))

    assert pattern.path == ("layers", "{}", "experts", "{}", "up", "weight")
    assert dict(pattern.members)[1, 3].name == "layers.1.experts.3.up.weight"


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        (["a.b.x", "a.b.y"], 2),
        (["a.0.x", "a.0.y"], 1),
        (["a.x", "b.x"], 0),
        (["a.x", "a.x.y"], 1),
        (["a.x"], 0),
        ([], 0),
    ],
)
def test_the_shared_prefix_stops_at_numbers_and_before_last_components(keys: list[str], count: int) -> None:
    assert shared_prefix([Weight(key, (1,), "float32") for key in keys]) == count


def test_layers_that_hold_further_parts_are_layers_of_one_chain() -> None:
    keys: dict[str, Shape] = {}
    for i in range(2):
        keys |= dict.fromkeys((f"layers.{i}.attn.{name}.weight" for name in "qkvo"), (8, 8))
        keys |= dict.fromkeys((f"layers.{i}.norm_{name}.weight" for name in "ab"), (8,))
    keys["layers.0.mlp.up.weight"] = (16, 8)
    keys |= dict.fromkeys((f"layers.1.mlp.experts.{i}.{name}" for i in range(8) for name in ("up", "down")), (4, 8))

    assert "layers.{}.attn.q.weight" in paths(keys)
    assert "layers.{}.mlp.experts.{}.up" in paths(keys)


def test_a_gamma_beside_modules_scales_the_block_and_is_no_weight() -> None:
    keys: dict[str, Shape] = {"block.gamma": (8,), "block.norm.gamma": (8,), "block.norm.beta": (8,)}

    assert {pattern.path[1:]: pattern.kind for pattern in collapse(weights(keys))} == {
        ("gamma",): "gamma",
        ("norm", "gamma"): "weight",
        ("norm", "beta"): "bias",
    }
