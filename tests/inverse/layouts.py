"""Random mappings that only move: sources cut, joined and turned over, again and again."""

from __future__ import annotations

from math import prod

import torch
from hypothesis import strategies as st
from torch import Tensor

from automatch.core.expr import Concat, Constant, Expr, Gather, Permute, Reshape, Slice, Source
from automatch.core.graph import Shape
from automatch.core.mapping import MappingRecord
from tests.apply.records import entry, record

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
Draw = st.DrawFn


@st.composite
def layouts(draw: Draw, loses: bool = False) -> MappingRecord:
    """A mapping of one to three sources that keeps every element once; or loses and repeats some."""
    hand: list[Expr] = [Source(f"s{number}", draw(SIZES)) for number in range(draw(st.integers(1, 3)))]
    steps = [_permute, _reshape, _split, _gather, _join, _pad, *([_drop, _repeat, _stretch] if loses else [])]
    for step in draw(st.lists(st.sampled_from(steps), max_size=9)):
        hand = step(draw, hand)
    return record(*(entry(f"t{number}", expr, "proved") for number, expr in enumerate(hand)))


def elements(mapping: MappingRecord) -> dict[str, Tensor]:
    """A number for every element of every source, from 1, no two alike."""
    state, first = dict[str, Tensor](), 1
    for weight in mapping.source.weights:
        state[weight.name] = torch.arange(first, first + prod(weight.shape), dtype=torch.float64).reshape(weight.shape)
        first += prod(weight.shape)
    return state


def bits(mapping: MappingRecord) -> dict[str, Tensor]:
    """Any bits as floats, NaNs with a payload among them."""
    generator = torch.Generator().manual_seed(0)
    return {
        weight.name: torch.randint(-(2**31), 2**31, weight.shape, generator=generator).int().view(torch.float32)
        for weight in mapping.source.weights
    }


def _chosen(draw: Draw, hand: list[Expr]) -> tuple[Expr, list[Expr]]:
    place = draw(st.integers(0, len(hand) - 1))
    return hand[place], hand[:place] + hand[place + 1 :]


def _permute(draw: Draw, hand: list[Expr]) -> list[Expr]:
    expr, others = _chosen(draw, hand)
    return [*others, Permute(expr, tuple(draw(st.permutations(range(len(expr.shape))))))]


def _reshape(draw: Draw, hand: list[Expr]) -> list[Expr]:
    expr, others = _chosen(draw, hand)
    shape: Shape = ()
    left = prod(expr.shape)
    while left > 1 and len(shape) < 3:
        shape += (draw(st.sampled_from([size for size in range(1, left + 1) if left % size == 0])),)
        left //= shape[-1]
    return [*others, Reshape(expr, (*shape, left))]


def _split(draw: Draw, hand: list[Expr]) -> list[Expr]:
    expr, others = _chosen(draw, hand)
    axis = draw(st.integers(0, len(expr.shape) - 1))
    size = expr.shape[axis]
    if size == 1:
        return hand
    place = draw(st.integers(1, size - 1))
    return [*others, Slice(expr, axis, 0, place), Slice(expr, axis, place, size)]


def _gather(draw: Draw, hand: list[Expr]) -> list[Expr]:
    expr, others = _chosen(draw, hand)
    return [*others, Gather(expr, expr.shape, tuple(draw(st.permutations(range(prod(expr.shape))))))]


def _join(draw: Draw, hand: list[Expr]) -> list[Expr]:
    if len(hand) < 2:
        return hand
    first, others = _chosen(draw, hand)
    second, others = _chosen(draw, others)
    axis = draw(st.integers(0, len(first.shape) - 1))
    around = prod(first.shape) // first.shape[axis]
    if prod(second.shape) % around:
        return [*others, Concat((_flat(first), _flat(second)))]
    fitting = (*first.shape[:axis], prod(second.shape) // around, *first.shape[axis + 1 :])
    return [*others, Concat((first, Reshape(second, fitting)), axis)]


def _pad(draw: Draw, hand: list[Expr]) -> list[Expr]:
    expr, others = _chosen(draw, hand)
    axis = draw(st.integers(0, len(expr.shape) - 1))
    zeros = Constant(0.0, (*expr.shape[:axis], draw(st.integers(1, 2)), *expr.shape[axis + 1 :]))
    return [*others, Concat(draw(st.sampled_from([(expr, zeros), (zeros, expr)])), axis)]


def _drop(draw: Draw, hand: list[Expr]) -> list[Expr]:
    _, others = _chosen(draw, hand)
    return others or hand


def _repeat(draw: Draw, hand: list[Expr]) -> list[Expr]:
    return [*hand, draw(st.sampled_from(hand))]


def _stretch(draw: Draw, hand: list[Expr]) -> list[Expr]:
    """Elements taken at will: some twice, some not at all."""
    expr, others = _chosen(draw, hand)
    size = prod(expr.shape)
    index = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=2 * size))
    return [*others, Gather(expr, (len(index),), tuple(index))]


def _flat(expr: Expr) -> Expr:
    return Reshape(expr, (prod(expr.shape),))
