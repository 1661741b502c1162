"""Tiny models matched from end to end: which layer, which role, whatever things are called."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automatch.align.policy import LayerPolicy, pair_layers
from automatch.align.structure import align_structure
from automatch.core.alignment import Alignment, Piece
from automatch.core.landmarks import LandmarkGraph
from automatch.core.mapping_json import dumps
from automatch.errors import PolicyError
from tests.support import (
    INPUTS,
    Block,
    EncoderDecoder,
    Net,
    Stack,
    Stages,
    TwoStreams,
    aligned,
    attention,
    disguised,
    landmarks_of,
    linears,
    lowered,
    matched,
    weight,
)

X = weight(2, 3, 6)
Y = weight(2, 3, 8)


def sources(alignment: Alignment) -> dict[str, tuple[str, ...]]:
    """The source keys of every weight that is at work."""
    return {
        assignment.target: tuple(piece.source for piece in assignment.pieces if piece.source is not None)
        for assignment in alignment.assignments
    }


def expected(target: LandmarkGraph, layers: dict[str, tuple[int, ...]]) -> dict[str, tuple[str, ...]]:
    """Every key from its namesake, with the layer's number replaced below the prefixes that are given."""
    return {weight.name: (_from_layer(weight.name, layers),) for weight in target.graph.weights}


def _from_layer(key: str, layers: dict[str, tuple[int, ...]]) -> str:
    for prefix, chosen in layers.items():
        found = re.match(rf"{re.escape(prefix)}\.(\d+)\.", key)
        if found:
            return f"{prefix}.{chosen[int(found[1])]}.{key[found.end() :]}"
    return key


def uniform(source: int, target: int) -> tuple[int, ...]:
    return pair_layers("uniform", source, target)


# Depths


@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize(
    ("source", "target"), [(6, 3), (5, 3), (4, 4), (3, 2), (2, 5), (4, 1), (1, 3), (1, 1)], ids=str
)
def test_layers_are_spread_over_a_teacher_of_another_depth(source: int, target: int, post: bool) -> None:
    student = lowered(Stack, target, post)
    alignment = align_structure(lowered(Stack, source, post), student)
    assert sources(alignment) == expected(student, {"blocks": uniform(source, target)})
    assert {assignment.status for assignment in alignment.assignments} == {"structural"}


@pytest.mark.parametrize(("source", "target"), [((4, 4), (2, 3)), ((4, 4), (1, 2)), ((2, 3), (4, 4)), ((2, 2), (2, 2))])
@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
def test_encoder_and_decoder_are_each_spread(source: tuple[int, int], target: tuple[int, int], post: bool) -> None:
    student = lowered(EncoderDecoder, *target, post)
    layers = {"enc": uniform(source[0], target[0]), "dec": uniform(source[1], target[1])}
    assert sources(align_structure(lowered(EncoderDecoder, *source, post), student)) == expected(student, layers)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((3, 4, 6, 3), (2, 2, 2, 2)),
        ((3, 4, 6, 3), (1, 1, 1, 1)),
        ((3, 4, 3), (1, 2, 1)),
        ((1, 2, 1), (3, 4, 3)),
        ((3, 1, 2), (2, 1, 1)),
    ],
)
def test_stages_of_a_residual_network_are_each_spread(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    student = lowered(Stages, *target)
    layers = {f"stages.{stage}": uniform(*depths) for stage, depths in enumerate(zip(source, target, strict=True))}
    assert sources(align_structure(lowered(Stages, *source), student)) == expected(student, layers)


@pytest.mark.parametrize(("source", "target"), [(4, 3), (4, 2), (2, 3)])
def test_two_streams_are_spread_together(source: int, target: int) -> None:
    student = lowered(TwoStreams, target)
    alignment = align_structure(lowered(TwoStreams, source), student)
    assert sources(alignment) == expected(student, {"blocks": uniform(source, target)})


def wide() -> Block:
    return Block(hidden=24)


def test_a_first_layer_that_differs_comes_from_the_first_layer() -> None:
    student = lowered(Stack, 3, False, wide)
    alignment = align_structure(lowered(Stack, 5, False, wide), student)
    assert sources(alignment) == expected(student, {"blocks": (0, 1, 3)})


# Policies

POLICIES: list[tuple[LayerPolicy, tuple[int, ...]]] = [
    ("uniform", (0, 2)),
    ("first", (0, 1)),
    ("last", (2, 3)),
    ([3, 1], (3, 1)),
]


def four_onto_two(layers: LayerPolicy) -> Alignment:
    return align_structure(lowered(Stack, 4, False), lowered(Stack, 2, False), layers)


@pytest.mark.parametrize(("policy", "layers"), POLICIES, ids=[str(policy) for policy, _ in POLICIES])
def test_the_policy_decides_which_layers_are_taken(policy: LayerPolicy, layers: tuple[int, ...]) -> None:
    alignment = four_onto_two(policy)
    (chain,) = alignment.chains
    assert (chain.source, chain.target, chain.source_depth) == ("blocks.{i}", "blocks.{i}", 4)
    assert (chain.policy, chain.layers) == (policy if isinstance(policy, str) else "explicit", layers)
    assert sources(alignment) == expected(lowered(Stack, 2, False), {"blocks": layers})


def test_a_list_of_layers_that_fits_no_chain_is_refused_with_both_numbers() -> None:
    with pytest.raises(PolicyError, match="has 3 entries, but the target has 2 layers"):
        four_onto_two([0, 1, 2])


def test_a_list_of_layers_beyond_the_source_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"names \[4\], but the source has layers 0 to 3"):
        four_onto_two([0, 4])


def test_a_list_of_layers_for_models_without_layers_is_refused() -> None:
    with pytest.raises(PolicyError, match="has 2 entries, but no repeated blocks could be paired"):
        matched(nn.Linear(6, 6), nn.Linear(6, 6), X, layers=[0, 1])


def test_a_list_of_layers_rules_the_chain_it_fits() -> None:
    student = lowered(EncoderDecoder, 2, 3, False)
    alignment = align_structure(lowered(EncoderDecoder, 4, 4, False), student, [3, 0])
    assert sources(alignment) == expected(student, {"enc": (3, 0), "dec": uniform(4, 3)})
    assert [chain.policy for chain in alignment.chains] == ["explicit", "uniform"]


# What exists on one side only


class WithMemory(Stack):
    """A stack whose blocks also attend to a second input."""

    def __init__(self, depth: int) -> None:
        super().__init__(depth)
        self.blocks = nn.ModuleList(Block(cross=True) for _ in range(depth))

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, memory)
        out: Tensor = self.head(self.norm(x))
        return out


def test_cross_attention_that_the_student_lacks_disturbs_nothing() -> None:
    student = lowered(Stack, 2, False)
    alignment = align_structure(landmarks_of(WithMemory(4), X, Y), student)
    assert sources(alignment) == expected(student, {"blocks": (0, 2)})


def test_a_student_with_cross_attention_gets_none_from_a_teacher_without() -> None:
    student = Net(lambda m, x, memory: m.b(m.a(x, memory), memory), a=Block(cross=True), b=Block(cross=True))
    teacher = Net(lambda m, x, memory: m.b(m.a(x)), a=Block(), b=Block())
    for assignment in aligned(teacher, student, Y, weight(2, 5, 8)).assignments:
        key = assignment.target
        if ".cross." in key:
            assert assignment.status == "unmapped", key
        elif ".n2." not in key:  # the norm of the branch that is not there
            assert [piece.source for piece in assignment.pieces] == [key]


def modulated() -> Net:
    def compute(m: Net, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = m.mod(c)[:, None].chunk(2, -1)
        out: Tensor = x + m.att(m.norm(x) * (1 + scale) + shift)
        return out

    norm = nn.LayerNorm(8, elementwise_affine=False)
    return Net(compute, mod=nn.Linear(8, 16), norm=norm, att=attention())


def plain() -> Net:
    return Net(lambda m, x, c: x + m.att(m.norm(x)), norm=nn.LayerNorm(8), att=attention())


def test_modulations_of_one_side_leave_the_projections_alone() -> None:
    teacher, student = (
        Net(lambda m, x, c: m.c(m.b(m.a(x, c), c), c), a=block(), b=block(), c=block()) for block in (modulated, plain)
    )
    found = sources(aligned(teacher, student, Y, weight(2, 8)))
    assert {key for key in found if ".att." in key} == {key for key in student.state_dict() if ".att." in key}
    assert all(value == ((key,) if ".att." in key else ()) for key, value in found.items())


# Names and order

DISGUISED: dict[str, tuple[type[nn.Module], tuple[Any, ...], tuple[Any, ...]]] = {
    "stack": (Stack, (4, False), (2, False)),
    "post-norm stack": (Stack, (3, True), (2, True)),
    "encoder and decoder": (EncoderDecoder, (2, 3, False), (2, 2, False)),
    "stages": (Stages, (3, 4, 3), (1, 2, 1)),
    "two streams": (TwoStreams, (3,), (2,)),
}


@pytest.mark.parametrize(("kind", "source", "target"), DISGUISED.values(), ids=list(DISGUISED))
def test_names_and_the_order_of_registration_do_not_matter(
    kind: type[nn.Module], source: tuple[Any, ...], target: tuple[Any, ...]
) -> None:
    (teacher, ours), (student, theirs) = disguised(kind(*source), 1), disguised(kind(*target), 2)
    disguise = align_structure(landmarks_of(teacher, *INPUTS[kind]), landmarks_of(student, *INPUTS[kind]))
    renamed = {
        theirs[assignment.target]: ([_name(piece, ours) for piece in assignment.pieces], assignment.status)
        for assignment in disguise.assignments
    }
    for assignment in align_structure(lowered(kind, *source), lowered(kind, *target)).assignments:
        if assignment.target.endswith("num_batches_tracked"):
            continue  # no operator reads it: its name is all there is
        expected = [_name(piece) for piece in assignment.pieces], assignment.status
        assert renamed[assignment.target] == expected, assignment.target


def _name(piece: Piece, names: dict[str, str] | None = None) -> str | None:
    return piece.source if names is None or piece.source is None else names[piece.source]


def test_the_disguise_changes_every_name_and_the_order_but_not_the_function() -> None:
    model = Stack(2)
    changed, names = disguised(model, 3)
    assert sorted(names.values()) == sorted(model.state_dict())
    assert list(names.values()) != list(model.state_dict())
    assert set(names).isdisjoint(model.state_dict())
    assert torch.equal(changed(X), model(X))


def test_the_same_models_give_the_same_bytes() -> None:
    first, second = (matched(Stack(3), Stack(2), X) for _ in range(2))
    assert dumps(first.record) == dumps(second.record)


# What is not a chain


def test_a_plain_network_is_paired_layer_by_layer() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 6))
    alignment = aligned(model, model, X)
    assert sources(alignment) == {key: (key,) for key in model.state_dict()}
    assert alignment.chains == ()


def test_a_shared_module_is_paired_once() -> None:
    model = Net(lambda m, x: m.b(torch.relu(m.a(torch.relu(m.a(x))))), **linears("ab"))
    assert sources(aligned(model, model, Y)) == {key: (key,) for key in model.state_dict()}


def test_notes_name_operators_that_no_rule_understands() -> None:
    notes = aligned(nn.GRU(8, 8, batch_first=True), attention(), Y).notes
    assert notes == ("source: operators that no rule understands: gru",)
