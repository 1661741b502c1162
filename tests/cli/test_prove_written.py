"""Expectation files that say expressions, and rules files, run as mappings."""

from __future__ import annotations

from pathlib import Path

import pytest

from automatch.check import expected
from automatch.cli.proving import from_expectation
from automatch.core.json_fields import parse
from automatch.errors import MappingError
from automatch.from_rules import adapt
from automatch.mapping import Mapping
from automatch.prove import prove
from fixtures.layouts import LAYOUTS, Layouts

# equal numbers in small models are wanted here; that they are warned of is tested in test_deciding.py
pytestmark = pytest.mark.filterwarnings("ignore::automatch.errors.CoincidenceWarning")

NAMED = {layouts.name: layouts for layouts in LAYOUTS}


def wanted(path: Path) -> dict[str, expected.Wanted]:
    return expected.from_document(parse(path.read_text(), path.name), path.name, to_compare=True)


@pytest.mark.parametrize("name", ["by_head_to_transposed", "normed_to_folded", "fused_to_llama", "mixtral_to_stacked"])
def test_the_text_of_expressions_is_read_back_and_proved(name: str) -> None:
    layouts: Layouts = NAMED[name]
    source, target = layouts.source(), layouts.target()
    record = from_expectation(wanted(layouts.expected), source, target)
    assert prove(record, source, target, layouts.inputs(), layouts.inputs()).record.outcome == "agree"
    again = adapt(Mapping(record).rules(), source, target).record
    assert prove(again, source, target, layouts.inputs(), layouts.inputs()).record.outcome == "agree"


def test_text_that_cannot_be_run_is_listed_with_the_reason() -> None:
    layouts = NAMED["apart_to_joined"]
    source, target = layouts.source(), layouts.target()
    found = wanted(layouts.expected)
    first, second, *_ = found
    found |= {first: expected.Written("gather(x, 3 indices)"), second: expected.Written("absent.weight")}
    with pytest.raises(MappingError) as caught:
        from_expectation(found, source, target)
    assert "gather" in str(caught.value)
    assert "absent.weight, which the source does not have" in str(caught.value)
