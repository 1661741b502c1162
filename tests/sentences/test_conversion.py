"""The published file itself, converted by the command: into files, into a model, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import automatch
from automatch.cli import main
from fixtures import sentences
from tests.sentences.trained import folder, tokenize, trained_weights

SENTENCES = ("A cat sleeps on the warm windowsill.", "Interest rates rose again this quarter.")
UNUSED = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}


@pytest.fixture(scope="module")
def mapping() -> automatch.Mapping:
    """Found from both graphs; that it is right, `test_sentences.py` proves."""
    return automatch.match(
        sentences.teacher(),
        sentences.student(),
        source_inputs=sentences.teacher_inputs(),
        target_inputs=sentences.student_inputs(),
        run=False,
    )


@pytest.fixture(scope="module")
def mapping_file(mapping: automatch.Mapping, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mapping") / "m.json"
    mapping.save(path)
    return path


@pytest.fixture(scope="module")
def expected() -> Tensor:
    source = sentences.teacher()
    source.load_state_dict(trained_weights(), strict=True)
    return vectors(source)


@torch.no_grad()
def vectors(model: nn.Module) -> Tensor:
    found: Tensor = model(*tokenize(SENTENCES))
    return found


def vectors_with(weights: dict[str, Tensor]) -> Tensor:
    target = sentences.student()
    target.load_state_dict(weights, strict=True)
    return vectors(target)


def test_the_published_file_becomes_one_for_the_target(tmp_path: Path, mapping_file: Path, expected: Tensor) -> None:
    out = tmp_path / "new.safetensors"
    assert main(["convert", str(folder()), "--mapping", str(mapping_file), "-o", str(out), "--quiet"]) == 0
    torch.testing.assert_close(vectors_with(load_file(out)), expected, rtol=0, atol=1e-5)
    assert automatch.load(tmp_path / "new.mapping.json").summary().mapped == 77


def test_shards_hold_the_same_weights(tmp_path: Path, mapping_file: Path, mapping: automatch.Mapping) -> None:
    words = ["convert", str(folder()), "--mapping", str(mapping_file), "-o", str(tmp_path / "new"), "--quiet"]
    assert main([*words, "--max-shard-size", "20MB"]) == 0
    index = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) == 4
    found = {key: value for file in files for key, value in load_file(tmp_path / "new" / file).items()}
    wanted = mapping.apply(trained_weights())
    assert found.keys() == wanted.keys() == index["weight_map"].keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_a_training_checkpoint_of_a_wrapped_model_is_read_as_well(
    tmp_path: Path, mapping_file: Path, expected: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = {f"module.{key}": value for key, value in trained_weights().items()}
    torch.save({"epoch": 3, "ema": wrapped, "model": {"module.w": torch.zeros(1)}}, tmp_path / "last.pt")
    out = tmp_path / "new.safetensors"
    words = ["convert", str(tmp_path / "last.pt"), "--mapping", str(mapping_file), "-o", str(out), "--quiet"]
    assert main([*words, "--entry", "ema"]) == 0
    assert "note: every key begins with 'module.', and was read without it" in capsys.readouterr().out
    torch.testing.assert_close(vectors_with(load_file(out)), expected, rtol=0, atol=1e-5)


def test_half_precision_moves_the_vectors_little(tmp_path: Path, mapping: automatch.Mapping, expected: Tensor) -> None:
    automatch.convert(folder(), mapping, tmp_path / "new.safetensors", dtype="bfloat16")
    weights = load_file(tmp_path / "new.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    gap = (vectors_with({key: value.float() for key, value in weights.items()}) - expected).abs().max()
    assert 1e-5 < float(gap) < 2e-2


def test_there_and_back_gives_the_published_bytes(tmp_path: Path, mapping: automatch.Mapping) -> None:
    automatch.convert(folder(), mapping, tmp_path / "new.safetensors")
    back = mapping.inverse(partial=True)
    automatch.convert(tmp_path / "new.safetensors", back, tmp_path / "old.safetensors")
    published, found = trained_weights(), load_file(tmp_path / "old.safetensors")
    assert published.keys() - found.keys() == UNUSED
    assert all(torch.equal(found[key], published[key]) and found[key].dtype == published[key].dtype for key in found)


def test_a_model_is_filled_without_a_file_between(mapping: automatch.Mapping, expected: Tensor) -> None:
    target = sentences.student()
    loaded = automatch.load_into(target, folder(), mapping)
    torch.testing.assert_close(vectors(target), expected, rtol=0, atol=1e-5)
    assert loaded.bytes_read == sum(value.nbytes for value in target.state_dict().values())
