"""What structure gets wrong inside blocks is found in one block's part of both programs, and carried to the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import automatch
from automatch.core.expr import text
from automatch.core.mapping import MappingRecord
from automatch.exact.budget import UNBOUNDED, Budget
from automatch.exact.discover import discover
from automatch.inputs.prepare import Prepared, prepare
from automatch.interruption import of_caller
from automatch.lift.keys import split
from automatch.region import searched_region
from automatch.repair import bench_or_none
from automatch.repair.bench import Bench
from automatch.trace.inputs import normalise
from automatch.trace.program import Program
from tests.region.nets import IDS, Experts, Net, Shuffled, Stacked, Straight, fused_decoder, split_decoder

Searched = list[tuple[Program, Program]]


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Searched:
    """The pairs of programs that are searched; the search of whole models, and other readings, are not there."""
    made: Searched = []

    def counted(source: Program, target: Program, **options: Any) -> Any:
        made.append((source, target))
        return discover(source, target, **options)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the whole models were searched")

    monkeypatch.setattr("automatch.region.search.discover", counted)
    monkeypatch.setattr("automatch.running.repaired", lambda *_, **__: None)
    monkeypatch.setattr("automatch.running.exact_entries", never)
    return made


PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "queries, keys and values by head, turned in pairs": (split_decoder, fused_decoder),
    "back": (fused_decoder, split_decoder),
    "units shuffled behind a transposed product": (lambda: Net(Straight), lambda: Net(Shuffled)),
    "experts in a stack in another order": (lambda: Net(Experts), lambda: Net(Stacked)),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_a_layout_inside_a_block_is_searched_in_one_block_and_carried_to_the_others(
    one: Callable[[], nn.Module], other: Callable[[], nn.Module], searches: Searched
) -> None:
    source, target = one(), other()
    mapping = automatch.match(source, target, source_inputs=IDS, target_inputs=IDS)
    assert mapping.record.proof is not None
    assert mapping.record.proof.outcome == "agree"
    assert len(searches) == 1
    for program in searches[0]:
        names = [name for name in program.weights.values() if split(name)[1]]
        assert {split(name)[1][0] for name in names} == {0}
        assert set(program.values) == set(program.weights.values())
    target.load_state_dict(mapping.apply(source.state_dict()), strict=False)
    with torch.no_grad():
        assert torch.allclose(source(IDS), target(IDS), atol=1e-5)


def test_what_was_found_in_one_block_is_said_of_the_others(searches: Searched) -> None:
    mapping = automatch.match(split_decoder(), fused_decoder(), source_inputs=IDS, target_inputs=IDS)
    exprs = [text(mapping[f"h.{i}.attn.qkv.weight"].expr) for i in range(3)]  # type: ignore[arg-type]
    assert "rotary_pairs(model.layers.0.self_attn.q_proj.weight" in exprs[0]
    assert [expr.replace(f"layers.{i}.", "layers.0.") for i, expr in enumerate(exprs)] == [exprs[0]] * 3
    reasons = mapping["h.2.attn.qkv.weight"].evidence.reasons
    assert reasons[0].startswith("as h.0.attn.qkv.weight, which gradients of the part where the models parted tell")
    assert {entry.status for entry in mapping.entries} == {"proved"}


def prepared(source: nn.Module, target: nn.Module) -> Prepared:
    return prepare((source, normalise(IDS)), (target, normalise(IDS)))


def refuted(source: nn.Module, target: nn.Module) -> MappingRecord:
    """What structure alone says."""
    return automatch.match(source, target, source_inputs=IDS, target_inputs=IDS, run=False).record


def searched(source: nn.Module, target: nn.Module, record: MappingRecord, **options: Any) -> MappingRecord | None:
    given: dict[str, Any] = {"say": lambda _: None, "budget": UNBOUNDED, **options}
    return searched_region(record, source, target, prepared=prepared(source, target), **given)


def test_what_is_no_function_of_each_other_gives_none_and_leaves_the_mapping_alone() -> None:
    source, target = Net(Straight), Net(lambda: Straight(F.relu))
    record = refuted(source, target)
    entries = tuple(record.entries)
    assert searched(source, target, record) is None
    assert record.entries == entries


def test_a_search_without_time_gives_none() -> None:
    source, target = Net(Straight), Net(Shuffled)
    assert searched(source, target, refuted(source, target), budget=Budget.of(-1.0)) is None


def test_what_the_caller_raises_is_let_through() -> None:
    source, target = Net(Straight), Net(Shuffled)

    def stop(_: str) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        searched(source, target, refuted(source, target), say=of_caller(stop))


def test_two_faults_take_two_rounds(searches: Searched) -> None:
    class Both(nn.Module):
        def __init__(self, first: Callable[[], nn.Module], second: Callable[[], nn.Module]) -> None:
            super().__init__()
            self.first, self.second = first(), second()

        def forward(self, h: torch.Tensor) -> torch.Tensor:
            h = h + self.first(h)
            made: torch.Tensor = self.second(h)
            return made

    source, target = Net(lambda: Both(Straight, Experts)), Net(lambda: Both(Shuffled, Stacked))
    mapping = automatch.match(source, target, source_inputs=IDS, target_inputs=IDS)
    assert mapping.record.proof is not None
    assert mapping.record.proof.outcome == "agree"
    assert len(searches) == 2
    first, second = ({name.split(".")[2] for name in pair[1].values} for pair in searches)
    assert first == {"first"}
    assert "second" in second


def test_a_refuted_mapping_is_run_and_compared_once_by_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    stands = Bench.stands

    def counted(bench: Bench, values: Any) -> Any:
        runs.append(values)
        return stands(bench, values)

    monkeypatch.setattr(Bench, "stands", counted)
    source, target = split_decoder(), fused_decoder()
    record = refuted(source, target)
    made = bench_or_none(record, source, target, prepared=prepared(source, target))
    assert made is not None
    assert made.parts_at(made.standing) is made.parting
    assert searched(source, target, record, made=made) is not None
    assert [values is made.target.values for values in runs].count(True) == 1
