"""Lists of weights on the source's side that the target holds as one: stacked experts."""

from __future__ import annotations

import pytest

from automatch.align.names import align_names
from automatch.core.alignment import Assignment, View
from tests.align.names.keylists import Keys, graph

WIDTH, HIDDEN, EXPERTS = 8, 6, 4


def listed(gate: str = "w1", down: str = "w2", up: str = "w3") -> Keys:
    keys: Keys = {}
    for layer in range(2):
        block = f"layers.{layer}"
        keys |= {f"{block}.attn.q.weight": (12, WIDTH), f"{block}.attn.o.weight": (WIDTH, 12)}
        keys |= {f"{block}.moe.gate.weight": (EXPERTS, WIDTH)}
        for expert in range(EXPERTS):
            inside = f"{block}.moe.experts.{expert}"
            keys |= {f"{inside}.{gate}.weight": (HIDDEN, WIDTH), f"{inside}.{up}.weight": (HIDDEN, WIDTH)}
            keys |= {f"{inside}.{down}.weight": (WIDTH, HIDDEN)}
    return dict(sorted(keys.items()))


def stacked(turned: bool = False) -> Keys:
    keys: Keys = {}
    for layer in range(2):
        block = f"layers.{layer}"
        keys |= {f"{block}.attn.q.weight": (12, WIDTH), f"{block}.attn.o.weight": (WIDTH, 12)}
        keys |= {f"{block}.mlp.gate.weight": (EXPERTS, WIDTH)}
        joined, down = (2 * HIDDEN, WIDTH), (WIDTH, HIDDEN)
        keys[f"{block}.mlp.experts.gate_up_proj"] = (EXPERTS, *(joined[::-1] if turned else joined))
        keys[f"{block}.mlp.experts.down_proj"] = (EXPERTS, *(down[::-1] if turned else down))
    return keys


def align(source: Keys, target: Keys) -> dict[str, Assignment]:
    return {found.target: found for found in align_names(graph(source), graph(target)).assignments}


@pytest.mark.parametrize("names", [("w1", "w2", "w3"), ("gate_proj", "down_proj", "up_proj")])
def test_experts_are_stacked_in_the_order_of_their_numbers(names: tuple[str, str, str]) -> None:
    gate, down, up = names
    found = align(listed(*names), stacked())

    of_layer = "layers.1.moe.experts"
    joined, alone = (found[f"layers.1.mlp.experts.{name}_proj"] for name in ("gate_up", "down"))
    assert [piece.source for piece in alone.pieces] == [f"{of_layer}.{i}.{down}.weight" for i in range(EXPERTS)]
    assert [piece.source for piece in joined.pieces] == [
        f"{of_layer}.{i}.{name}.weight" for i in range(EXPERTS) for name in (gate, up)
    ]
    assert joined.view == View(shape=(EXPERTS * 2 * HIDDEN, WIDTH))


def test_a_stack_of_one_kind_is_sure_and_one_of_two_kinds_is_guessed() -> None:
    found = align(listed(), stacked())

    assert found["layers.0.mlp.experts.down_proj"].status == "structural"
    assert found["layers.0.mlp.experts.gate_up_proj"].status == "guessed"
    assert any("interleaved" in reason for reason in found["layers.0.mlp.experts.gate_up_proj"].evidence.reasons)


def test_a_stack_may_hold_its_members_transposed() -> None:
    found = align(listed(), stacked(turned=True))["layers.0.mlp.experts.gate_up_proj"]

    assert found.view == View(axes=(0, 2, 1), shape=(EXPERTS * 2 * HIDDEN, WIDTH))
    assert len(found.pieces) == 2 * EXPERTS


def test_a_list_of_another_length_fills_no_stack() -> None:
    source = {key: shape for key, shape in listed().items() if ".experts.3." not in key}
    found = align(source, stacked())["layers.0.mlp.experts.down_proj"]

    assert found.status == "unmapped"


def test_layers_are_not_stacked_into_a_weight_that_happens_to_be_as_long() -> None:
    table: Keys = {"types.weight": (2, WIDTH)}
    found = align({f"layers.{i}.norm.scale": (WIDTH,) for i in range(2)} | listed(), stacked() | table)

    assert found["types.weight"].status == "unmapped"
