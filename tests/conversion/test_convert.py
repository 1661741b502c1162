from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from automatch.apply.evaluate import evaluate
from automatch.apply.fill import fill
from automatch.conversion.convert import Options, convert, prepare
from automatch.core.expr import Affine, Concat, Constant, Source
from automatch.core.graph import Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord
from automatch.core.mapping_file import read, write
from automatch.core.mapping_json import digest
from automatch.errors import CheckpointError, MappingError, MappingFormatError
from tests.apply.records import entry, record, whole
from tests.conversion.checkpoints import mixed, moved, save, source_tensors, typed


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "old.safetensors"
    save(whole(), path)
    return path


def same(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """Whether all is equal to the bit."""
    return got.keys() == wanted.keys() and all(
        got[key].dtype == wanted[key].dtype
        and torch.equal(got[key].contiguous().view(torch.uint8), wanted[key].contiguous().view(torch.uint8))
        for key in got
        if got[key].dim()
    )


def test_a_file_holds_what_apply_gives(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, whole(), tmp_path / "new.safetensors")
    got = load_file(tmp_path / "new.safetensors")
    assert same(got, fill(whole(), source_tensors(whole())))
    assert got.keys() == {each.target for each in whole().entries if each.expr}


@pytest.mark.parametrize("made", [mixed(), moved(), whole()])
def test_a_file_has_the_bytes_that_safetensors_would_write(tmp_path: Path, made: MappingRecord) -> None:
    tensors = save(made, tmp_path / "old.safetensors")
    convert(tmp_path / "old.safetensors", made, tmp_path / "new.safetensors")
    save_file(fill(made, tensors), tmp_path / "by_hand.safetensors", metadata={"format": "pt"})
    by_hand = (tmp_path / "by_hand.safetensors").read_bytes()
    told = json.dumps({"automatch.mapping": digest(made), "format": "pt"}, separators=(",", ":")).encode()
    head = by_hand[8 : 8 + int.from_bytes(by_hand[:8], "little")].rstrip()
    wanted = head.replace(b'{"format":"pt"}', told)
    wanted += b" " * (-len(wanted) % 8)
    numbers = by_hand[8 + int.from_bytes(by_hand[:8], "little") :]
    assert (tmp_path / "new.safetensors").read_bytes() == len(wanted).to_bytes(8, "little") + wanted + numbers


def test_the_mapping_lies_beside_and_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.safetensors"
    out.write_bytes(b"something older")
    done = convert(str(checkpoint), whole(), str(out))
    with safe_open(out, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "automatch.mapping": digest(whole())}
    assert read(tmp_path / "new.mapping.json") == whole()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "new.mapping.json",
        "new.safetensors",
        "old.safetensors",
    ]
    assert done.files == (tmp_path / "new.mapping.json", out)


def test_shards_and_their_index_hold_what_one_file_does(tmp_path: Path) -> None:
    tensors = save(mixed(), tmp_path / "old.safetensors")
    done = convert(tmp_path / "old.safetensors", mixed(), tmp_path / "new", max_shard_size="100kB")
    index = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    found: dict[str, Tensor] = {}
    for name in sorted(set(index["weight_map"].values())):
        part = load_file(tmp_path / "new" / name)
        assert part.keys() == {key for key, place in index["weight_map"].items() if place == name}
        found |= part
    assert same(found, fill(mixed(), tensors))
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in found.values())
    assert [path.name for path in done.files][-1] == "model.safetensors.index.json"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in done.files)


def test_what_was_converted_can_be_read_again(tmp_path: Path) -> None:
    save(moved(), tmp_path / "old.safetensors")
    convert(tmp_path / "old.safetensors", moved(), tmp_path / "new", max_shard_size=60_000)
    names = [each.target for each in moved().entries]
    again = record(*(entry(f"again.{name}", Source(name, (192, 64))) for name in names))
    convert(tmp_path / "new", again, tmp_path / "again.safetensors")
    one = tmp_path / "one.safetensors"
    convert(tmp_path / "old.safetensors", moved(), one)
    assert same(load_file(tmp_path / "again.safetensors"), {f"again.{k}": v for k, v in load_file(one).items()})


def test_the_bytes_are_the_same_every_time_and_from_a_mapping_file(checkpoint: Path, tmp_path: Path) -> None:
    write(whole(), tmp_path / "m.json")
    convert(checkpoint, whole(), tmp_path / "one.safetensors")
    convert(checkpoint, tmp_path / "m.json", tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_tied_target_keys_are_written_each_or_once(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, whole(), tmp_path / "each.safetensors")
    done = convert(checkpoint, whole(), tmp_path / "once.safetensors", tied="once")
    each, once = load_file(tmp_path / "each.safetensors"), load_file(tmp_path / "once.safetensors")
    assert torch.equal(each["embed"], each["head"])
    assert each.keys() - once.keys() == {"head"}
    assert done.plan.tied == {"head": "embed"}


def test_a_tied_source_is_read_under_the_name_that_the_file_kept(tmp_path: Path) -> None:
    built = record(entry("w", Source("head", (2,))))
    tied = Weight("embed", (2,), "float32", "parameter", ("head",))
    built = replace(built, source=replace(built.source, weights=(tied,)))
    save_file({"embed": torch.tensor([1.0, 2.0])}, tmp_path / "old.safetensors")
    convert(tmp_path / "old.safetensors", built, tmp_path / "new.safetensors")
    assert load_file(tmp_path / "new.safetensors")["w"].tolist() == [1.0, 2.0]


NARROW = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
OTHERS = [torch.bfloat16, torch.float16, torch.float64, torch.complex64, torch.uint16, torch.int8, torch.bool]


@pytest.mark.parametrize("dtype", [*NARROW, *OTHERS])
def test_every_dtype_passes_through(tmp_path: Path, dtype: torch.dtype) -> None:
    raw = torch.arange(64, dtype=torch.uint8).view(8, 8)
    q, k = (raw.remainder(2).view(dtype) if dtype == torch.bool else (raw + add).view(dtype) for add in (0, 64))
    save_file({"q": q, "k": k}, tmp_path / "old.safetensors")
    made = Concat((Source("q", tuple(q.shape)), Source("k", tuple(k.shape))))
    name = str(dtype).removeprefix("torch.")
    convert(
        tmp_path / "old.safetensors", typed(record(entry("qk", made)), q=name, k=name), tmp_path / "new.safetensors"
    )
    got = load_file(tmp_path / "new.safetensors")["qk"]
    assert got.dtype == dtype
    assert got.view(torch.uint8).tolist() == torch.cat([q.view(torch.uint8), k.view(torch.uint8)]).tolist()


def test_a_cast_rounds_once_and_leaves_whole_numbers_alone(tmp_path: Path) -> None:
    steps = Entry("steps", (3,), "int64", "structural", Source("steps", (3,)), Evidence("structure"))
    expr = Affine(Source("w", (64,)), shift=1.0)
    made = typed(record(entry("w", expr), steps), steps="int64")
    w = torch.randn(64).to(torch.bfloat16)
    save_file({"w": w, "steps": torch.arange(3)}, tmp_path / "old.safetensors")
    convert(tmp_path / "old.safetensors", made, tmp_path / "new.safetensors", dtype="float32")
    got = load_file(tmp_path / "new.safetensors")
    assert torch.equal(got["w"], w.float() + 1)
    assert got["steps"].dtype == torch.int64
    convert(tmp_path / "old.safetensors", made, tmp_path / "kept.safetensors")
    assert torch.equal(load_file(tmp_path / "kept.safetensors")["w"], evaluate(expr, {"w": w}.__getitem__))


@pytest.mark.parametrize("first", [torch.float32, torch.bfloat16])
def test_parts_of_several_dtypes_are_promoted_as_apply_does(tmp_path: Path, first: torch.dtype) -> None:
    q = torch.randn(96, 64).to(first)
    k = torch.randn(96, 64).to(torch.bfloat16 if first == torch.float32 else torch.float32)
    built = record(entry("qk", Concat((Source("q", (96, 64)), Source("k", (96, 64))))))
    save_file({"q": q, "k": k}, tmp_path / "old.safetensors")
    convert(tmp_path / "old.safetensors", built, tmp_path / "new.safetensors")
    assert same(load_file(tmp_path / "new.safetensors"), fill(built, {"q": q, "k": k}))


def test_a_dtype_that_nothing_can_be_cast_to_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"dtype 'int8' is none that floating weights can be cast to; use one of"):
        convert(checkpoint, whole(), tmp_path / "new.safetensors", dtype="int8")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_quantised_numbers_are_not_taken_for_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = source_tensors(moved())
    tensors["old.1.k"] = tensors["old.1.k"].to(dtype)
    save_file(tensors, tmp_path / "old.safetensors")
    with pytest.raises(MappingError) as caught:
        convert(tmp_path / "old.safetensors", moved(), tmp_path / "new.safetensors")
    assert str(caught.value).split("\n")[1:] == [
        f"  old.1.k: {str(dtype).removeprefix('torch.')}, but the mapping was made for float32"
    ]


def test_the_folder_one_stands_in_can_be_the_output(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    convert(checkpoint, whole(), ".")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["model.mapping.json", "model.safetensors"]


def test_a_wrapped_checkpoint_is_read_and_said(tmp_path: Path) -> None:
    tensors = source_tensors(moved())
    save_file({f"module.{key}": value for key, value in tensors.items()}, tmp_path / "old.safetensors")
    done = convert(tmp_path / "old.safetensors", moved(), tmp_path / "new.safetensors")
    assert done.plan.notes == ("every key begins with 'module.', and was read without it",)
    assert same(load_file(tmp_path / "new.safetensors"), fill(moved(), tensors))


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


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and so on", b"\xff" * 64])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "old.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"old\.safetensors"):
        convert(tmp_path / "old.safetensors", whole(), tmp_path / "new.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


def test_a_truncated_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"old\.safetensors"):
        convert(checkpoint, whole(), tmp_path / "new.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


def test_places_that_cannot_be_written_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        convert(tmp_path / "absent.safetensors", whole(), tmp_path / "new.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="is a folder; name a file in it"):
        convert(checkpoint, whole(), tmp_path / "folder.safetensors")
    with pytest.raises(CheckpointError, match="does not exist; make it first"):
        convert(checkpoint, whole(), tmp_path / "absent" / "new.safetensors")
    with pytest.raises(CheckpointError, match="belongs to the checkpoint itself; name another place"):
        convert(checkpoint, whole(), tmp_path / "." / "old.safetensors")
    with pytest.raises(CheckpointError, match=r"is one file, but \d+ are needed at this size; name a folder"):
        convert(checkpoint, whole(), tmp_path / "new.safetensors", max_shard_size=40)
    with pytest.raises(CheckpointError, match="cannot begin the names of files"):
        convert(checkpoint, whole(), tmp_path / "new", name="../x")
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"is a file; name a folder, or a file that ends in \.safetensors"):
        convert(checkpoint, whole(), tmp_path / "note.txt")
    with pytest.raises(MappingFormatError, match="there is no such file"):
        convert(checkpoint, tmp_path / "absent.json", tmp_path / "new.safetensors")


@pytest.mark.parametrize("name", ["new.pt", "new.bin", "new.safetensors.index.json", "NEW.SAFETENSORS"])
def test_a_name_that_means_a_file_does_not_become_a_folder(checkpoint: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="looks like a file, but safetensors are written; name a file that ends"):
        convert(checkpoint, whole(), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_what_stands_where_a_file_is_to_be_is_noticed_before_the_work(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "new" / "model.safetensors").mkdir(parents=True)
    (tmp_path / "new.mapping.json").mkdir()
    with pytest.raises(CheckpointError, match="is a link to nothing; make the folder it points to"):
        convert(checkpoint, whole(), tmp_path / "link")
    for out in ("new", "new.safetensors"):
        with pytest.raises(CheckpointError, match="is a folder, where a file is to be; move it away"):
            convert(checkpoint, whole(), tmp_path / out, progress=lambda done, total: pytest.fail("work was done"))


def test_a_folder_that_takes_no_files_is_noticed_before_the_work(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "new")
    with pytest.raises(CheckpointError, match="new is not yours to write into; name another place"):
        convert(checkpoint, whole(), tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_is_not_mixed_with_other_weights(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    convert(checkpoint, whole(), out, max_shard_size=100)
    (out / "config.json").write_text("{}")
    convert(checkpoint, whole(), out, max_shard_size=100)
    with pytest.raises(
        CheckpointError, match="holds other weights, which loaders could take for these: model-00001-of"
    ):
        convert(checkpoint, whole(), out)
    assert (out / "config.json").read_text() == "{}"


def test_a_mapping_that_determines_nothing_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="determines no weight of the target"):
        convert(checkpoint, record(entry("w", None)), tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_a_plan_says_how_every_tensor_comes_about_and_writes_nothing(tmp_path: Path) -> None:
    save(mixed(1), tmp_path / "old.safetensors")
    job = prepare(tmp_path / "old.safetensors", mixed(1), tmp_path / "new", Options(max_shard_size="50kB"))
    assert {item.key: item.kind for item in job.plan.items} == {
        "new.0.qkv": "moved",
        "new.0.up": "permuted",
        "new.0.norm": "computed",
        "new.0.head": "moved",
    }
    assert job.plan.nbytes == sum(value.nbytes for value in fill(mixed(1), source_tensors(mixed(1))).values())
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


def test_a_constant_that_a_dtype_cannot_hold_names_the_weight() -> None:
    endless = Entry("steps", (), "int64", "structural", Constant(float("inf"), ()), Evidence("structure"))
    with pytest.raises(MappingError, match=r"steps = full\[inf\]\(\) cannot be computed: "):
        fill(record(endless), {})


def test_a_dtype_that_torch_does_not_know_names_the_weight() -> None:
    strange = Entry("steps", (), "float128", "structural", Constant(1.0, ()), Evidence("structure"))
    with pytest.raises(MappingError, match=r"steps: dtype 'float128' is unknown to torch"):
        fill(record(strange), {})
