"""What somebody holds against a known mapping, asserted: the check that `convert` and `apply` make."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import automatch
from automatch.testing import assert_as_expected, assert_fits, assert_mapping

OLD = {"a.weight": torch.ones(4, 3), "b.weight": torch.ones(2, 4)}
NEW = {"x.a.weight": torch.zeros(4, 3), "x.b.weight": torch.zeros(2, 4)}


@pytest.fixture(scope="module")
def mapping() -> automatch.Mapping:
    return automatch.match(OLD, NEW)


def test_the_source_fits_as_a_state_dict_and_as_a_file(mapping: automatch.Mapping, tmp_path: Path) -> None:
    file, known = tmp_path / "old.safetensors", tmp_path / "known.json"
    save_file(OLD, file)
    mapping.save(known)
    assert_fits(mapping, OLD)
    assert_fits(known, file)


@pytest.mark.parametrize("in_a_file", [False, True])
def test_all_that_does_not_fit_is_said_at_once(mapping: automatch.Mapping, tmp_path: Path, in_a_file: bool) -> None:
    held = {"b.weight": torch.ones(2, 5), "b.bias": torch.ones(2)}
    file = tmp_path / "held.safetensors"
    save_file(held, file)
    with pytest.raises(AssertionError) as caught:
        assert_fits(mapping, file if in_a_file else held)
    said = str(caught.value)
    assert "a.weight: missing, needed for x.a.weight" in said
    assert "b.weight: shape [2, 5], but the mapping was made for [2, 4]" in said
    assert "b.bias: nothing reads it" in said


def test_what_may_be_left_out_is_named(mapping: automatch.Mapping) -> None:
    held = {**OLD, "ema.a.weight": torch.ones(4, 3)}
    assert_fits(mapping, held, allow_unread=["ema.*"])
    with pytest.raises(AssertionError, match=r"ema\.a\.weight: nothing reads it"):
        assert_fits(mapping, held)


def test_a_known_mapping_file_notices_weights_that_the_source_gained(
    mapping: automatch.Mapping, tmp_path: Path
) -> None:
    known = tmp_path / "known.json"
    mapping.save(known)
    assert_mapping(OLD, NEW, known)
    gained = {**OLD, "b.bias": torch.ones(2)}
    with pytest.raises(AssertionError, match=r"b\.bias: nothing reads it, and the mapping was made without it"):
        assert_mapping(gained, NEW, known)


def test_an_expectation_file_does_not_tell_what_the_source_had(mapping: automatch.Mapping, tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    assert_as_expected(mapping, known, update=True)
    assert_mapping({**OLD, "b.bias": torch.ones(2)}, NEW, known)
