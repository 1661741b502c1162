"""Flipped bytes in numbers: noticed by the checksums of archives, and by the digests that converted files carry."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

import automatch
from automatch.checkpoint.digests import DIGESTS, verify
from automatch.checkpoint.open import open_checkpoint
from automatch.checkpoint.safetensors_header import read_header
from automatch.cli.app import main
from automatch.errors import CheckpointError


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"q": (24, 16), "k": (24, 16), "v": (24, 16), "out": (16, 24), "bias": (16,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def mapping() -> automatch.Mapping:
    given = state()
    wanted = {"in_proj_weight": torch.zeros(72, 16), "out_proj.weight": given["out"], "out_proj.bias": given["bias"]}
    names = {"attn.q.weight": "q", "attn.k.weight": "k", "attn.v.weight": "v"}
    source = {**{key: given[name] for key, name in names.items()}, "attn.out.weight": given["out"]}
    target = {f"attn.{key}": value for key, value in wanted.items()}
    return automatch.match({**source, "attn.out.bias": given["bias"]}, target)


def saved(path: Path) -> Path:
    given = state()
    keys = {"attn.q.weight": "q", "attn.k.weight": "k", "attn.v.weight": "v", "attn.out.weight": "out"}
    torch.save({**{key: given[name] for key, name in keys.items()}, "attn.out.bias": given["bias"]}, path)
    return path


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def numbers_at(path: Path) -> list[tuple[int, int]]:
    """Where the numbers of an archive lie: first byte and the byte after the last."""
    blocks = open_checkpoint(path).stored.values()
    return [(block.offset, block.offset + block.nbytes) for block in blocks]


@contextmanager
def without_checksums() -> Iterator[None]:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def test_no_flipped_bit_in_the_numbers_of_an_archive_is_converted(tmp_path: Path) -> None:
    found, chance = mapping(), random.Random(0)
    whole = saved(tmp_path / "source.pt").read_bytes()
    for number in range(40):
        source, out = tmp_path / "source.pt", tmp_path / f"out{number}.safetensors"
        source.write_bytes(whole)
        begin, end = chance.choice(numbers_at(source))
        flip(source, chance.randrange(begin, end), chance.randrange(8))
        with pytest.raises(CheckpointError, match="does not have the checksum that the archive says"):
            automatch.convert(source, found, out)
        assert not out.exists()


@pytest.mark.parametrize("format", ["safetensors", "dcp"])
def test_a_sound_archive_is_converted_and_a_damaged_one_where_nobody_asks(tmp_path: Path, format: str) -> None:
    source = saved(tmp_path / "source.pt")
    options = {"format": format}
    sound = automatch.convert(source, mapping(), tmp_path / "sound", **options)  # type: ignore[arg-type]
    assert sound.plan.notes == ()
    flip(source, numbers_at(source)[0][0])
    with pytest.raises(CheckpointError, match=r"source/data/0, which holds attn\.q\.weight"):
        automatch.convert(source, mapping(), tmp_path / "damaged", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "damaged").exists()
    automatch.convert(source, mapping(), tmp_path / "taken", checksums=False, **options)  # type: ignore[arg-type]
    assert open_checkpoint(tmp_path / "taken").shapes == open_checkpoint(tmp_path / "sound").shapes


def test_a_model_is_not_filled_from_a_damaged_archive(tmp_path: Path) -> None:
    source = saved(tmp_path / "source.pt")
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(16, 2, bias=True)})
    found = automatch.match(
        {key: value for key, value in torch.load(source, weights_only=True).items() if key == "attn.out.bias"},
        {"attn.out_proj.bias": torch.zeros(16)},
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flip(source, open_checkpoint(source).stored["attn.out.bias"].offset)
    with pytest.raises(CheckpointError, match="checksum"):
        automatch.load_into(model, source, found, strict=False)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    automatch.load_into(model, source, found, strict=False, checksums=False)


def test_an_archive_that_was_saved_without_checksums_says_so(tmp_path: Path) -> None:
    with without_checksums():
        source = saved(tmp_path / "source.pt")
    (note,) = open_checkpoint(source).notes
    assert note == "saved without checksums, so that damage to its numbers cannot be noticed"
    assert automatch.convert(source, mapping(), tmp_path / "out.safetensors").plan.notes == (note,)
    with pytest.raises(CheckpointError, match="nothing tells"):
        _command("verify", source)


def _command(*words: object) -> int:
    status = main([str(word) for word in words])
    if status == 2:
        raise CheckpointError("nothing tells")
    return status


@pytest.mark.parametrize("size", [None, "6kB"])
def test_converted_files_carry_digests_that_are_verified(tmp_path: Path, size: str | None) -> None:
    out = tmp_path / "out"
    done = automatch.convert(saved(tmp_path / "source.pt"), mapping(), out, digests=True, max_shard_size=size)
    plain = automatch.convert(tmp_path / "source.pt", mapping(), tmp_path / "plain", max_shard_size=size)
    assert len(done.files) == len(plain.files)
    found = verify(out)
    assert set(found.sound) == {item.key for item in done.plan.items}
    assert (found.damaged, found.unchecked) == ((), ())
    key, block = next(iter(open_checkpoint(out).stored.items()))
    flip(block.file, block.offset + 5)
    assert verify(out).damaged == (f"{key} in {block.file}",)
    assert _command("verify", out) == 1


def test_digests_are_of_the_bytes_and_the_same_every_time(tmp_path: Path) -> None:
    source = saved(tmp_path / "source.pt")
    for name in ("a", "b"):
        automatch.convert(source, mapping(), tmp_path / f"{name}.safetensors", digests=True)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert "0" * 64 not in read_header(tmp_path / "a.safetensors").metadata[DIGESTS]
    assert verify(tmp_path / "a.safetensors").damaged == ()


def test_an_archive_is_verified_by_its_checksums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = saved(tmp_path / "source.pt")
    assert _command("verify", source) == 0
    assert "5 tensors are as they were written" in capsys.readouterr().out
    flip(source, open_checkpoint(source).stored["attn.k.weight"].offset)
    assert _command("verify", source) == 1
    said = capsys.readouterr()
    assert f"attn.k.weight in {source}" in said.out
    assert "1 tensors of" in said.err


def test_a_tensor_without_numbers_is_sound(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "empty": torch.empty(0, 4)}, tmp_path / "a.pt")
    assert set(verify(tmp_path / "a.pt").sound) == {"w", "empty"}


def test_a_file_without_digests_is_not_called_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    automatch.convert(saved(tmp_path / "source.pt"), mapping(), tmp_path / "out.safetensors")
    assert main(["verify", str(tmp_path / "out.safetensors")]) == 2
    assert "carries neither digests nor checksums" in capsys.readouterr().err


def test_the_command_line_has_the_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, file = saved(tmp_path / "source.pt"), tmp_path / "m.json"
    mapping().save(file)
    flip(source, numbers_at(source)[0][0])
    words = ["convert", str(source), "--mapping", str(file), "-o", str(tmp_path / "out.safetensors"), "--digests"]
    assert main(words) == 2
    assert "--no-checksums" in capsys.readouterr().err
    assert main([*words, "--no-checksums"]) == 0
    assert main(["verify", str(tmp_path / "out.safetensors")]) == 0


def test_what_a_distributed_conversion_made_is_not_taken_again(tmp_path: Path) -> None:
    found = mapping()
    automatch.convert(saved(tmp_path / "source.pt"), found, tmp_path / "dcp", format="dcp")
    with pytest.raises(automatch.AutomatchError, match="was made by this mapping already"):
        automatch.convert(tmp_path / "dcp", found, tmp_path / "again.safetensors")
