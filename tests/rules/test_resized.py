"""Mappings that resize, as rules and on disk: places, channels, words and classes come out as `apply` makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import automatch
import automatch.conversion.writing
from automatch.errors import RulesError
from automatch.exporters import FORMS, export
from tests.align.test_indexed import IDS, Text, Vision, picture

PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], tuple[Tensor, Tensor]]] = {
    "picture": (lambda: Vision(32, 4), lambda: Vision(64, 9, 8), (picture(32, 4), picture(64, 9))),
    "text": (Text, lambda: Text(17), (IDS, IDS)),
}


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module, automatch.Mapping]:
    make, want, (old, new) = PAIRS[request.param]
    source, target = make().eval(), want().eval()
    mapping = automatch.match(source, target, source_inputs=old, target_inputs=new, run=False)
    return source, target, mapping


def test_rules_give_the_mapping_again(pair: tuple[nn.Module, nn.Module, automatch.Mapping]) -> None:
    source, target, mapping = pair
    state = source.state_dict()
    again = automatch.adapt(mapping.rules(), source, target)
    wanted, made = mapping.apply(state), again.apply(state)
    assert any(entry.losses for entry in again.entries)
    assert wanted.keys() == made.keys()
    assert all(torch.equal(wanted[key], made[key]) for key in wanted)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_exact_is_not_exported(pair: tuple[nn.Module, nn.Module, automatch.Mapping], form: str) -> None:
    with pytest.raises(RulesError, match="a resized weight is not exact"):
        export(pair[2].rules(), form)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tile", [64, 333])
def test_tiles_on_disk_have_the_bits_of_the_whole(
    pair: tuple[nn.Module, nn.Module, automatch.Mapping],
    dtype: torch.dtype,
    tile: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, _, mapping = pair
    monkeypatch.setattr(automatch.conversion.writing, "TILE", tile)
    state = {key: value.to(dtype) for key, value in source.state_dict().items()}
    save_file(state, tmp_path / "source.safetensors")
    mapping.save(tmp_path / "mapping.json")
    automatch.convert(tmp_path / "source.safetensors", tmp_path / "mapping.json", tmp_path / "out.safetensors")
    made, wanted = load_file(tmp_path / "out.safetensors"), mapping.apply(state)
    assert made.keys() == wanted.keys()
    assert all(torch.equal(made[key], wanted[key]) for key in wanted)
