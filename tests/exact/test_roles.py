"""What leaves start from: told by what reads them, the same for every spelling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.exact.form import Form, Recipe
from automatch.exact.roles import Role, roles
from tests.exact.pairs import formed
from tests.support import Net, weight

X = weight(5, 6)


def roles_of(one: Form, name: str) -> list[Role]:
    """The role of every element of a weight."""
    (found,) = (made for leaf, made in zip(one.leaves, roles(one), strict=True) if leaf.weights == (name,))
    return [found.kinds[part] for part in found.part]


FACTORS: dict[str, tuple[Callable[[Net, Tensor], Tensor], Tensor, Tensor]] = {
    "linear": (lambda m, x: F.linear(x, m.w), weight(4, 6), X),
    "matmul": (lambda m, x: x @ m.w, weight(6, 4), X),
    "einsum": (lambda m, x: torch.einsum("bi,io->bo", x, m.w), weight(6, 4), X),
    "einsum by head": (lambda m, x: torch.einsum("bi,hdi->bhd", x, m.w), weight(2, 2, 6), X),
    "conv": (lambda m, x: F.conv1d(x, m.w), weight(4, 3, 2), weight(2, 3, 7)),
    "pointwise conv": (lambda m, x: F.conv2d(x, m.w), weight(4, 6, 1, 1), weight(2, 6, 3, 3)),
}


@pytest.mark.parametrize("case", FACTORS)
def test_a_factor_starts_at_one_over_its_fan_in_however_it_is_spelled(case: str) -> None:
    compute, value, x = FACTORS[case]
    assert set(roles_of(formed(Net(compute, w=value), x), "w")) == {Role("factor", 6)}


def test_a_bias_starts_at_zero_and_a_scale_at_one() -> None:
    made = formed(
        Net(lambda m, x: m.n(m.c(x)) * m.s + m.t, c=nn.Linear(6, 4), n=nn.LayerNorm(4), s=weight(4), t=weight(4)), X
    )
    fills = {name: {role.fill for role in roles_of(made, name)} for leaf in made.leaves for name in leaf.weights}
    assert fills == {"c.weight": {1 / 6}, "c.bias": {0}, "n.weight": {1}, "n.bias": {0}, "s": {1}, "t": {0}}


def test_a_variance_is_positive() -> None:
    made = formed(Net(lambda m, x: m.n(x), n=nn.BatchNorm1d(6)), X)
    (role,) = set(roles_of(made, "n.running_var"))
    assert role.kind == "positive"
    assert bool((role.on_scale(np.random.default_rng(0).standard_normal(100)) > 0).all())


def stacked(m: Net, x: Tensor) -> Tensor:
    scale, shift, kernel = m.w[0], m.w[1], m.w[2:]
    return (m.c(x) * scale + shift) @ kernel.t()  # type: ignore[no-any-return]


def test_every_part_of_a_stacked_weight_has_the_role_of_its_reader() -> None:
    made = roles_of(formed(Net(stacked, c=nn.Linear(6, 6), w=weight(6, 6)), X), "w")
    assert [role.kind for role in made[::6]] == ["scale", "bias", *["factor"] * 4]


def test_flat_starts_all_but_biases_from_one_value() -> None:
    made = formed(Net(lambda m, x: m.c(x) * m.s, c=nn.Linear(6, 4), s=weight(4)), X, recipe=Recipe(flat=True))
    fills = {name: {role.fill for role in roles_of(made, name)} for leaf in made.leaves for name in leaf.weights}
    assert fills == {"c.weight": {0.1}, "c.bias": {0}, "s": {0.1}}
