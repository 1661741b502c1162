from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from automatch.checkpoint import open_checkpoint
from automatch.checkpoint.dtypes import ALL, BY_NAME
from automatch.checkpoint.safetensors_header import encode_header, read_header
from automatch.errors import CheckpointError
from tests.checkpoint import fuzz

SAVED = [dtype.name for dtype in ALL if hasattr(torch, dtype.name)]
ODD_NAMES = ['q"uote', "back\\slash", "ümläut", "😀", "\x01\x1f\x7f", "tab\tline\nfeed\b\f\r", "", " ", "a/b", "\u2028"]


def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Bytes that count up, as a dtype."""
    dtype: torch.dtype = getattr(torch, name)
    count = torch.Size(shape).numel() * dtype.itemsize
    held = (torch.arange(count) % (2 if name == "bool" else 251)).to(torch.uint8)
    return held.view(dtype).view(shape) if count else torch.empty(shape, dtype=dtype)


def written(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        read_header(path)
    assert str(path) in str(refused.value)
    assert str(refused.value).endswith("\nNext: fetch or save it again.")
    return str(refused.value)


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def ours(tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> bytes:
    """A file as our header and the tensors' bytes make it."""
    told = [(key, str(value.dtype).removeprefix("torch."), tuple(value.shape)) for key, value in tensors.items()]
    head, offsets = encode_header(told, metadata)
    file = bytearray(head)
    for key in sorted(tensors, key=lambda key: (offsets[key], tensors[key].nbytes)):
        assert len(file) == offsets[key]
        file += bytes(tensors[key].contiguous().reshape(-1).view(torch.uint8).tolist())
    return bytes(file)


def test_a_written_file_is_the_bytes_of_save_file() -> None:
    shapes = [(), (3,), (2, 4), (0, 3)]
    tensors = {
        f"{place}.{name}": tensor(name, shape)
        for name in SAVED
        for place, shape in enumerate(shapes if BY_NAME[name].packed == (1, 1) else shapes[1:])
    }
    assert ours(tensors, {"format": "pt"}) == save(tensors, {"format": "pt"})


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {'o"dd\n': "ü\\"}])
def test_odd_names_are_escaped_as_save_file_escapes_them(metadata: dict[str, str] | None) -> None:
    tensors = {name: tensor("float32", (place,)) for place, name in enumerate(ODD_NAMES)}
    assert ours(tensors, metadata) == save(tensors, metadata)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(SAVED), st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_file_is_the_bytes_of_save_file(told: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    tensors = {key: tensor(*what) for key, what in told.items()}
    assert ours(tensors, None) == save(tensors)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    told = [(f"{dtype.name}.{place}", dtype.name, (place, 6)) for dtype in ALL for place in (0, 1, 2)]
    head, offsets = encode_header(told, {"b": "2", "a": "1"})
    size = max(offsets[key] + BY_NAME[name].size * shape[0] * 6 for key, name, shape in told)
    (tmp_path / "x").write_bytes(head.ljust(size, b"\0"))
    header = read_header(tmp_path / "x")
    assert {(block.name, block.dtype, block.shape) for block in header.entries} == set(told)
    assert {block.name: block.offset for block in header.entries} == offsets
    assert [block.offset for block in header.entries] == sorted(offsets.values())
    assert header.metadata == {"a": "1", "b": "2"}


def test_floats_of_six_and_four_bits_are_counted_in_bytes(tmp_path: Path) -> None:
    six, four = entry("F6_E2M3", (2, 4), (0, 6)), entry("F4", (3, 2), (6, 9))
    catalog = open_checkpoint(written(tmp_path / "x.safetensors", {"six": six, "four": four}, b"\0" * 9))
    assert catalog.shapes == {"six": (2, 3), "four": (3, 1)}
    assert [block.nbytes for block in catalog.stored.values()] == [6, 3]


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ([("a", "float32", (1,)), ("a", "int8", (1,))], "'a': 2 tensors of this name"),
        ([("__metadata__", "float32", (1,))], "the format keeps this name"),
        ([("a", "complex128", (1,))], "the format has no dtype complex128"),
        ([("\ud800", "float32", (1,))], "this key is not Unicode"),
        ([("a", "float6_e2m3", (2, 4))], "does not end in whole groups of 3 bytes"),
        ([("a", "float4_e2m1fn_x2", ())], "does not end in whole groups of 1 bytes"),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(
    tensors: list[tuple[str, str, tuple[int, ...]]], problem: str
) -> None:
    with pytest.raises(CheckpointError, match="cannot be written as safetensors") as refused:
        encode_header(tensors)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"", "its header is not JSON"),
        (b"{", "its header is not JSON"),
        (b'{"a": NaN}', "its header is not JSON (NaN is no number)"),
        (b'{"\xff": 1}', "its header is not UTF-8 (invalid start byte at byte 2)"),
        (b'{"\\ud800": 1}', "its header is not Unicode"),
        (b"[]", "its header is JSON, but no object ([])"),
        (b'{"a": 1, "a": 2}', "its header says 'a' 2 times"),
        (b'{"__metadata__": {}, "__metadata__": {}}', "its header says '__metadata__' 2 times"),
        (b'{"a": {"dtype": "F32", "dtype": "F32"}}', "its header says 'dtype' 2 times"),
        (b'{"a": 1e999}', "a number out of range ('1e999')"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "its header is nested too deeply"),
        ({"__metadata__": []}, "its __metadata__ is not an object ([])"),
        ({"__metadata__": {"a": 1}}, "its __metadata__ holds 1 for 'a', which is not text"),
        ({"a": []}, "a: [] does not say its dtype, shape, data_offsets"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "does not say its dtype, shape, data_offsets"),
        ({"a": {**entry(), "more": []}}, "says more than the format knows"),
        ({"a": entry("F33")}, "a: there is no dtype 'F33'"),
        ({"a": entry(32)}, "a: there is no dtype 32"),
        ({"a": entry(shape=2)}, "a: 2 is not a shape"),
        ({"a": entry(shape=[-2])}, "a: [-2] is not a shape"),
        ({"a": entry(shape=[2.0])}, "a: [2.0] is not a shape"),
        ({"a": entry(shape=[True])}, "a: [True] is not a shape"),
        ({"a": entry(shape=[2**64])}, "is not a shape"),
        ({"a": entry(shape=[2**62, 4, 0], offsets=[0, 0])}, "has more entries than can be counted"),
        ({"a": entry(offsets=[8])}, "a: [8] does not say where its bytes begin and end"),
        ({"a": entry(offsets=[0, 8, 8])}, "does not say where its bytes begin and end"),
        ({"a": entry(offsets=[8, 0])}, "does not say where its bytes begin and end"),
        ({"a": entry(offsets=[-8, 0])}, "does not say where its bytes begin and end"),
        ({"a": entry(shape=[3])}, "a: F32 of shape [3] takes 12 bytes, it is given 8"),
        ({"a": entry("F4", [16, 1], [0, 8])}, "a: F4 of shape [16, 1] does not fill whole bytes in its last axis"),
        ({"a": entry(), "b": entry("U8", [1], [4, 5])}, "b: begins at byte 4, overlapping a, which ends at 8"),
        ({"a": entry(offsets=[4, 12])}, "a: begins at byte 4, the bytes from 0 on belong to none"),
        ({"a": entry("F32", [1], [0, 4]), "b": entry("U8", [1], [7, 8])}, "b: begins at byte 7, the bytes from 4 on"),
        ({"a": entry("F32", [1], [0, 4])}, "it has 8 bytes behind its header, but its tensors take 4"),
        ({"a": entry("F32", [3], [0, 12])}, "it has 8 bytes behind its header, but its tensors take 12"),
    ],
)
def test_every_damage_has_its_message(tmp_path: Path, header: object, problem: str) -> None:
    assert problem in refusal(written(tmp_path / "x.safetensors", header, b"\0" * 8))


@pytest.mark.parametrize("length", [100_000_001, 2**63, 2**64 - 1])
def test_a_header_of_absurd_length_is_not_read(tmp_path: Path, length: int) -> None:
    assert f"its header claims {length} bytes" in refusal(written(tmp_path / "x", {}, length=length))


def test_a_file_shorter_than_its_header_is_refused(tmp_path: Path) -> None:
    assert "it has 10 bytes, its header alone claims 3" in refusal(written(tmp_path / "x", {}, length=3))
    (tmp_path / "x").write_bytes(b"1234567")
    assert "it has 7 bytes, less than a header's length" in refusal(tmp_path / "x")


def test_further_plain_fields_and_space_are_no_damage(tmp_path: Path) -> None:
    text = b' {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "note": "x"}, "__metadata__": null}\n'
    assert [block.name for block in read_header(written(tmp_path / "x", text, b"\0" * 8)).entries] == ["a"]
    assert open_checkpoint(written(tmp_path / "x", text, b"\0" * 8)).shapes == {"a": (2,)}


@given(st.integers(0, 2**64))
@settings(max_examples=400, deadline=None)
def test_ours_and_the_library_agree_on_damaged_files(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    verdict = fuzz.run(random.Random(seed), tmp_path_factory.getbasetemp() / "damaged.safetensors")
    assert not verdict.startswith("wrong"), verdict


def test_the_fuzzer_makes_files_of_every_kind(tmp_path: Path) -> None:
    verdicts = {fuzz.run(random.Random(seed), tmp_path / "x.safetensors") for seed in range(300)}
    assert verdicts == {"accepted", "refused", "stricter"}


def test_the_judge_notices_where_the_two_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x.safetensors", {"a": entry()}, b"\0" * 8)
    assert fuzz.verdict(path) == "accepted"
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"a"  ').replace(b"}}", b"}"))
    monkeypatch.setattr(fuzz, "read_header", lambda _: read_header(written(tmp_path / "y", {"a": entry()}, b"\0" * 8)))
    assert fuzz.verdict(path).startswith("wrong: ours accepts it")
