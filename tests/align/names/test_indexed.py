"""Which axes are indexed, told from names and shapes alone."""

from __future__ import annotations

import pytest
import torch

import automatch
from automatch.core.graph import Shape

UNET = {
    "conv_in.weight": (16, 4, 3, 3),
    "conv_in.bias": (16,),
    "blocks.0.norm.weight": (16,),
    "blocks.0.conv.weight": (16, 16, 3, 3),
    "blocks.1.norm.weight": (16,),
    "blocks.1.conv.weight": (16, 16, 3, 3),
    "conv_out.weight": (4, 16, 3, 3),
    "conv_out.bias": (4,),
}
TEXT = {
    "wte.weight": (50, 16),
    "wpe.weight": (32, 16),
    "h.0.ln.weight": (16,),
    "h.0.fc.weight": (64, 16),
    "h.0.proj.weight": (16, 64),
    "lm_head.weight": (50, 16),
}
VISION = {
    "cls_token": (1, 1, 16),
    "pos_embed": (1, 17, 16),
    "patch_embed.proj.weight": (16, 3, 8, 8),
    "blocks.0.norm.weight": (16,),
    "blocks.0.fc1.weight": (64, 16),
    "blocks.0.fc2.weight": (16, 64),
    "head.weight": (10, 16),
    "head.bias": (10,),
}


def state(shapes: dict[str, Shape]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def mapped(old: dict[str, Shape], changes: dict[str, Shape], reverse: bool) -> automatch.Mapping:
    new = {**old, **changes}
    if reverse:  # the order of keys plays no part
        old, new = (dict(reversed(side.items())) for side in (old, new))
    return automatch.match(state(old), state(new))


@pytest.mark.parametrize("reverse", [False, True])
def test_latents_of_more_channels_begin_as_the_old_ones(reverse: bool) -> None:
    changes: dict[str, Shape] = {
        "conv_in.weight": (16, 8, 3, 3),
        "conv_out.weight": (8, 16, 3, 3),
        "conv_out.bias": (8,),
    }
    made = mapped(UNET, changes, reverse).apply(given := state(UNET))
    assert torch.equal(made["conv_in.weight"][:, :4], given["conv_in.weight"])
    assert not made["conv_in.weight"][:, 4:].any()
    for key in ("conv_out.weight", "conv_out.bias"):
        assert torch.equal(made[key][:4], given[key])
        torch.testing.assert_close(made[key][4:], given[key].mean(0).expand(made[key][4:].shape))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_narrower_stream_is_no_change_of_what_is_fed(reverse: bool) -> None:
    half: dict[str, Shape] = {key: tuple(8 if size == 16 else size for size in shape) for key, shape in UNET.items()}
    mapping = mapped(UNET, half, reverse)
    assert "zeros" not in str(mapping.entries)
    assert "first 8 of 16 inputs, times 1.414" in mapping["blocks.1.conv.weight"].evidence.resized[0]
    assert "inputs" not in mapping["conv_in.weight"].evidence.resized[0]


@pytest.mark.parametrize("reverse", [False, True])
def test_new_words_are_the_mean_and_new_places_undetermined(reverse: bool) -> None:
    changes: dict[str, Shape] = {"wte.weight": (56, 16), "lm_head.weight": (56, 16), "wpe.weight": (64, 16)}
    mapping = mapped(TEXT, changes, reverse)
    made = mapping.apply(given := state(TEXT))
    for key in ("wte.weight", "lm_head.weight"):
        torch.testing.assert_close(made[key][50:], given[key].mean(0).expand(6, 16))
        assert mapping[key].losses == ("filled",)
    assert mapping["wpe.weight"].status == "unmapped"
    assert "64 places in a sequence, of which the source knows 32" in mapping["wpe.weight"].evidence.reasons[0]


def test_places_in_a_picture_are_resampled_and_classes_kept() -> None:
    mapping = mapped(VISION, {"pos_embed": (1, 65, 16), "head.weight": (12, 16), "head.bias": (12,)}, False)
    made = mapping.apply(given := state(VISION))
    assert torch.equal(made["pos_embed"][:, 0], given["pos_embed"][:, 0])
    assert mapping["pos_embed"].losses == ("interpolated",)
    assert torch.equal(made["head.weight"][:10], given["head.weight"])
    assert mapping["head.bias"].losses == ("filled",)


def test_relative_places_of_another_window_are_undetermined() -> None:
    old = {**VISION, "blocks.0.attn.relative_position_bias_table": (49, 4)}
    mapping = mapped(old, {"blocks.0.attn.relative_position_bias_table": (169, 4)}, False)
    table = mapping["blocks.0.attn.relative_position_bias_table"]
    assert table.status == "unmapped"
    assert "169 distances between places, and 49 in the source" in table.evidence.reasons[0]


def test_a_bias_for_every_word_follows_the_words_wherever_it_lies() -> None:
    old: dict[str, Shape] = {**TEXT, "head.bias": (50,)}
    changes: dict[str, Shape] = {"wte.weight": (56, 16), "lm_head.weight": (56, 16), "head.bias": (56,)}
    mapping = mapped(old, changes, False)
    assert mapping["head.bias"].losses == ("filled",)
    assert mapping["h.0.ln.weight"].losses == ()


def test_tables_have_no_fan_in_to_make_up_for() -> None:
    half: dict[str, Shape] = {key: tuple(8 if size == 16 else size for size in shape) for key, shape in TEXT.items()}
    mapping = mapped(TEXT, half, False)
    assert mapping["wte.weight"].evidence.resized == ("wte.weight: [50, 16] to [50, 8], first 8 of 16 features",)
    assert "times" not in mapping["wpe.weight"].evidence.resized[0]


def test_where_names_say_nothing_the_order_of_keys_does() -> None:
    old: dict[str, Shape] = {"b.weight": (16, 4, 3, 3), "c.weight": (16, 16, 3, 3), "a.weight": (4, 16, 3, 3)}
    made = mapped(old, {"b.weight": (16, 8, 3, 3), "a.weight": (8, 16, 3, 3)}, False)
    assert "4 inputs, then 4 of zeros" in made["b.weight"].evidence.resized[0]
    assert "4 outputs, then their mean 4 times" in made["a.weight"].evidence.resized[0]


def test_a_wider_hidden_layer_is_neither_fed_nor_read() -> None:
    old: dict[str, Shape] = {"b.weight": (16, 4), "c.weight": (32, 16), "a.weight": (16, 32), "d.weight": (4, 16)}
    made = mapped(old, {"c.weight": (64, 16), "a.weight": (16, 64)}, False)
    assert "32 outputs repeated to 64" in made["c.weight"].evidence.resized[0]
    assert "32 inputs repeated to 64, times 0.7071" in made["a.weight"].evidence.resized[0]


def test_what_lies_beside_a_table_of_places_is_none_itself() -> None:
    old: dict[str, Shape] = {
        "pos_embed.pos_embed": (1, 16, 8),
        "pos_embed.proj.weight": (8, 4, 2, 2),
        "blocks.0.relative_attention_bias.weight": (32, 4),
        "blocks.0.fc.weight": (8, 8),
        "proj_out.weight": (16, 8),
    }
    changes: dict[str, Shape] = {"pos_embed.proj.weight": (8, 8, 2, 2), "proj_out.weight": (32, 8)}
    changes["blocks.0.relative_attention_bias.weight"] = (48, 4)
    made = mapped(old, changes, False)
    assert "4 inputs, then 4 of zeros" in made["pos_embed.proj.weight"].evidence.resized[0]
    table = made["blocks.0.relative_attention_bias.weight"]
    assert (table.status, "48 distances between places" in table.evidence.reasons[0]) == ("unmapped", True)
