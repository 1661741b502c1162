"""Within one match, every model is recorded once for each shape of its inputs, whatever is done with the recording."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import automatch
from automatch.trace import program, recorder
from tests.support import Net, weight

Calls = list[str]

X = weight(5, 6)
IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
SCALE = torch.arange(1.0, 9.0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Calls of everything that records a model, in order."""
    made: Calls = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: object, **kwargs: object) -> object:
            made.append(name)
            return function(*args, **kwargs)

        return called

    places: list[tuple[Any, str]] = [(torch.export, "export"), (torch.export, "draft_export")]
    for owner, name in (*places, (program, "make_fx"), (recorder, "make_fx")):
        monkeypatch.setattr(owner, name, counted(name, getattr(owner, name)))
    return made


def matched(source: nn.Module, target: nn.Module, x: Tensor) -> automatch.Mapping:
    return automatch.match(source, target, source_inputs=(x,), target_inputs=(x,))


def layers(act: Callable[[Tensor], Tensor], first: nn.Module | None = None) -> Net:
    return Net(lambda m, x: m.b(act(m.a(x))), a=first or nn.Linear(6, 8), b=nn.Linear(8, 3))


def plain(y: Tensor) -> Tensor:
    return y.tanh() * SCALE


def backwards(y: Tensor) -> Tensor:
    """The same function of weights in another order, which structure does not see and a search finds."""
    return y.tanh().flip(-1) * SCALE


def bounded(m: Net, x: Tensor) -> Tensor:
    """A check that depends on data, which export refuses and a draft records."""
    y: Tensor = m.b(plain(m.a(x)))
    return y if x.abs().max() < 1e9 else y * 0


def test_models_that_agree_at_once_are_recorded_once(calls: Calls) -> None:
    assert matched(layers(plain), layers(plain), X).verdict == "proved"
    assert calls == ["export"] * 2


def test_a_search_runs_what_structure_was_read_from(calls: Calls) -> None:
    found = matched(layers(plain), layers(backwards), X)
    assert found.verdict == "proved"
    assert found["a.weight"].evidence.method == "colours"
    assert calls == ["export"] * 2


def test_a_search_on_texts_of_another_length_records_once_more(calls: Calls) -> None:
    source, target = (layers(act, nn.Embedding(20, 8)) for act in (plain, backwards))
    assert matched(source, target, IDS).verdict == "proved"
    assert calls == ["export"] * 4


def test_where_models_part_is_found_on_what_was_recorded(calls: Calls) -> None:
    found = matched(layers(plain), layers(lambda y: plain(y).sin()), X)
    assert found.verdict == "refuted"
    assert found.record.proof is not None
    assert found.record.proof.divergence
    assert calls == ["export"] * 2


@pytest.mark.parametrize("seen", [True, False], ids=["seen to be two functions", "searched on another length"])
def test_what_is_refuted_on_texts_is_recorded_once_for_each_length(
    seen: bool, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not seen:
        monkeypatch.setattr("automatch.running.could_agree", lambda *_: True)
    source, target = (layers(act, nn.Embedding(20, 8)) for act in (plain, lambda y: plain(y).sin()))
    assert matched(source, target, IDS).verdict == "refuted"
    assert calls == ["export"] * (2 if seen else 4)


def test_a_mapping_that_is_mended_is_mended_on_what_was_recorded(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automatch.exact.readings.LARGEST", 10)  # no search, so that only a repair can find it
    source, target = (layers(act, nn.Linear(6, 8, bias=False)) for act in (plain, lambda y: plain(2 * y)))
    found = matched(source, target, X)
    assert found.verdict == "proved"
    assert any("repaired" in reason for reason in found["a.weight"].evidence.reasons)
    assert calls == ["export"] * 2


def test_a_draft_serves_all_as_well(calls: Calls) -> None:
    source = Net(bounded, a=nn.Linear(6, 8), b=nn.Linear(8, 3))
    target = Net(lambda m, x: bounded(m, x).sin(), a=nn.Linear(6, 8), b=nn.Linear(8, 3))
    assert matched(source, target, X).verdict == "refuted"
    assert calls == ["export", "draft_export"] * 2
