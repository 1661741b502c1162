"""The right conversions, written by hand: from the source's state dict to the target's."""
# mypy: disable-error-code="no-any-return,no-untyped-call"
# (torch leaves some tensor methods untyped)

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]
Table = Sequence[tuple[str, str]]


def same_names(source: State, target: State) -> dict[str, Tensor]:
    """Every weight from its namesake."""
    return {key: source[key] for key in target}


def in_order(source: State, target: State) -> dict[str, Tensor]:
    """Both sides list the same weights in the same order; shapes differ by axes of size one at most."""
    pairs = zip(target.items(), source.values(), strict=True)
    return {key: value.reshape(wanted.shape) for (key, wanted), value in pairs}


TIMM_TO_TRANSFORMERS: Table = (
    (r"^cls_token", "vit.embeddings.cls_token"),
    (r"^pos_embed", "vit.embeddings.position_embeddings"),
    (r"^patch_embed\.proj", "vit.embeddings.patch_embeddings.projection"),
    (r"^blocks\.", "vit.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.", ".attention."),
    (r"^norm\.", "vit.layernorm."),
    (r"^head\.", "classifier."),
)


def timm_to_transformers(source: State, target: State) -> dict[str, Tensor]:
    """A ViT: other names, and the fused projection taken apart."""
    made: dict[str, Tensor] = {}
    for key, value in source.items():
        name = _renamed(key, TIMM_TO_TRANSFORMERS)
        parts = zip("qkv", value.chunk(3), strict=True) if ".qkv." in name else (("", value),)
        made |= {name.replace(".qkv.", f".{part}_proj."): piece for part, piece in parts}
    return made


TIMM_TO_TORCHVISION: Table = (
    (r"^cls_token", "class_token"),
    (r"^pos_embed", "encoder.pos_embedding"),
    (r"^patch_embed\.proj", "conv_proj"),
    (r"^blocks\.", "encoder.layers.encoder_layer_"),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^norm\.", "encoder.ln."),
    (r"^head\.", "heads.head."),
)


def timm_to_torchvision(source: State, target: State) -> dict[str, Tensor]:
    """A ViT: other names, nothing else."""
    return {_renamed(key, TIMM_TO_TORCHVISION): value for key, value in source.items()}


def roberta_to_bert(source: State, target: State) -> dict[str, Tensor]:
    """The same names; RoBERTa's first position is the third row of its table."""
    places = "embeddings.position_embeddings.weight"
    return {**same_names(source, target), places: source[places][2:]}


SENTENCES: Table = (
    (r"^embeddings\.word_embeddings", "words"),
    (r"^embeddings\.position_embeddings", "places"),
    (r"^embeddings\.token_type_embeddings", "segments"),
    (r"^embeddings\.LayerNorm", "settle"),
    (r"^encoder\.layer\.", "body.layers."),
    (r"\.attention\.output\.dense", ".self_attn.out_proj"),
    (r"\.attention\.output\.LayerNorm", ".norm1"),
    (r"\.intermediate\.dense", ".linear1"),
    (r"\.output\.dense", ".linear2"),
    (r"\.output\.LayerNorm", ".norm2"),
)


def sentence_encoder(source: State, target: State) -> dict[str, Tensor]:
    """Other names, and queries, keys and values put together; the pooler and the stored positions are left out."""
    made = {_renamed(key, SENTENCES): value for key, value in source.items()}
    for key in target:
        if "in_proj_" in key:
            layer, kind = key.split(".")[2], key.rpartition("_")[2]
            one = f"encoder.layer.{layer}.attention.self"
            made[key] = torch.cat([source[f"{one}.{part}.{kind}"] for part in ("query", "key", "value")])
    return {key: made[key] for key in target}


LLAMA_TO_FUSED: Table = (
    (r"^model\.embed_tokens", "wte"),
    (r"^model\.layers\.", "h."),
    (r"\.self_attn\.o_proj", ".attn.out"),
    (r"\.mlp\.down_proj", ".mlp.down"),
    (r"\.input_layernorm", ".norm_1"),
    (r"\.post_attention_layernorm", ".norm_2"),
    (r"^model\.norm", "ln_f"),
    (r"^lm_head", "head"),
)


def llama_to_fused(source: State, target: State, groups: int, width: int) -> dict[str, Tensor]:
    """One projection that holds, for each key-value head, its queries, key and value; rotary halves become pairs."""
    made = {_renamed(key, LLAMA_TO_FUSED): value for key, value in source.items()}
    for key in target:
        block = f"model.layers.{key.split('.')[1]}"
        if key.endswith(".gate_up.weight"):
            made[key] = torch.cat([source[f"{block}.mlp.{part}_proj.weight"] for part in ("gate", "up")])
        elif key.endswith(".qkv.weight"):
            # [groups, heads in the group, width of a head, width of the model]
            q, k, v = (
                source[f"{block}.self_attn.{part}_proj.weight"].unflatten(0, (groups, -1, width)) for part in "qkv"
            )
            made[key] = torch.cat([_pairs(q), _pairs(k), v], dim=1).flatten(0, 2)
    return {key: made[key] for key in target}


def _pairs(heads: Tensor) -> Tensor:
    return heads.unflatten(2, (2, -1)).transpose(2, 3).flatten(2, 3)


def _renamed(key: str, table: Table) -> str:
    for pattern, name in table:
        key = re.sub(pattern, name, key)
    return key
