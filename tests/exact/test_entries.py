"""From two models to entries; models that cannot be matched exactly give a note and fall back to structure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import automatch
from automatch.exact import Exact, entries, exact_entries, readings
from automatch.exact.discover import discover
from automatch.trace.program import Program
from tests.exact.pairs import plain
from tests.support import Net, weight

X = weight(5, 6)


def two_layers(first: str, second: str, hidden: int = 8) -> Net:
    def compute(m: Net, x: Tensor) -> Tensor:
        found: Tensor = m.get_submodule(second)(m.get_submodule(first)(x).tanh())
        return found

    return Net(compute, **{first: nn.Linear(6, hidden), second: nn.Linear(hidden, 3)})


def exact(source: object, target: object, inputs: tuple[Tensor, ...] = (X,)) -> Exact:
    return exact_entries(source, target, inputs, inputs, lambda _: None)


def matched(source: nn.Module, target: nn.Module) -> automatch.Mapping:
    return automatch.match(source, target, source_inputs=(X,), target_inputs=(X,))


def test_models_of_one_function_are_complete() -> None:
    found = exact(two_layers("a", "b"), two_layers("up", "down"))
    assert found.complete
    assert not found.note
    sources = {entry.target: entry.sources for entry in found.in_order()}
    assert sources == {
        f"{theirs}.{kind}": (f"{ours}.{kind}",)
        for ours, theirs in (("a", "up"), ("b", "down"))
        for kind in ("weight", "bias")
    }


def test_tied_keys_share_an_entry() -> None:
    model = Net(lambda m, x: m.b(m.a(x).tanh()).tanh() + m.a(x), a=nn.Linear(6, 6), b=nn.Linear(6, 6))
    model.b.weight = model.a.weight
    found = exact(model, model)
    assert found.entries["a.weight"].expr == found.entries["b.weight"].expr


def test_models_of_another_function_give_a_reason() -> None:
    source = Net(lambda m, x: m.a(x).tanh(), a=nn.Linear(6, 3))
    target = Net(lambda m, x: m.a(x).exp() + 1, a=nn.Linear(6, 3))
    found = discover(plain(source, X), plain(target, X))
    assert found == "no output of one model agrees with an output of the other where all weights are alike"
    assert exact(source, target).note == f"no exact match was found: {found}"


def test_models_on_the_meta_device_give_a_note_and_are_matched_by_structure() -> None:
    with torch.device("meta"):
        source = two_layers("a", "b")
    target = two_layers("up", "down")
    assert exact(source, target).note == "no exact match was tried: the source is on the meta device"
    assert matched(source, target)["up.weight"].sources == ("a.weight",)
    assert exact(target, source).note == "no exact match was tried: the target is on the meta device"


def test_models_that_are_too_large_give_a_note_and_are_matched_by_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "LARGEST", 10)
    source, target = two_layers("a", "b"), two_layers("up", "down")
    found = exact(source, target)
    assert found.note == "no exact match was tried: the source holds 83 numbers, more than 10"
    assert not found.complete
    mapping = matched(source, target)
    assert mapping["up.weight"].sources == ("a.weight",)
    assert mapping.verdict == "proved"


def test_what_a_run_refutes_and_no_search_was_tried_for_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "LARGEST", 10)
    mapping = matched(two_layers("a", "b"), Net(lambda m, x: m.b(m.a(x).sin()), a=nn.Linear(6, 8), b=nn.Linear(8, 3)))
    assert mapping.verdict == "refuted"
    assert any("no exact match was tried: the source holds 83 numbers" in note for note in mapping.record.notes)


def test_what_is_no_model_is_passed_over() -> None:
    model = two_layers("a", "b")
    assert exact(model.state_dict(), model) == Exact()
    assert exact_entries(model, model, None, None, lambda _: None) == Exact()


def test_a_model_that_cannot_be_recorded_gives_a_note() -> None:
    def failing(m: Net, x: Tensor) -> Tensor:
        raise RuntimeError("not today")

    note = exact(Net(failing, a=nn.Linear(6, 3)), two_layers("a", "b")).note
    assert note.startswith("no exact match was tried: the source could not be recorded for running")


def test_evidence_says_what_was_not_seen_and_what_is_free() -> None:
    ids = torch.tensor([[1, 2]])
    source, target = (
        Net(lambda m, ids: m.o(m.e(ids) + m.p), e=nn.Embedding(9, 4), p=weight(4), o=nn.Linear(4, 2)) for _ in "ab"
    )
    found = exact(source, target, (ids,)).entries
    assert any("28 of 36 elements" in reason for reason in found["e.weight"].evidence.reasons)
    assert found["e.weight"].status == "structural"


def test_what_large_weights_hold_is_let_go_before_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []

    def watched(source: Program, target: Program, **others: Any) -> Any:
        held = (value.untyped_storage().nbytes() for program in (source, target) for value in program.values.values())
        kept.append(max(held))
        return discover(source, target, **others)

    monkeypatch.setattr(entries, "discover", watched)
    found = exact(two_layers("a", "b", hidden=2000), two_layers("up", "down", hidden=2000))
    assert found.complete
    assert kept == [8 * 3 * 2000], "weights of 12,000 numbers are gone, those of 6,000 are kept"
