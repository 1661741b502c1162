from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from automatch.core.mapping_json import dumps
from automatch.errors import MappingError, MappingFormatError
from automatch.mapping import Mapping, load
from automatch.rules.adapt import adapt
from tests.apply.records import entry, record, whole


@pytest.fixture
def mapping() -> Mapping:
    return Mapping(whole())


def state_dict(device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {weight.name: torch.randn(weight.shape).to(dtype).to(device) for weight in whole().source.weights}


def test_a_key_gives_its_entry(mapping: Mapping) -> None:
    assert mapping["blocks.1.in_proj"].sources == tuple(f"layers.2.{name}.weight" for name in "qkv")
    assert "blocks.1.in_proj" in mapping
    assert "layers.0.fc.0" not in mapping


def test_a_key_that_is_not_there_names_near_ones(mapping: Mapping) -> None:
    with pytest.raises(KeyError, match=r"'blocks.1.in_porj' is no key of the target; there is blocks.1.in_proj"):
        mapping["blocks.1.in_porj"]
    with pytest.raises(KeyError, match=r"'zzz' is no key of the target\""):
        mapping["zzz"]


def test_iteration_gives_target_keys_in_order(mapping: Mapping) -> None:
    assert list(mapping) == [each.target for each in whole().entries]
    assert len(mapping) == 15
    assert mapping.entries == whole().entries
    assert mapping.chains == whole().chains
    assert mapping.unused == ("cross",)


def test_apply_gives_every_key_that_is_determined(mapping: Mapping) -> None:
    weights = state_dict()
    got = mapping.apply(weights)
    assert list(got) == [key for key in mapping if key != "table"]
    parts = [weights[f"layers.2.{name}.weight"][:4, :4] * 1.5 for name in "qkv"]
    assert torch.equal(got["blocks.1.in_proj"], torch.cat(parts))
    assert torch.equal(got["conv"], weights["patch"][:, :, 1])
    assert torch.equal(got["embed"], weights["embed"] * 2 - 1 + weights["type"])


def test_apply_gives_memory_of_its_own_even_to_tied_and_unchanged_weights(mapping: Mapping) -> None:
    weights = state_dict()
    got = mapping.apply(weights)
    got["same"].zero_()
    got["embed"].zero_()
    assert weights["same"].abs().sum() > 0
    assert got["head"].abs().sum() > 0


def test_apply_keeps_the_dtype_of_the_source_and_the_targets_own_for_constants(mapping: Mapping) -> None:
    got = mapping.apply(state_dict(dtype=torch.bfloat16))
    assert got["blocks.0.in_proj"].dtype == torch.bfloat16
    assert got["blocks.0.norm.weight"].dtype == torch.float32
    assert (got["steps"].dtype, got["steps"].item()) == (torch.int64, 3)


def test_apply_to_meta_tensors_gives_meta_tensors(mapping: Mapping) -> None:
    got = mapping.apply(state_dict("meta"))
    assert {tensor.device.type for tensor in got.values()} == {"meta"}
    assert all(tuple(got[key].shape) == mapping[key].shape for key in got)


def test_apply_collects_what_does_not_fit(mapping: Mapping) -> None:
    weights = state_dict()
    del weights["patch"]
    weights["old"] = torch.ones(7)
    with pytest.raises(MappingError) as caught:
        mapping.apply(weights)
    assert str(caught.value).split("\n") == [
        "the state dict does not fit the mapping of Old; give the checkpoint that was matched, or match again. "
        "2 of its weights:",
        "  patch: missing, needed for conv",
        "  old: shape [7], but the mapping was made for [4]",
    ]


def test_apply_refuses_values_that_are_no_tensors(mapping: Mapping) -> None:
    with pytest.raises(MappingError, match=r"no tensors; leave them out:\n  epoch: int"):
        mapping.apply({**state_dict(), "epoch": 3})  # type: ignore[dict-item]  # that is the point


def test_saving_and_loading_gives_the_same_mapping(mapping: Mapping, tmp_path: Path) -> None:
    mapping.save(tmp_path / "m.json")
    assert load(tmp_path / "m.json") == Mapping.load(str(tmp_path / "m.json")) == mapping
    assert (tmp_path / "m.json").read_text(encoding="utf-8") == dumps(whole())
    assert list(tmp_path.iterdir()) == [tmp_path / "m.json"]


def test_saving_where_there_is_no_folder_is_refused(mapping: Mapping, tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="does not exist; make it first"):
        mapping.save(tmp_path / "absent" / "m.json")


def test_loading_what_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingFormatError, match=r"absent.json: there is no such file"):
        load(tmp_path / "absent.json")
    (tmp_path / "weights.bin").write_bytes(b"\x80\x02\xff")
    with pytest.raises(MappingFormatError, match=r"weights.bin: not text"):
        load(tmp_path / "weights.bin")
    with pytest.raises(MappingFormatError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_the_short_and_the_long_text(mapping: Mapping) -> None:
    assert repr(mapping) == "<Mapping of Old onto New: 14 of 15 weights mapped; not run>"
    assert str(mapping) == str(mapping.summary())
    assert str(mapping).startswith("not run: ")


def test_check_and_rules_are_at_hand(mapping: Mapping) -> None:
    assert mapping.check(mapping).ok
    assert not mapping.check({"same": "old"}).ok
    rules = mapping.rules()
    again = {entry.target: entry.expr for entry in adapt(rules, mapping.record.source, mapping.record.target).entries}
    lost = {entry.target for entry in mapping.entries if again[entry.target] != entry.expr}
    assert len(lost) < len(mapping)
    assert lost == {note.partition(":")[0] for note in rules.notes}


def test_mappings_are_equal_where_their_records_are(mapping: Mapping) -> None:
    assert mapping == Mapping(whole())
    assert hash(mapping) == hash(Mapping(whole()))
    assert mapping != Mapping(record(entry("w", None)))
    assert mapping != whole()


def test_a_mapping_is_read_and_checked_without_torch(mapping: Mapping, tmp_path: Path) -> None:
    mapping.save(tmp_path / "m.json")
    code = (
        "import sys; from automatch.mapping import load; "
        f"m = load({str(tmp_path / 'm.json')!r}); str(m.summary()); str(m.rules()); assert m.check(m).ok; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
