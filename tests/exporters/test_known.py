"""Rules as they are learned from real models: what is emitted makes what automatch makes."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from automatch.errors import RulesError
from automatch.exporters import export
from automatch.known.library import shipped
from automatch.mapping import Mapping
from tests.exporters.support import module_of

KNOWN = {known.name.replace(" ", "-"): known for known in shipped()}
NAMES = [
    "ldm-sdunet-to-diffusers",
    "timm-convnext-to-torchvision",
    "timm-swin-to-transformers",
    "torch-lstm-to-gate-cells",
    "transformers-albert-to-torch-encoder",
    "transformers-gpt2-to-nanogpt",
    "transformers-gptj-to-litgpt",
    "transformers-llama-to-torchtune",
    "transformers-wav2vec2-to-torchaudio-folded",
]

REFUSED = {
    "timm-convnext-to-torchvision": "its numbers stand otherwise",
    "transformers-albert-to-torch-encoder": "all layers share a weight",
    "transformers-gptj-to-litgpt": "it is made of no weight",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_function_makes_what_automatch_makes(name: str, tmp_path: Path) -> None:
    known = KNOWN[name]
    module = module_of(export(known.rules, "python"), tmp_path)
    generator = torch.Generator().manual_seed(0)
    source: dict[str, torch.Tensor] = {}
    for weight in known.source.weights:
        value = torch.rand(weight.shape, generator=generator) + 0.5
        source |= dict.fromkeys((weight.name, *weight.aliases), value.to(getattr(torch, weight.dtype)))
    shapes = {key: weight.shape for weight in known.target.weights for key in (weight.name, *weight.aliases)}
    numbers = {size.name: size.example for size in known.rules.sizes}
    asked = [word for word in inspect.signature(module.convert).parameters if word not in ("weights", "allow_unused")]
    given = {word: shapes if word == "shapes" else numbers[word] for word in asked}
    found = module.convert(source, **given, allow_unused=True)
    wanted = Mapping(known.record).apply(source)
    assert sorted(found) == sorted(wanted)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_what_transformers_gets_can_be_imported_or_is_refused(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `ecosystem` is not installed")
    if name in REFUSED:
        with pytest.raises(RulesError, match=REFUSED[name]):
            export(KNOWN[name].rules, "transformers")
        return
    module = module_of(export(KNOWN[name].rules, "transformers"), tmp_path)
    asked = inspect.signature(module.conversions).parameters
    assert len(module.conversions(**dict.fromkeys(asked, 2))) > 0
