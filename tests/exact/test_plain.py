"""What no output tells takes the structural answer, or is a guess; never zeros, never a coincidence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import automatch
from automatch.core.expr import text
from tests.support import Net, weight

X = torch.randn(4, 6)
IDS = torch.tensor([[0, 3, 5, 7, 8, 4], [0, 2, 6, 1, 8, 5]])


def matched(source: nn.Module, target: nn.Module, *given: Tensor) -> automatch.Mapping:
    return automatch.match(source, target, source_inputs=given, target_inputs=given)


def said(mapping: automatch.Mapping) -> dict[str, str]:
    return {entry.target: "nothing" if entry.expr is None else text(entry.expr) for entry in mapping.entries}


class Quantised(nn.Module):
    """The nearest rows of two codebooks, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(6, 8), nn.Linear(8, 3)
        self.codebook = nn.ModuleList(nn.Embedding(16, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        left, found = self.into(x), torch.zeros(())
        for book in self.codebook:
            assert isinstance(book, nn.Embedding)
            row = book(torch.cdist(left, book.weight).argmin(-1))
            left, found = left - row, found + row
        made: Tensor = self.out(found)
        return made


def test_rows_of_a_codebook_that_no_run_took_are_those_of_the_same_codebook() -> None:
    mapping = matched(Quantised(), Quantised(), torch.randn(5, 6))
    assert said(mapping) == {key: key for key in mapping}
    for book in ("codebook.0.weight", "codebook.1.weight"):
        shown = mapping[book].evidence.shown
        assert shown is not None
        assert (mapping[book].status == "proved") is shown.whole


class Normed(nn.Module):
    """A weight kept as length and direction."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.b(self.a(x).tanh())
        return made


def test_weight_norm_on_both_sides_is_length_to_length_and_direction_to_direction() -> None:
    mapping = matched(Normed(), Normed(), X)
    assert said(mapping) == {key: key for key in mapping}
    assert mapping.record.verdict == "proved"


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_biases_that_only_enter_as_their_sum_each_follows_its_own_weight(swapped: bool) -> None:
    def net(first: str, second: str) -> Net:
        def compute(m: Net, x: Tensor) -> Tensor:
            made: Tensor = m.out((m.get_submodule(first)(x) + m.get_submodule(second)(x.tanh())).tanh())
            return made

        parts = {first: nn.Linear(6, 8), second: nn.Linear(6, 8)}
        return Net(compute, **(dict(reversed(parts.items())) if swapped else parts), out=nn.Linear(8, 3))

    mapping = matched(net("u", "v"), net("p", "q"), X)
    found = said(mapping)
    assert {key: found[key] for key in ("p.weight", "p.bias", "q.weight", "q.bias")} == {
        "p.weight": "u.weight",
        "p.bias": "u.bias",
        "q.weight": "v.weight",
        "q.bias": "v.bias",
    }


def look_up(m: Net, ids: Tensor) -> Tensor:
    return m.o(m.e(ids).tanh())  # type: ignore[no-any-return]


def test_a_longer_vocabulary_is_padded_and_a_shorter_one_cut() -> None:
    def net(rows: int) -> Net:
        return Net(look_up, e=nn.Embedding(rows, 8), o=nn.Linear(8, rows))

    longer, shorter = matched(net(20), net(24), IDS), matched(net(24), net(20), IDS)
    assert said(longer)["e.weight"] == "cat(e.weight, zeros(4, 8))"
    assert (longer["e.weight"].status, longer.record.verdict) == ("guessed", "agrees, in part shown")
    assert any("padded with zeros" in reason for reason in longer["e.weight"].evidence.reasons)
    assert said(shorter)["o.weight"] == "o.weight[0:20]"
    assert shorter.record.verdict == "proved"


class Fused(nn.Module):
    """Attention whose queries, keys and values are made together; a row of the source has them apart."""

    def __init__(self, apart: bool, order: str = "qkv") -> None:
        super().__init__()
        self.emb, self.apart, self.order = nn.Embedding(12, 8), apart, order
        if apart:
            self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        else:
            self.joined = nn.Linear(8, 24)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.emb(ids)
        if self.apart:
            q, k, v = self.q(h), self.k(h), self.v(h)
        else:
            parts = dict(zip(self.order, self.joined(h).chunk(3, -1), strict=True))
            q, k, v = parts["q"], parts["k"], parts["v"]
        made: Tensor = (q @ k.mT).softmax(-1) @ v
        return made


@pytest.mark.parametrize("order", ["qkv", "vqk"])
def test_parts_that_constant_inputs_hide_are_no_zeros(order: str) -> None:
    ids = torch.zeros(2, 6, dtype=torch.long)
    with pytest.warns(automatch.errors.InputsWarning):
        mapping = matched(Fused(True), Fused(False, order), ids)
    assert said(mapping)["joined.weight"] == f"cat({', '.join(f'{part}.weight' for part in order)})"
    assert mapping["joined.weight"].status == "proved"


def test_one_reading_of_a_search_never_makes_zeros_where_the_source_has_rows_left() -> None:
    source, target = Fused(True), Fused(False, "vqk")
    constant = torch.zeros(2, 6, dtype=torch.long)
    found = automatch.exact.exact_entries(source, target, (constant,), (constant,), lambda _: None)
    structural = automatch.match(source, target, source_inputs=constant, target_inputs=constant, run=False)
    first, *others = (
        next(entry for entry in record.entries if entry.target == "joined.weight")
        for record in automatch.exact.joined(structural.record, found)
    )
    assert text(first.expr) == "cat(v.weight, q.weight, k.weight)"  # type: ignore[arg-type]
    assert any("64 of 192 elements" in reason for reason in first.evidence.reasons)
    assert all(entry.status == "guessed" for entry in others if "zeros" in text(entry.expr))  # type: ignore[arg-type]


def test_a_leading_gap_of_a_longer_table_is_not_filled_with_zeros() -> None:
    def positions(start: int) -> Net:
        places = torch.arange(4) + start
        return Net(
            lambda m, x: m.o((m.a(x) + m.p(places)).tanh()), a=nn.Linear(6, 8), p=nn.Embedding(10, 8), o=nn.Linear(8, 3)
        )

    mapping = matched(positions(0), positions(2), torch.randn(2, 4, 6))
    entry = mapping["p.weight"]
    assert entry.status in ("guessed", "unmapped") or "zeros" not in said(mapping)["p.weight"]


def test_a_parameter_of_which_nothing_is_seen_says_so() -> None:
    def idle(m: Net, x: Tensor) -> Tensor:
        made: Tensor = m.a(x) + 0 * m.idle.sum()
        return made

    mapping = matched(Net(idle, a=nn.Linear(6, 3), idle=weight(3)), Net(idle, a=nn.Linear(6, 3), idle=weight(3)), X)
    shown = mapping["idle"].evidence.shown
    assert mapping["idle"].status != "proved"
    assert shown is not None
    assert "no output can tell" in shown.reason
