"""Lifting of hand-made mappings: what numbers and sizes become, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Expr,
    Gather,
    Permute,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    text,
)
from automatch.core.graph import Graph, Node, Shape
from automatch.core.mapping import ComparedOutput, Entry, Evidence, MappingRecord, ProofRecord, Rival, Shown, Status
from automatch.errors import LiftError
from automatch.lift import lift
from tests.lift.conversions import names, side


def graph(shapes: Mapping[str, Shape], sizes: tuple[Shape, ...] = ()) -> Graph:
    """Weights, and views of these sizes that the model's code makes."""
    views = tuple(Node(place, "view", args=(shape,), shape=shape) for place, shape in enumerate(sizes))
    return replace(names(*shapes.items()), nodes=views)


def record(source: Graph, target: Graph, exprs: Mapping[str, Expr | None], status: Status = "proved") -> MappingRecord:
    shapes = {weight.name: weight.shape for weight in target.weights}
    entries = [
        Entry(key, shapes[key], "float32", status if expr is not None else "unmapped", expr, Evidence("structure"))
        for key, expr in exprs.items()
    ]
    return MappingRecord(side(source), side(target), tuple(entries))


def lifted(
    exprs: Mapping[str, Expr | None],
    twin: tuple[Mapping[str, Shape], Mapping[str, Shape]],
    full: tuple[Mapping[str, Shape], Mapping[str, Shape]],
    sizes: tuple[tuple[Shape, ...], tuple[Shape, ...]] = ((), ()),
) -> dict[str, str]:
    """The lifted expressions as text, by target key."""
    small = graph(twin[0], sizes[0]), graph(twin[1])
    large = graph(full[0], sizes[1]), graph(full[1])
    found = lift(record(*small, exprs), small, large)
    return {entry.target: "unmapped" if entry.expr is None else text(entry.expr) for entry in found.entries}


def layers(pattern: str, depth: int, shape: Shape) -> dict[str, Shape]:
    return {pattern.format(i): shape for i in range(depth)}


def test_a_layer_s_number_is_replaced() -> None:
    exprs = {f"h.{i}.w": Source(f"layers.{i}.weight", (3,)) for i in range(2)}
    found = lifted(
        exprs,
        (layers("layers.{}.weight", 2, (3,)), layers("h.{}.w", 2, (3,))),
        (layers("layers.{}.weight", 4, (8,)), layers("h.{}.w", 4, (8,))),
    )
    assert found == {f"h.{i}.w": f"layers.{i}.weight" for i in range(4)}


def test_numbers_may_be_offset() -> None:
    exprs = {f"h.{i}.w": Source(f"layers.{i + 1}.w", (3,)) for i in range(2)}
    old = {f"layers.{i + 1}.w": (3,) for i in range(2)}
    new = {f"layers.{i + 1}.w": (8,) for i in range(3)}
    found = lifted(exprs, (old, layers("h.{}.w", 2, (3,))), (new, layers("h.{}.w", 3, (8,))))
    assert found["h.2.w"] == "layers.3.w"


def test_an_offset_that_is_the_twin_s_depth_is_found_out() -> None:
    """Decoder layers numbered after the encoder's: the offset grows with the depth."""

    def shapes(depth: int, size: int) -> tuple[dict[str, Shape], dict[str, Shape]]:
        return layers("l.{}.w", 2 * depth, (size,)), {
            **layers("enc.{}.w", depth, (size,)),
            **layers("dec.{}.w", depth, (size,)),
        }

    exprs = {f"enc.{i}.w": Source(f"l.{i}.w", (3,)) for i in range(2)}
    exprs |= {f"dec.{i}.w": Source(f"l.{i + 2}.w", (3,)) for i in range(2)}
    with pytest.raises(LiftError, match="2 source keys are used otherwise than in the twin") as error:
        lifted(exprs, shapes(2, 3), shapes(3, 8))
    assert "l.{2..4}" not in str(error.value)
    assert "l.5.w: its entries are read never at full size, but once in the twin" in str(error.value)


def test_every_second_number_needs_three_layers() -> None:
    def shapes(depth: int) -> tuple[dict[str, Shape], dict[str, Shape]]:
        return layers("l.{}.w", depth, (3,)), {f"net.{2 * i}.w": (3,) for i in range(depth)}

    three = {f"net.{2 * i}.w": Source(f"l.{i}.w", (3,)) for i in range(3)}
    assert lifted(three, shapes(3), shapes(5))["net.8.w"] == "l.4.w"
    two = dict(list(three.items())[:2])
    with pytest.raises(LiftError, match=r"not made alike \(net\.0\.w, net\.2\.w\)"):
        lifted(two, shapes(2), shapes(5))


def test_layers_in_reverse_are_refused() -> None:
    exprs = {f"h.{i}.w": Source(f"l.{1 - i}.w", (3,)) for i in range(2)}
    both = layers("l.{}.w", 2, (3,)), layers("h.{}.w", 2, (3,))
    with pytest.raises(LiftError, match=r"h\.\{2\.\.3\}\.w: the twin's layers are not made alike"):
        lifted(exprs, both, (layers("l.{}.w", 4, (3,)), layers("h.{}.w", 4, (3,))))


def test_layers_that_differ_by_parity_are_refused() -> None:
    exprs: dict[str, Expr] = {
        f"h.{i}.w": Source(f"l.{i}.w", (3, 3)) if i % 2 else Permute(Source(f"l.{i}.w", (3, 3)), (1, 0))
        for i in range(4)
    }
    with pytest.raises(LiftError, match=r"h\.\{4\.\.5\}\.w: the twin's layers are not made alike"):
        lifted(
            exprs,
            (layers("l.{}.w", 4, (3, 3)), layers("h.{}.w", 4, (3, 3))),
            (layers("l.{}.w", 6, (8, 8)), layers("h.{}.w", 6, (8, 8))),
        )


def test_one_layer_is_too_few() -> None:
    with pytest.raises(LiftError, match=r"h\.1\.w: the twin has such a key with number 0 only.*two layers"):
        lifted(
            {"h.0.w": Source("l.0.w", (3,))},
            (layers("l.{}.w", 1, (3,)), layers("h.{}.w", 1, (3,))),
            (layers("l.{}.w", 4, (3,)), layers("h.{}.w", 4, (3,))),
        )


def test_slots_of_a_sequence_keep_their_own_rules() -> None:
    def shapes(depth: int, d: int, f: int) -> tuple[dict[str, Shape], dict[str, Shape]]:
        up, down = layers("l.{}.up", depth, (f, d)), layers("l.{}.down", depth, (d, f))
        return {**up, **down}, {**layers("h.{}.ffn.0.w", depth, (f, d)), **layers("h.{}.ffn.2.w", depth, (d, f))}

    exprs = {f"h.{i}.ffn.0.w": Source(f"l.{i}.up", (5, 3)) for i in range(2)}
    exprs |= {f"h.{i}.ffn.2.w": Source(f"l.{i}.down", (3, 5)) for i in range(2)}
    found = lifted(exprs, shapes(2, 3, 5), shapes(4, 8, 24))
    assert (found["h.3.ffn.0.w"], found["h.3.ffn.2.w"]) == ("l.3.up", "l.3.down")


def test_entries_of_a_stack_follow_the_layer() -> None:
    exprs: dict[str, Expr] = {
        f"h.{i}.w": Reshape(Slice(Source("stack", (2, 3, 5)), 0, i, i + 1), (3, 5)) for i in range(2)
    }
    found = lifted(
        exprs,
        ({"stack": (2, 3, 5)}, layers("h.{}.w", 2, (3, 5))),
        ({"stack": (4, 7, 9)}, layers("h.{}.w", 4, (7, 9))),
    )
    assert found["h.3.w"] == "stack[3]"


def test_rows_of_a_flat_stack_follow_the_layer() -> None:
    exprs = {f"h.{i}.w": Slice(Source("stack", (6, 5)), 0, 3 * i, 3 * i + 3) for i in range(2)}
    found = lifted(
        exprs,
        ({"stack": (6, 5)}, layers("h.{}.w", 2, (3, 5))),
        ({"stack": (28, 9)}, layers("h.{}.w", 4, (7, 9))),
    )
    assert found["h.3.w"] == "stack[21:28]"


def test_all_layers_are_stacked_however_many_there_are() -> None:
    def stack(depth: int) -> Expr:
        return Concat(tuple(Reshape(Source(f"l.{i}.w", (3,)), (1, 3)) for i in range(depth)))

    found = lifted(
        {"stack": stack(2)},
        (layers("l.{}.w", 2, (3,)), {"stack": (2, 3)}),
        (layers("l.{}.w", 5, (8,)), {"stack": (5, 8)}),
    )
    assert found["stack"] == "stack(l.0.w, l.1.w, l.2.w, l.3.w, l.4.w)"


def test_turns_of_several_parts_are_repeated() -> None:
    parts = tuple(Source(f"e.{e}.{name}", (2, 3)) for e in range(3) for name in ("gate", "up"))

    def shapes(count: int, f: int, d: int) -> dict[str, Shape]:
        return {f"e.{e}.{name}": (f, d) for e in range(count) for name in ("gate", "up")}

    found = lifted({"all": Concat(parts)}, (shapes(3, 2, 3), {"all": (12, 3)}), (shapes(4, 7, 8), {"all": (56, 8)}))
    assert found["all"].startswith("cat(e.0.gate, e.0.up, e.1.gate")
    assert found["all"].endswith("e.3.gate, e.3.up)")


def test_only_some_of_the_layers_are_not_taken_for_all() -> None:
    exprs = {"pair": Concat((Source("l.0.w", (3,)), Source("l.1.w", (3,))))}
    found = lifted(exprs, (layers("l.{}.w", 3, (3,)), {"pair": (6,)}), (layers("l.{}.w", 5, (8,)), {"pair": (16,)}))
    assert found["pair"] == "cat(l.0.w, l.1.w)"


def test_a_fused_source_is_cut_where_its_parts_end() -> None:
    fused = Source("qkv", (10, 5))
    exprs = {"q": Slice(fused, 0, 0, 6), "k": Slice(fused, 0, 6, 8), "v": Slice(fused, 0, 8, 10)}
    shapes: dict[str, Shape] = {"q": (6, 5), "k": (2, 5), "v": (2, 5)}
    large: dict[str, Shape] = {"q": (32, 24), "k": (8, 24), "v": (8, 24)}
    found = lifted(exprs, ({"qkv": (10, 5)}, shapes), ({"qkv": (48, 24)}, large))
    assert found == {"q": "qkv[0:32]", "k": "qkv[32:40]", "v": "qkv[40:48]"}


def test_a_sum_that_does_not_come_out_is_refused() -> None:
    fused = Source("qkv", (10, 5))
    exprs = {"q": Slice(fused, 0, 0, 6), "k": Slice(fused, 0, 6, 10)}
    large: dict[str, Shape] = {"q": (32, 24), "k": (8, 24)}
    with pytest.raises(LiftError, match=r"q: no sizes fit: its twin has shape \[6, 5\], it has \[32, 24\]"):
        lifted(exprs, ({"qkv": (10, 5)}, {"q": (6, 5), "k": (4, 5)}), ({"qkv": (48, 24)}, large))


@pytest.mark.parametrize(("rows", "written"), [(104, "cat(embed, zeros(4, 24))"), (100, "embed")])
def test_padding_takes_what_is_left(rows: int, written: str) -> None:
    exprs = {"wte": Concat((Source("embed", (13, 5)), Constant(0.0, (3, 5))))}
    found = lifted(exprs, ({"embed": (13, 5)}, {"wte": (16, 5)}), ({"embed": (100, 24)}, {"wte": (rows, 24)}))
    assert found["wte"] == written


def test_padding_is_cut_off() -> None:
    exprs = {"wte": Slice(Source("embed", (16, 5)), 0, 0, 13)}
    found = lifted(exprs, ({"embed": (16, 5)}, {"wte": (13, 5)}), ({"embed": (104, 24)}, {"wte": (100, 24)}))
    assert found["wte"] == "embed[0:100]"


def test_heads_become_what_the_code_views() -> None:
    moved = Reshape(Permute(Reshape(Source("w", (12, 5)), (3, 4, 5)), (1, 0, 2)), (12, 5))
    shapes = ({"w": (12, 5)}, {"w2": (12, 5)}), ({"w": (1024, 24)}, {"w2": (1024, 24)})
    found = lifted({"w2": moved}, *shapes, sizes=(((7, 3, 4),), ((7, 8, 128),)))
    assert found["w2"] == "w.reshape(8, 128, 24).permute(1, 0, 2).reshape(1024, 24)"


def test_heads_that_may_be_either_are_refused() -> None:
    moved = Reshape(Permute(Reshape(Source("w", (9, 5)), (3, 3, 5)), (1, 0, 2)), (9, 5))
    shapes = ({"w": (9, 5)}, {"w2": (9, 5)}), ({"w": (1024, 24)}, {"w2": (1024, 24)})
    with pytest.raises(LiftError, match=r"reshape to \[8, 128, 24\] or reshape to \[128, 8, 24\]"):
        lifted({"w2": moved}, *shapes, sizes=(((7, 3, 3),), ((7, 8, 128),)))


def test_a_gather_cannot_be_lifted() -> None:
    exprs = {"b": Gather(Source("a", (3,)), (3,), (2, 0, 1))}
    with pytest.raises(LiftError, match="b: the twin gathers its entries one by one"):
        lifted(exprs, ({"a": (3,)}, {"b": (3,)}), ({"a": (8,)}, {"b": (8,)}))


def test_a_resized_weight_cannot_be_lifted() -> None:
    exprs = {"b": Resize(Source("a", (3,)), (2,), ("leading",))}
    with pytest.raises(LiftError, match="b: the twin's weight is resized"):
        lifted(exprs, ({"a": (3,)}, {"b": (2,)}), ({"a": (8,)}, {"b": (6,)}))


def test_constants_keep_their_value_and_take_the_target_s_shape() -> None:
    found = lifted({"b": Constant(1.0, (3,))}, ({}, {"b": (3,)}), ({}, {"b": (8,)}))
    assert found["b"] == "ones(8)"


def test_a_factor_that_is_a_root_of_a_size_grows_with_it() -> None:
    exprs = {"b": Affine(Source("a", (24, 3)), 24**-0.5)}
    found = lifted(exprs, ({"a": (24, 3)}, {"b": (24, 3)}), ({"a": (64, 8)}, {"b": (64, 8)}))
    assert found["b"] == "0.125 * a"


def test_a_factor_that_may_be_a_root_or_may_not_is_refused() -> None:
    exprs = {"b": Affine(Source("a", (16, 3)), 0.25)}
    with pytest.raises(LiftError, match="read in several ways"):
        lifted(exprs, ({"a": (16, 3)}, {"b": (16, 3)}), ({"a": (64, 8)}, {"b": (64, 8)}))


def test_a_factor_that_the_code_spells_is_what_it_spells() -> None:
    small, large = graph({"a": (16, 3)}), graph({"a": (64, 8)})
    target, larger = graph({"b": (16, 3)}), graph({"b": (64, 8)})
    twin = replace(small, nodes=(Node(0, "mul", args=(0.25,)),)), target
    full = replace(large, nodes=(Node(0, "mul", args=(0.125,)),)), larger
    found = lift(record(*twin, {"b": Affine(Source("a", (16, 3)), 0.25)}), twin, full)
    assert found.entries[0].expr == Affine(Source("a", (64, 8)), 0.125)


def test_sums_and_means_keep_their_form() -> None:
    a, b = Source("a", (5, 3)), Source("b", (3,))
    exprs = {"c": Sum((Reduce(a, "mean", (0,)), b))}
    found = lifted(exprs, ({"a": (5, 3), "b": (3,)}, {"c": (3,)}), ({"a": (24, 8), "b": (8,)}, {"c": (8,)}))
    assert found["c"] == "a.mean(dim=0) + b"


def test_all_faults_are_reported_together() -> None:
    exprs: dict[str, Expr] = {
        "g": Gather(Source("a", (3,)), (3,), (2, 0, 1)),
        **{f"h.{i}.w": Source(f"l.{i}.w", (3,)) for i in range(2)},
    }
    small = {"a": (3,), **layers("l.{}.w", 2, (3,))}, {"g": (3,), **layers("h.{}.w", 2, (3,))}
    large = {"a": (8,), **layers("l.{}.w", 2, (8,))}, {"g": (8,), **layers("h.{}.w", 4, (8,)), "new": (8,)}
    with pytest.raises(LiftError) as error:
        lifted(exprs, small, large)
    assert str(error.value).splitlines() == [
        "4 keys are not covered by the mapping between the twins:",
        "  g: the twin gathers its entries one by one, and nothing tells which they are at full size",
        "  h.2.w: it would be made of l.2.w, which the full-size source does not have",
        "  h.3.w: it would be made of l.3.w, which the full-size source does not have",
        "  new: the twin has no key like it",
    ]


def test_unmapped_and_guessed_keys_stay_so() -> None:
    small = graph({"a": (3,)}), graph({"b": (3,), "table": (4,)})
    large = graph({"a": (8,)}), graph({"b": (8,), "table": (9,)})
    made = record(*small, {"b": Source("a", (3,)), "table": None}, status="guessed")
    guessed = replace(made.entries[0], evidence=Evidence("structure", rivals=(Rival(("c",), "as near"),)))
    found = lift(replace(made, entries=(guessed, made.entries[1])), small, large)
    assert [entry.status for entry in found.entries] == ["guessed", "unmapped"]
    assert found.entries[0].evidence.rivals == ()
    assert found.entries[0].evidence.reasons[-1] == "on the twin, c came next: as near"


def test_layers_are_as_sure_as_the_least_sure_of_the_twin() -> None:
    small = graph(layers("l.{}.w", 2, (3,))), graph(layers("h.{}.w", 2, (3,)))
    large = graph(layers("l.{}.w", 4, (8,))), graph(layers("h.{}.w", 4, (8,)))
    made = record(*small, {f"h.{i}.w": Source(f"l.{i}.w", (3,)) for i in range(2)})
    entries = made.entries[0], replace(made.entries[1], status="guessed")
    found = lift(replace(made, entries=entries), small, large)
    assert {entry.status for entry in found.entries} == {"guessed"}
    assert found.entries[0].evidence.reasons[0].startswith("guessed on the twin (h.1.w")


def test_the_evidence_says_that_the_proof_was_on_the_twin() -> None:
    small, large = (graph({"a": (3,)}), graph({"b": (3,)})), (graph({"a": (8,)}), graph({"b": (8,)}))
    made = record(*small, {"b": Source("a", (3,))})
    shown = replace(made.entries[0], evidence=Evidence("structure", shown=Shown(3, 3, "all of it moved an output")))
    output = ComparedOutput(0, 0, (2, 5), 3e-13)
    proof = ProofRecord("agree", "outputs agreed", 3, 1e-9, "x", "x", outputs=(output,), notes=("one branch",))
    found = lift(replace(made, entries=(shown,), proof=proof), small, large)
    assert found.proof is None
    assert found.entries[0].status == "structural"
    assert found.entries[0].evidence.shown is None
    assert found.entries[0].evidence.reasons[0] == (
        "proved on the twin (b, 3 entries for 8), then lifted to full size, where nothing was run: "
        "numbers of layers and sizes were replaced"
    )
    assert found.notes[1:] == (
        "proof on the twin: outputs agreed (3 draws, tolerance 1e-09, output [2, 5] within 3.0e-13)",
        "proof on the twin: one branch",
    )


def test_a_mapping_of_another_pair_is_refused() -> None:
    small, large = (graph({"a": (3,)}), graph({"b": (3,)})), (graph({"a": (8,)}), graph({"c": (8,)}))
    with pytest.raises(LiftError, match="not one for this target twin: b, c"):
        lift(record(*small, {"b": Source("a", (3,))}), large, large)
