from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from automatch.apply.evaluate import evaluate
from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Fit,
    Function,
    Gather,
    Permute,
    Product,
    Reduce,
    Reduction,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
)
from automatch.errors import MappingError
from tests.apply.expressions import arrays, expressions, worth

MOVES = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.int64, torch.bool]


def tensors(expr: Expr, dtype: torch.dtype = torch.float64, device: str = "cpu") -> dict[str, Tensor]:
    return {key: torch.from_numpy(array).to(dtype).to(device) for key, array in arrays(expr).items()}


@settings(deadline=None)  # the first call pays for torch
@given(expressions())
def test_numpy_agrees_bit_by_bit(expr: Expr) -> None:
    got = evaluate(expr, tensors(expr).__getitem__, dtype=torch.float64)
    np.testing.assert_array_equal(got.numpy(), worth(expr, arrays(expr)), strict=True)


@settings(deadline=None)  # the first call pays for torch
@given(expressions(), st.sampled_from([torch.float32, torch.bfloat16, torch.float8_e5m2, torch.int64]))
def test_the_shape_an_expression_states_is_the_shape_it_has(expr: Expr, dtype: torch.dtype) -> None:
    assert tuple(evaluate(expr, tensors(expr, dtype).__getitem__, dtype=dtype).shape) == expr.shape


@settings(deadline=None)  # the first call pays for torch
@given(expressions())
def test_meta_tensors_give_a_meta_tensor_of_the_same_shape_and_dtype(expr: Expr) -> None:
    weights = tensors(expr, torch.bfloat16, "meta")
    got = evaluate(expr, weights.__getitem__, dtype=torch.bfloat16, device="meta")
    assert (got.device.type, tuple(got.shape), got.dtype) == ("meta", expr.shape, torch.bfloat16)


@settings(deadline=None)  # the first call pays for torch
@given(expressions(), st.sampled_from([torch.float64, torch.float16]))
def test_a_result_owns_exactly_its_memory(expr: Expr, dtype: torch.dtype) -> None:
    weights = tensors(expr, dtype)
    got = evaluate(expr, weights.__getitem__, dtype=dtype)
    assert got.is_contiguous()
    assert got.untyped_storage().nbytes() == got.numel() * got.itemsize
    before = {key: weight.clone() for key, weight in weights.items()}
    got.fill_(77.0)
    assert all(torch.equal(weights[key], before[key]) for key in weights)


@pytest.mark.parametrize(
    ("fit", "old", "expected"),
    [
        ("keep", 5, [0, 1, 2, 3, 4]),
        ("leading", 8, [0, 1, 2, 3, 4]),
        ("middle", 8, [1, 2, 3, 4, 5]),
        ("middle", 7, [1, 2, 3, 4, 5]),
        ("tile", 2, [0, 1, 0, 1, 0]),
        ("pad", 2, [0, 7, 8, 0, 0]),
        ("pad", 3, [0, 7, 8, 9, 0]),
        ("zeros", 3, [0, 1, 2, 0, 0]),
        ("mean", 3, [0, 1, 2, 1, 1]),
        ("cubic", 5, [0, 1, 2, 3, 4]),
    ],
)
def test_an_axis_is_fitted_as_documented(fit: Fit, old: int, expected: list[int]) -> None:
    first = 7 if fit == "pad" else 0
    got = evaluate(Resize(Source("w", (old,)), (5,), (fit,)), lambda _: torch.arange(first, first + old))
    assert got.tolist() == expected


@pytest.mark.parametrize("dtype", MOVES)
def test_movement_keeps_every_bit_of_every_dtype(dtype: torch.dtype) -> None:
    q, k = (torch.tensor([[1.0, 0.0, 2.0], [0.5, 1.0, 3.0]]).to(dtype) for _ in "qk")
    parts = (Permute(Source("q", (2, 3)), (1, 0)), Resize(Source("k", (2, 3)), (3, 2), ("tile", "leading")))
    got = evaluate(Concat((*parts, Constant(0.0, (1, 2)))), {"q": q, "k": k}.__getitem__)
    assert got.dtype == dtype
    wide = torch.cat([q.float().T, k.float()[[0, 1, 0], :2], torch.zeros(1, 2)])
    assert torch.equal(got.float(), wide.to(dtype).float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_narrow_floats_are_computed_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    weight = torch.linspace(0.01, 1.9, 64).to(dtype)
    expr = Affine(Affine(Source("w", (64,)), 1.1, 1.0), 1.0, -1.0)
    got = evaluate(expr, lambda _: weight)
    assert got.dtype == dtype
    assert torch.equal(got.float(), (weight.float() * 1.1 + 1.0 - 1.0).to(dtype).float())


@pytest.mark.parametrize("dtype", MOVES)
def test_gathering_keeps_every_bit_of_every_dtype(dtype: torch.dtype) -> None:
    weight = torch.tensor([[1.0, 0.0, 2.0], [0.5, 1.0, 3.0]]).to(dtype)
    got = evaluate(Gather(Source("w", (2, 3)), (2, 2), (5, 0, 5, 3)), lambda _: weight)
    assert got.dtype == dtype
    assert torch.equal(got.float(), weight.float().flatten()[[5, 0, 5, 3]].reshape(2, 2))


POSITIVE = np.array([1e-6, 0.01, 0.3, 0.7, 0.99])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("exp", np.exp(POSITIVE)),
        ("log", np.log(POSITIVE)),
        ("sqrt", np.sqrt(POSITIVE)),
        ("rsqrt", POSITIVE**-0.5),
        ("reciprocal", 1 / POSITIVE),
        ("square", POSITIVE**2),
        ("abs", POSITIVE),
        ("tanh", np.tanh(POSITIVE)),
        ("atanh", np.arctanh(POSITIVE)),
        ("sigmoid", 1 / (1 + np.exp(-POSITIVE))),
        ("logit", np.log(POSITIVE / (1 - POSITIVE))),
        ("softplus", np.log1p(np.exp(POSITIVE))),
        ("inverse_softplus", np.log(np.expm1(POSITIVE))),
        ("expm1", np.expm1(POSITIVE)),
        ("log1p", np.log1p(POSITIVE)),
    ],
)
def test_functions_are_numpys_to_the_last_digits(function: Function, expected: NDArray[np.float64]) -> None:
    got = evaluate(Elementwise(Source("w", (5,)), function), lambda _: torch.from_numpy(POSITIVE))
    np.testing.assert_allclose(got.numpy(), expected, rtol=4e-15)


@pytest.mark.parametrize(
    ("function", "inverse"),
    [
        ("exp", "log"),
        ("tanh", "atanh"),
        ("sigmoid", "logit"),
        ("softplus", "inverse_softplus"),
        ("expm1", "log1p"),
        ("square", "sqrt"),
        ("reciprocal", "reciprocal"),
    ],
)
def test_functions_in_pairs_undo_each_other(function: Function, inverse: Function) -> None:
    expr = Elementwise(Elementwise(Source("w", (5,)), function), inverse)
    got = evaluate(expr, lambda _: torch.from_numpy(POSITIVE))
    np.testing.assert_allclose(got.numpy(), POSITIVE, rtol=1e-9)


def test_softplus_is_exact_where_torchs_own_is_not_and_does_not_overflow() -> None:
    x = torch.tensor([-800.0, 25.0, 800.0], dtype=torch.float64)
    got = evaluate(Elementwise(Source("w", (3,)), "softplus"), lambda _: x)
    assert got.tolist() == [0.0, 25.0 + np.log1p(np.exp(-25.0)), 800.0]
    back = evaluate(Elementwise(Source("w", (3,)), "inverse_softplus"), lambda _: got)
    assert back.tolist()[1:] == [25.0, 800.0]


@pytest.mark.parametrize(
    ("kind", "expected"), [("sum", [[6.0], [15.0]]), ("mean", [[2.0], [5.0]]), ("norm", [[14**0.5], [77**0.5]])]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_axes_are_summed_up(kind: Reduction, expected: list[list[float]], dtype: torch.dtype) -> None:
    w = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=dtype)
    got = evaluate(Reduce(Source("w", (2, 3)), kind, (1,), keepdim=True), lambda _: w)
    assert got.dtype == (dtype if dtype.is_floating_point or kind == "sum" else torch.float32)
    np.testing.assert_allclose(got.double().numpy(), expected, rtol=1e-15 if dtype.is_floating_point else 1e-7)


def test_weight_norm_is_torchs() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, 4).double())
    state = layer.state_dict()
    g, v = Source("parametrizations.weight.original0", (4, 1)), Source("parametrizations.weight.original1", (4, 6))
    normed = Product((g, v, Elementwise(Reduce(v, "norm", (1,), keepdim=True), "reciprocal")))
    torch.testing.assert_close(evaluate(normed, state.__getitem__), layer.weight.detach(), rtol=1e-14, atol=0)


def test_narrow_floats_are_multiplied_and_rounded_once() -> None:
    weight = torch.linspace(0.01, 1.9, 64).to(torch.bfloat16)
    w = Source("w", (64,))
    got = evaluate(Product((Elementwise(w, "exp"), w)), lambda _: weight)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, (weight.float().exp() * weight.float()).to(torch.bfloat16))


def test_sources_of_several_dtypes_are_promoted_as_torch_does() -> None:
    weights = {"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.ones(2, dtype=torch.float32)}
    both = Concat((Source("a", (2,)), Source("b", (2,))))
    assert evaluate(both, weights.__getitem__).dtype == torch.float32
    weights["b"] = torch.ones(2).to(torch.float8_e4m3fn)
    assert evaluate(both, weights.__getitem__).dtype == torch.bfloat16


def test_integers_stay_integers_where_the_numbers_are_whole() -> None:
    got = evaluate(Affine(Source("ids", (3,)), 2.0, -1.0), lambda _: torch.arange(3))
    assert (got.dtype, got.tolist()) == (torch.int64, [-1, 1, 3])


def test_constants_take_the_dtype_of_the_sources_beside_them() -> None:
    bias = Concat((Source("q", (2,)), Constant(0.0, (2,))))
    assert evaluate(bias, lambda _: torch.ones(2, dtype=torch.float16), dtype=torch.float64).dtype == torch.float16


def test_an_expression_without_sources_has_the_dtype_asked_for() -> None:
    assert evaluate(Constant(1.0, (2,)), _none).dtype == torch.float32
    counted = evaluate(Constant(3.0, ()), _none, dtype=torch.int64)
    assert (counted.dtype, counted.item()) == (torch.int64, 3)


def test_a_key_is_read_once_though_used_twice() -> None:
    asked: list[str] = []

    def read(key: str) -> Tensor:
        asked.append(key)
        return torch.ones(4)

    w = Source("w", (4,))
    assert evaluate(Sum((w, Slice(Concat((w, w)), 0, 2, 6))), read).tolist() == [2.0] * 4
    assert asked == ["w"]


def test_parameters_give_plain_tensors_without_gradients() -> None:
    got = evaluate(Affine(Source("w", (2,)), 2.0), lambda _: torch.nn.Parameter(torch.ones(2)))
    assert type(got) is Tensor
    assert not got.requires_grad


def test_a_tensor_of_another_shape_is_refused_with_both_shapes() -> None:
    with pytest.raises(MappingError, match=r"w: shape \[3\], but the mapping was made for \[2\]"):
        evaluate(Reshape(Source("w", (2,)), (1, 2)), lambda _: torch.ones(3))


def _none(key: str) -> Tensor:
    raise AssertionError(f"{key} was read")
