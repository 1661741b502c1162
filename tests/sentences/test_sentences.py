"""Trained weights of a published sentence encoder, through the mapping, into a stock encoder with fused projections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import automatch
from automatch.core.expr import text
from fixtures import sentences
from tests.sentences.trained import tokenize, trained_weights

SENTENCES = (
    "A cat sleeps on the warm windowsill.",
    "The kitten is napping by the sunny window.",
    "Interest rates rose again this quarter.",
    "The central bank has made borrowing dearer.",
)

PUBLISHED = {
    (0, 1): 0.652933,
    (0, 2): -0.029467,
    (0, 3): -0.009374,
    (1, 2): 0.026797,
    (1, 3): -0.041473,
    (2, 3): 0.394965,
}
"""Cosines between them that sentence-transformers 6.2.0 gave with the same package."""

LAYERS = range(6)
WHOLE = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}
EXPECTED = {
    "words.weight": "embeddings.word_embeddings.weight",
    "places.weight": "embeddings.position_embeddings.weight",
    "segments.weight": "embeddings.token_type_embeddings.weight",
    "settle.weight": "embeddings.LayerNorm.weight",
    "settle.bias": "embeddings.LayerNorm.bias",
    **{
        f"body.layers.{layer}.{ours}.{kind}": f"encoder.layer.{layer}.{theirs}.{kind}"
        for layer in LAYERS
        for ours, theirs in WHOLE.items()
        for kind in ("weight", "bias")
    },
    **{
        f"body.layers.{layer}.self_attn.in_proj_{kind}": "cat("
        + ", ".join(f"encoder.layer.{layer}.attention.self.{part}.{kind}" for part in ("query", "key", "value"))
        + ")"
        for layer in LAYERS
        for kind in ("weight", "bias")
    },
}

SEEN = {
    "places.weight": 12 * 384,  # positions after the twelfth are not seen
    "segments.weight": 384,  # all tokens are of the first type
    **{f"body.layers.{layer}.self_attn.in_proj_bias": 2 * 384 for layer in LAYERS},  # a softmax loses the key's
}
"""How many elements an output can tell, where it is not all."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """The trained source, the target with what the mapping made of its weights, and the mapping."""

    source: nn.Module
    target: nn.Module
    mapping: automatch.Mapping
    made: Mapping[str, Tensor]


@pytest.fixture(scope="module")
def conversion() -> Conversion:
    """Match at full size, and load both sides strictly."""
    source, target = sentences.teacher(), sentences.student()
    source.load_state_dict(trained_weights(), strict=True)
    mapping = automatch.match(
        source, target, source_inputs=sentences.teacher_inputs(), target_inputs=sentences.student_inputs()
    )
    made = mapping.apply(source.state_dict())
    target.load_state_dict(made, strict=True)
    return Conversion(source, target, mapping, made)


@torch.no_grad()
def vectors(model: nn.Module) -> Tensor:
    found: Tensor = model(*tokenize(SENTENCES))
    return found


def test_the_source_is_the_published_model(conversion: Conversion) -> None:
    found = vectors(conversion.source)
    for (one, other), cosine in PUBLISHED.items():
        assert float(found[one] @ found[other]) == pytest.approx(cosine, abs=1e-5)


def test_tokens_are_those_of_the_published_tokenizer() -> None:
    # as transformers 5.24.0 gave them
    ids, mask = tokenize(["Naïveté isn't $5!", "☃ antidisestablishmentarianism"])
    assert ids.tolist() == [
        [101, 15743, 2618, 3475, 1005, 1056, 1002, 1019, 999, 102, 0],
        [101, 100, 3424, 10521, 4355, 7875, 13602, 3672, 12199, 2964, 102],
    ]
    assert mask.tolist() == [[1] * 10 + [0], [1] * 11]


def test_the_target_gives_the_same_sentence_vectors(conversion: Conversion) -> None:
    before, after = vectors(conversion.source), vectors(conversion.target)
    assert (before.dtype, before.shape) == (torch.float32, (4, 384))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_sentences_of_one_meaning_are_nearest(conversion: Conversion) -> None:
    found = vectors(conversion.target)
    cosines = (found @ found.T).fill_diagonal_(-1)
    assert cosines.argmax(1).tolist() == [1, 0, 3, 2]


def test_queries_in_place_of_keys_would_have_shown(conversion: Conversion) -> None:
    wrong, key = sentences.student(), "body.layers.5.self_attn.in_proj_weight"
    queries, keys, values = conversion.made[key].chunk(3)
    wrong.load_state_dict({**conversion.made, key: torch.cat([keys, queries, values])})
    assert float((vectors(wrong) - vectors(conversion.source)).abs().max()) > 1e-3


def test_the_mapping_is_what_an_expert_would_write(conversion: Conversion) -> None:
    found = {entry.target: text(entry.expr) for entry in conversion.mapping.entries if entry.expr is not None}
    assert found == EXPECTED
    assert conversion.mapping.unused == ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")


def test_every_weight_is_proved_but_for_what_no_output_can_tell(conversion: Conversion) -> None:
    unproved = {entry.target: entry.status for entry in conversion.mapping.entries if entry.status != "proved"}
    assert unproved == dict.fromkeys(["words.weight", *SEEN], "structural")


def test_what_is_not_proved_is_shown_as_far_as_it_can_be(conversion: Conversion) -> None:
    shown = {key: conversion.mapping[key].evidence.shown for key in SEEN}
    assert {key: found and found.elements for key, found in shown.items()} == SEEN
    words = conversion.mapping["words.weight"].evidence.shown
    assert words is not None
    assert 20 * 384 <= words.elements < words.of == 30522 * 384


def test_the_proof_ran_the_full_model(conversion: Conversion) -> None:
    proof = conversion.mapping.record.proof
    assert proof is not None
    assert (proof.outcome, proof.draws >= 3) == ("agree", True)
    assert [output.shape for output in proof.outputs] == [(2, 384)]
    assert proof.outputs[0].gap < 1e-12
