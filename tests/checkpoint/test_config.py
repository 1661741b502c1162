from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from automatch.checkpoint.config import config_beside
from automatch.errors import CheckpointError
from automatch.trace import trace


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.zeros(4, 2)}, path)
    return path


def test_the_configuration_beside_a_file_and_in_a_folder(checkpoint: Path) -> None:
    config = {"num_heads": 4, "text": {"width": 8}, "eps": 1e-6, "eos_token_id": 5, "layers": [{"width": 3}]}
    (checkpoint.parent / "config.json").write_text(json.dumps(config))
    found = (("config.num_heads", 4), ("config.text.width", 8))
    assert config_beside(checkpoint) == found
    assert config_beside(checkpoint.parent) == found
    assert trace(checkpoint, names_only=True).sizes == found


def test_no_configuration_is_no_sizes(checkpoint: Path) -> None:
    assert config_beside(checkpoint) == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"config\.json"),
        (b"[1]", r"config\.json is no JSON object\.\nNext: restore it, or take it away\."),
        (b"\xff\xfe", r"config\.json cannot be read: .*\nNext: restore it, or take it away\."),
    ],
)
def test_a_damaged_configuration_is_named(checkpoint: Path, content: bytes, message: str) -> None:
    (checkpoint.parent / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        config_beside(checkpoint)
