"""The checkpoint that the conversion benchmark converts: a mixture of experts of some 2 GB, one tensor an expert.

Its target stacks the experts of a layer and joins gate and up projection, as `transformers` 5 holds them. Every weight
moves; none is computed. A second mapping turns every matrix's halves into pairs, as rotary layouts differ, and a third
transposes every matrix.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from automatch.checkpoint.safetensors_header import encode_header
from automatch.core.expr import Concat, Expr, Permute, Reshape, Source
from automatch.core.graph import Shape, Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side

LAYERS, EXPERTS, WIDTH, INNER, HEADS, VOCABULARY = 12, 8, 1024, 3584, 16, 32_000
DTYPE = "bfloat16"


def config() -> dict[str, object]:
    """The configuration file that `transformers` reads beside the checkpoint."""
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_local_experts": EXPERTS,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "dtype": DTYPE,
    }


def source_shapes() -> dict[str, Shape]:
    """Keys and shapes of the source."""
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        block = f"model.layers.{layer}"
        shapes |= {f"{block}.self_attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"}
        shapes |= {f"{block}.{name}_layernorm.weight": (WIDTH,) for name in ("input", "post_attention")}
        shapes[f"{block}.block_sparse_moe.gate.weight"] = (EXPERTS, WIDTH)
        for expert in range(EXPERTS):
            inside = f"{block}.block_sparse_moe.experts.{expert}"
            shapes |= {f"{inside}.w{part}.weight": (INNER, WIDTH) for part in (1, 3)}
            shapes[f"{inside}.w2.weight"] = (WIDTH, INNER)
    shapes["lm_head.weight"] = (VOCABULARY, WIDTH)
    return shapes


def write_source(folder: Path) -> int:
    """Write the source into a folder, with random finite numbers; gives its size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config()))
    shapes = source_shapes()
    header, offsets = encode_header([(key, DTYPE, shape) for key, shape in shapes.items()], {"format": "pt"})
    draw = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        for key in sorted(shapes, key=offsets.__getitem__):
            # Floats of bfloat16 are the upper halves of those of float32.
            numbers = draw.standard_normal(int(np.prod(shapes[key])), np.float32).view(np.uint32) >> 16
            file.write(numbers.astype(np.uint16).tobytes())
        return file.tell()


def stacked() -> MappingRecord:
    """Experts stacked, gate and up joined: byte ranges only."""
    shapes = source_shapes()
    made: dict[str, Expr] = {key: Source(key, shape) for key, shape in shapes.items() if "block_sparse_moe" not in key}
    for layer in range(LAYERS):
        before, after = f"model.layers.{layer}.block_sparse_moe", f"model.layers.{layer}.mlp"
        gate = f"{before}.gate.weight"
        made[f"{after}.gate.weight"] = Source(gate, shapes[gate])
        parts = [[_expert(shapes, before, expert, part) for part in (1, 3, 2)] for expert in range(EXPERTS)]
        ups = tuple(Reshape(Concat((gate, up)), (1, 2 * INNER, WIDTH)) for gate, up, _ in parts)
        made[f"{after}.experts.gate_up_proj"] = Concat(ups)
        made[f"{after}.experts.down_proj"] = Concat(tuple(Reshape(down, (1, WIDTH, INNER)) for *_, down in parts))
    return _record(made)


def rotary() -> MappingRecord:
    """Every matrix's rows in another order within its heads, as rotary layouts differ."""
    return _each(lambda leaf: Reshape(Permute(Reshape(leaf, _halves(leaf.shape)), (0, 2, 1, 3)), leaf.shape))


def transposed() -> MappingRecord:
    """Every matrix transposed: no two neighbours stay neighbours."""
    return _each(lambda leaf: Permute(leaf, (1, 0)))


MAPPINGS: dict[str, Callable[[], MappingRecord]] = {"stacked": stacked, "rotary": rotary, "transposed": transposed}


def _halves(shape: Shape) -> Shape:
    head = 64
    return (shape[0] // head, 2, head // 2, shape[1])


def _each(change: Callable[[Source], Expr]) -> MappingRecord:
    leaves = [Source(key, shape) for key, shape in source_shapes().items()]
    return _record({leaf.key: change(leaf) if _changes(leaf) else leaf for leaf in leaves})


def _changes(leaf: Source) -> bool:
    return len(leaf.shape) == 2 and leaf.shape[0] % 64 == 0


def _expert(shapes: dict[str, Shape], before: str, expert: int, part: int) -> Source:
    key = f"{before}.experts.{expert}.w{part}.weight"
    return Source(key, shapes[key])


def _record(made: dict[str, Expr]) -> MappingRecord:
    evidence = Evidence("structure", ("written by hand for a benchmark",))
    entries = tuple(Entry(key, expr.shape, DTYPE, "structural", expr, evidence) for key, expr in made.items())
    sources = _weights(source_shapes().items())
    targets = _weights((key, expr.shape) for key, expr in made.items())
    return MappingRecord(Side("one tensor an expert", "names", sources), Side("stacked", "names", targets), entries)


def _weights(shapes: Iterable[tuple[str, Shape]]) -> tuple[Weight, ...]:
    return tuple(Weight(key, shape, DTYPE) for key, shape in shapes)
