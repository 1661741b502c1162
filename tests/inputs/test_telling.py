"""Inputs that cannot tell are spoken of, and those that contradict each other are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import automatch
from automatch.errors import InputsError, InputsWarning
from automatch.inputs.prepare import prepare
from automatch.trace.inputs import normalise
from tests.support import Net

IDS = torch.tensor([[5, 3, 8, 1, 9, 2], [7, 2, 4, 6, 1, 3]])


class Words(nn.Module):
    """Attention over words that a mask keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.out = nn.Embedding(12, 8), nn.Linear(8, 3)
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.emb(ids)
        scores = self.q(h) @ self.k(h).mT
        if mask is not None:
            scores = scores.masked_fill(~mask.bool()[:, None], -torch.inf)
        return self.out(scores.softmax(-1) @ self.v(h))  # type: ignore[no-any-return]


def remarks(*given: Tensor, model: nn.Module | None = None) -> tuple[str, ...]:
    model = model or Words()
    return prepare((model, normalise(given)), (model, normalise(given))).remarks


def test_good_inputs_are_not_spoken_of() -> None:
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    assert remarks(IDS) == remarks(IDS, mask) == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((torch.zeros_like(IDS),), "the source's ids is 0 everywhere: all its rows but one go unseen"),
        ((IDS, torch.ones_like(IDS)), "the source's mask is a mask of 1 everywhere"),
        ((IDS, torch.ones_like(IDS).bool()), "the source's mask is a mask of 1 everywhere"),
        ((IDS[:, :1],), "the source's ids holds a single token"),
        ((IDS[:1].repeat(3, 1),), "the source's ids holds 3 batch items that are alike"),
    ],
    ids=["constant ids", "a mask of ones", "a mask of truths", "one token", "batch items alike"],
)
def test_what_cannot_tell_is_named_with_what_to_give(given: tuple[Tensor, ...], said: str) -> None:
    (found,) = remarks(*given)
    assert found.startswith(said)
    assert "give " in found or "mask the end" in found


def test_what_was_drawn_here_is_not_spoken_of_and_what_was_given_is() -> None:
    model, blank = Words(), torch.empty(2, 6, dtype=torch.long, device="meta")
    given = normalise((torch.zeros_like(IDS),))
    (said,) = prepare((model, given), (model, normalise((blank,)))).remarks
    assert said.startswith("the source's ids is 0 everywhere")
    assert prepare((model, normalise((blank,))), (model, normalise((blank,)))).remarks == ()


def test_constant_floats_are_named() -> None:
    (found,) = remarks(torch.ones(2, 8), model=Net(lambda m, x: m.a(x), a=nn.Linear(8, 3)))
    assert found.startswith("the source's inputs[0] is 1 everywhere: exchanged weights would not show")


@pytest.mark.parametrize("given", [(torch.zeros_like(IDS),), (IDS[:, :1],), (IDS[:1, :1],)], ids=["0", "one", "1x1"])
def test_fresh_inputs_beside_them_tell_all_the_same(given: tuple[Tensor, ...]) -> None:
    with pytest.warns(InputsWarning, match="other content was drawn beside it"):
        mapping = automatch.match(Words(), Words(), source_inputs=given, target_inputs=given)
    assert {key: mapping[key].status for key in ("q.weight", "k.weight", "v.weight", "emb.weight")} == dict.fromkeys(
        ("q.weight", "k.weight", "v.weight", "emb.weight"), "proved"
    )
    assert any("the source's ids" in note for note in mapping.record.proof.notes)  # type: ignore[union-attr]


def test_exchanged_weights_are_refuted_though_the_given_inputs_hide_them() -> None:
    mapping = automatch.match(Words(), Words(), source_inputs=IDS, target_inputs=IDS)
    wrong = {"q.weight": "k.weight", "k.weight": "q.weight"}
    exchanged = automatch.Mapping(_with_sources(mapping, wrong))
    ids = IDS[:, :1]
    with pytest.warns(InputsWarning):
        proved = exchanged.prove(Words(), Words(), source_inputs=ids, target_inputs=ids)
    assert proved.record.verdict == "refuted"


def _with_sources(mapping: automatch.Mapping, changed: dict[str, str]) -> automatch.core.mapping.MappingRecord:
    from dataclasses import replace

    from automatch.core.expr import Source

    entries = tuple(
        replace(entry, expr=Source(changed[entry.target], entry.shape)) if entry.target in changed else entry
        for entry in mapping.entries
    )
    return replace(mapping.record, entries=entries)


def refused(ours: object, theirs: object) -> str:
    with pytest.raises(InputsError) as error:
        automatch.match(Words(), Words(), source_inputs=ours, target_inputs=theirs)
    return str(error.value)


def test_two_sides_with_content_of_their_own_are_refused_before_anything_runs() -> None:
    said = refused(IDS, IDS.flip(1))
    assert "ids of the source and ids of the target, [2, 6] and [2, 6]" in said
    assert "give both sides the same tensors" in said


def test_a_proof_on_content_of_their_own_shows_nothing_and_says_why() -> None:
    mapping = automatch.match(Words(), Words(), source_inputs=IDS, target_inputs=IDS)
    proof = mapping.prove(Words(), Words(), source_inputs=IDS, target_inputs=IDS.flip(1)).record.proof
    assert proof is not None
    assert (proof.outcome, proof.draws) == ("nothing", 0)
    assert "ids of the source and ids of the target" in proof.reason


def test_masks_are_no_contradiction() -> None:
    ours, theirs = (IDS, torch.ones_like(IDS)), (IDS, torch.tensor([[1, 1, 1, 1, 1, 0]] * 2))
    assert prepare((Words(), normalise(ours)), (Words(), normalise(theirs))).conflict == ""


def look_up(rows: int) -> Net:
    return Net(lambda m, x: m.o(m.e(x).tanh()), e=nn.Embedding(rows, 8), o=nn.Linear(8, 3))


def test_positions_may_be_counted_from_elsewhere_and_words_may_not() -> None:
    ours, theirs = normalise((torch.arange(6)[None],)), normalise((torch.arange(2, 8)[None],))
    assert prepare((look_up(20), ours), (look_up(22), theirs)).conflict == ""
    assert "do not hold it" in prepare((look_up(20), ours), (look_up(20), theirs)).conflict


@pytest.mark.parametrize("number", [0, 1])
def test_ids_of_zeros_and_ones_are_no_mask(number: int) -> None:
    given = torch.full((1, 6), number)
    assert "ids of the source and ids of the target" in refused(IDS[:1], given)
    assert "ids of the source and ids of the target" in refused(given, IDS[:1])
