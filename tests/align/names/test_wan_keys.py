"""The full-size teacher and student known by keys and shapes alone."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from automatch.align.names import align_names
from automatch.core.alignment import Alignment
from fixtures.cases import WAN_KEYS_EXPECTED
from fixtures.wan import wan_keys_source, wan_keys_target
from tests.align.names.keylists import Keys, graph

LAYERS = (0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37)


def expected() -> dict[str, tuple[str, ...]]:
    data: dict[str, Any] = json.loads(WAN_KEYS_EXPECTED.read_text(encoding="utf-8"))
    found = {}
    for target, sources in data["weights"].items():
        parts = [sources] if isinstance(sources, str) else sources
        for i, layer in enumerate(LAYERS if "{i}" in target else (0,)):
            found[target.replace("{i}", str(i))] = tuple(part.replace("{i}", str(layer)) for part in parts)
    return found


def sources_of(alignment: Alignment) -> dict[str, tuple[str | None, ...]]:
    return {found.target: tuple(piece.source for piece in found.pieces) for found in alignment.assignments}


def shuffled(keys: Keys) -> Keys:
    items = list(keys.items())
    random.Random(7).shuffle(items)
    return dict(items)


def cross_attention_first(keys: Keys) -> Keys:
    return dict(sorted(keys.items(), key=lambda item: "self_attn" in item[0]))


def test_all_165_keys_of_the_student_get_the_hand_written_sources() -> None:
    alignment = align_names(graph(wan_keys_source()), graph(wan_keys_target()))

    assert sources_of(alignment) == expected()
    assert len(alignment.assignments) == 165
    assert sum(len(found.pieces) > 1 for found in alignment.assignments) == 32


def test_the_forty_layers_are_sampled_uniformly() -> None:
    alignment = align_names(graph(wan_keys_source()), graph(wan_keys_target()))

    (chain,) = alignment.chains
    assert (chain.source, chain.target, chain.source_depth, chain.policy) == ("blocks.{i}", "blocks.{i}", 40, "uniform")
    assert chain.layers == LAYERS
    layers = {found.evidence.source_layer for found in alignment.assignments if found.target.startswith("blocks.8.")}
    assert layers == {20}


@pytest.mark.parametrize("reorder", [shuffled, cross_attention_first, lambda keys: dict(sorted(keys.items()))])
def test_the_answer_does_not_hang_on_the_order_of_keys(reorder: Callable[[Keys], Keys]) -> None:
    alignment = align_names(graph(reorder(wan_keys_source())), graph(reorder(wan_keys_target())))

    assert sources_of(alignment) == expected()


def test_further_weights_around_the_blocks_do_not_disturb() -> None:
    width = 5120
    more: Keys = {
        "head.modulation": (1, 2, width),
        "time_projection.1.weight": (6 * width, width),
        "time_projection.1.bias": (6 * width,),
        "text_embedding.0.weight": (width, 4096),
        "text_embedding.2.weight": (width, width),
        "conv_in.bias": (width,),
    }
    alignment = align_names(graph(wan_keys_source() | more), graph(wan_keys_target() | {"pos_embed": (1, 256, 1024)}))

    found = sources_of(alignment)
    assert found.pop("pos_embed") == ()
    assert found == expected()


def test_prefixes_that_all_keys_share_do_not_matter() -> None:
    source = {f"model.diffusion_model.{name}": shape for name, shape in wan_keys_source().items()}
    target = {f"net.{name}": shape for name, shape in wan_keys_target().items()}

    found = sources_of(align_names(graph(source), graph(target)))

    assert found == {
        f"net.{name}": tuple(f"model.diffusion_model.{part}" for part in parts) for name, parts in expected().items()
    }


def test_a_fusion_is_guessed_because_no_name_tells_how_its_parts_lie() -> None:
    alignment = align_names(graph(wan_keys_source()), graph(wan_keys_target()))

    (found,) = (each for each in alignment.assignments if each.target == "blocks.3.attn.in_proj_weight")
    assert found.status == "guessed"
    assert [piece.size for piece in found.pieces] == [1024, 1024, 1024]
    assert any("interleaved" in reason for reason in found.evidence.reasons)
    rivals = [rival.sources for rival in found.evidence.rivals]
    assert tuple(f"blocks.7.cross_attn.{role}.weight" for role in "qkv") in rivals


def test_equal_names_and_clear_matches_are_structural() -> None:
    alignment = align_names(graph(wan_keys_source()), graph(wan_keys_target()))

    status = {found.target: found.status for found in alignment.assignments}
    assert status["blocks.0.norm1.weight"] == "structural"
    assert status["conv_in.weight"] == "structural"
    assert status["blocks.0.mlp.2.weight"] == "structural"
    # The name is equal, but 5120 -> 4096 contradicts 5120 -> 1024 everywhere else.
    assert status["time_embed.0.weight"] == "guessed"


def test_biases_that_the_teacher_lacks_become_zeros() -> None:
    source = {key: shape for key, shape in wan_keys_source().items() if not re.search(r"attn\.[qkvo]\.bias", key)}
    extra: Keys = {key.replace("weight", "bias"): shape for key, shape in wan_keys_target().items() if "norm" in key}
    alignment = align_names(graph(source), graph(wan_keys_target() | extra))

    found = {each.target: each for each in alignment.assignments}
    for key in ("attn.in_proj_bias", "attn.out_proj.bias", "norm1.bias", "norm2.bias"):
        (piece,) = found[f"blocks.5.{key}"].pieces
        assert (piece.source, piece.value) == (None, 0.0)
