"""What is left of a refuted mapping: right weights keep their status, the others are guesses that say why."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.core.expr import Expr, Permute, Source
from automatch.core.mapping import MappingRecord
from automatch.prove import prove, with_proof
from automatch.prove.divergence import Parting
from automatch.prove.doubt import BEHIND, OPERATOR, SUSPECTED, WHOLE, doubted
from tests.prove.nets import record


class Branches(nn.Module):
    """Two branches that meet, and something behind them; the first product and the last one may be tied."""

    def __init__(self, gate: bool = False, tied: bool = False) -> None:
        super().__init__()
        self.first, self.left, self.right, self.last = (nn.Linear(6, 6) for _ in range(4))
        self.gate = gate
        if tied:
            self.last.weight = self.left.weight

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        right = self.right(h)
        met = torch.tanh(self.left(h)) * (F.silu(right) if self.gate else torch.sigmoid(right))
        out: Tensor = self.last(met)
        return out


def judged(target: Branches, wrong: str = "", tied: bool = False) -> MappingRecord:
    source = Branches(tied=tied)
    exprs: dict[str, Expr | str | None] = {key: key for key in target.state_dict()}
    turned = [key for key in exprs if wrong and key == wrong]
    exprs |= {key: Permute(Source(key, (6, 6)), (1, 0)) for key in turned}
    made = record(source, target, exprs, "structural")
    x = torch.randn(5, 6)
    proof = prove(made, source, target, x, x)
    assert proof.record.outcome == "differ"
    return with_proof(made, proof)


def guessed(found: MappingRecord) -> dict[str, str]:
    return {entry.target: entry.evidence.reasons[0] for entry in found.entries if entry.status == "guessed"}


def test_what_comes_before_a_wrong_weight_and_beside_it_keeps_its_status() -> None:
    assert guessed(judged(Branches(), "left.weight")) == {
        "left.weight": SUSPECTED,
        "left.bias": BEHIND,
        "last.weight": BEHIND,
        "last.bias": BEHIND,
    }


def test_behind_a_difference_of_operators_everything_is_a_guess() -> None:
    found = guessed(judged(Branches(gate=True)))
    assert set(found) == {"last.weight", "last.bias"}
    assert found["last.bias"].startswith(f"{OPERATOR}the operators differ: silu here, sigmoid there")


def test_tied_keys_are_doubted_together() -> None:
    found = guessed(judged(Branches(tied=True), "first.weight", tied=True))
    assert {"first.weight", "left.weight", "last.weight"} <= set(found)
    assert found["left.weight"] == found["last.weight"]


def test_without_a_place_everything_is_a_guess_and_what_is_unmapped_stays_so() -> None:
    source, target = Branches(), Branches()
    exprs: dict[str, Expr | str | None] = {key: key for key in target.state_dict()} | {"last.bias": None}
    made = record(source, target, exprs, "structural")
    for parting in (None, Parting(None, "it was too large")):
        found = doubted(made, parting)
        assert set(guessed(found).values()) == {WHOLE}
        assert [entry.target for entry in found.entries if entry.status == "unmapped"] == ["last.bias"]
    assert doubted(replace(made, entries=()), None).entries == ()
