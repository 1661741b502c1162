"""The parts of a search where models part: what is held, what is cut out, and what carries over."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.core.expr import Expr, Permute, Source, text
from automatch.core.graph import Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side
from automatch.prove.spelled import SPELLINGS
from automatch.prove.steps import run
from automatch.region.carrying import carried
from automatch.region.cutting import between, cut
from automatch.region.held import Links, alike, ordered
from automatch.trace.inputs import normalise
from automatch.trace.program import Program, name_of, record, values_of
from tests.region.nets import IDS, Net, Straight
from tests.support import Net as Small
from tests.support import weight

X = weight(3, 5, 8)


def recorded(model: nn.Module, given: Tensor) -> Program:
    return record(model, normalise(given))


def test_a_part_gives_what_the_whole_gives_and_holds_its_own_weights_alone() -> None:
    program = recorded(Net(Straight), IDS)
    sums = [node for node in program.graph.nodes if name_of(node) == "add"]
    values = values_of(program)
    part = cut(program, [sums[0]], values, [sums[1]])
    assert {name.rpartition(".")[0] for name in part.values} == {
        "blocks.1.norm",
        "blocks.1.up",
        "blocks.1.down",
    }
    assert {entry.name for entry in part.inventory} == set(part.values) == set(part.weights.values())
    assert [value.shape for value in part.fixed.values()] == [values[sums[0]].shape]
    assert not part.inputs
    made = values_of(part)
    assert torch.equal(made[part.outputs[0]], values[sums[1]])


def test_what_a_part_makes_may_be_shaped() -> None:
    program = recorded(Net(Straight), IDS)
    last = next(node for node in reversed(program.graph.nodes) if name_of(node) == "add")
    part = cut(program, [], {}, [last], [(IDS.numel(), 12)])
    assert values_of(part)[part.outputs[0]].shape == (IDS.numel(), 12)


def test_a_part_reaches_as_far_as_what_is_held() -> None:
    program = recorded(Net(Straight), IDS)
    first, second = [node for node in program.graph.nodes if name_of(node) == "add"][:2]
    inside = between([first], [second])
    assert {first, second} <= inside
    assert not inside & set(first.all_input_nodes)


def test_values_are_alike_in_whatever_order_of_axes_but_not_in_another_order_of_numbers() -> None:
    model = nn.Linear(8, 8)
    plain = Small(lambda m, x: m.a(x).tanh(), a=model)
    turned = Small(lambda m, x: m.a(x).transpose(1, 2).tanh(), a=model)
    mixed = Small(lambda m, x: m.a(x).unflatten(-1, (2, 4)).transpose(-1, -2).flatten(-2).tanh(), a=model)
    ends = []
    for other in (turned, mixed):
        one, two = (recorded(each, X) for each in (plain, other))
        first, second = alike(run(one, SPELLINGS)[0], run(two, SPELLINGS)[0], 1e-8)
        ends.append((one.outputs[0] in first, two.outputs[0] in second))
    assert ends == [(True, True), (False, False)]


def test_the_stream_keeps_an_order_and_what_one_product_gives_does_not() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.b(F.silu(self.a(x)))
            q = self.a(self.norm(x))
            first, second = q.chunk(2, -1)
            q = torch.cat([first * 0.6 - second * 0.8, first * 0.8 + second * 0.6], -1)
            made: Tensor = q * 2
            return made

    program = recorded(Turned(), X)
    kept = ordered(run(program, SPELLINGS)[0])
    told = [(name_of(node), node in kept) for node in program.graph.nodes if name_of(node) in TOLD]
    assert told == [
        ("linear", False),
        ("silu", False),
        ("linear", False),
        ("add", True),
        ("layer_norm", True),
        ("linear", False),
        ("add", False),
        ("cat", False),
    ]


TOLD = ("linear", "silu", "layer_norm", "cat", "add")


def test_weights_that_are_made_of_each_other_belong_together() -> None:
    known = Links(
        {"q": frozenset({"qkv"}), "k": frozenset({"qkv"}), "o": frozenset({"out"})},
        {"qkv": frozenset({"q", "k"}), "out": frozenset({"o"})},
    )
    assert known.closed(["q"]) == (frozenset({"qkv"}), frozenset({"q", "k"}))
    assert known.closed(["o"]) == (frozenset({"out"}), frozenset({"o"}))


def mapping(shapes: dict[str, tuple[int, int]], exprs: dict[str, Expr | None]) -> MappingRecord:
    sources = tuple(Weight(key, shape, "float32") for key, shape in shapes.items())
    entries = tuple(
        Entry(key, (4, 4), "float32", "unmapped" if expr is None else "structural", expr, Evidence("structure"))
        for key, expr in exprs.items()
    )
    targets = tuple(Weight(key, (4, 4), "float32") for key in exprs)
    return MappingRecord(Side("A", "export", sources), Side("B", "export", targets), entries)


def turned(record_: MappingRecord, key: str, source: str) -> Entry:
    entry = next(entry for entry in record_.entries if entry.target == key)
    return Entry(key, (4, 4), "float32", "structural", Permute(Source(source, (4, 4)), (1, 0)), entry.evidence)


def test_an_expression_is_carried_over_by_the_sources_that_the_mapping_has_there() -> None:
    shapes = {f"layers.{i}.w": (4, 4) for i in range(5)}
    made = mapping(shapes, {f"h.{i}.a": Source(f"layers.{i + 2}.w", (4, 4)) for i in range(3)})
    others = carried(made, [turned(made, "h.0.a", "layers.2.w")])
    assert [(entry.target, text(entry.expr)) for entry in others if entry.expr] == [
        ("h.1.a", "layers.3.w.T"),
        ("h.2.a", "layers.4.w.T"),
    ]


def test_what_the_mapping_lacks_is_carried_over_by_numbers() -> None:
    shapes = {f"layers.{i}.w": (4, 4) for i in range(3)}
    made = mapping(shapes, {f"h.{i}.a": None for i in range(3)})
    others = carried(made, [turned(made, "h.0.a", "layers.0.w")])
    assert [(entry.target, entry.sources) for entry in others] == [
        ("h.1.a", ("layers.1.w",)),
        ("h.2.a", ("layers.2.w",)),
    ]
    assert {entry.status for entry in others} == {"structural"}


def test_what_has_another_size_is_left_out() -> None:
    shapes = {"layers.0.w": (4, 4), "layers.1.w": (4, 2)}
    made = mapping(shapes, {f"h.{i}.a": None for i in range(3)})
    assert carried(made, [turned(made, "h.0.a", "layers.0.w")]) == ()
