"""The fixture pairs at small size with real weights: the mapping fills the student, which loads and runs."""

from __future__ import annotations

import json
import re
from itertools import chain
from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from automatch.align.policy import pair_layers
from automatch.core.expr import Expr, Resize, children
from automatch.core.mapping import Entry
from fixtures.cases import PAIRS, Pair
from tests.answers import small

every_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


def filled(pair: Pair) -> dict[str, Tensor]:
    answer = small(pair.name)
    return answer.mapping.apply(answer.models[0].state_dict())


def parts_of(expr: Expr) -> list[Expr]:
    """An expression and everything inside it."""
    return [expr, *chain.from_iterable(parts_of(child) for child in children(expr))]


@every_pair
def test_the_small_answer_is_what_an_expert_wrote_for_the_full_size(pair: Pair) -> None:
    answer = small(pair.name)
    keys = [list(model.state_dict()) for model in answer.models]
    answer.mapping.check(_at_depths_of(pair, *keys)).raise_for_difference()


def _at_depths_of(pair: Pair, source: list[str], target: list[str]) -> dict[str, Any]:
    """The expectation with its layers paired anew, for models of other depths; the direction of storage is kept."""
    document: dict[str, Any] = json.loads(pair.expected.read_text())
    templates = [(key, _first(sources)) for key, sources in document["weights"].items() if _first(sources)]
    for variable, layers in document["layers"].items():
        ours, theirs = next(
            (source_key, key) for key, source_key in templates if f"{{{variable}}}" in source_key and "{" in key
        )
        depth = _layers_of(ours, variable, source)
        paired = pair_layers("uniform", depth, _layers_of(theirs, variable, target))
        backwards = layers[0] > layers[-1]
        document["layers"][variable] = [depth - 1 - layer if backwards else layer for layer in paired]
    return document


def _first(sources: Any) -> str:
    if isinstance(sources, list):
        return str(sources[0])
    return sources if isinstance(sources, str) else ""


def _layers_of(template: str, variable: str, keys: list[str]) -> int:
    before, after = template.split(f"{{{variable}}}")
    pattern = re.compile(re.escape(before) + r"\d+" + re.escape(after))
    return sum(pattern.fullmatch(key) is not None for key in keys)


@every_pair
def test_the_filled_student_loads_and_runs(pair: Pair) -> None:
    state, mapping = filled(pair), small(pair.name).mapping
    unmapped = [entry.target for entry in mapping.entries if entry.status == "unmapped"]
    student = pair.small_target()
    loaded = student.load_state_dict(state, strict=not unmapped)
    assert (loaded.missing_keys, loaded.unexpected_keys) == (unmapped, [])
    args, kwargs = pair.small_target_inputs()
    with torch.no_grad():
        output = student(*args, **kwargs)
    assert output.isfinite().all()
    assert output.std() > 1e-3


@every_pair
def test_a_filled_weight_has_the_students_shape_and_the_teachers_dtype(pair: Pair) -> None:
    state = small(pair.name).models[1].state_dict()
    for key, tensor in filled(pair).items():
        assert (tensor.shape, tensor.dtype) == (state[key].shape, state[key].dtype), key
        assert tensor.is_contiguous(), key


@every_pair
def test_every_resized_entry_says_so_part_by_part(pair: Pair) -> None:
    for entry in small(pair.name).mapping.entries:
        resizes = [part for part in parts_of(entry.expr) if isinstance(part, Resize)] if entry.expr else []
        assert bool(entry.evidence.resized) >= bool(resizes), entry.target
        assert bool(entry.losses) == bool(resizes), entry.target
        assert all(_names_a_source_and_two_shapes(line, entry) for line in entry.evidence.resized), entry.target


def _names_a_source_and_two_shapes(line: str, entry: Entry) -> bool:
    return any(source in line for source in entry.sources) and re.search(r"\] to \[[\d, ]+\], \S", line) is not None


@every_pair
def test_what_keeps_its_size_does_not_claim_to_be_resized(pair: Pair) -> None:
    answer = small(pair.name)
    shapes = {key: tuple(tensor.shape) for key, tensor in answer.models[0].state_dict().items()}
    for entry in answer.mapping.entries:
        if [shapes[source] for source in entry.sources] == [entry.shape]:
            assert entry.evidence.resized == (), entry.target


def test_wan_parts_are_cut_and_scaled_before_they_are_joined() -> None:
    source, state = small("wan").models[0].state_dict(), filled(PAIRS[0])
    parts = [source[f"blocks.2.self_attn.{name}.weight"][:32, :32] * sqrt(64 / 32) for name in "qkv"]
    torch.testing.assert_close(state["blocks.1.attn.in_proj_weight"], torch.cat(parts), rtol=1e-6, atol=0)
    biases = [source[f"blocks.5.self_attn.{name}.bias"][:32] for name in "qkv"]
    assert torch.equal(state["blocks.2.attn.in_proj_bias"], torch.cat(biases))


def test_wan_video_kernels_become_image_kernels() -> None:
    source, state = small("wan").models[0].state_dict(), filled(PAIRS[0])
    kernel = torch.zeros(32, 4, 3, 3)
    kernel[:, :, :2, :2] = source["patch_embedding.weight"][:32, :4, 0]
    torch.testing.assert_close(state["conv_in.weight"], kernel, rtol=1e-6, atol=0)


def test_wan_norms_start_as_ones_and_zeros() -> None:
    state = filled(PAIRS[0])
    assert all(bool((state[f"blocks.{i}.norm{n}.weight"] == 1).all()) for i in range(3) for n in (1, 2))
    assert all(bool((state[f"blocks.{i}.norm{n}.bias"] == 0).all()) for i in range(3) for n in (1, 2))
