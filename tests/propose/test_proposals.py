"""What is proposed before anything is searched: each a whole mapping that a run accepts or refutes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import automatch
from automatch import running
from automatch.core.expr import Resize, Slice, Source
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side
from automatch.propose import proposals
from automatch.propose.cut_tables import cut_elsewhere, is_cut
from automatch.propose.namesakes import namesakes

IDS = torch.tensor([[5, 3, 8, 1, 9, 2], [7, 2, 4, 6, 1, 3]])


class Positions(nn.Module):
    """Words and their places; the first `skipped` rows of the table of places are never read."""

    def __init__(self, skipped: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 8), nn.Embedding(12 + skipped, 8)
        self.norm, self.head, self.skipped = nn.LayerNorm(8), nn.Linear(8, 20), skipped

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device) + self.skipped
        made: Tensor = self.head(self.norm(self.words(ids) + self.places(places)).tanh())
        return made


class Mixed(nn.Module):
    """Four equal layers, called in an order of their own, between layers that no structure tells apart."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.layers, self.order = nn.ModuleDict({name: nn.Linear(6, 6) for name in "abcd"}), order

    def forward(self, x: Tensor) -> Tensor:
        for name in self.order:
            x = x + self.layers[name](x).tanh()
        return x


def no_search(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was searched")

    patch.setattr(running, "exact_entries", refuse)
    patch.setattr(running, "repaired", refuse)


@pytest.mark.parametrize("skipped", [1, 2, 7])
def test_a_table_of_which_some_rows_are_never_read_is_cut_where_a_run_agrees(
    skipped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_search(monkeypatch)
    mapping = automatch.match(Positions(skipped), Positions(0), source_inputs=IDS, target_inputs=IDS)
    assert mapping["places.weight"].expr == Slice(Source("places.weight", (12 + skipped, 8)), 0, skipped, 12 + skipped)
    assert mapping.record.proof is not None
    assert mapping.record.proof.outcome == "agree"
    assert mapping["places.weight"].status == "proved"


def entry(key: str, expr: Any, shape: tuple[int, ...]) -> Entry:
    return Entry(key, shape, "float32", "structural", expr, Evidence("structure"))


def side(**shapes: tuple[int, ...]) -> Side:
    from automatch.core.graph import Weight

    return Side("M", "export", tuple(Weight(key, shape, "float32") for key, shape in shapes.items()))


def test_namesakes_are_proposed_where_most_keys_have_one() -> None:
    both = side(a=(2, 2), b=(2, 2), c=(3,))
    crossed = (entry("a", Source("b", (2, 2)), (2, 2)), entry("b", Source("a", (2, 2)), (2, 2)))
    structural = MappingRecord(both, both, (*crossed, entry("c", Source("c", (3,)), (3,))))
    (found,) = namesakes(structural)
    assert [made.sources for made in found.entries] == [("a",), ("b",), ("c",)]
    assert found.entries[0].evidence.method == "names"
    other = side(x=(2, 2), y=(2, 2), c=(3,))
    assert not list(namesakes(MappingRecord(other, both, structural.entries)))


def test_a_short_table_is_cut_everywhere_a_long_one_at_its_end() -> None:
    def starts(rows: int) -> list[int]:
        expr = Resize(Source("t", (rows, 4)), (8, 4), ("leading", "keep"))
        made = MappingRecord(side(t=(rows, 4)), side(t=(8, 4)), (entry("t", expr, (8, 4)),))
        cut = [found.entries[0].expr for found in cut_elsewhere(made)]
        return [each.start for each in cut if isinstance(each, Slice)]

    assert starts(10) == [1, 2]
    assert starts(40) == [32]


def test_a_table_that_grows_or_changes_width_is_no_cut() -> None:
    assert is_cut(entry("t", Resize(Source("t", (9, 4)), (8, 4), ("leading", "keep")), (8, 4)))
    assert not is_cut(entry("t", Resize(Source("t", (9, 6)), (8, 4), ("leading", "leading")), (8, 4)))
    assert not is_cut(entry("t", Resize(Source("t", (9,)), (8,), ("leading",)), (8,)))


def test_no_proposal_comes_twice() -> None:
    both = side(a=(2, 2), b=(2, 2))
    own = tuple(entry(key, Source(key, (2, 2)), (2, 2)) for key in "ab")
    assert len(list(proposals(MappingRecord(both, both, own)))) == 1


def test_equal_names_are_believed_where_structure_reads_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    given = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    mapping = automatch.match(Mixed("abcd"), Mixed("abcd"), source_inputs=given, target_inputs=given)
    assert [each.sources for each in mapping.entries] == [(each.target,) for each in mapping.entries]
