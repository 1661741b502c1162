"""Rules of small models hold between those of published size: other depths, widths and policies."""

from __future__ import annotations

import pytest

from automatch.rules.adapt import adapt
from automatch.rules.spell import normal
from tests.answers import PAIR, full, small

# equal numbers in small models are wanted here; that they are warned of is tested in test_deciding.py
pytestmark = pytest.mark.filterwarnings("ignore::automatch.errors.CoincidenceWarning")

OPEN = {"placed": 8}
"""Pairs whose small models leave sizes open, and how many keys that leaves undetermined."""


@pytest.mark.parametrize("name", PAIR)
def test_rules_of_the_small_pair_give_the_mapping_of_the_full_one(name: str) -> None:
    wanted = full(name).mapping
    rules = small(name).mapping.rules()
    found = {entry.target: entry for entry in adapt(rules, wanted.record.source, wanted.record.target).entries}
    lost = [entry.target for entry in wanted.entries if entry.expr is not None and found[entry.target].expr is None]
    assert len(lost) == OPEN.get(name, 0)
    for entry in wanted.entries:
        made = found[entry.target].expr
        if made is not None:
            assert entry.expr is not None
            assert made == normal(entry.expr), entry.target


@pytest.mark.parametrize("name", PAIR)
def test_rules_give_the_mapping_again_that_they_were_learned_from(name: str) -> None:
    mapping = full(name).mapping
    rules = mapping.rules()
    again = adapt(rules, mapping.record.source, mapping.record.target)
    assert [entry.expr for entry in again.entries] == [entry.expr and normal(entry.expr) for entry in mapping.entries]
    assert len(rules.rules) < len(mapping) / 2
