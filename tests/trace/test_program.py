"""Programs that run: recorded on some rung in float64, without in-place operators, weights by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import automatch.trace.program as program_module
from automatch.errors import TraceError
from automatch.trace.inputs import normalise
from automatch.trace.program import Program, name_of, record
from tests.support import Net, weight

X = weight(4, 3)


def recorded(net: nn.Module, *inputs: Tensor) -> Program:
    return record(net, normalise(inputs))


def ran(program: Program) -> list[Tensor]:
    """The outputs on the model's own weights."""
    env: dict[fx.Node, Tensor] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            env[node] = program.values[program.weights[node]] if node in program.weights else program.fixed[node]
        else:
            args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), env.__getitem__)
            env[node] = node.target(*args, **kwargs)
    return [env[node] for node in program.outputs]


def branching(m: Net, x: Tensor) -> Tensor:
    """What it does depends on its data, which export refuses."""
    y: Tensor = m.c(x)
    return y.tanh() if y.sum().item() > 1e9 else y * 2


def in_place(m: Net, x: Tensor) -> Tensor:
    y: Tensor = m.c(x)
    y.mul_(2).add_(m.s)
    return F.relu(y, inplace=True) + y


def in_place_and_branching(m: Net, x: Tensor) -> Tensor:
    y = in_place(m, x)
    return y + 1 if y.sum().item() > 1e9 else y


def rewritten_part(m: Net, x: Tensor) -> Tensor:
    y = m.c(x).clone()
    y[:, 0].mul_(2)
    return y  # type: ignore[no-any-return]


FUNCTIONS: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "plain": lambda m, x: m.c(x) * m.s,
    "branching": branching,
    "in place": in_place,
    "in place and branching": in_place_and_branching,
    "part of a tensor, exported": lambda m, x: torch.cat([m.c(x), m.c(x)[:, :1].mul_(2)], 1),
    "half precision inside": lambda m, x: m.c(x).float() * m.s.float(),
}


def net(compute: Callable[[Net, Tensor], Tensor]) -> Net:
    return Net(compute, c=nn.Linear(3, 4), s=weight(4))


@pytest.mark.parametrize("case", FUNCTIONS)
def test_running_the_program_is_running_the_model_in_float64(case: str) -> None:
    model = net(FUNCTIONS[case])
    (found,) = ran(recorded(model, X))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, model.double()(X.double()).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", FUNCTIONS)
def test_no_operator_writes_to_its_operands(case: str) -> None:
    targets = [node.target for node in recorded(net(FUNCTIONS[case]), X).graph.nodes if node.op == "call_function"]
    assert not [target for target in targets if isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable]


def test_the_rung_that_recorded_is_named() -> None:
    assert recorded(net(FUNCTIONS["plain"]), X).rung == "export"
    assert recorded(net(branching), X).rung in ("draft_export", "recorder")


def test_the_recorder_refuses_a_write_to_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_module, "_RUNGS", program_module._RUNGS[2:])
    with pytest.raises(TraceError, match="writes to a view"):
        recorded(net(rewritten_part), X)


def test_a_draft_that_takes_another_branch_is_not_believed() -> None:
    model = net(branching)
    (found,) = ran(recorded(model, X))
    torch.testing.assert_close(found, model.double()(X.double()), rtol=1e-9, atol=1e-9)


def test_what_no_rung_records_names_every_rung() -> None:
    def failing(m: Net, x: Tensor) -> Tensor:
        raise RuntimeError("not today")

    with pytest.raises(TraceError, match=r"(?s)export: .*draft_export: .*recorder: .*not today"):
        recorded(net(failing), X)


@pytest.mark.parametrize("compute", [branching, FUNCTIONS["plain"]])
def test_tied_weights_are_one(compute: Callable[[Net, Tensor], Tensor]) -> None:
    model = Net(lambda m, x: compute(m, x) + m.d(x), c=nn.Linear(3, 4), s=weight(4), d=nn.Linear(3, 4))
    model.d.weight = model.c.weight
    program = recorded(model, X)
    assert sorted(program.weights.values()).count("c.weight") == 1
    assert "d.weight" not in program.values
    (tied,) = (item for item in program.inventory if item.name == "c.weight")
    assert tied.aliases == ("d.weight",)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers_are_spelled_out(kind: Callable[..., nn.Module]) -> None:
    model = Net(lambda m, x: m.r(x)[0], r=kind(3, 4, batch_first=True))
    program = recorded(model, weight(2, 5, 3))
    named = {name_of(node) for node in program.graph.nodes}
    assert not named & {"lstm", "gru", "rnn_tanh"}


def test_the_caller_s_model_is_not_changed() -> None:
    model = net(in_place_and_branching).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    held = list(model.parameters())
    recorded(model, X)
    assert all(one is other for one, other in zip(held, model.parameters(), strict=True))
    assert {name: value.dtype for name, value in model.state_dict().items()} == {n: v.dtype for n, v in before.items()}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_inputs_and_constants_are_told_apart() -> None:
    table = weight(4)
    program = recorded(Net(lambda m, x: m.c(x) * m.k + table, c=nn.Linear(3, 4), k=nn.Buffer(weight(4))), X)
    assert [tuple(node.meta["val"].shape) for node in program.inputs] == [(4, 3)]
    assert "k" in program.weights.values()
    assert set(program.fixed) > program.inputs
