"""The project's own known mappings: every pair of layouts, and the pairs whose mapping was written by hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import automatch
from automatch.check.expected import read
from automatch.check.written import written
from automatch.core.json_fields import parse
from automatch.errors import InverseError
from automatch.testing import assert_as_expected, assert_mapping
from fixtures import wan
from fixtures.cases import PAIRS, WAN_KEYS_EXPECTED, Pair
from fixtures.layouts import LAYOUTS, MAPPINGS, Layouts
from tests.answers import full

every_pair = pytest.mark.parametrize("pair", LAYOUTS, ids=lambda pair: pair.name)


@cache
def matched(pair: Layouts) -> automatch.Mapping:
    inputs = pair.inputs()
    return assert_mapping(pair.source(), pair.target(), pair.expected, source_inputs=inputs, target_inputs=inputs)


@every_pair
def test_the_mapping_between_two_layouts_is_the_known_one(pair: Layouts) -> None:
    assert len(matched(pair)) > 0


@every_pair
def test_a_run_of_both_models_agrees_with_the_known_mapping(pair: Layouts) -> None:
    proof = matched(pair).record.proof
    assert proof is not None
    assert proof.outcome == "agree"


@every_pair
def test_the_file_is_to_the_byte_what_an_update_would_write(pair: Layouts) -> None:
    assert pair.expected.read_bytes() == written(matched(pair).record).encode()


@every_pair
def test_the_file_remembers_what_was_proved_and_for_which_functions(pair: Layouts) -> None:
    record = matched(pair).record
    proved = read(parse(pair.expected.read_text(encoding="utf-8"), pair.name), pair.name, to_compare=True).proved
    assert proved is not None
    assert proved.verdict == record.verdict
    assert None not in (proved.source, proved.target)
    assert (proved.source, proved.target) == (record.source.function, record.target.function)


def test_how_a_mapping_was_found_makes_no_other_function_of_a_model() -> None:
    pair = next(pair for pair in LAYOUTS if pair.name == "llama_to_fused")  # rotary layouts are only found by a search
    inputs = pair.inputs()
    exact = matched(pair).record
    traced = automatch.match(pair.source(), pair.target(), source_inputs=inputs, target_inputs=inputs, run=False).record
    assert "colours" in {entry.evidence.method for entry in exact.entries}
    assert (exact.source.function, exact.target.function) == (traced.source.function, traced.target.function)


NO_WAY_BACK = {
    "normed_to_folded": "bn1.running_var",  # folded into the convolution
    "scaled_to_plain": "enter.parametrizations.weight.original0",  # multiplied into the weight
}


@every_pair
def test_a_checkpoint_goes_there_and_back_to_the_byte_where_there_is_a_way_back(pair: Layouts, tmp_path: Path) -> None:
    mapping, state = matched(pair), pair.source().state_dict()
    if pair.name in NO_WAY_BACK:
        with pytest.raises(InverseError, match=NO_WAY_BACK[pair.name]):
            mapping.inverse()
        return
    back = mapping.inverse()
    torch.save(state, tmp_path / "old.pt")
    automatch.convert(tmp_path / "old.pt", mapping, tmp_path / "new", max_shard_size="20kB")
    automatch.convert(tmp_path / "new", back, tmp_path / "back.safetensors")
    found = load_file(tmp_path / "back.safetensors")
    rounding = {entry.target for entry in back.entries if any("rounds" in each for each in entry.evidence.reasons)}
    assert found.keys() == state.keys()
    assert [key for key in state if key not in rounding and not torch.equal(found[key], state[key])] == []
    assert len(rounding) < len(state) / 2


def test_keys_and_values_in_the_other_order_are_a_difference_in_every_layer(tmp_path: Path) -> None:
    pair = next(pair for pair in LAYOUTS if pair.name == "apart_to_by_head")
    right = "layers.{i}.k_proj.weight, layers.{i}.v_proj.weight"
    text = pair.expected.read_text(encoding="utf-8")
    assert text.count(right) == 1
    wrong = tmp_path / "wrong.json"
    wrong.write_text(text.replace(right, "layers.{i}.v_proj.weight, layers.{i}.k_proj.weight"), encoding="utf-8")
    with pytest.raises(AssertionError) as caught:
        assert_as_expected(matched(pair), wrong, update=False)
    lines = str(caught.value).split("\n")
    assert lines[0].endswith("not as expected: 3 different, 0 missing, 0 extra (27 weights compared)")
    form = "(3 keys of the form layers.{}.query_key_value.weight)"
    assert lines[1] == f"layers.0.query_key_value.weight  {form}: the sources in another order"


def test_there_are_25_pairs_and_every_file_belongs_to_one() -> None:
    assert len({pair.name for pair in LAYOUTS}) == 25
    assert {pair.expected for pair in LAYOUTS} == set(MAPPINGS.glob("*.json"))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_mapping_written_by_hand_is_met_at_full_size(pair: Pair) -> None:
    assert_as_expected(full(pair.name).mapping, pair.expected, update=False)


def test_a_mapping_between_key_lists_is_met() -> None:
    mapping = assert_mapping(
        wan.wan_keys_source(),  # type: ignore[arg-type]  # shapes will do
        wan.wan_keys_target(),  # type: ignore[arg-type]
        WAN_KEYS_EXPECTED,
        update=False,
    )
    assert len(mapping) == 165
