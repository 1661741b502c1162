from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from automatch.apply.evaluate import evaluate
from automatch.check.compare import uniform_value
from automatch.core.expr import Constant, Elementwise, Expr, Function, Gather, Product, Reduce, Reduction, Source
from automatch.core.expr_values import function_value


@pytest.mark.parametrize("function", get_args(Function))
def test_a_function_has_the_same_value_on_a_number_as_on_a_tensor(function: Function) -> None:
    got = evaluate(Elementwise(Constant(0.3, (2,)), function), _none, dtype=torch.float64)
    value = function_value(function, 0.3)
    assert value is not None
    assert math.isclose(value, got[0].item(), rel_tol=1e-14)


@pytest.mark.parametrize("kind", get_args(Reduction))
@pytest.mark.parametrize("axes", [(0,), (0, 2)])
def test_a_reduction_has_the_same_value_on_a_number_as_on_a_tensor(kind: Reduction, axes: tuple[int, ...]) -> None:
    expr = Reduce(Constant(-1.5, (4, 2, 9)), kind, axes)
    value = uniform_value(expr)
    assert value is not None
    assert math.isclose(value, evaluate(expr, _none, dtype=torch.float64).flatten()[0].item(), rel_tol=1e-14)


@pytest.mark.parametrize(
    ("expr", "value"),
    [
        (Product((Constant(2.0, (3,)), Constant(-1.5, ()))), -3.0),
        (Product((Constant(2.0, (3,)), Source("w", (3,)))), None),
        (Gather(Constant(2.0, (3,)), (1,), (0,)), 2.0),
        (Elementwise(Constant(0.0, (3,)), "log"), None),
        (Elementwise(Constant(1000.0, (3,)), "exp"), None),
        (Elementwise(Source("w", (3,)), "exp"), None),
        (Reduce(Source("w", (3,)), "sum", (0,)), None),
    ],
)
def test_the_value_of_an_expression_of_constants_is_known(expr: Expr, value: float | None) -> None:
    assert uniform_value(expr) == value


def _none(key: str) -> torch.Tensor:
    raise AssertionError(f"{key} was read")
