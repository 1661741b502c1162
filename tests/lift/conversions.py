"""Conversions as an expert would write them, and the twin's mapping that follows from each, element by element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from automatch.core.expr import Expr, Source
from automatch.core.graph import Graph, Shape, Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side
from automatch.synthesize.layout import element_map, expression
from fixtures.decoder import LlamaConfig
from fixtures.twins_experts import MoEConfig

Array: TypeAlias = NDArray[Any]
State: TypeAlias = dict[str, Array]
Convert: TypeAlias = Callable[[State], State]

FAR = 2**40
"""More entries than any weight has; what is added to mark where a weight begins."""


def shapes_of(graph: Graph) -> dict[str, Shape]:
    return {weight.name: weight.shape for weight in graph.weights}


def places(shapes: Mapping[str, Shape]) -> State:
    """For every weight, numbers that say which entry of which weight stands there."""
    return {
        key: (number * FAR + np.arange(int(np.prod(shape, dtype=np.int64)))).reshape(shape)
        for number, (key, shape) in enumerate(shapes.items(), start=1)
    }


def exact(convert: Convert, source: Graph, target: Graph) -> MappingRecord:
    """The exact mapping that a conversion makes; entries that it fills with a number below `FAR` are constants."""
    shapes = shapes_of(source)
    made = convert(places(shapes))
    entries = [
        Entry(weight.name, weight.shape, weight.dtype, "proved", _expr(made[weight.name], shapes), EVIDENCE)
        for weight in target.weights
    ]
    return MappingRecord(side(source), side(target), tuple(entries))


EVIDENCE = Evidence("structure", ("outputs agree",))


def side(graph: Graph) -> Side:
    return Side(graph.name, graph.rung, graph.weights, graph.notes)


def _expr(codes: Array, shapes: Mapping[str, Shape]) -> Expr:
    flat = codes.reshape(-1).astype(np.int64)
    weights = [number for number in np.unique(flat // FAR).tolist() if number]
    keys = list(shapes)
    leaves = tuple(Source(keys[number - 1], shapes[keys[number - 1]]) for number in weights)
    order = {number: place for place, number in enumerate(weights)} | {0: -1}
    leaf = np.array([order[number] for number in (flat // FAR).tolist()])
    constant = np.where(leaf < 0, flat % FAR, 0)
    return expression(element_map(codes.shape, leaves, leaf, flat % FAR, shift=constant))


def names(*weights: tuple[str, Shape]) -> Graph:
    """A graph of nothing but weights."""
    return Graph(tuple(Weight(name, shape, "float32") for name, shape in weights))


def fused(config: LlamaConfig) -> Convert:
    """The published Llama layout into `fixtures.twins_dense`."""
    kv, shared = config.kv_heads, config.heads // config.kv_heads
    half = config.dim // config.heads // 2

    def heads(w: Array, count: int) -> Array:
        return w.reshape(kv, count, 2, half, -1).swapaxes(2, 3).reshape(kv, count, 2 * half, -1)

    def convert(state: State) -> State:
        made = {
            "wte.weight": state["model.embed_tokens.weight"],
            "ln_f.weight": state["model.norm.weight"],
            "head.weight": state["lm_head.weight"],
        }
        for i in range(config.layers):
            old, new = f"model.layers.{i}", f"h.{i}"
            q, k, v, o = (state[f"{old}.self_attn.{n}_proj.weight"] for n in "qkvo")
            grouped = [heads(q, shared), heads(k, 1), v.reshape(kv, 1, 2 * half, -1)]
            made |= {
                f"{new}.norm_1.weight": state[f"{old}.input_layernorm.weight"],
                f"{new}.attn.qkv.weight": np.concatenate(grouped, 1).reshape(-1, config.dim),
                f"{new}.attn.out.weight": o,
                f"{new}.norm_2.weight": state[f"{old}.post_attention_layernorm.weight"],
                f"{new}.mlp.gate_up.weight": np.concatenate(
                    [state[f"{old}.mlp.{n}_proj.weight"] for n in ("gate", "up")]
                ),
                f"{new}.mlp.down.weight": state[f"{old}.mlp.down_proj.weight"],
            }
        return made

    return convert


def split(config: LlamaConfig) -> Convert:
    """The way back: `fixtures.twins_dense` into the published Llama layout."""
    kv, shared = config.kv_heads, config.heads // config.kv_heads
    width = config.dim // config.heads

    def heads(w: Array) -> Array:
        return w.reshape(kv, -1, width // 2, 2, config.dim).swapaxes(2, 3).reshape(-1, config.dim)

    def convert(state: State) -> State:
        made = {
            "model.embed_tokens.weight": state["wte.weight"],
            "model.norm.weight": state["ln_f.weight"],
            "lm_head.weight": state["head.weight"],
        }
        for i in range(config.layers):
            old, new = f"h.{i}", f"model.layers.{i}"
            grouped = state[f"{old}.attn.qkv.weight"].reshape(kv, shared + 2, width, config.dim)
            gate, up = np.split(state[f"{old}.mlp.gate_up.weight"], 2)
            made |= {
                f"{new}.self_attn.q_proj.weight": heads(grouped[:, :shared]),
                f"{new}.self_attn.k_proj.weight": heads(grouped[:, shared : shared + 1]),
                f"{new}.self_attn.v_proj.weight": grouped[:, shared + 1].reshape(-1, config.dim),
                f"{new}.self_attn.o_proj.weight": state[f"{old}.attn.out.weight"],
                f"{new}.mlp.gate_proj.weight": gate,
                f"{new}.mlp.up_proj.weight": up,
                f"{new}.mlp.down_proj.weight": state[f"{old}.mlp.down.weight"],
                f"{new}.input_layernorm.weight": state[f"{old}.norm_1.weight"],
                f"{new}.post_attention_layernorm.weight": state[f"{old}.norm_2.weight"],
            }
        return made

    return convert


def stacked(config: MoEConfig) -> Convert:
    """The published Mixtral layout into stacked experts."""

    def convert(state: State) -> State:
        made = {
            "tok_embeddings.weight": state["model.embed_tokens.weight"],
            "norm.weight": state["model.norm.weight"],
            "output.weight": state["lm_head.weight"],
        }
        for i in range(config.base.layers):
            old, new = f"model.layers.{i}", f"blocks.{i}"
            w1, w2, w3 = (
                np.stack([state[f"{old}.block_sparse_moe.experts.{e}.{w}.weight"] for e in range(config.experts)])
                for w in ("w1", "w2", "w3")
            )
            made |= {
                f"{new}.attention_norm.weight": state[f"{old}.input_layernorm.weight"],
                f"{new}.attention.wqkv.weight": np.concatenate(
                    [state[f"{old}.self_attn.{n}_proj.weight"] for n in "qkv"]
                ),
                f"{new}.attention.wo.weight": state[f"{old}.self_attn.o_proj.weight"],
                f"{new}.ffn_norm.weight": state[f"{old}.post_attention_layernorm.weight"],
                f"{new}.moe.router": state[f"{old}.block_sparse_moe.gate.weight"],
                f"{new}.moe.gate_up": np.concatenate([w1, w3], axis=1),
                f"{new}.moe.down": w2,
            }
        return made

    return convert


def unstacked(config: MoEConfig) -> Convert:
    """The way back: stacked experts into the published Mixtral layout."""
    base = config.base
    width = base.dim // base.heads
    rows = [base.heads * width, (base.heads + base.kv_heads) * width]

    def convert(state: State) -> State:
        made = {
            "model.embed_tokens.weight": state["tok_embeddings.weight"],
            "model.norm.weight": state["norm.weight"],
            "lm_head.weight": state["output.weight"],
        }
        for i in range(base.layers):
            old, new = f"blocks.{i}", f"model.layers.{i}"
            made |= {
                f"{new}.self_attn.{n}_proj.weight": part
                for n, part in zip("qkv", np.split(state[f"{old}.attention.wqkv.weight"], rows), strict=True)
            }
            made |= {
                f"{new}.input_layernorm.weight": state[f"{old}.attention_norm.weight"],
                f"{new}.self_attn.o_proj.weight": state[f"{old}.attention.wo.weight"],
                f"{new}.post_attention_layernorm.weight": state[f"{old}.ffn_norm.weight"],
                f"{new}.block_sparse_moe.gate.weight": state[f"{old}.moe.router"],
            }
            for e in range(config.experts):
                expert = f"{new}.block_sparse_moe.experts.{e}"
                gate, up = np.split(state[f"{old}.moe.gate_up"][e], 2)
                made |= {f"{expert}.w1.weight": gate, f"{expert}.w3.weight": up}
                made[f"{expert}.w2.weight"] = state[f"{old}.moe.down"][e]
        return made

    return convert
