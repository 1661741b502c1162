"""Fused operators spelled out in steps: scales and biases by themselves, attention in its products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from automatch.prove.steps import Held, Spelling, Tape


def _affine(op: str, parts: tuple[str, ...], on_channels: bool) -> Spelling:
    """Computes an operator without some of its weights, which are applied afterwards: scales, then shifts.

    Args:
        op: The operator's bare name.
        parts: The weights that can be applied afterwards; `"bias"` is added, others multiply.
        on_channels: Whether they lie along the second axis, not along the last ones.
    """

    def spell(tape: Tape, node: fx.Node, given: Mapping[str, Any]) -> Held | None:
        apart = {part: given[part] for part in parts if given.get(part) is not None}
        if not apart:
            return None
        target: Any = node.target
        rest = {name: None if name in apart else value for name, value in given.items()}
        made = tape.call(node, op, target, *rest.values())
        for part, weight in apart.items():
            name, apply = ("add", torch.add) if part == "bias" else ("mul", torch.mul)
            made = tape.call(node, name, lambda x, w, f=apply: f(x, _along(x, w, on_channels)), made, weight)
        return made

    return spell


def _along(value: Tensor, weight: Tensor, on_channels: bool) -> Tensor:
    return weight.reshape(-1, *[1] * (value.dim() - 2)) if on_channels else weight


def _addmm(tape: Tape, node: fx.Node, given: Mapping[str, Any]) -> Held | None:
    if (given["beta"], given["alpha"]) != (1, 1):
        return None
    made = tape.call(node, "mm", torch.mm, given["mat1"], given["mat2"])
    return tape.call(node, "add", torch.add, made, given["self"])


def _batch_norm(tape: Tape, node: fx.Node, given: Mapping[str, Any]) -> Held | None:
    mean, variance = given["running_mean"], given["running_var"]
    if given.get("training") or mean is None:
        return None
    eps = given["eps"]
    made = tape.call(node, "sub", lambda x, m: x - _along(x, m, True), given["input"], mean)
    made = tape.call(
        node, "mul", lambda x, v: x * _along(x, v + eps, True).rsqrt(), made, variance, said={"eps": float(eps)}
    )
    if given["weight"] is not None:
        made = tape.call(node, "mul", lambda x, w: x * _along(x, w, True), made, given["weight"])
    if given["bias"] is not None:
        made = tape.call(node, "add", lambda x, b: x + _along(x, b, True), made, given["bias"])
    return made


def _attention(tape: Tape, node: fx.Node, given: Mapping[str, Any]) -> Held | None:
    query, key, value, mask = (given[name] for name in ("query", "key", "value", "attn_mask"))
    if given["enable_gqa"]:
        key, value = (tape.call(node, "repeat", _repeated, part, query.value.shape[-3]) for part in (key, value))
    scale = given["scale"] or query.value.shape[-1] ** -0.5
    scores = tape.call(node, "matmul", lambda q, k: q @ k.transpose(-1, -2), query, key)
    scores = tape.call(node, "mul", lambda x: x * scale, scores, said={"other": float(scale)})
    if given["is_causal"]:
        scores = tape.call(node, "masked_fill", _causal, scores, said={"mask": "causal"})
    if mask is not None:
        scores = tape.call(node, "masked_fill", _masked, scores, mask)
    weights = tape.call(node, "softmax", lambda x: x.softmax(-1).nan_to_num(0.0), scores)
    return tape.call(node, "matmul", torch.matmul, weights, value)


def _repeated(part: Tensor, heads: int) -> Tensor:
    return part.repeat_interleave(heads // part.shape[-3], -3)


def _causal(scores: Tensor) -> Tensor:
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~seen, -torch.inf)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


_CONVOLUTIONS = (
    *("convolution", "conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)

SPELLINGS: dict[str, Spelling] = {
    "linear": _affine("linear", ("bias",), False),
    **{op: _affine(op, ("bias",), True) for op in _CONVOLUTIONS},
    **{op: _affine(op, ("weight", "bias"), False) for op in ("layer_norm", "rms_norm")},
    **{op: _affine(op, ("weight", "bias"), True) for op in ("group_norm", "instance_norm")},
    **{op: _batch_norm for op in ("batch_norm", "_native_batch_norm_legit_no_training")},
    "addmm": _addmm,
    "scaled_dot_product_attention": _attention,
}
"""By bare name, how an operator is spelled out."""
