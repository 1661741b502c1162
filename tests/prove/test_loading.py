"""Stand-ins of a draw: the same numbers however they are asked for, one model at a time, ties kept."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor, nn

from automatch.core.expr import Affine, Concat, Source
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side
from automatch.prove.conversion import prove_conversion
from automatch.prove.loading import Numbers, drawn, filled, of_function, of_record
from automatch.prove.runs import run
from automatch.prove.weights import Drawing, state
from automatch.trace.weights import of_module


def record(source: nn.Module, target: nn.Module, **exprs: object) -> MappingRecord:
    sides = [Side(type(m).__name__, "export", of_module(m).weights) for m in (source, target)]
    entries = tuple(
        Entry(key, tuple(t.shape), "float32", "structural", exprs.get(key.replace(".", "_")), Evidence("structure"))  # type: ignore[arg-type]
        for key, t in state(target).items()
    )
    return MappingRecord(sides[0], sides[1], entries)


def pair_of_linears() -> nn.ModuleDict:
    return nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})


def weights(numbers: Numbers) -> dict[str, Tensor]:
    return {key: tensor.detach().clone() for key, tensor in numbers.state().items()}


def test_a_draw_is_the_same_in_whatever_order_it_is_asked_for() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    drawing = Drawing.of(model, (), seed=5)
    with drawn(model, drawing) as copied:
        whole = weights(copied)
    for key, tensor in reversed(state(model).items()):
        assert torch.equal(drawing.fresh(tensor), whole[key])
    assert not torch.equal(Drawing.of(model, (), seed=6).fresh(state(model)["0.weight"]), whole["0.weight"])


def test_the_target_holds_what_the_mapping_makes_of_the_sources_draw() -> None:
    torch.manual_seed(0)
    source, target = nn.ModuleDict({"q": nn.Linear(3, 2), "k": nn.Linear(3, 2)}), nn.Linear(3, 4)
    joined = Concat((Source("q.weight", (2, 3)), Source("k.weight", (2, 3))))
    made = record(
        source, target, weight=joined, bias=Concat((Source("q.bias", (2,)), Affine(Source("k.bias", (2,)), 2.0)))
    )
    drawing = Drawing.of(source, (), seed=1)
    with drawn(source, drawing) as copied:
        own = weights(copied)
    with filled(of_record(made, source), drawing, target, Drawing.of(target, (), seed=2)) as ready:
        found = weights(ready.numbers)
    assert torch.equal(found["weight"], torch.cat([own["q.weight"], own["k.weight"]]))
    assert torch.equal(found["bias"], torch.cat([own["q.bias"], 2 * own["k.bias"]]))
    assert not ready.contradicted


def test_two_targets_of_one_source_do_not_share_memory() -> None:
    source, target = (
        nn.Linear(3, 3),
        nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)}),
    )
    made = record(source, target, a_weight=Source("weight", (3, 3)), b_weight=Source("weight", (3, 3)))
    conversion = of_record(made, source)
    with filled(conversion, Drawing.of(source, (), 0), target, Drawing.of(target, (), 1)) as ready:
        first, second = ready.numbers.state().values()
        assert torch.equal(first, second)
        with torch.no_grad():
            first.add_(1)
        assert not torch.equal(first, second)


def test_tied_keys_that_are_given_other_values_are_named() -> None:
    source, target = (
        nn.Linear(3, 3),
        nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)}),
    )
    target["b"].weight = target["a"].weight
    conversion = of_function(lambda given: {"a.weight": given["weight"], "b.weight": -given["weight"]}, source)
    with filled(conversion, Drawing.of(source, (), 0), target, Drawing.of(target, (), 1)) as ready:
        assert ready.contradicted == ("a.weight",)


def test_the_numbers_of_a_draw_are_let_go_at_once() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    with drawn(model, Drawing.of(model, (), 0)) as numbers:
        held = [weakref.ref(tensor) for tensor in numbers.state().values()]
        with numbers.stand_in() as copied:
            assert [parameter.dtype for parameter in copied.parameters()] == [torch.float64] * 2
        del copied
    assert [reference() for reference in held] == [None, None]
    assert len(list(model.parameters())) == 2


def test_what_a_forward_keeps_reaches_no_other_run_of_a_draw() -> None:
    class Counting(nn.Linear):
        runs = 0

        def forward(self, input: Tensor) -> Tensor:
            self.runs += 1
            return super().forward(input) * self.runs

    model, x = Counting(3, 2), torch.randn(4, 3, dtype=torch.float64)
    with drawn(model, Drawing.of(model, (), 0)) as numbers:
        (first,), (second,) = (run(numbers, ((x,), {}), "source")[0] for _ in range(2))
    assert torch.equal(first, second)
    assert model.runs == 0


def test_a_model_that_cannot_be_copied_is_said_to_be() -> None:
    model = nn.Linear(3, 2)
    model.__dict__["forward"] = _identity
    with drawn(model, Drawing.of(model, (), 0)) as numbers, pytest.raises(TypeError, match="cannot be copied"):
        run(numbers, ((torch.ones(1, 3),), {}), "source")


def _identity(x: Tensor) -> Tensor:
    return x


class Norm(nn.Module):
    """Sets its own weights on its first run, as data-dependent initialisation does."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.scale = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.register_buffer("ready", torch.zeros((), dtype=torch.uint8))
        self.ready: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            self.shift.data.copy_(-x.mean(0))
            self.scale.data.copy_(1 / x.std(0))
            self.ready.fill_(1)
        return (x + self.shift) * self.scale


def test_nothing_is_shown_of_weights_that_the_model_writes_to() -> None:
    torch.manual_seed(0)
    source, target = (nn.Sequential(nn.Linear(4, 4), Norm(), nn.Linear(4, 4)) for _ in range(2))
    x = torch.randn(6, 4)

    def convert(given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**given, "1.shift": given["1.scale"], "1.scale": given["1.shift"]}

    proof = prove_conversion(convert, source, target, x, x)
    assert proof.record.outcome == "agree"
    assert proof.shown["0.weight"].whole
    assert not proof.shown["1.shift"].elements
    assert not proof.shown["1.scale"].elements
    assert "writes to it" in proof.shown["1.scale"].reason


def test_what_a_forward_writes_to_a_buffer_reaches_no_other_run() -> None:
    class Cursor(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 2)
            self.register_buffer("at", torch.zeros(()))
            self.at: Tensor

        def forward(self, input: Tensor) -> Tensor:
            self.at += 1
            return super().forward(input) * self.at

    model, x = Cursor(), torch.randn(4, 3, dtype=torch.float64)
    with drawn(model, Drawing.of(model, (), 0)) as numbers:
        (first,), (second,) = (run(numbers, ((x,), {}), "source")[0] for _ in range(2))
    assert torch.equal(first, second)


def test_nothing_is_shown_of_weights_that_share_memory_in_other_views() -> None:
    source, target = (nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)) for _ in range(2))
    target[2].weight.data = target[0].weight.data.T
    proof = prove_conversion(dict, source, target, *(torch.randn(6, 4),) * 2)
    assert not proof.shown["0.weight"].elements
    assert "shares a part of its memory" in proof.shown["2.weight"].reason
    assert proof.shown["0.bias"].whole


def test_a_model_with_a_sparse_buffer_is_run_like_any_other() -> None:
    class Heads(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 4)
            self.register_buffer("heads", torch.eye(4).to_sparse(), persistent=False)

    source, target, x = Heads(), Heads(), torch.randn(6, 4)
    proof = prove_conversion(lambda given: given, source, target, x, x)
    assert proof.record.outcome == "agree"
    assert proof.shown["weight"].whole
