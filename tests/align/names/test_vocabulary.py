from __future__ import annotations

import pytest

from automatch.align.names.vocabulary import resemblance, role, tokens


@pytest.mark.parametrize(
    ("component", "words"),
    [
        ("self_attn", ("self", "attn")),
        ("selfAttention", ("self", "attention")),
        ("qkv_proj", ("q", "k", "v", "proj")),
        ("LayerNorm", ("layer", "norm")),
        ("fc1", ("fc",)),
        ("embeddings", ("embedding",)),
        ("bias", ("bias",)),
        ("cross", ("cross",)),
        ("12", ()),
    ],
)
def test_components_are_split_into_words(component: str, words: tuple[str, ...]) -> None:
    assert tokens(component) == words


def test_spellings_of_one_word_resemble_each_other_more_than_other_words() -> None:
    for a, b, other in [("attn", "attention", "norm"), ("o", "out", "query"), ("embed", "embedding", "head")]:
        assert resemblance(a, b) == resemblance(b, a)
        assert resemblance(a, b) > resemblance(a, other)


def test_no_resemblance_exceeds_equality() -> None:
    words = ["q", "query", "attn", "attention", "norm", "normal", "proj", "projection", "down", "downsample"]
    assert all(resemblance(a, b) < 1.0 for a in words for b in words if a != b)


def test_a_name_of_several_roles_has_no_place_in_an_order() -> None:
    assert role(("q", "proj")) == (0, 0)
    assert role(("up",)) == (1, 1)
    assert role(("q", "k")) is None
