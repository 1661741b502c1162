"""Known mappings that were proved: what a test says when a model's code changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import automatch
from automatch.check.written import written
from automatch.testing import UPDATE, assert_as_expected, assert_mapping

X = torch.linspace(-1.0, 1.0, 128).view(32, 4)  # many rows: a ReLU passes on what some of them do


@pytest.fixture(autouse=True)
def _not_updating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(UPDATE, raising=False)


class Ours(nn.Module):
    def __init__(self, act: type[nn.Module] = nn.GELU, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4, eps=eps)
        self.enter, self.leave = nn.Linear(4, 8), nn.Linear(8, 4)
        self.act = act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        done: torch.Tensor = self.leave(self.act(self.enter(self.norm(x))))
        return done


def theirs(act: type[nn.Module] = nn.GELU, eps: float = 1e-5) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(4, eps=eps), nn.Linear(4, 8), act(), nn.Linear(8, 4))


def proved(source: nn.Module, target: nn.Module) -> automatch.Mapping:
    found = automatch.match(source, target, source_inputs=X, target_inputs=X, run=False)
    return found.prove(source, target, source_inputs=X, target_inputs=X)


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A file that says that the mapping was proved."""
    path = tmp_path / "known.json"
    path.write_text(written(proved(theirs(), Ours()).record))
    assert '"verdict": "proved"' in path.read_text()
    return path


def refused(mapping: automatch.Mapping, known: Path) -> list[str]:
    """What the test says of the proof, line by line."""
    with pytest.raises(AssertionError) as caught:
        assert_as_expected(mapping, known)
    lines = str(caught.value).split("\n")
    assert lines[0].endswith("not as expected: 0 different, 0 missing, 0 extra (6 weights compared)")
    assert lines[1] == "proof (what was shown before, and is not now):"
    assert lines[-1].startswith("Next: mend what changed; or, if the new mapping is right, let this test write it")
    return [line.strip() for line in lines[2:-1]]


def test_other_keys_and_other_weights_are_as_expected(known: Path) -> None:
    torch.manual_seed(3)
    assert_as_expected(proved(theirs(), Ours()), known)


def test_a_gelu_that_becomes_a_relu_is_refuted(known: Path) -> None:
    said = refused(proved(theirs(), Ours(nn.ReLU)), known)
    assert said[0].startswith("was proved, is now refuted: ")
    assert said[-1] == "the target's function changed: gelu 1 -> 0, relu 0 -> 1"


def test_matching_anew_finds_the_same(known: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_mapping(theirs(), Ours(nn.ReLU), known, source_inputs=X, target_inputs=X)
    assert "was proved, is now refuted: " in str(caught.value)
    assert "the target's function changed: gelu 1 -> 0, relu 0 -> 1" in str(caught.value)


def test_on_both_sides_it_is_proved_still_but_of_other_functions(known: Path) -> None:
    mapping = proved(theirs(nn.ReLU), Ours(nn.ReLU))
    assert mapping.record.verdict == "proved"
    assert refused(mapping, known) == [
        "the source's function changed: gelu 1 -> 0, relu 0 -> 1",
        "the target's function changed: gelu 1 -> 0, relu 0 -> 1",
    ]


def test_a_constant_that_changes_on_both_sides_is_told(known: Path) -> None:
    change = "layer_norm(1e-05) 1 -> 0, layer_norm(1e-06) 0 -> 1"
    assert refused(proved(theirs(eps=1e-6), Ours(eps=1e-6)), known) == [
        f"the source's function changed: {change}",
        f"the target's function changed: {change}",
    ]


def test_on_the_meta_device_it_is_not_run(known: Path) -> None:
    source, target = theirs().to("meta"), Ours().to("meta")
    (said,) = refused(automatch.match(source, target, source_inputs=X, target_inputs=X), known)
    assert said.startswith("was proved, is not run now")


def test_checkpoints_have_no_function(known: Path) -> None:
    said = refused(automatch.match(theirs().state_dict(), Ours().state_dict()), known)
    assert said[1:] == ["the function of the source was not recorded", "the function of the target was not recorded"]


def test_an_update_writes_what_is_proved_now(known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping = proved(theirs(nn.ReLU), Ours(nn.ReLU))
    assert_as_expected(mapping, known, update=True)
    assert "the source's function changed: gelu 1 -> 0, relu 0 -> 1" in capsys.readouterr().out
    assert known.read_text() == written(mapping.record)
    assert_as_expected(mapping, known)
