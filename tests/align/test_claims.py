from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.align.structure import align_structure
from automatch.core.alignment import Alignment, Assignment, Piece, Region, View
from tests.support import Net, Stack, aligned, attend, attention, linears, lowered, merged, weight

X = weight(2, 3, 8)
IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


def of(alignment: Alignment, target: str) -> Assignment:
    (found,) = (assignment for assignment in alignment.assignments if assignment.target == target)
    return found


def sources(alignment: Alignment) -> dict[str, list[str | None]]:
    return {assignment.target: [piece.source for piece in assignment.pieces] for assignment in alignment.assignments}


def fused() -> Net:
    return Net(lambda m, x: m.o(attend(*m.p(x).chunk(3, -1))), p=nn.Linear(8, 24), o=nn.Linear(8, 8))


def fused_per_head() -> Net:
    def compute(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.p(x).view(2, 3, 2, 12).transpose(1, 2).chunk(3, -1)
        out: Tensor = m.o(merged(F.scaled_dot_product_attention(q, k, v)))
        return out

    return Net(compute, p=nn.Linear(8, 24), o=nn.Linear(8, 8))


# Pieces


def test_a_weight_takes_all_of_the_weight_in_its_role() -> None:
    found = of(aligned(attention(), attention(), X), "q.weight")
    assert (found.pieces, found.view, found.form) == ((Piece("q.weight"),), View(), "matrix")
    assert (found.status, found.evidence.method) == ("structural", "structure")
    assert found.evidence.reasons


def test_every_weight_in_use_is_assigned_once() -> None:
    alignment = aligned(attention(), attention(), X)
    targets = [assignment.target for assignment in alignment.assignments]
    assert sorted(targets) == sorted(attention().state_dict())


def test_a_fused_weight_takes_its_parts_in_its_order() -> None:
    alignment = aligned(attention(), fused(), X)
    found = of(alignment, "p.weight")
    assert found.pieces == tuple(Piece(f"{role}.weight", size=8) for role in "qkv")
    assert (found.axis, found.groups) == (0, 1)
    assert of(alignment, "p.bias").pieces == tuple(Piece(f"{role}.bias", size=8) for role in "qkv")


def test_a_weight_fused_per_head_takes_its_parts_in_groups() -> None:
    found = of(aligned(attention(), fused_per_head(), X), "p.weight")
    assert [(piece.source, piece.size) for piece in found.pieces] == [
        ("q.weight", 8),
        ("k.weight", 8),
        ("v.weight", 8),
    ]
    assert (found.axis, found.groups) == (0, 2)


@pytest.mark.parametrize(("source", "groups", "size"), [(fused(), 1, 8), (fused_per_head(), 2, 4)])
def test_a_part_of_a_fused_weight_is_taken_by_its_rows(source: Net, groups: int, size: int) -> None:
    alignment = aligned(source, attention(), X)
    for place, role in enumerate("qkv"):
        rows = Region(0, place * size, (place + 1) * size, groups)
        assert of(alignment, f"{role}.weight").pieces == (Piece("p.weight", View(rows=rows)),)
        assert of(alignment, f"{role}.bias").pieces == (Piece("p.bias", View(rows=rows)),)


def test_both_sides_views_are_kept() -> None:
    stored = Net(lambda m, x: F.relu(F.linear(x, m.w)), w=weight(5, 8))
    transposed = Net(lambda m, x: F.relu(x @ m.w), w=weight(8, 5))
    found = of(aligned(transposed, stored, X), "w")
    assert (found.view, found.pieces) == (View(), (Piece("w", View(axes=(1, 0))),))
    found = of(aligned(stored, transposed, X), "w")
    assert (found.view, found.pieces) == (View(axes=(1, 0)), (Piece("w", View()),))


def test_a_weight_that_is_sliced_for_two_products_takes_both() -> None:
    source = Net(lambda m, x: m.a(x) * 2 + F.relu(m.b(x)), **linears("ab", bias=False))
    target = Net(lambda m, x: F.linear(x, m.w[:8]) * 2 + F.relu(F.linear(x, m.w[8:])), w=weight(16, 8))
    found = of(aligned(source, target, X), "w")
    assert found.pieces == (Piece("a.weight", size=8), Piece("b.weight", size=8))


# Constants, where the source has nothing and needs nothing


@pytest.mark.parametrize(
    ("source", "constants"),
    [
        (nn.LayerNorm(8, elementwise_affine=False), {"0.weight": 1.0, "0.bias": 0.0}),
        (nn.LayerNorm(8, bias=False), {"0.bias": 0.0}),
        (nn.RMSNorm(8), {"0.bias": 0.0}),
        (nn.LayerNorm(8), {}),
    ],
    ids=["no weights", "no bias", "rms norm", "both"],
)
def test_a_norm_without_weights_means_ones_and_zeros(source: nn.Module, constants: dict[str, float]) -> None:
    alignment = aligned(nn.Sequential(source, nn.Linear(8, 8)), nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)), X)
    for key in ("0.weight", "0.bias"):
        found = of(alignment, key)
        (piece,) = found.pieces
        assert (piece.source, piece.value) == ((None, constants[key]) if key in constants else (key, 0.0))
        assert found.status == "structural"
    for key in constants:
        assert of(alignment, key).evidence.reasons[0].startswith("the source's norm has no ")


def test_statistics_that_the_source_does_not_keep_start_as_zeros_and_ones() -> None:
    source = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    target = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    alignment = aligned(source, target, weight(1, 3, 8, 8))
    assert of(alignment, "1.running_mean").pieces == (Piece(None, value=0.0),)
    assert of(alignment, "1.running_var").pieces == (Piece(None, value=1.0),)
    assert of(alignment, "1.weight").pieces == (Piece("1.weight"),)


def test_a_product_without_bias_means_zeros() -> None:
    alignment = aligned(nn.Linear(8, 5, bias=False), nn.Linear(8, 5), X)
    found = of(alignment, "bias")
    assert (found.pieces, found.status) == ((Piece(None, value=0.0),), "structural")
    assert found.evidence.reasons[0] == "the source's product has no bias: zeros keep it so"


def test_a_bias_that_only_one_part_lacks_is_zeros_there() -> None:
    source = attention()
    source.k = nn.Linear(8, 8, bias=False)
    pieces = of(aligned(source, fused(), X), "p.bias").pieces
    assert pieces == (Piece("q.bias", size=8), Piece(None, size=8), Piece("v.bias", size=8))


# Refusals


def test_a_table_that_the_source_lacks_is_refused_and_the_rest_is_not_disturbed() -> None:
    parts = {"e": nn.Embedding(10, 8), "l": nn.Linear(8, 8)}
    source = Net(lambda m, i: F.relu(m.l(m.e(i))), **parts)
    target = Net(lambda m, i: F.relu(m.l(m.e(i) + m.pos[: i.shape[1]])), **parts, pos=weight(6, 8))
    alignment = aligned(source, target, IDS)
    assert sources(alignment) == {
        "e.weight": ["e.weight"],
        "pos": [],
        "l.weight": ["l.weight"],
        "l.bias": ["l.bias"],
    }
    refused = of(alignment, "pos")
    assert refused.status == "unmapped"
    assert refused.evidence.reasons == ("nothing in the source plays the role of this embedding",)


def test_a_scale_that_the_source_lacks_is_refused() -> None:
    source = Net(lambda m, x: x + m.l(x), l=nn.Linear(8, 8))
    target = Net(lambda m, x: x + m.l(x) * m.g, l=nn.Linear(8, 8), g=weight(8))
    alignment = aligned(source, target, X)
    assert sources(alignment) == {"l.weight": ["l.weight"], "l.bias": ["l.bias"], "g": []}
    assert of(alignment, "g").evidence.reasons == ("nothing in the source plays the role of this mul",)


def test_an_operator_of_another_kind_is_refused_by_its_name() -> None:
    alignment = aligned(nn.GRU(8, 8, batch_first=True), nn.LSTM(8, 8, batch_first=True), X)
    assert {assignment.status for assignment in alignment.assignments} == {"unmapped"}
    reasons = {assignment.evidence.reasons for assignment in alignment.assignments}
    assert reasons == {("nothing in the source plays the role of this operator lstm",)}
    assert any("gru" in note for note in alignment.notes)
    assert any("lstm" in note for note in alignment.notes)


def test_an_operator_that_no_rule_knows_still_pairs_with_itself() -> None:
    alignment = aligned(nn.LSTM(8, 8, batch_first=True), nn.LSTM(8, 8, batch_first=True), X)
    assert all(assignment.pieces == (Piece(assignment.target),) for assignment in alignment.assignments)


def test_parts_that_do_not_cover_the_weight_are_refused() -> None:
    source = Net(lambda m, x: m.a(x) * 2 + F.relu(m.b(x)), **linears("ab", bias=False))
    target = Net(lambda m, x: F.linear(x, m.w[:8]) * 2 + F.relu(F.linear(x, m.w[8:16])), w=weight(24, 8))
    found = of(aligned(source, target, X), "w")
    assert (found.status, found.pieces) == ("unmapped", ())
    assert found.evidence.reasons == ("its parts are used in a way that does not add up to the whole weight",)


def test_layers_stacked_in_one_target_weight_are_refused_with_the_reason() -> None:
    source = Net(lambda m, x: m.b(F.relu(m.a(x))), **linears("ab"))
    target = Net(lambda m, x: F.linear(F.relu(F.linear(x, m.w[0])), m.w[1]), w=weight(2, 8, 8))
    found = of(aligned(source, target, X), "w")
    assert found.status == "unmapped"
    assert "slice" in found.evidence.reasons[0]


def test_layers_stacked_in_one_source_weight_are_taken_apart() -> None:
    source = Net(lambda m, x: F.linear(F.relu(F.linear(x, m.w[0])), m.w[1]), w=weight(2, 8, 8))
    target = Net(lambda m, x: m.b(F.relu(m.a(x))), **linears("ab", bias=False))
    alignment = aligned(source, target, X)
    for place, key in enumerate(("a.weight", "b.weight")):
        view = View(regions=(Region(0, place, place + 1),), shape=(8, 8))
        assert of(alignment, key).pieces == (Piece("w", view),)


def test_a_weight_that_no_output_needs_is_not_assigned() -> None:
    model = Net(lambda m, x: m.a(x), **linears("ab"))
    assert sources(aligned(model, model, X)) == {"a.weight": ["a.weight"], "a.bias": ["a.bias"]}


# How sure


def tied() -> Net:
    model = Net(lambda m, i: m.h(F.relu(m.l(m.e(i)))), **_language_parts())
    model.h.weight = model.e.weight
    return model


def untied() -> Net:
    return Net(lambda m, i: m.h(F.relu(m.l(m.e(i)))), **_language_parts())


def _language_parts() -> dict[str, nn.Module]:
    return {"e": nn.Embedding(10, 8), "l": nn.Linear(8, 8), "h": nn.Linear(8, 10, bias=False)}


def test_a_tied_weight_from_two_sources_is_a_guess_that_names_the_other() -> None:
    found = of(aligned(untied(), tied(), IDS), "e.weight")
    assert (found.status, found.pieces) == ("guessed", (Piece("e.weight"),))
    assert ("h.weight",) in [rival.sources for rival in found.evidence.rivals]


@pytest.mark.parametrize("target", [tied(), untied()], ids=["tied", "untied"])
def test_a_tied_source_leaves_no_doubt(target: Net) -> None:
    alignment = aligned(tied(), target, IDS)
    assert {assignment.status for assignment in alignment.assignments} == {"structural"}
    assert of(alignment, "e.weight").pieces == (Piece("e.weight"),)


def test_twins_that_only_their_order_tells_apart_are_guesses_that_name_each_other() -> None:
    source, target = (
        Net(
            lambda m, x, names=names: m.o(F.relu(getattr(m, names[0])(x)) + F.relu(getattr(m, names[1])(x))),
            **linears([*names, "o"]),
        )
        for names in ("ab", "pq")
    )
    alignment = aligned(source, target, X)
    assert {of(alignment, f"{name}.weight").status for name in "pq"} == {"guessed"}
    assert [rival.sources for rival in of(alignment, "p.weight").evidence.rivals] == [("b.weight",)]
    assert of(alignment, "o.weight").status == "structural"


def test_a_weight_that_was_not_followed_to_its_operator_is_taken_as_stored_as_a_guess() -> None:
    source, target = (nn.utils.parametrizations.weight_norm(nn.Linear(8, 5)) for _ in range(2))
    alignment = aligned(source, target, X)
    for part in ("original0", "original1"):
        found = of(alignment, f"parametrizations.weight.{part}")
        assert (found.status, found.view) == ("guessed", View())
        assert found.pieces == (Piece(f"parametrizations.weight.{part}"),)
        assert "taken as stored" in found.evidence.reasons[0]
    assert of(alignment, "bias").status == "structural"


def test_the_runner_up_is_listed_with_how_far_behind_it_is() -> None:
    found = of(aligned(attention(), attention(), X), "o.weight")
    assert found.evidence.margin is not None
    assert found.evidence.margin > 0
    (rival,) = found.evidence.rivals
    assert rival.sources[0] in ("q.weight", "k.weight", "v.weight")
    assert f"{found.evidence.margin:.2f}" in rival.reason


def test_evidence_names_the_source_layer_inside_chains_only() -> None:
    alignment = align_structure(lowered(Stack, 4, False), lowered(Stack, 2, False))
    layers = {assignment.target: assignment.evidence.source_layer for assignment in alignment.assignments}
    assert {layers[key] for key in layers if key.startswith("blocks.0.")} == {0}
    assert {layers[key] for key in layers if key.startswith("blocks.1.")} == {2}
    assert {layers[key] for key in layers if not key.startswith("blocks.")} == {None}


@pytest.mark.parametrize(("key", "word"), [("q.weight", "query"), ("k.weight", "key"), ("v.weight", "value")])
def test_reasons_say_what_both_feed(key: str, word: str) -> None:
    reasons = of(aligned(attention(), attention(), X), key).evidence.reasons
    assert any("feed" in reason and word in reason for reason in reasons)
