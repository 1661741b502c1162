"""`automatch.match` itself: layer policies, the same bytes every time, and models left as they were."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

import automatch
from automatch.align.policy import LayerPolicy
from automatch.core.mapping_json import dumps
from automatch.errors import InputsError, PolicyError
from fixtures import wan, wan_renamed
from tests.answers import small
from tests.cli.process import ENVIRONMENT


def match_small_wan(teacher: nn.Module, student: nn.Module) -> automatch.Mapping:
    inputs = wan.small_teacher_inputs(), wan.small_student_inputs()
    return automatch.match(teacher, student, source_inputs=inputs[0], target_inputs=inputs[1])


@pytest.fixture(scope="module")
def programs() -> tuple[ExportedProgram, ExportedProgram]:
    """The small Wan pair, exported once for many matches."""
    sides = (
        (wan.small_teacher(), wan.small_teacher_inputs()),
        (wan.small_student(), wan.small_student_inputs()),
    )
    teacher, student = (torch.export.export(model, *inputs, strict=False) for model, inputs in sides)
    return teacher, student


POLICIES: list[tuple[LayerPolicy, list[int]]] = [("first", [0, 1, 2]), ("last", [5, 6, 7]), ([7, 0, 3], [7, 0, 3])]


@pytest.mark.parametrize(("policy", "layers"), POLICIES, ids=["first", "last", "explicit"])
def test_a_policy_decides_which_layers_are_taken(
    programs: tuple[ExportedProgram, ExportedProgram], policy: LayerPolicy, layers: list[int]
) -> None:
    mapping = automatch.match(*programs, layers=policy)
    (chain,) = mapping.chains
    assert (chain.layers, chain.source_depth) == (tuple(layers), 8)
    assert chain.policy == (policy if isinstance(policy, str) else "explicit")
    for layer, taken in enumerate(layers):
        block = [mapping[key] for key in mapping if key.startswith(f"blocks.{layer}.")]
        assert {source.split(".")[1] for entry in block for source in entry.sources} == {str(taken)}
        assert {entry.evidence.source_layer for entry in block} == {taken}


def test_layers_are_counted_as_they_run_not_as_they_are_stored() -> None:
    models, inputs = (wan_renamed.small_teacher(), wan.small_student()), wan.small_student_inputs()
    mapping = automatch.match(*models, source_inputs=wan.small_teacher_inputs(), target_inputs=inputs, layers="first")
    taken = [mapping[f"blocks.{layer}.attn.out_proj.weight"].sources for layer in range(3)]
    assert taken == [("units.7.m.a.weight",), ("units.6.m.a.weight",), ("units.5.m.a.weight",)]


@pytest.mark.parametrize(
    ("layers", "message"),
    [([0, 1], "has 2 entries, but the target has 3"), ([0, 1, 8], r"names \[8\]"), ("middle", "'middle' is unknown")],
)
def test_a_policy_that_does_not_fit_is_refused(
    programs: tuple[ExportedProgram, ExportedProgram], layers: LayerPolicy, message: str
) -> None:
    with pytest.raises(PolicyError, match=message):
        automatch.match(*programs, layers=layers)


def test_an_exported_program_gives_the_expressions_of_its_module(
    programs: tuple[ExportedProgram, ExportedProgram],
) -> None:
    expected = small("wan").mapping
    assert [entry.expr for entry in automatch.match(*programs).entries] == [entry.expr for entry in expected.entries]


def test_key_lists_follow_the_policy_too() -> None:
    shapes = wan.wan_keys_source(), wan.wan_keys_target()
    mapping = automatch.match(*shapes, layers="last")  # type: ignore[arg-type]  # shapes will do
    assert mapping["blocks.0.mlp.0.weight"].sources == ("blocks.24.ffn.0.weight",)
    assert mapping["blocks.15.mlp.0.weight"].sources == ("blocks.39.ffn.0.weight",)


def fingerprint(mapping: automatch.Mapping) -> str:
    return hashlib.sha256(dumps(mapping.record).encode()).hexdigest()


SOME = ("wan", "decoder_gated", "seq2seq")


def test_another_process_with_another_hash_seed_gives_the_same_bytes() -> None:
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_matching"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "PYTHONHASHSEED": seed},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    here = {name: fingerprint(small(name).mapping) for name in SOME}
    assert dict(line.split() for line in done.stdout.splitlines()) == here


def test_matching_twice_gives_the_same_bytes() -> None:
    assert dumps(match_small_wan(wan.small_teacher(), wan.small_student()).record) == dumps(small("wan").mapping.record)


def test_real_weights_and_meta_weights_give_the_same_expressions() -> None:
    def on_meta(model: nn.Module) -> nn.Module:
        return model.to("meta")

    mapping = match_small_wan(on_meta(wan.small_teacher()), on_meta(wan.small_student()))
    assert [entry.expr for entry in mapping.entries] == [entry.expr for entry in small("wan").mapping.entries]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_callers_models_and_inputs_are_left_as_they_were(device: str) -> None:
    teacher, student = wan.small_teacher().to(device).train(), wan.small_student().to(device)
    teacher.blocks[3].eval()
    teacher.blocks[1].requires_grad_(False)
    student.conv_in.weight.grad = torch.ones_like(student.conv_in.weight)
    inputs = wan.small_teacher_inputs(), wan.small_student_inputs()
    before = [_condition(teacher), _condition(student)]
    given = copy.deepcopy(inputs)
    torch.manual_seed(7)
    dice = torch.get_rng_state()
    switches = _switches()
    automatch.match(teacher, student, source_inputs=inputs[0], target_inputs=inputs[1])
    assert [_condition(teacher), _condition(student)] == before
    torch.testing.assert_close(inputs, given, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), dice)
    assert _switches() == switches


def _condition(model: nn.Module) -> dict[str, object]:
    """Everything about a model that a careless tracer could change, in a form that can be compared."""
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    modules = dict(model.named_modules())
    return {
        "state": {name: (id(tensor), _bytes(tensor)) for name, tensor in tensors.items()},
        "requires_grad": {name: tensor.requires_grad for name, tensor in tensors.items()},
        "grad": {name: None if tensor.grad is None else _bytes(tensor.grad) for name, tensor in tensors.items()},
        "training": {name: module.training for name, module in modules.items()},
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "hooks": {name: (len(each._forward_hooks), len(each._forward_pre_hooks)) for name, each in modules.items()},
        "forward": {name: type(module) for name, module in modules.items()},
    }


def _bytes(tensor: Tensor) -> bytes | None:
    return None if tensor.is_meta else tensor.detach().contiguous().numpy().tobytes()


def _switches() -> tuple[object, ...]:
    return (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.backends.mha.get_fastpath_enabled(),
        torch.get_num_threads(),
    )


def test_a_model_without_inputs_is_refused_with_the_next_step() -> None:
    with pytest.raises(InputsError, match=r"source_inputs=\(args, kwargs\)"):
        automatch.match(wan.small_teacher(), wan.small_student(), target_inputs=wan.small_student_inputs())


class Decays(nn.Module):
    """A vector that is repeated along axes which it does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.Parameter(-torch.rand(12) - 0.5)
        self.into = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        age = torch.arange(5.0)[:, None] - torch.arange(5.0)
        return torch.einsum("tsc,bsc->btc", torch.exp(age[..., None] * self.rates), self.into(x))


def test_a_vector_that_is_repeated_along_further_axes_is_matched() -> None:
    x = torch.randn(2, 5, 12)
    mapping = automatch.match(Decays(), Decays(), source_inputs=x, target_inputs=x, run=False)
    assert mapping["rates"].sources == ("rates",)


def test_progress_names_the_stages() -> None:
    said: list[str] = []
    x = torch.randn(3, 2)
    automatch.match(nn.Linear(2, 3), nn.Linear(2, 3), source_inputs=x, target_inputs=x, progress=said.append)
    assert said[:4] == [
        "source: tracing Linear with torch.export",
        "target: tracing Linear with torch.export",
        "matching",
        "proving: draw 1",
    ]
    assert said[-1] == "proving: other inputs"


def test_progress_goes_to_standard_error_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.randn(3, 2)
    for asked in (True, False):
        automatch.match(nn.Linear(2, 3), nn.Linear(2, 3), source_inputs=x, target_inputs=x, progress=asked)
        told = capsys.readouterr()
        assert ("s] proving" in told.err) is asked
        assert told.out == ""


if __name__ == "__main__":  # the other process of the test with another hash seed
    for name in SOME:
        sys.stdout.write(f"{name} {fingerprint(small(name).mapping)}\n")
