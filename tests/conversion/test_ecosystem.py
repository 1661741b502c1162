"""What `transformers` and `diffusers` make of converted checkpoints, as they load any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import automatch
from fixtures.building import noise, tokens
from fixtures.decoder import LlamaConfig
from fixtures.twins_dense import FusedDecoder

transformers = pytest.importorskip("transformers", reason="the extra `ecosystem` is not installed")
diffusers = pytest.importorskip("diffusers", reason="the extra `ecosystem` is not installed")

SIZES = LlamaConfig(vocabulary=96, dim=64, ffn_dim=144, heads=4, kv_heads=2, layers=3, theta=10000.0)
IDS = tokens(2, 7, vocabulary=96)


def llama_config(tied: bool = False) -> Any:
    return transformers.LlamaConfig(
        vocab_size=SIZES.vocabulary,
        hidden_size=SIZES.dim,
        intermediate_size=SIZES.ffn_dim,
        num_attention_heads=SIZES.heads,
        num_key_value_heads=SIZES.kv_heads,
        num_hidden_layers=SIZES.layers,
        rms_norm_eps=SIZES.eps,
        rope_theta=SIZES.theta,
        tie_word_embeddings=tied,
    )


def decoder(tied: bool) -> nn.Module:
    torch.manual_seed(1)
    model = FusedDecoder(SIZES)
    if tied:
        model.head.weight = model.wte.weight
    return model.eval()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found = model(IDS)
    return found if isinstance(found, Tensor) else found.logits


@pytest.mark.parametrize(
    ("tied", "kept", "limit"),
    [(False, "each", None), (False, "each", "60kB"), (True, "each", None), (True, "once", "60kB")],
)
def test_transformers_loads_a_fused_decoder_as_its_own(
    tmp_path: Path, tied: bool, kept: Any, limit: str | None
) -> None:
    source, config = decoder(tied), llama_config(tied)
    blank = transformers.LlamaForCausalLM(config).eval()
    mapping = automatch.match(source, blank, source_inputs=IDS, target_inputs=IDS)
    assert {entry.status for entry in mapping.entries} <= {"proved", "structural"}
    torch.save(source.state_dict(), tmp_path / "old.pt")
    out = tmp_path / "new"
    config.save_pretrained(out)
    automatch.convert(tmp_path / "old.pt", mapping, out, max_shard_size=limit, tied=kept)
    model, told = transformers.LlamaForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(logits(model), logits(source), rtol=1e-5, atol=1e-5)
    wanted = mapping.apply(source.state_dict())
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())


def autoencoder() -> Any:
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(32,),
        norm_num_groups=8,
        latent_channels=2,
    ).eval()


def fused_autoencoder() -> Any:
    """The same with one projection for queries, keys and values."""
    model = autoencoder()
    model.fuse_qkv_projections()
    for part in model.modules():
        if hasattr(part, "to_qkv"):
            del part.to_q, part.to_k, part.to_v
    return model


@pytest.mark.parametrize("limit", [None, "300kB"])
def test_diffusers_loads_a_fused_autoencoder_as_its_own(tmp_path: Path, limit: str | None) -> None:
    source, blank, picture = fused_autoencoder(), autoencoder(), noise(1, 3, 8, 8)
    mapping = automatch.match(source, blank, source_inputs=picture, target_inputs=picture)
    assert mapping["encoder.mid_block.attentions.0.to_k.weight"].sources == (
        "encoder.mid_block.attentions.0.to_qkv.weight",
    )
    save_file(source.state_dict(), tmp_path / "old.safetensors")
    out = tmp_path / "new"
    blank.save_config(out)
    automatch.convert(tmp_path / "old.safetensors", mapping, out, max_shard_size=limit, name="diffusion_pytorch_model")
    model, told = diffusers.AutoencoderKL.from_pretrained(
        out, output_loading_info=True, low_cpu_mem_usage=False, use_safetensors=True
    )
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        torch.testing.assert_close(model(picture).sample, source(picture).sample, rtol=1e-5, atol=1e-5)


def test_one_key_a_tied_group_is_what_safetensors_load_model_wants(tmp_path: Path) -> None:
    from safetensors.torch import load_model

    source, target = decoder(True), decoder(True)
    mapping = automatch.match(source, target, source_inputs=IDS, target_inputs=IDS)
    save_file({key: value for key, value in source.state_dict().items() if key != "head.weight"}, tmp_path / "old.st")
    automatch.convert(tmp_path / "old.st", mapping, tmp_path / "once.safetensors", tied="once")
    automatch.convert(tmp_path / "old.st", mapping, tmp_path / "each.safetensors")
    nn.init.zeros_(target.get_parameter("wte.weight"))
    load_model(target, tmp_path / "once.safetensors", strict=True)
    assert torch.equal(logits(target), logits(source))
    other = decoder(True)
    other.load_state_dict(load_file(tmp_path / "each.safetensors"), strict=True)
    assert torch.equal(logits(other), logits(source))
