"""Stacks on the source's side that the target holds as a list: experts taken apart."""

from __future__ import annotations

import pytest
import torch

import automatch
from automatch.core.expr import text
from automatch.core.mapping import Entry
from tests.align.names.keylists import Keys
from tests.align.names.test_stacks import EXPERTS, HIDDEN, WIDTH, align, listed, stacked


def entries(source: Keys, target: Keys) -> dict[str, Entry]:
    old, new = ({key: torch.empty(shape, device="meta") for key, shape in each.items()} for each in (source, target))
    return {entry.target: entry for entry in automatch.match(old, new).entries}


def written(found: dict[str, Entry], key: str) -> str:
    expr = found[key].expr
    assert expr is not None
    return text(expr)


@pytest.mark.parametrize("names", [("w1", "w2", "w3"), ("gate_proj", "down_proj", "up_proj")])
def test_every_expert_takes_its_member_and_every_matrix_its_part(names: tuple[str, str, str]) -> None:
    gate, down, up = names
    found = entries(stacked(), listed(*names))

    stack, here = "layers.1.mlp.experts", "layers.1.moe.experts.2"
    assert written(found, f"{here}.{gate}.weight") == f"{stack}.gate_up_proj[2, 0:6]"
    assert written(found, f"{here}.{up}.weight") == f"{stack}.gate_up_proj[2, 6:12]"
    assert written(found, f"{here}.{down}.weight") == f"{stack}.down_proj[2]"


def test_members_that_are_stored_transposed_are_turned() -> None:
    found = entries(stacked(turned=True), listed())

    here, stack = "layers.0.moe.experts.3.w3.weight", "layers.0.mlp.experts.gate_up_proj"
    assert written(found, here) == f"{stack}[3:4, :, 6:12].permute(0, 2, 1).reshape(6, 8)"


def test_taking_apart_undoes_stacking() -> None:
    old = {key: torch.randn(shape) for key, shape in listed().items()}
    there = automatch.match(old, {key: torch.empty(shape) for key, shape in stacked().items()})
    joined = there.apply(old)
    back = automatch.match(joined, {key: torch.empty(shape) for key, shape in listed().items()}).apply(joined)

    assert {key for key in old if torch.equal(old[key], back[key])} == set(listed())


def test_an_only_part_is_sure_and_one_of_two_is_guessed_with_the_reason() -> None:
    found = align(stacked(), listed())

    assert found["layers.0.moe.experts.0.w2.weight"].status == "structural"
    gate = found["layers.0.moe.experts.0.w1.weight"]
    assert gate.status == "guessed"
    assert any("interleaved" in reason for reason in gate.evidence.reasons)


def test_where_names_do_not_tell_which_of_two_stacks_it_is_the_other_is_a_rival() -> None:
    apart = {key: shape for key, shape in stacked().items() if "gate_up" not in key}
    apart |= {f"layers.{i}.mlp.experts.{name}": (EXPERTS, HIDDEN, WIDTH) for i in range(2) for name in ("p", "r")}
    found = align(apart, listed())

    both = [found[f"layers.0.moe.experts.0.{name}.weight"] for name in ("w1", "w3")]
    assert [each.status for each in both] == ["guessed", "guessed"]
    assert {piece.source for each in both for piece in each.pieces} == {
        "layers.0.mlp.experts.p",
        "layers.0.mlp.experts.r",
    }
    assert all(each.evidence.rivals for each in both)


def test_where_names_tell_which_of_two_stacks_it_is_it_is_sure() -> None:
    apart = {key: shape for key, shape in stacked().items() if "gate_up" not in key}
    apart |= {f"layers.{i}.mlp.experts.{name}": (EXPERTS, HIDDEN, WIDTH) for i in range(2) for name in ("up", "gate")}
    found = align(apart, listed("gate_proj", "down_proj", "up_proj"))

    for name in ("gate", "up"):
        part = found[f"layers.1.moe.experts.1.{name}_proj.weight"]
        assert part.status == "structural"
        assert [piece.source for piece in part.pieces] == [f"layers.1.mlp.experts.{name}"]


def test_a_stack_of_another_length_fills_no_list() -> None:
    target = {key: shape for key, shape in listed().items() if ".experts.3." not in key}

    assert align(stacked(), target)["layers.0.moe.experts.0.w2.weight"].status == "unmapped"


def test_blocks_whose_numbers_are_no_chain_keep_their_own_stacks() -> None:
    def hybrid(keys: Keys) -> Keys:
        return {key.replace("layers.0", "layers.2").replace("layers.1", "layers.5"): size for key, size in keys.items()}

    found = align(hybrid(stacked()), hybrid(listed()))
    for layer in (2, 5):
        pieces = found[f"layers.{layer}.moe.experts.0.w2.weight"].pieces
        assert [piece.source for piece in pieces] == [f"layers.{layer}.mlp.experts.down_proj"]
