"""Rules learned at one size hold at another; where sizes coincide by chance, that is said."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

import automatch
from automatch.rules.spell import normal
from fixtures.layouts import LAYOUTS, Layouts
from tests.rules.families import FAMILIES, SMALL_GROUPED, Dims, Family, output

# equal numbers in small models are wanted here; that they are warned of is tested in test_deciding.py
pytestmark = pytest.mark.filterwarnings("ignore::automatch.errors.CoincidenceWarning")

BY_NAME = {family.name: family for family in FAMILIES}
LAYOUT_NAMES = {"llama-fused", "fused-llama", "mixtral-stacked", "stacked-mixtral"}
KNOWN = [
    layouts for layouts in LAYOUTS if (name := layouts.name.replace("_to_", "-")) in BY_NAME or name in LAYOUT_NAMES
]


@cache
def learned(name: str) -> automatch.Mapping:
    """The mapping between the small models of a family, found by matching them."""
    family = BY_NAME[name]
    mapping = automatch.match(
        family.source(family.small),
        family.target(family.small),
        source_inputs=family.source_inputs,
        target_inputs=family.target_inputs,
    )
    assert mapping.record.proof is not None
    assert mapping.record.proof.outcome == "agree"
    return mapping


@cache
def rules(name: str) -> automatch.RuleSet:
    return learned(name).rules()


def models(name: str, dims: Dims) -> tuple[nn.Module, nn.Module]:
    return BY_NAME[name].source(dims), BY_NAME[name].target(dims)


def agree(family: Family, source: nn.Module, target: nn.Module, mapping: automatch.Mapping) -> None:
    """Fill the target, and compare what both models compute."""
    before = output(target, family.target_inputs)
    target.load_state_dict(mapping.apply(source.state_dict()), strict=True)
    wanted = output(source, family.source_inputs)
    torch.testing.assert_close(output(target, family.target_inputs), wanted, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(before, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_larger_model_computes_the_same_with_what_the_rules_make(family: Family) -> None:
    assert rules(family.name).notes == ()
    source, target = models(family.name, family.large)
    made = automatch.adapt(rules(family.name), source, target)
    assert {entry.target: entry.evidence.reasons for entry in made.entries if entry.status == "unmapped"} == {}
    agree(family, source, target, made)


@pytest.mark.parametrize("layouts", KNOWN, ids=lambda layouts: layouts.name)
def test_a_model_of_another_size_gets_exactly_its_known_mapping(layouts: Layouts) -> None:
    made = automatch.adapt(rules(layouts.name.replace("_to_", "-")), layouts.source(), layouts.target())
    report = replace(made.check(layouts.expected), proof=())  # what rules make was not run
    assert report.ok, str(report)
    assert report.checked == len(layouts.target().state_dict())


@pytest.mark.parametrize("name", ["apart-joined", "by_head-apart", "hf_bert-plain"])
def test_matching_the_larger_models_gives_the_same_expressions(name: str) -> None:
    family = BY_NAME[name]
    source, target = models(name, replace(family.large, layers=3))
    made = automatch.adapt(rules(name), source, target)
    found = automatch.match(source, target, source_inputs=family.source_inputs, target_inputs=family.target_inputs)
    assert {entry.target: entry.expr for entry in made.entries} == {
        entry.target: entry.expr and normal(entry.expr) for entry in found.entries
    }


def coinciding(name: str, dims: Dims) -> automatch.RuleSet:
    """Rules as they are learned from one model of these sizes alone, whose mapping is known to be right."""
    source, target = models(name, dims)
    mapping = automatch.adapt(rules(name), source, target)
    agree(BY_NAME[name], source, target, mapping)
    return automatch.adapt(rules(name), *models(name, dims)).rules()


def test_equal_numbers_of_heads_leave_open_which_is_meant() -> None:
    equal = coinciding("hf_llama-fused", replace(SMALL_GROUPED, width=60, heads=6, kv_heads=6))
    family, dims = BY_NAME["hf_llama-fused"], Dims(width=96, hidden=40, layers=3, heads=12, kv_heads=4)
    source, target = models(family.name, dims)
    made = automatch.adapt(equal, source, target)
    open_ones = [entry.target for entry in made.entries if entry.status == "unmapped"]
    assert open_ones == [f"h.{layer}.attn.qkv.weight" for layer in range(3)]
    (reason,) = made["h.0.attn.qkv.weight"].evidence.reasons
    assert "may be 12 or 4: give the size (--size" in reason
    (heads,) = (size.name for size in equal.sizes if f"{size.name} may be 12 or 4" in reason)
    right = automatch.adapt(equal, source, target, sizes={heads: 12})
    agree(family, source, target, right)


def test_half_a_head_that_is_as_many_as_there_are_groups_is_left_open() -> None:
    equal = coinciding("fused-llama", replace(SMALL_GROUPED, width=294, heads=21, kv_heads=7))
    made = automatch.adapt(equal, *models("fused-llama", BY_NAME["fused-llama"].large))
    (reason,) = made["model.layers.0.self_attn.q_proj.weight"].evidence.reasons
    assert "groups_2 may be 6 or 8; groups may be 8 or 6: give the size" in reason


def test_three_heads_and_three_projections_are_left_open() -> None:
    equal = coinciding("by_head-joined", Dims(width=24, hidden=22, layers=2, heads=3))
    made = automatch.adapt(equal, *models("by_head-joined", BY_NAME["by_head-joined"].large))
    (reason,) = made["layers.0.qkv.weight"].evidence.reasons
    assert "may be 7 or 3" in reason


def test_where_only_one_reading_fits_it_is_taken_and_said_to_be_a_guess() -> None:
    family = BY_NAME["llama-fused"]
    entry = automatch.adapt(rules(family.name), *models(family.name, family.large))["h.0.attn.qkv.weight"]
    assert entry.status == "guessed"
    # three times the groups is another way to get the heads of the small model
    assert "size is taken to be 12, because shapes do not come out right with 18" in entry.evidence.reasons
