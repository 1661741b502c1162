"""Key lists of teachers and students, names and shapes only, as people write such models."""

from __future__ import annotations

from automatch.core.graph import Graph, Shape, Weight

Keys = dict[str, Shape]


def graph(keys: Keys) -> Graph:
    return Graph(tuple(Weight(name, shape, "float32") for name, shape in keys.items()))


def linear(name: str, out: int, into: int, bias: bool = True) -> Keys:
    keys: Keys = {f"{name}.weight": (out, into)}
    return keys | ({f"{name}.bias": (out,)} if bias else {})


def norm(name: str, width: int, bias: bool = True) -> Keys:
    keys: Keys = {f"{name}.weight": (width,)}
    return keys | ({f"{name}.bias": (width,)} if bias else {})


def fused_attention(name: str, width: int) -> Keys:
    """What `nn.MultiheadAttention` keeps."""
    fused: Keys = {f"{name}.in_proj_weight": (3 * width, width), f"{name}.in_proj_bias": (3 * width,)}
    return fused | linear(f"{name}.out_proj", width, width)


def batch_norm(name: str, width: int) -> Keys:
    statistics: Keys = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return norm(name, width) | statistics | {f"{name}.num_batches_tracked": ()}


def bert(layers: int = 12, width: int = 768, hidden: int = 3072) -> Keys:
    keys: Keys = {
        "bert.embeddings.word_embeddings.weight": (30522, width),
        "bert.embeddings.position_embeddings.weight": (512, width),
        "bert.embeddings.token_type_embeddings.weight": (2, width),
    } | norm("bert.embeddings.LayerNorm", width)
    for i in range(layers):
        block = f"bert.encoder.layer.{i}"
        for role in ("query", "key", "value"):
            keys |= linear(f"{block}.attention.self.{role}", width, width)
        keys |= linear(f"{block}.attention.output.dense", width, width)
        keys |= norm(f"{block}.attention.output.LayerNorm", width)
        keys |= linear(f"{block}.intermediate.dense", hidden, width) | linear(f"{block}.output.dense", width, hidden)
        keys |= norm(f"{block}.output.LayerNorm", width)
    return keys | linear("bert.pooler.dense", width, width)


def torch_encoder(layers: int = 4, width: int = 256, hidden: int = 1024) -> Keys:
    keys: Keys = {"tok.weight": (8000, width), "pos.weight": (128, width)}
    for i in range(layers):
        block = f"encoder.layers.{i}"
        keys |= fused_attention(f"{block}.self_attn", width)
        keys |= linear(f"{block}.linear1", hidden, width) | linear(f"{block}.linear2", width, hidden)
        keys |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
    return keys


def llama(layers: int = 32, width: int = 4096, grouped: int = 1024, hidden: int = 14336) -> Keys:
    keys: Keys = {"model.embed_tokens.weight": (128256, width)}
    for i in range(layers):
        block = f"model.layers.{i}"
        for role, rows in (("q", width), ("k", grouped), ("v", grouped), ("o", width)):
            keys |= linear(f"{block}.self_attn.{role}_proj", rows, width, bias=False)
        keys |= linear(f"{block}.mlp.gate_proj", hidden, width, bias=False)
        keys |= linear(f"{block}.mlp.up_proj", hidden, width, bias=False)
        keys |= linear(f"{block}.mlp.down_proj", width, hidden, bias=False)
        keys |= norm(f"{block}.input_layernorm", width, bias=False)
        keys |= norm(f"{block}.post_attention_layernorm", width, bias=False)
    return keys | norm("model.norm", width, bias=False) | linear("lm_head", 128256, width, bias=False)


def gpt(layers: int = 6, width: int = 512, hidden: int = 2048) -> Keys:
    keys: Keys = {"tok_emb.weight": (32000, width)}
    for i in range(layers):
        block = f"h.{i}"
        keys |= norm(f"{block}.ln_1", width) | linear(f"{block}.attn.qkv", 3 * width, width)
        keys |= linear(f"{block}.attn.proj", width, width) | norm(f"{block}.ln_2", width)
        keys |= linear(f"{block}.mlp.fc1", hidden, width) | linear(f"{block}.mlp.fc2", width, hidden)
    return keys | norm("ln_f", width) | linear("head", 32000, width, bias=False)


def vit(layers: int = 12, width: int = 768, hidden: int = 3072) -> Keys:
    keys: Keys = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 197, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
    }
    for i in range(layers):
        block = f"blocks.{i}"
        keys |= norm(f"{block}.norm1", width) | linear(f"{block}.attn.qkv", 3 * width, width)
        keys |= linear(f"{block}.attn.proj", width, width) | norm(f"{block}.norm2", width)
        keys |= linear(f"{block}.mlp.fc1", hidden, width) | linear(f"{block}.mlp.fc2", width, hidden)
    return keys | norm("norm", width) | linear("head", 1000, width)


def small_vit(layers: int = 4, width: int = 192, hidden: int = 768) -> Keys:
    """The same with separate projections and other names."""
    keys: Keys = {
        "class_embedding": (1, 1, width),
        "position_embedding": (1, 65, width),
        "patch.weight": (width, 3, 8, 8),
        "patch.bias": (width,),
    }
    for i in range(layers):
        block = f"layers.{i}"
        keys |= norm(f"{block}.ln_before", width)
        for role in ("q", "k", "v", "out"):
            keys |= linear(f"{block}.attention.{role}", width, width)
        keys |= norm(f"{block}.ln_after", width)
        keys |= linear(f"{block}.ffn.0", hidden, width) | linear(f"{block}.ffn.2", width, hidden)
    return keys | norm("ln_final", width) | linear("classifier", 10, width)


def whisper(layers: int = 6, width: int = 512, hidden: int = 2048) -> Keys:
    keys: Keys = {
        "model.encoder.conv1.weight": (width, 80, 3),
        "model.encoder.conv2.weight": (width, width, 3),
        "model.encoder.embed_positions.weight": (1500, width),
        "model.decoder.embed_tokens.weight": (51865, width),
        "model.decoder.embed_positions.weight": (448, width),
    }
    for side, attentions in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])):
        for i in range(layers):
            block = f"model.{side}.layers.{i}"
            for attention in attentions:
                for role in ("k_proj", "v_proj", "q_proj", "out_proj"):
                    keys |= linear(f"{block}.{attention}.{role}", width, width, bias=role != "k_proj")
                keys |= norm(f"{block}.{attention}_layer_norm", width)
            keys |= linear(f"{block}.fc1", hidden, width) | linear(f"{block}.fc2", width, hidden)
            keys |= norm(f"{block}.final_layer_norm", width)
        keys |= norm(f"model.{side}.layer_norm", width)
    return keys


def torch_transformer(encoders: int = 3, decoders: int = 2, width: int = 128, hidden: int = 512) -> Keys:
    keys: Keys = {
        "conv1.weight": (width, 80, 3),
        "conv2.weight": (width, width, 3),
        "tokens.weight": (5000, width),
    }
    sides = (("encoder", encoders, ["self_attn"]), ("decoder", decoders, ["self_attn", "multihead_attn"]))
    for side, layers, attentions in sides:
        for i in range(layers):
            block = f"transformer.{side}.layers.{i}"
            for attention in attentions:
                keys |= fused_attention(f"{block}.{attention}", width)
            keys |= linear(f"{block}.linear1", hidden, width) | linear(f"{block}.linear2", width, hidden)
            for number in range(len(attentions) + 1):
                keys |= norm(f"{block}.norm{number + 1}", width)
        keys |= norm(f"transformer.{side}.norm", width)
    return keys


def resnet(depths: tuple[int, ...] = (3, 4, 6, 3), widths: tuple[int, ...] = (64, 128, 256, 512)) -> Keys:
    keys: Keys = {"conv1.weight": (widths[0], 3, 7, 7)} | batch_norm("bn1", widths[0])
    before = widths[0]
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for i in range(depth):
            block = f"layer{stage + 1}.{i}"
            keys |= {f"{block}.conv1.weight": (width, before, 3, 3)} | batch_norm(f"{block}.bn1", width)
            keys |= {f"{block}.conv2.weight": (width, width, 3, 3)} | batch_norm(f"{block}.bn2", width)
            if before != width:
                keys |= {f"{block}.downsample.0.weight": (width, before, 1, 1)}
                keys |= batch_norm(f"{block}.downsample.1", width)
            before = width
    return keys | linear("fc", 1000, widths[-1])


def small_resnet(depths: tuple[int, ...] = (2, 2, 2, 2), widths: tuple[int, ...] = (32, 64, 128, 256)) -> Keys:
    keys: Keys = {"stem.0.weight": (widths[0], 3, 3, 3)} | batch_norm("stem.1", widths[0])
    before = widths[0]
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for i in range(depth):
            block = f"stages.{stage}.{i}"
            keys |= {f"{block}.conv_a.weight": (width, before, 3, 3)} | batch_norm(f"{block}.norm_a", width)
            keys |= {f"{block}.conv_b.weight": (width, width, 3, 3)} | batch_norm(f"{block}.norm_b", width)
            if before != width:
                keys |= {f"{block}.shortcut.0.weight": (width, before, 1, 1)}
                keys |= batch_norm(f"{block}.shortcut.1", width)
            before = width
    return keys | linear("classifier", 10, widths[-1])
