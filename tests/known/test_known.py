from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import automatch
from automatch.core.graph import Weight
from automatch.core.mapping import Side
from automatch.errors import RulesError
from automatch.known.known import dumps, known_of, loads, read
from automatch.known.library import library, shipped
from automatch.rules.spell import normal


def pair() -> tuple[nn.Module, nn.Module]:
    class Ours(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x).tanh()
            return x

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.h = nn.ModuleList(nn.ParameterDict({"w": torch.zeros(3, 3), "b": torch.zeros(3)}) for _ in range(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.h:
                x = (x @ layer.get_parameter("w") + layer.get_parameter("b")).tanh()
            return x

    torch.manual_seed(0)
    return Ours().eval(), Theirs().eval()


@pytest.fixture(scope="module")
def proved() -> automatch.Mapping:
    x = torch.randn(4, 3)
    ours, theirs = pair()
    return automatch.match(ours, theirs, source_inputs=x, target_inputs=x)


def test_a_proved_mapping_becomes_a_known_conversion_and_comes_back(proved: automatch.Mapping) -> None:
    known = known_of(proved.record, "ours to theirs", "toy")
    again = loads(dumps(known), "toy.toml")
    assert again == known
    assert dumps(again) == dumps(known)
    assert known.proof == "4 of 4 weights proved in 3 draws"
    expected = {entry.target: normal(entry.expr) for entry in proved.entries if entry.expr is not None}
    assert {entry.target: entry.expr for entry in again.record.entries} == expected


def test_what_no_run_proved_is_not_kept(proved: automatch.Mapping) -> None:
    ours, theirs = pair()
    found = automatch.match(ours.state_dict(), theirs.state_dict())
    with pytest.raises(RulesError, match="only what a run proved is kept as known; it was not run"):
        known_of(found.record, "ours to theirs", "toy")


def test_damage_is_reported_together() -> None:
    text = 'format = "automatch.rules"\nversion = 1\n[known]\nname = 3\n'
    with pytest.raises(RulesError) as caught:
        loads(text, "x.toml")
    assert str(caught.value).split("\n") == [
        "x.toml: the known conversion is damaged:",
        "  $.known.name: expected text, found 3",
        "  $.known.family: this field is missing",
        "  $.known.proof: this field is missing",
    ]


@pytest.mark.parametrize("known", shipped(), ids=lambda known: known.name)
def test_every_shipped_conversion_determines_its_target_and_says_what_proved_it(known: object) -> None:
    from automatch.known.known import Known

    assert isinstance(known, Known)
    assert " weights proved in " in known.proof
    assert loads(dumps(known), known.name) == known
    undetermined = [entry.target for entry in known.record.entries if entry.expr is None]
    unmapped = {rule.claim for rule in known.rules.rules if rule.term is None}
    assert bool(undetermined) == bool(unmapped)


def test_the_library_has_enough_families() -> None:
    assert len(shipped()) >= 40
    assert len({known.family for known in shipped()}) >= 30
    assert len({known.name for known in shipped()}) == len(shipped())


def test_a_folder_of_ones_own_is_added_and_its_faults_are_listed(proved: automatch.Mapping, tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(dumps(known_of(proved.record, "ours to theirs", "toy")))
    assert "ours to theirs" in {known.name for known in library([tmp_path])}
    assert read(tmp_path / "toy.toml").family == "toy"
    (tmp_path / "bad.toml").write_text("=")
    (tmp_path / "worse.toml").write_text("")
    with pytest.raises(RulesError) as caught:
        library([tmp_path, tmp_path / "none"])
    assert all(name in str(caught.value) for name in ("bad.toml", "worse.toml", "none is no folder"))


def test_ties_are_kept() -> None:
    side = Side("", "names", (Weight("a", (2,), "float32", aliases=("b",)),))
    from automatch.core.mapping import MappingRecord
    from automatch.known.known import Known
    from automatch.rules.learn import learn

    rules = learn(MappingRecord(side, Side("", "names", ()), ()))
    known = Known("x", "y", "z", rules, side, Side("", "names", ()))
    assert loads(dumps(known), "x").source == side
