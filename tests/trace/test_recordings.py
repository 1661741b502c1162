"""Recordings of one model: kept by the shapes of its inputs, run on other numbers, made anew where those do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automatch.prove.steps import run
from automatch.trace import ladder, recorder, trace
from automatch.trace.inputs import Inputs, normalise
from automatch.trace.isolate import stand_in
from automatch.trace.program import name_of, outputs_of, values_of
from automatch.trace.recording import Recording
from automatch.trace.recordings import Recordings
from automatch.trace.weights import Inventory
from tests.support import Net, weight
from tests.trace import nets

X = weight(4, 3)


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was exported."""
    made: list[str] = []
    real: Callable[..., Any] = torch.export.export

    def export(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        made.append(type(model).__name__)
        return real(model, *args, **kwargs)

    monkeypatch.setattr(torch.export, "export", export)
    return made


def given(*inputs: object) -> Inputs:
    return normalise(inputs)


def net(compute: Callable[..., Any], **parts: nn.Module | Tensor) -> Net:
    return Net(compute, **{"c": nn.Linear(3, 4), **parts})


def wide(model: nn.Module, *inputs: Tensor) -> Tensor:
    """What a copy of a model gives in float64."""
    with stand_in(model, lambda tensor: tensor.detach().double().clone()) as copied:
        (found,) = copied(*(tensor.double() for tensor in inputs))
    return found  # type: ignore[no-any-return]


def first(found: Any) -> Tensor:
    tensor: Tensor = found[0] if isinstance(found, tuple) else found
    return tensor


def test_graph_and_programs_come_from_one_recording(exports: list[str]) -> None:
    model = net(lambda m, x: m.c(x).tanh())
    kept = Recordings(model)
    assert kept.graph((X,)) == trace(model, (X,))
    before = len(exports)
    for content in (X, X.double(), -2 * X):
        (found,) = outputs_of(kept.program(given(content)))
        torch.testing.assert_close(found, wide(model, content), rtol=1e-12, atol=1e-12)
    assert len(exports) == before


def test_weights_of_a_stand_in_are_taken(exports: list[str]) -> None:
    model = net(lambda m, x: m.c(x) * m.k, k=nn.Buffer(weight(4)))
    kept = Recordings(model)
    kept.graph((X,))
    with stand_in(model, lambda tensor: torch.randn_like(tensor, dtype=torch.float64)) as copied:
        program = kept.program(given(X.double()), copied)
        (wanted,) = copied(X.double())
        assert torch.equal(program.values["k"], copied.get_buffer("k"))
    torch.testing.assert_close(outputs_of(program)[0], wanted, rtol=1e-12, atol=1e-12)
    assert len(exports) == 1


def test_other_shapes_and_other_plain_values_are_recorded_once_more(exports: list[str]) -> None:
    kept = Recordings(net(lambda m, x, times: m.c(x) * times))
    for inputs in ((X, 2), (X[:2], 2), (X, 3), (-X, 2), (-X[:2], 2)):
        kept.program(given(*inputs))
    assert len(exports) == 3


def test_what_is_kept_holds_no_weights_in_float64() -> None:
    kept = Recordings(net(lambda m, x: m.c(x)))
    assert kept.program(given(X)).values
    assert [dict(program.values) for program in kept.programs.values()] == [{}]


@pytest.mark.parametrize("cast", [lambda y: y.float(), lambda y: y.to(y.dtype), lambda y: y.half().float()])
def test_precisions_that_code_asks_for_are_no_reason_to_record_anew(
    cast: Callable[[Tensor], Tensor], exports: list[str]
) -> None:
    kept = Recordings(net(lambda m, x: m.c(x) + cast(m.c(x)).mean().to(x)))
    (found,) = outputs_of(kept.program(given(X)))
    assert found.dtype == torch.float64
    assert len(exports) == 1


def test_a_constant_of_the_recorded_precision_is_recorded_anew(exports: list[str]) -> None:
    model = net(lambda m, x: m.c(x) * torch.tensor(0.1, dtype=x.dtype))
    kept = Recordings(model)
    kept.graph((X,))
    for content in (X, 2 * X):
        (found,) = outputs_of(kept.program(given(content)))
        torch.testing.assert_close(found, wide(model, content), rtol=1e-12, atol=1e-12)
    assert len(exports) == 2


def test_another_branch_is_recorded_anew() -> None:
    model = nets.Branch()
    kept = Recordings(model)
    kept.graph(torch.ones(2, 4))
    for content in (torch.ones(2, 4), -torch.ones(2, 4)):
        (found,) = outputs_of(kept.program(given(content)))
        torch.testing.assert_close(found, wide(model, content), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [nn.Linear, nn.GRU])
def test_a_recorded_run_serves_as_well(kind: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Inputs] = []

    def record(model: nn.Module, inputs: Inputs, inventory: Inventory) -> Recording:
        runs.append(inputs)
        return recorder.record(model, inputs, inventory)

    monkeypatch.setattr(ladder, "_LADDER", (ladder._Attempt("recorder", "a run", record),))
    model = Net(lambda m, x: first(m.r(x)).relu_() + 1, r=kind(3, 4))
    kept = Recordings(model)
    graph = kept.graph((X,))
    program = kept.program(given(-X))
    torch.testing.assert_close(outputs_of(program)[0], wide(model, -X), rtol=1e-12, atol=1e-12)
    assert len(runs) == 1
    assert len(kept.graph((X,)).nodes) == len(graph.nodes)
    assert not {name_of(node) for node in program.graph.nodes} & {"gru", "relu_"}


def test_the_recording_that_a_graph_came_from_is_not_changed() -> None:
    model = net(lambda m, x: m.c(x).relu_() * 2)
    kept = Recordings(model)
    before = kept.graph((X,))
    kept.program(given(X))
    assert kept.graph((X,)) == before
    assert any(node.op == "relu_" for node in before.nodes)


def test_buffers_that_a_forward_writes_to_are_no_outputs() -> None:
    def counting(m: Net, x: Tensor) -> Tensor:
        m.n.add_(1)
        return m.c(x) * m.n  # type: ignore[no-any-return]

    program = Recordings(net(counting, n=nn.Buffer(torch.ones(4)))).program(given(X))
    assert [tuple(value.shape) for value in outputs_of(program)] == [(4, 4)]


def test_a_model_that_cannot_be_copied_is_recorded_all_the_same() -> None:
    model = nn.ModuleDict({"c": nn.Linear(3, 4)})
    model.forward = lambda x: model["c"](x).tanh()
    (found,) = outputs_of(Recordings(model).program(given(X)))
    torch.testing.assert_close(found, model(X).double(), rtol=1e-5, atol=1e-6)


def test_a_model_in_float64_keeps_parameters_that_its_forward_writes_to() -> None:
    model = nn.Embedding(20, 8, max_norm=0.1).double()
    before = model.weight.detach().clone()
    Recordings(model).program(Inputs((torch.arange(20),), {}))
    assert torch.equal(model.weight, before)


def test_a_program_draws_the_same_in_every_run_and_leaves_the_callers_random_state() -> None:
    class Noisy(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + torch.rand_like(input)

    program = Recordings(Noisy(3, 3)).program(Inputs((torch.randn(2, 3),), {}))
    before = torch.get_rng_state()
    (made,), values = outputs_of(program), values_of(program)
    assert torch.equal(made, values[program.outputs[0]])
    assert torch.equal(run(program, {})[0][-1].value, made.flatten())
    assert torch.equal(torch.get_rng_state(), before)
