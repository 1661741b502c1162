"""Mappings undone: what comes back, as what, and why something does not."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from automatch.apply.evaluate import evaluate
from automatch.apply.fill import fill
from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Function,
    Gather,
    Permute,
    Product,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    text,
)
from automatch.core.graph import Weight
from automatch.core.mapping import Entry, Evidence, LayerPairing, MappingRecord
from automatch.core.mapping_json import dumps, loads
from automatch.errors import InverseError
from automatch.inverse import inverse
from automatch.mapping import Mapping
from tests.apply.expressions import arrays, expressions
from tests.apply.records import PAIRING, entry, record, whole
from tests.inverse.layouts import bits, elements, layouts

W, V = Source("w", (4, 6)), Source("v", (4, 6))
DOMAIN = torch.tensor([0.1, 0.25, 0.7, 0.9], dtype=torch.float64)
"""Numbers that every function takes, and that none of them takes to something that its inverse does not."""


def mapped(*exprs: Expr) -> MappingRecord:
    """A mapping onto targets `t0`, `t1`, ..."""
    return record(*(entry(f"t{number}", expr, "proved") for number, expr in enumerate(exprs)))


def written(mapping: MappingRecord) -> dict[str, str]:
    """Every entry's expression as text, of those that are mapped."""
    return {each.target: text(each.expr) for each in mapping.entries if each.expr is not None}


def undone(*exprs: Expr) -> dict[str, str]:
    """How the sources of expressions come back from targets `t0`, `t1`, ..."""
    return written(inverse(mapped(*exprs)))


def reasons(*exprs: Expr) -> dict[str, str]:
    """Why sources do not come back from targets `t0`, `t1`, ..."""
    back = inverse(mapped(*exprs), partial=True)
    return {each.target: " ".join(each.evidence.reasons) for each in back.entries if each.expr is None}


def there_and_back(mapping: MappingRecord, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a state dict comes back."""
    return fill(inverse(mapping, partial=True), fill(mapping, state))


def raw(state: dict[str, Tensor]) -> dict[str, bytes]:
    """A state dict's bytes."""
    return {key: tensor.numpy().tobytes() for key, tensor in state.items()}


# Any mapping


@settings(deadline=None, max_examples=300)
@given(layouts())
def test_what_is_only_moved_comes_back_to_the_byte(mapping: MappingRecord) -> None:
    state = bits(mapping)
    back = fill(inverse(mapping), fill(mapping, state))
    assert raw(back) == raw(state)
    assert {key: tensor.shape for key, tensor in back.items()} == {key: tensor.shape for key, tensor in state.items()}


@settings(deadline=None, max_examples=300)
@given(layouts(loses=True))
def test_a_weight_comes_back_exactly_where_all_its_elements_are_in_the_target(mapping: MappingRecord) -> None:
    state = elements(mapping)
    left = set(_numbers(fill(mapping, state)))
    there = {key: tensor for key, tensor in state.items() if left.issuperset(tensor.reshape(-1).tolist())}
    assert raw(there_and_back(mapping, state)) == raw(there)


@settings(deadline=None, max_examples=200)
@given(layouts(loses=True))
def test_a_proof_stays_where_every_element_of_the_target_is_one_of_what_comes_back(mapping: MappingRecord) -> None:
    state = elements(mapping)
    filled = fill(mapping, state)
    found = fill(inverse(mapping, partial=True), filled)
    fixed = sorted(_numbers(filled)) != sorted(_numbers(found))
    statuses = {each.status for each in inverse(mapping, partial=True).entries if each.expr is not None}
    assert statuses <= {"structural" if fixed else "proved"}


def _numbers(state: dict[str, Tensor]) -> list[int]:
    return [int(number) for tensor in state.values() for number in tensor.reshape(-1)]


@settings(deadline=None, max_examples=300)
@given(expressions(), expressions())
def test_what_comes_back_of_any_expression_is_what_went_there(first: Expr, second: Expr) -> None:
    mapping = mapped(first, second)
    back = inverse(mapping, partial=True)
    state = {key: torch.from_numpy(each) for key, each in (arrays(first) | arrays(second)).items()}
    for key, tensor in fill(back, fill(mapping, state)).items():
        if any("rounds" in reason for reason in Mapping(back)[key].evidence.reasons):
            known = tensor.isfinite()
            torch.testing.assert_close(tensor[known], state[key][known])
        else:
            assert torch.equal(tensor, state[key]), key


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_the_inverse_of_the_inverse_fills_as_the_mapping_does_where_nothing_is_fixed(mapping: MappingRecord) -> None:
    again = inverse(inverse(mapping), partial=True)
    state = bits(mapping)
    wanted = fill(mapping, state)
    got = fill(again, state)
    assert raw(got) == raw({key: wanted[key] for key in got})


@settings(deadline=None, max_examples=50)
@given(layouts(loses=True))
def test_an_inverse_survives_its_file(mapping: MappingRecord) -> None:
    back = inverse(mapping, partial=True)
    assert loads(dumps(back), "file") == back


# Layouts that checkpoints have


def test_fused_projections_come_apart_and_separate_ones_are_fused() -> None:
    q, k, v = (Source(name, (4, 6)) for name in "qkv")
    assert undone(Concat((q, k, v))) == {"q": "t0[0:4]", "k": "t0[4:8]", "v": "t0[8:12]"}
    fused = Source("qkv", (12, 6))
    assert undone(*(Slice(fused, 0, 4 * n, 4 * n + 4) for n in range(3))) == {"qkv": "cat(t0, t1, t2)"}


def test_heads_that_take_turns_are_seen_as_heads() -> None:
    fused = Reshape(Source("qkv", (24, 6)), (2, 3, 4, 6))
    parts = [Reshape(Slice(fused, 1, n, n + 1), (8, 6)) for n in range(3)]
    assert undone(*parts) == {"qkv": "interleave(t0, t1, t2, groups=2)"}


def test_grouped_queries_are_put_back_among_the_keys_they_share() -> None:
    by_row = Reshape(Source("qkv", (24, 6)), (2, 12, 6))
    by_head = Reshape(Source("qkv", (24, 6)), (2, 4, 3, 6))
    q = Reshape(Slice(by_row, 1, 0, 6), (12, 6))
    k, v = (Reshape(Slice(by_head, 1, n, n + 1), (6, 6)) for n in (2, 3))
    assert undone(q, k, v) == {"qkv": "interleave(t0, t1, t2, groups=2)"}
    state = {"qkv": torch.randn(24, 6)}
    assert raw(there_and_back(mapped(q, k, v), state)) == raw(state)


def test_rotary_pairs_become_halves_again() -> None:
    pairs = Reshape(Permute(Reshape(Source("q", (24, 6)), (3, 2, 4, 6)), (0, 2, 1, 3)), (24, 6))
    assert text(pairs) == "rotary_pairs(q, heads=3)"
    assert undone(pairs) == {"q": "rotary_halves(t0, heads=3)"}


def test_experts_are_stacked_and_taken_from_the_stack() -> None:
    stack = Source("experts", (3, 4, 6))
    assert undone(*(Reshape(Slice(stack, 0, n, n + 1), (4, 6)) for n in range(3))) == {"experts": "stack(t0, t1, t2)"}
    apart = Concat(tuple(Reshape(Source(f"e{n}", (4, 6)), (1, 4, 6)) for n in range(2)))
    assert undone(apart) == {"e0": "t0[0]", "e1": "t0[1]"}


def test_transposes_and_convolutions_turn_back() -> None:
    kernel = Source("kernel", (5, 3, 2, 2))
    assert undone(Permute(W, (1, 0))) == {"w": "t0.T"}
    assert undone(Permute(kernel, (2, 3, 1, 0))) == {"kernel": "t0.permute(3, 2, 0, 1)"}
    assert undone(Reshape(kernel, (5, 12))) == {"kernel": "t0.reshape(5, 3, 2, 2)"}


def test_padding_is_cut_off() -> None:
    assert undone(Concat((W, Constant(0.0, (3, 6))))) == {"w": "t0[0:4]"}
    assert undone(Resize(W, (6, 8), ("pad", "tile"))) == {"w": "t0[1:5, 0:6]"}


def test_units_in_any_order_are_sorted() -> None:
    assert undone(Gather(Source("b", (3,)), (3,), (2, 0, 1))) == {"b": "gather(t0, 3 indices)"}
    back = inverse(mapped(Gather(Source("b", (3,)), (3,), (2, 0, 1)))).entries[0].expr
    assert isinstance(back, Gather)
    assert back.index == (1, 2, 0)


def test_parts_that_no_straight_cut_separates_are_put_together() -> None:
    square = Source("square", (3, 3))
    boxes = [(0, 1, 0, 2), (0, 2, 2, 3), (2, 3, 1, 3), (1, 3, 0, 1), (1, 2, 1, 2)]
    parts = [Slice(Slice(square, 0, a, b), 1, c, d) for a, b, c, d in boxes]
    state = {"square": torch.randn(3, 3)}
    assert raw(there_and_back(mapped(*parts), state)) == raw(state)


def test_views_that_share_no_axes_are_put_together() -> None:
    flat = Source("flat", (12,))
    first, second = Slice(Reshape(flat, (3, 4)), 1, 0, 3), Slice(Reshape(flat, (4, 3)), 1, 1, 3)
    state = {"flat": torch.randn(12)}
    assert raw(there_and_back(mapped(first, second, Slice(flat, 0, 3, 10)), state)) == raw(state)


def test_no_list_of_elements_is_made_of_a_weight_that_no_memory_holds() -> None:
    fused = Source("qkv", (3 * 2**20, 2**20))
    by_head = Reshape(fused, (2**10, 3, 2**10, 2**20))
    parts = [Permute(Reshape(Slice(by_head, 1, n, n + 1), (2**20, 2**20)), (1, 0)) for n in range(3)]
    assert undone(*parts) == {"qkv": "interleave(t0.T, t1.T, t2.T, groups=1024)"}


# Arithmetic


def test_a_power_of_two_is_undone_to_the_byte_and_anything_else_rounds() -> None:
    back = inverse(mapped(Affine(W, -0.25), Affine(V, 1.0, 1.0)))
    assert written(back) == {"w": "-4 * t0", "v": "-1 + t1"}
    assert ["rounds" in " ".join(each.evidence.reasons) for each in back.entries] == [False, True]
    assert [each.status for each in back.entries] == ["proved", "structural"]


@pytest.mark.parametrize("function", get_args(Function))
def test_a_function_is_undone_or_refused(function: Function) -> None:
    mapping = mapped(Elementwise(Source("w", (4,)), function))
    back = there_and_back(mapping, {"w": DOMAIN})
    if function in ("square", "abs"):
        assert back == {}
        assert f"known but for the sign ({function}) in t0" in reasons(mapping.entries[0].expr or W)["w"]
    else:
        torch.testing.assert_close(back["w"], DOMAIN)


def test_a_sum_tells_a_part_once_the_others_are_known() -> None:
    assert undone(Sum((W, V)), V) == {"w": "t0 + -t1", "v": "t1"}
    assert undone(Sum((Constant(1.0, (4, 6)), W))) == {"w": "-1 + t0"}
    assert undone(Sum((V, Source("row", (6,)))), V)["row"] == "(t0 + -t1)[0]"


def test_a_product_tells_a_factor_once_the_others_are_known() -> None:
    g = Source("g", (4, 1))
    assert undone(Product((W, g)), g) == {"w": "t0 / t1", "g": "t1"}
    assert undone(Product((Constant(4.0, (4, 6)), W))) == {"w": "0.25 * t0"}


def test_sums_are_untied_one_after_the_other() -> None:
    a, b, c = (Source(name, (2,)) for name in "abc")
    assert undone(Sum((a, b)), Sum((b, c)), c) == {"a": "t0 + -(t1 + -t2)", "b": "t1 + -t2", "c": "t2"}


# What does not come back


def test_all_that_cannot_come_back_is_listed_with_its_reason() -> None:
    mapping = record(entry("t", Concat((Slice(W, 0, 0, 2), V))), unused=(Weight("spare", (2,), "float32"),))
    with pytest.raises(InverseError) as caught:
        inverse(mapping)
    assert str(caught.value).splitlines() == [
        "the mapping of Old onto New has no inverse: 2 of 3 source weights cannot be recovered; `partial=True` leaves "
        "these unmapped:",
        "  w: only w[0:2] of shape [4, 6] can be told from t",
        "  spare: unused",
    ]
    assert written(inverse(mapping, partial=True)) == {"v": "t[2:6]"}


@pytest.mark.parametrize(
    ("expr", "why"),
    [
        (Sum((W, V)), "computed with v in t0"),
        (Sum((W, W)), "computed with itself in t0"),
        (Product((W, Constant(0.0, (4, 6)))), "multiplied by 0 in t0"),
        (Affine(W, 0.0, 1.0), "multiplied by 0 in t0"),
        (Reduce(W, "mean", (0,)), "reduced to a mean in t0"),
        (Resize(W, (2, 6), ("leading", "keep")), "only w[0:2] of shape [4, 6] can be told from t0"),
        (Resize(W, (2, 6), ("middle", "keep")), "only w[1:3] of shape [4, 6] can be told from t0"),
        (Gather(W, (2,), (3, 16)), "only 2 of 24 elements can be told from t0"),
    ],
)
def test_a_reason_says_what_became_of_a_weight(expr: Expr, why: str) -> None:
    assert why in reasons(expr)["w"]


def test_weight_norm_has_no_inverse() -> None:
    g, v = Source("g", (4, 1)), Source("v", (4, 6))
    norm = Elementwise(Reduce(v, "norm", (1,), keepdim=True), "reciprocal")
    assert {key: why.split(": ")[1] for key, why in reasons(Product((g, v, norm))).items()} == {
        "g": "computed with v in t0",
        "v": "computed with g in t0",
    }


def test_what_is_strewn_too_widely_is_refused() -> None:
    long = Source("long", (10_000,))
    back = reasons(Gather(long, (5_000,), tuple(range(0, 10_000, 2))), Slice(long, 0, 0, 100))
    assert "scattered, in more than 4,096 pieces, in t0" in back["long"]


# The record


def test_a_mapping_turns_round_with_sides_notes_and_pairings() -> None:
    pairing = LayerPairing("old.{i}", "new.{i}", 3, "explicit", (1, 2, 0))
    mapping = replace(mapped(W), chains=(pairing, PAIRING), notes=("odd",))
    back = inverse(mapping)
    assert (back.source, back.target) == (mapping.target, mapping.source)
    assert back.chains == (LayerPairing("new.{i}", "old.{i}", 3, "explicit", (2, 0, 1)),)
    assert back.proof is None
    assert back.notes == (
        "the inverse of the mapping of Old onto New",
        "the pairing of one chain of layers is not one to one and left out",
    )


def test_tied_source_keys_all_come_back_from_what_one_of_them_went_to() -> None:
    mapping = mapped(Source("head", (4, 6)))
    tied = Weight("embed", (4, 6), "float32", "parameter", ("head",))
    back = inverse(replace(mapping, source=replace(mapping.source, weights=(tied,))))
    assert written(back) == {"embed": "t0", "head": "t0"}


def test_the_first_of_several_copies_is_taken_and_the_others_are_named() -> None:
    back = inverse(mapped(Affine(W, 3.0), Slice(W, 0, 0, 2), W, W))
    assert written(back) == {"w": "t2"}
    assert "t0, t1 and t3 repeat it, which is not looked at" in back.entries[0].evidence.reasons
    assert back.entries[0].status == "structural"


def test_an_entry_claims_no_more_than_the_weakest_it_is_made_of() -> None:
    upper = Entry("a", (2, 6), "float32", "guessed", Slice(W, 0, 0, 2), Evidence("names", ("by order",)))
    lower = Entry("b", (2, 6), "float32", "proved", Slice(W, 0, 2, 4), Evidence("colours", ("shown",)))
    (back,) = inverse(record(upper, lower)).entries
    assert (back.status, back.evidence.method) == ("guessed", "names")
    assert "a was a guess of the mapping" in back.evidence.reasons


def test_a_weight_without_elements_comes_back_from_nothing() -> None:
    mapping = record(entry("t", W), unused=(Weight("none", (0, 3), "float32"),))
    back = fill(inverse(mapping), {"t": torch.zeros(4, 6)})
    assert back["none"].shape == (0, 3)


def test_a_mapping_of_every_kind_of_entry_gives_back_what_it_can() -> None:
    back = Mapping(whole()).inverse(partial=True)
    assert [each.target for each in back.entries if each.expr is not None] == [
        *("same", "old"),
        *(f"layers.{layer}.fc.{place}" for layer in (0, 2) for place in (0, 2)),
    ]
    assert prod(back["same"].shape) == 4
    assert evaluate(back["old"].expr or W, {"new": torch.arange(4.0)}.__getitem__).tolist() == [0, 1, 2, 3]
