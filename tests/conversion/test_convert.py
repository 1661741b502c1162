from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from automatch.apply.convert import convert
from automatch.apply.fill import fill
from automatch.core.expr import Concat, Constant, Source
from automatch.core.graph import Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord
from automatch.core.mapping_file import write
from automatch.errors import CheckpointError, MappingError, MappingFormatError
from tests.apply.records import entry, record, whole


def source_tensors(mapping: MappingRecord) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {weight.name: torch.randn(weight.shape) for weight in mapping.source.weights}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "old.safetensors"
    save_file(source_tensors(whole()), path)
    return path


def test_a_file_holds_what_apply_gives(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.safetensors"
    convert(checkpoint, whole(), out)
    expected = fill(whole(), source_tensors(whole()))
    got = load_file(out)
    assert got.keys() == expected.keys() == {each.target for each in whole().entries if each.expr}
    assert all(torch.equal(got[key], expected[key]) and got[key].dtype == expected[key].dtype for key in got)


def test_the_file_says_that_it_is_for_torch_and_nothing_is_left_beside_it(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.safetensors"
    out.write_bytes(b"something older")
    convert(str(checkpoint), whole(), str(out))
    with safe_open(out, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.safetensors", "old.safetensors"]


def test_the_bytes_are_the_same_every_time_and_from_a_mapping_file(checkpoint: Path, tmp_path: Path) -> None:
    write(whole(), tmp_path / "m.json")
    convert(checkpoint, whole(), tmp_path / "one.safetensors")
    convert(checkpoint, tmp_path / "m.json", tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_tied_target_keys_are_written_each(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, whole(), tmp_path / "new.safetensors")
    got = load_file(tmp_path / "new.safetensors")
    assert torch.equal(got["embed"], got["head"])


def test_a_tied_source_is_read_under_the_name_that_the_file_kept(tmp_path: Path) -> None:
    built = record(entry("w", Source("head", (2,))))
    tied = Weight("embed", (2,), "float32", "parameter", ("head",))
    built = replace(built, source=replace(built.source, weights=(tied,)))
    save_file({"embed": torch.tensor([1.0, 2.0])}, tmp_path / "old.safetensors")
    convert(tmp_path / "old.safetensors", built, tmp_path / "new.safetensors")
    assert load_file(tmp_path / "new.safetensors")["w"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_narrow_floats_pass_through(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"q": torch.ones(2, 2).to(dtype), "k": torch.zeros(2, 2).to(dtype)}, tmp_path / "old.safetensors")
    built = record(entry("qk", Concat((Source("q", (2, 2)), Source("k", (2, 2))))))
    convert(tmp_path / "old.safetensors", built, tmp_path / "new.safetensors")
    assert load_file(tmp_path / "new.safetensors")["qk"].dtype == dtype


def test_all_that_does_not_fit_is_named_in_one_error_and_nothing_is_written(tmp_path: Path) -> None:
    tensors = source_tensors(whole())
    tensors["same"] = torch.ones(5)
    tensors["model.layers.2.k.weight"] = tensors.pop("layers.2.k.weight")
    del tensors["type"]
    save_file(tensors, tmp_path / "old.safetensors")
    with pytest.raises(MappingError) as caught:
        convert(tmp_path / "old.safetensors", whole(), tmp_path / "new.safetensors")
    assert str(caught.value).split("\n")[1:] == [
        "  same: shape [5], but the mapping was made for [4]",
        "  layers.2.k.weight: missing, needed for blocks.1.in_proj (there is model.layers.2.k.weight)",
        "  type: missing, needed for embed",
    ]
    assert "old.safetensors does not fit the mapping of Old" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a whole safetensors file"),
        (b"PK\x03\x04 and so on", "is not a whole safetensors file"),
        (b"\xff" * 64, "is not a whole safetensors file"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "old.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "old.safetensors", whole(), tmp_path / "new.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


def test_a_truncated_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="download or save it again"):
        convert(checkpoint, whole(), tmp_path / "new.safetensors")


def test_a_full_disk_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("automatch.apply.convert.save_file", fail)
    with pytest.raises(CheckpointError, match=r"new.safetensors cannot be written: No space left on device"):
        convert(checkpoint, whole(), tmp_path / "new.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


def test_names_that_are_no_files_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file; name a safetensors file"):
        convert(tmp_path / "absent.safetensors", whole(), tmp_path / "new.safetensors")
    with pytest.raises(CheckpointError, match="is a folder; name the one safetensors file"):
        convert(tmp_path, whole(), tmp_path / "new.safetensors")
    with pytest.raises(CheckpointError, match="is a folder; name a file in it"):
        convert(checkpoint, whole(), tmp_path)
    with pytest.raises(CheckpointError, match="does not exist; make it first"):
        convert(checkpoint, whole(), tmp_path / "absent" / "new.safetensors")
    with pytest.raises(CheckpointError, match="is the checkpoint itself; name another file"):
        convert(checkpoint, whole(), tmp_path / "." / "old.safetensors")
    with pytest.raises(MappingFormatError, match="there is no such file"):
        convert(checkpoint, tmp_path / "absent.json", tmp_path / "new.safetensors")


def test_a_mapping_that_determines_nothing_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="determines no weight of the target"):
        convert(checkpoint, record(entry("w", None)), tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_a_constant_that_a_dtype_cannot_hold_names_the_weight() -> None:
    endless = Entry("steps", (), "int64", "structural", Constant(float("inf"), ()), Evidence("structure"))
    with pytest.raises(MappingError, match=r"steps = full\[inf\]\(\) cannot be computed: "):
        fill(record(endless), {})


def test_a_dtype_that_torch_does_not_know_names_the_weight() -> None:
    strange = Entry("steps", (), "float128", "structural", Constant(1.0, ()), Evidence("structure"))
    with pytest.raises(MappingError, match=r"steps: dtype 'float128' is unknown to torch"):
        fill(record(strange), {})
