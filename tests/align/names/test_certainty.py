"""What makes a match by names sure."""

from __future__ import annotations

import pytest

from automatch.align.names import align_names
from automatch.core.alignment import Assignment
from tests.align.names.keylists import Keys, graph, linear, norm


def align(source: Keys, target: Keys) -> dict[str, Assignment]:
    return {found.target: found for found in align_names(graph(source), graph(target)).assignments}


def sources(found: Assignment) -> tuple[str | None, ...]:
    return tuple(piece.source for piece in found.pieces)


def test_a_bias_is_as_sure_as_the_weight_of_its_module_on_both_sides() -> None:
    source = linear("net.fc1", 16, 8) | linear("net.fc2", 8, 16) | norm("net.ln_1", 8) | norm("net.ln_2", 8)
    target = linear("mlp.fc1", 16, 8) | linear("mlp.fc2", 8, 16) | norm("mlp.norm1", 8) | norm("mlp.norm2", 8)

    found = align(source, target)

    assert {key: found[key.replace("bias", "weight")].status for key in found if key.endswith("bias")} == {
        key: each.status for key, each in found.items() if key.endswith("bias")
    }
    assert found["mlp.fc1.bias"].status == "structural"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (("attn_norm", "ffn_norm"), ("input_layernorm", "post_attention_layernorm")),
        (("norm1", "norm2"), ("input_layernorm", "post_attention_layernorm")),
        (("attn_ln", "mlp_ln"), ("post_attention_layernorm", "post_mlp_layernorm")),
        (("layernorm_before", "layernorm_after"), ("ln_1", "ln_2")),
    ],
)
def test_norms_are_paired_in_the_order_in_which_their_names_say_they_run(
    source: tuple[str, str], target: tuple[str, str]
) -> None:
    around = ("q_proj", "o_proj", "up", "down")
    keys: list[Keys] = [{}, {}]
    for side, names in enumerate((source, target)):
        for i in range(2):
            for name in around:
                keys[side] |= linear(f"layers.{i}.{name}", 8, 8)
            for name in sorted(names):
                keys[side] |= norm(f"layers.{i}.{name}", 8)

    found = align(*keys)

    for old, new in zip(source, target, strict=True):
        assert sources(found[f"layers.1.{new}.weight"]) == (f"layers.1.{old}.weight",)


def test_weight_normalisation_is_the_same_under_its_old_and_new_names() -> None:
    source: Keys = {"conv.weight_g": (8, 1, 1), "conv.weight_v": (8, 4, 3), "conv.bias": (8,)}
    inside = "conv.parametrizations.weight"
    target: Keys = {"conv.bias": (8,), f"{inside}.original0": (8, 1, 1), f"{inside}.original1": (8, 4, 3)}

    found = align(source, target)

    assert sources(found[f"{inside}.original0"]) == ("conv.weight_g",)
    assert sources(found[f"{inside}.original1"]) == ("conv.weight_v",)
    assert {each.status for each in found.values()} == {"structural"}


def test_what_is_stored_straight_everywhere_has_no_transposed_rival() -> None:
    source = linear("a.intermediate.dense", 16, 8, bias=False) | linear("a.output.dense", 8, 16, bias=False)
    target = linear("b.mlp.fc1", 16, 8, bias=False) | linear("b.mlp.fc2", 8, 16, bias=False)

    found = align(source, target)

    assert sources(found["b.mlp.fc1.weight"]) == ("a.intermediate.dense.weight",)
    assert sources(found["b.mlp.fc2.weight"]) == ("a.output.dense.weight",)


def test_a_square_whose_kind_changes_may_have_to_be_transposed() -> None:
    source: Keys = linear("net.fc", 16, 8) | {"net.text_projection": (8, 8)}
    target: Keys = linear("net.fc", 16, 8) | {"net.text_projection.weight": (8, 8)}

    found = align(source, target)["net.text_projection.weight"]

    assert sources(found) == ("net.text_projection",)
    assert found.status == "guessed"
    assert any("transposed" in reason for reason in found.evidence.reasons)


def test_a_weight_that_lists_its_parts_is_a_guess_where_the_other_name_does_not() -> None:
    source = linear("mlp.experts.w13", 32, 8, bias=False) | linear("mlp.experts.down", 8, 16, bias=False)
    target = linear("mlp.experts.gate_up", 32, 8, bias=False) | linear("mlp.experts.down", 8, 16, bias=False)

    found = align(source, target)

    assert sources(found["mlp.experts.gate_up.weight"]) == ("mlp.experts.w13.weight",)
    assert found["mlp.experts.gate_up.weight"].status == "guessed"
    assert found["mlp.experts.down.weight"].status == "structural"


def test_a_place_in_the_state_dict_alone_makes_nothing_sure() -> None:
    source = linear("mlp.fc11", 16, 8, bias=False) | linear("mlp.fc12", 16, 8, bias=False)
    target = linear("mlp.gate_proj", 16, 8, bias=False) | linear("mlp.up_proj", 16, 8, bias=False)

    assert {each.status for each in align(source, target).values()} == {"guessed"}


def test_half_of_a_weight_norm_is_no_whole_weight() -> None:
    source: Keys = {"net.conv.weight_g": (8, 1, 1), "net.conv.weight_v": (8, 4, 3), "net.conv.bias": (8,)}
    target: Keys = {"net.conv.weight": (8, 4, 3), "net.conv.bias": (8,)}

    assert align(source, target)["net.conv.weight"].status == "guessed"


def test_a_name_that_says_log_stands_for_another_number() -> None:
    source: Keys = linear("mixer.in_proj", 16, 8) | {"mixer.A_log": (8, 2)}
    target: Keys = linear("mixer.in_proj", 16, 8) | {"mixer.A": (8, 2)}

    found = align(source, target)["mixer.A"]

    assert found.status == "guessed"
    assert any("log" in reason for reason in found.evidence.reasons)


def test_something_as_alike_outside_of_the_paired_blocks_raises_doubt() -> None:
    around: Keys = {}
    for i in range(2):
        around |= linear(f"body.layers.{i}.fc1", 16, 8) | linear(f"body.layers.{i}.fc2", 8, 16)
    source = around | norm("body.layers.0.tail_norm", 8) | norm("body.layers.1.tail_norm", 8) | norm("body.mid_norm", 8)
    target = around | norm("body.layers.0.mid_norm", 8) | norm("body.layers.1.mid_norm", 8)

    found = align(source, target)["body.layers.1.mid_norm.weight"]

    assert found.status != "structural"


def test_like_modules_are_told_apart_by_all_of_their_weights_together() -> None:
    source, target = (
        keys_of_two_towers("mid.attn_1", "q", "proj_out"),
        keys_of_two_towers("mid_block.attentions.0", "to_q", "to_out.0"),
    )

    found = align(source, target)

    for side in ("encoder", "decoder"):
        query = found[f"{side}.mid_block.attentions.0.to_q.weight"]
        assert sources(query) == (f"{side}.mid.attn_1.q.weight",)
        assert query.status == "structural"


def keys_of_two_towers(attention: str, query: str, out: str) -> Keys:
    keys: Keys = {}
    for side in ("encoder", "decoder"):
        for name in (query, query.replace("q", "k"), query.replace("q", "v"), out):
            keys |= linear(f"{side}.{attention}.{name}", 12, 8)
        keys |= norm(f"{side}.{attention}.norm", 8)
        for i in range(2):
            keys |= linear(f"{side}.blocks.{i}.fc1", 16, 8) | linear(f"{side}.blocks.{i}.fc2", 8, 16)
    return keys


def rotated(name: str, container: str, positions: bool) -> Keys:
    keys: Keys = {f"{container}.pos_embed": (1, 9, 8)} if positions else {}
    for i in range(3):
        for role in "qkvo":
            keys |= linear(f"{container}.layers.{i}.attn.{name.format(role)}", 12, 8, bias=False)
    return keys


@pytest.mark.parametrize(("positions", "status"), [(False, "guessed"), (True, "structural")])
def test_queries_and_keys_under_other_names_may_lie_in_another_order_unless_positions_are_a_table(
    positions: bool, status: str
) -> None:
    found = align(rotated("w{}", "model", positions), rotated("{}_proj", "model", positions))

    assert {found[f"model.layers.1.attn.{role}_proj.weight"].status for role in "qk"} == {status}
    assert {found[f"model.layers.1.attn.{role}_proj.weight"].status for role in "vo"} == {"structural"}


def test_a_fused_weight_under_another_name_may_interleave_its_parts() -> None:
    source = linear("h.attn.query_key_value", 24, 8) | linear("h.attn.out", 8, 8)
    target = linear("h.attn.qkv", 24, 8) | linear("h.attn.out", 8, 8)

    assert align(source, target)["h.attn.qkv.weight"].status == "guessed"


def test_a_norm_after_attention_is_hardly_the_one_before_it() -> None:
    source = norm("h.post_attention_layernorm", 8) | linear("h.o_proj", 8, 8)
    target = norm("h.attn_norm", 8) | linear("h.o_proj", 8, 8)

    assert align(source, target)["h.attn_norm.weight"].status != "structural"


def test_a_bias_whose_weight_comes_from_elsewhere_is_no_certainty() -> None:
    source = linear("net.input_linear", 16, 8, bias=False) | {"net.cond.linear.bias": (16,)}
    target = linear("net.input_proj", 16, 8)

    found = align(source, target)["net.input_proj.bias"]

    assert sources(found) in ((), (None,)) or found.status == "guessed"
