"""The fixture pairs at full size on the meta device, and the key lists, against mappings written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

import automatch
from automatch.core.expr import children
from automatch.core.mapping import Entry
from automatch.core.mapping_json import dumps
from fixtures import wan
from fixtures.cases import PAIRS, WAN_KEYS_EXPECTED, Pair
from tests.answers import full
from tests.nameless import matched_without_names

every_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


@every_pair
def test_the_answer_is_what_an_expert_wrote(pair: Pair) -> None:
    full(pair.name).mapping.check(pair.expected).raise_for_difference()


@every_pair
def test_every_key_of_the_target_has_an_entry_of_its_shape(pair: Pair) -> None:
    answer = full(pair.name)
    state = answer.models[1].state_dict()
    assert list(answer.mapping) == list(state)
    assert [entry.shape for entry in answer.mapping.entries] == [tuple(tensor.shape) for tensor in state.values()]


@every_pair
def test_every_entry_says_why(pair: Pair) -> None:
    silent = [entry.target for entry in full(pair.name).mapping.entries if not entry.evidence.reasons]
    assert silent == []


@every_pair
def test_structure_alone_never_claims_a_proof_and_a_guess_names_its_rivals(pair: Pair) -> None:
    entries = full(pair.name).mapping.entries
    assert {entry.status for entry in entries} <= {"structural", "guessed", "unmapped"}
    assert [entry.target for entry in entries if entry.status == "guessed" and not entry.evidence.rivals] == []


@every_pair
def test_both_models_were_traced_by_export_and_stay_on_the_meta_device(pair: Pair) -> None:
    answer = full(pair.name)
    assert [graph.rung for graph in answer.graphs] == ["export", "export"]
    for model in answer.models:
        assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("seed", [0, 1])
@every_pair
def test_the_answer_is_right_without_any_name(pair: Pair, seed: int) -> None:
    answer = full(pair.name)
    report = matched_without_names(*answer.graphs, answer.mapping.record, seed).check(pair.expected)
    # A counter that no operator reads is told by its key alone, so its key is all there is to go by.
    read = {node.target for node in answer.graphs[1].nodes if node.op == "weight"}
    seen = tuple(difference for difference in report.different if difference.target in read)
    replace(report, different=seen).raise_for_difference()
    assert len(read) > 20


@every_pair
def test_applying_to_meta_tensors_gives_every_weight_that_is_determined(pair: Pair) -> None:
    answer = full(pair.name)
    filled = answer.mapping.apply(answer.models[0].state_dict())
    assert list(filled) == [entry.target for entry in answer.mapping.entries if entry.status != "unmapped"]
    assert all(tensor.is_meta and tuple(tensor.shape) == answer.mapping[key].shape for key, tensor in filled.items())


def test_wan_gets_all_202_weights_from_evenly_spread_layers() -> None:
    mapping = full("wan").mapping
    summary = mapping.summary()
    assert (len(mapping), summary.unmapped, summary.all_concatenated) == (202, 0, 32)
    assert [pairing.layers for pairing in mapping.chains] == [tuple(i * 40 // 16 for i in range(16))]
    assert mapping["blocks.8.attn.out_proj.weight"].evidence.source_layer == 20


def test_renaming_the_wan_teacher_changes_names_only() -> None:
    original, renamed = full("wan").mapping, full("wan_renamed").mapping
    assert [_shape_of_answer(entry) for entry in original.entries] == [
        _shape_of_answer(entry) for entry in renamed.entries
    ]


def _shape_of_answer(entry: Entry) -> tuple[object, ...]:
    operators = [] if entry.expr is None else [type(entry.expr), *map(type, children(entry.expr))]
    return entry.target, entry.status, entry.evidence.source_layer, len(entry.sources), operators


@pytest.fixture(scope="module")
def from_key_lists() -> automatch.Mapping:
    return automatch.match(wan.wan_keys_source(), wan.wan_keys_target())  # type: ignore[arg-type]  # shapes will do


def test_key_lists_alone_give_165_of_165_with_32_concatenations(from_key_lists: automatch.Mapping) -> None:
    from_key_lists.check(WAN_KEYS_EXPECTED).raise_for_difference()
    summary = from_key_lists.summary()
    assert (len(from_key_lists), summary.unmapped, summary.all_concatenated) == (165, 0, 32)


def test_key_lists_give_no_structural_claims(from_key_lists: automatch.Mapping) -> None:
    assert {entry.evidence.method for entry in from_key_lists.entries} == {"names"}
    assert {from_key_lists.record.source.rung, from_key_lists.record.target.rung} == {"names"}


def test_key_lists_in_another_order_give_the_same_sources(from_key_lists: automatch.Mapping) -> None:
    backwards = (dict(reversed(shapes.items())) for shapes in (wan.wan_keys_source(), wan.wan_keys_target()))
    mapping = automatch.match(*backwards)  # type: ignore[arg-type]  # shapes will do
    mapping.check(from_key_lists).raise_for_difference()


def test_key_lists_give_the_same_bytes_twice(from_key_lists: automatch.Mapping) -> None:
    again = automatch.match(wan.wan_keys_source(), wan.wan_keys_target())  # type: ignore[arg-type]  # shapes will do
    assert dumps(again.record) == dumps(from_key_lists.record)
