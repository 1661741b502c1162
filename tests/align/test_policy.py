from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automatch.align.policy import LayerPolicy, chain_policies, pair_layers, policy_name
from automatch.errors import PolicyError

depths = st.integers(1, 60)


@pytest.mark.parametrize(
    ("policy", "source", "target", "layers"),
    [
        ("uniform", 12, 4, (0, 3, 6, 9)),
        ("uniform", 40, 16, (0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37)),
        ("uniform", 2, 5, (0, 0, 0, 1, 1)),
        ("uniform", 3, 1, (0,)),
        ("first", 4, 2, (0, 1)),
        ("first", 2, 4, (0, 1, 1, 1)),
        ("last", 4, 2, (2, 3)),
        ("last", 2, 4, (0, 0, 0, 1)),
        ([3, 0], 4, 2, (3, 0)),
        ((1, 1, 1), 2, 3, (1, 1, 1)),
    ],
)
def test_every_target_layer_takes_a_source_layer(
    policy: LayerPolicy, source: int, target: int, layers: tuple[int, ...]
) -> None:
    assert pair_layers(policy, source, target) == layers


@given(st.sampled_from(["uniform", "first", "last"]), depths, depths)
def test_a_named_policy_gives_layers_that_are_there_in_order(policy: LayerPolicy, source: int, target: int) -> None:
    layers = pair_layers(policy, source, target)
    assert len(layers) == target
    assert set(layers) <= set(range(source))
    assert list(layers) == sorted(layers)


@given(st.sampled_from(["uniform", "first", "last"]), depths)
def test_equal_depths_are_paired_one_by_one(policy: LayerPolicy, depth: int) -> None:
    assert pair_layers(policy, depth, depth) == tuple(range(depth))


@given(depths, depths)
def test_first_and_last_reach_their_end(source: int, target: int) -> None:
    assert pair_layers("first", source, target)[0] == 0
    assert pair_layers("last", source, target)[-1] == source - 1


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([0, 1], "the list of layers has 2 entries, but the target has 3 layers"),
        ([0, 1, 4], "the list of layers names [4], but the source has layers 0 to 3"),
        ([-1, 1, 7], "the list of layers names [-1, 7], but the source has layers 0 to 3"),
        ("middle", "layer policy 'middle' is unknown; use 'uniform', 'first', 'last' or a list of source layers"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_with_both_numbers(policy: LayerPolicy, message: str) -> None:
    with pytest.raises(PolicyError) as refused:
        pair_layers(policy, 4, 3)
    assert str(refused.value) == message


def test_a_named_policy_rules_every_chain() -> None:
    assert chain_policies("last", [(4, 2), (6, 3)]) == ("last", "last")
    assert chain_policies("last", []) == ()


def test_a_list_rules_the_chains_of_its_length() -> None:
    assert chain_policies([1, 2], [(4, 2), (6, 3), (3, 2)]) == ([1, 2], "uniform", [1, 2])


def test_a_list_that_fits_no_chain_is_refused() -> None:
    with pytest.raises(PolicyError, match="has 2 entries, but the target has 3 layers"):
        chain_policies([0, 1], [(6, 3), (2, 1)])


def test_a_list_without_any_chain_is_refused() -> None:
    with pytest.raises(PolicyError, match="has 2 entries, but no repeated blocks could be paired"):
        chain_policies([0, 1], [])


def test_a_list_is_called_explicit() -> None:
    assert [policy_name(policy) for policy in ("uniform", "first", "last", [0])] == [
        "uniform",
        "first",
        "last",
        "explicit",
    ]
