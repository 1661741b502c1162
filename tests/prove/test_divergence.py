"""Where outputs differ, the first operation that does and the wrong weight are named: faults planted one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

import jsonschema
import pytest
import torch
from torch import Tensor, nn

from automatch.core.expr import Expr, Permute, Source
from automatch.core.mapping import ProofRecord
from automatch.core.mapping_json import dumps, loads
from automatch.prove import prove, prove_conversion, steps, with_proof
from automatch.prove.conversion import arrange
from automatch.prove.divergence import Divergence, first_divergence
from automatch.prove.parting import parting
from automatch.prove.trial import Draw, loaded
from automatch.trace.inputs import Inputs
from automatch.trace.program import Program
from automatch.trace.program import record as record_program
from tests.prove.nets import record
from tests.prove.planted import Fault, changed, converted, exchanged, halves, inputs, new, old, taken, unpaired

FAULTS: list[tuple[str, Fault, str, str]] = [
    ("q and k exchanged", exchanged("layers.1.q", "layers.1.k"), "layers.1.q.weight layers.1.k.weight", "layers.1"),
    ("gate and up exchanged", exchanged("layers.0.w1", "layers.0.w3"), "layers.0.w1.weight", "layers.0"),
    ("scale and shift exchanged", changed("layers.1.mod", halves), "layers.1.mod.weight", "layers.1"),
    ("rotary layout of q", changed("layers.1.q", unpaired), "layers.1.q.weight", "layers.1"),
    ("rotary layout of k", changed("layers.2.k", unpaired), "layers.2.k.weight", "layers.2"),
    ("heads of q in another order", changed("layers.0.q", halves), "layers.0.q.weight", "layers.0"),
    ("heads of k in another order", changed("layers.2.k", halves), "layers.2.k.weight", "layers.2"),
    ("heads of v in another order", changed("layers.1.v", halves), "layers.1.v.weight", "layers.1"),
    (
        "columns of o by another order",
        changed("layers.1.o", lambda w: halves(w.T).T, "weight"),
        "layers.1.o.weight",
        "layers.1.o",
    ),
    ("square matrix transposed", changed("layers.2.o", lambda w: w.T, "weight"), "layers.2.o.weight", "layers.2.o"),
    ("q transposed", changed("layers.0.q", lambda w: w.T, "weight"), "layers.0.q.weight", "layers.0.q"),
    ("up of another layer", taken("layers.1.w3.weight", "layers.2.w3.weight"), "layers.1.w3.weight", "layers.1.w3"),
    ("v of another layer", taken("layers.2.v.weight", "layers.0.v.weight"), "layers.2.v.weight", "layers.2.v"),
    ("k takes q's weight", taken("layers.1.k.weight", "layers.1.q.weight"), "layers.1.k.weight", "layers.1"),
    ("wrong norm", taken("layers.1.n1.weight", "layers.1.n2.weight"), "layers.1.n1.weight", "layers.1.n1"),
    ("norm of another layer", taken("layers.1.n2.weight", "layers.0.n2.weight"), "layers.1.n2.weight", "layers.1.n2"),
    ("missing 1 +", changed("layers.2.n2", lambda w: w + 1, "weight"), "layers.2.n2.weight", "layers.2.n2"),
    ("missing 1 + at the end", changed("norm", lambda w: w + 1, "weight"), "norm.weight", "norm"),
    ("bias dropped before a sum", changed("layers.1.w2", torch.zeros_like, "bias"), "layers.1.w2.bias", "layers.1"),
    ("bias dropped before a rotation", changed("layers.1.k", torch.zeros_like, "bias"), "layers.1.k.bias", "layers.1"),
    ("bias dropped before a gate", changed("layers.0.w3", torch.zeros_like, "bias"), "layers.0.w3.bias", "layers.0"),
    ("bias of another", taken("layers.1.o.bias", "layers.1.w2.bias"), "layers.1.o.bias", "layers.1.o"),
    ("rows of the embedding", changed("embed", lambda w: w.roll(1, 0), "weight"), "embed.weight", "embed"),
    ("rows of the head", changed("head", lambda w: w.roll(1, 0), "weight"), "head.weight", "head"),
]


@cache
def recorded() -> tuple[Program, Program]:
    """Both models, with random weights in the source; recording takes most of the time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        setting, _ = arrange(converted, old(), new(), inputs(), inputs())
        with loaded(setting, Draw(1)) as ready:
            source = record_program(ready.source, Inputs(*ready.ours))
            return source, record_program(ready.target, Inputs(*ready.theirs))


def parted(*faults: Fault, outputs: Sequence[tuple[int, int]] = ((0, 0),)) -> Divergence | None:
    source, target = recorded()
    made = converted(source.values)
    for fault in faults:
        fault(made)
    return first_divergence(source, replace(target, values=made), outputs=outputs)


def found(*faults: Fault) -> Divergence:
    divergence = parted(*faults)
    assert divergence is not None
    return divergence


@pytest.mark.parametrize(("fault", "wrong", "module"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_the_wrong_weight_of_a_planted_fault_is_named(fault: Fault, wrong: str, module: str) -> None:
    divergence = found(fault)
    assert {suspect.key for suspect in divergence.weights[:2]} & set(wrong.split())
    assert divergence.target.module == module or divergence.target.module.startswith(f"{module}.")
    assert divergence.source is not None
    assert divergence.difference > 1e-3


def test_a_right_conversion_has_no_divergence() -> None:
    assert parted(outputs=()) is None


def test_of_two_faults_the_earlier_is_named() -> None:
    wrong_norm = taken("layers.0.n2.weight", "layers.1.n2.weight")
    divergence = found(changed("layers.2.o", lambda w: w.T, "weight"), wrong_norm)
    assert [suspect.key for suspect in divergence.weights] == ["layers.0.n2.weight"]


def test_what_is_said_of_it() -> None:
    sentences = found(taken("layers.1.w3.weight", "layers.2.w3.weight")).sentences
    assert sentences[0].startswith("the models first part at linear in layers.1.w3 (planted.py:")
    assert sentences[0].endswith("), [2, 7, 32]")
    assert sentences[1].startswith("in its place: linear in layers.1.gate_up (planted.py:")
    assert "100% of the values occur nowhere in the source" in sentences[1]
    assert sentences[2] == "suspected weights, most likely first: layers.1.w3.weight"


def test_numbers_in_float32_are_compared_less_closely() -> None:
    class Rounded(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input * torch.tensor(0.1).double())

    source, target = nn.Sequential(Rounded(4, 8), nn.Linear(8, 5)), nn.Sequential(Rounded(4, 8), nn.Linear(8, 5))
    x = torch.randn(6, 4)

    def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**state, "1.weight": state["1.weight"].roll(1, 1)}

    proof = prove_conversion(convert, source, target, x, x)
    divergence = parting(proof.record, convert, source, target, x, x).divergence
    assert divergence is not None
    assert divergence.weights[0].key == "1.weight"


def test_a_failure_inside_is_a_reason_and_no_error() -> None:
    class Broken(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            raise RuntimeError("out of order")

    proof = ProofRecord("differ", "", 1, 1e-9, "", "")
    result = parting(proof, dict, nn.Linear(4, 3), Broken(4, 3), torch.randn(2, 4), torch.randn(2, 4))
    assert result.divergence is None
    assert "out of order" in result.reason
    assert result.sentences == (f"where the models first part was not found: {result.reason}",)


def test_too_many_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LIMIT", 1000)
    x = torch.randn(20, 30)
    proof = ProofRecord("differ", "", 1, 1e-9, "", "")
    result = parting(proof, dict, nn.Linear(30, 30), nn.Linear(30, 30), x, x)
    assert result.divergence is None
    assert "prove smaller ones of the same code" in result.reason


def test_a_mapping_whose_outputs_differ_is_told_with_its_sources() -> None:
    source, target = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    same: dict[str, Expr | str | None] = {key: key for key in target.state_dict()}
    wrong = {**same, "0.weight": Permute(Source("0.weight", (4, 4)), (1, 0))}
    x = torch.randn(5, 4)
    made = record(source, target, wrong, "structural")
    proof = prove(made, source, target, x, x)
    assert proof.record.outcome == "differ"
    assert proof.record.divergence[2] == "suspected weights, most likely first: 0.weight (from 0.weight)"
    written = with_proof(made, proof)
    assert loads(dumps(written), "here") == written
    schema = json.loads(files("automatch.core").joinpath("mapping.schema.json").read_text())
    jsonschema.validate(json.loads(dumps(written)), schema)
    assert prove(record(source, target, same, "structural"), source, target, x, x).record.divergence == ()


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 2)),
        lambda: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 4)),
        lambda: nn.Sequential(nn.Conv1d(4, 6, 3), nn.GroupNorm(2, 6), nn.SiLU(), nn.ConvTranspose1d(6, 4, 2)),
    ],
)
def test_every_weight_of_a_fused_operator_is_told_from_its_others(make: Callable[[], nn.Module]) -> None:
    source, target = make(), make()
    x = torch.randn(*{nn.Conv2d: (2, 3, 8, 8), nn.Linear: (7, 5), nn.Conv1d: (2, 4, 9)}[type(next(source.children()))])
    for wrong in (key for key, value in target.state_dict().items() if value.is_floating_point()):

        def convert(state: Mapping[str, Tensor], wrong: str = wrong) -> dict[str, Tensor]:
            return {
                **state,
                wrong: state[wrong] * (1 + torch.linspace(0, 1, state[wrong].numel()).view_as(state[wrong])),
            }

        proof = prove_conversion(convert, source, target, x, x)
        divergence = parting(proof.record, convert, source, target, x, x).divergence
        assert divergence is not None, wrong
        assert divergence.weights[0].key == wrong
