"""What gradients leave in the ledger: what would have shown, what could have been exchanged, and what is settled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automatch.prove.differentiable import Differentiable
from automatch.prove.influence import Gradient, Influence, Ledger, disturb, interchangeable, measure

NOISE = torch.Generator().manual_seed(0)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=NOISE)


def entered(*draws: Tensor, unit: float = 1e-6) -> Influence:
    ledger = Ledger()
    for draw in draws:
        ledger.add("w", Gradient.of(draw, tuple(draw.shape)), unit, False)
    return ledger.found["w"]


def test_a_generic_gradient_settles_a_weight_in_one_draw() -> None:
    seen = entered(noise(8, 5))
    assert bool(seen.alive.all())
    assert seen.told


def test_rows_that_are_equal_in_all_draws_could_be_exchanged() -> None:
    one, other = noise(4, 3), noise(4, 3)
    one[2], other[2] = one[0], other[0]
    assert entered(one, other).apart.all(1).tolist() == [False, True, False, True]
    assert bool(entered(one, noise(4, 3)).apart.all())


def test_an_equal_that_shows_later_is_an_equal_only_of_those_that_showed_with_it() -> None:
    first, second = noise(1, 4), noise(1, 4)
    first[0, 1:] = 0.0
    second[0, :3] = 7.0
    assert entered(first, second).apart.flatten().tolist() == [True, False, False, True]


def test_what_no_draw_moves_is_dead_and_is_not_asked_about_again() -> None:
    first, second = noise(3, 3), noise(3, 3)
    first[1], second[1] = 0.0, 0.0
    ledger = Ledger()
    for draw in (first, second):
        ledger.add("w", Gradient.of(draw, (3, 3)), 1e-6, False)
    assert ledger.found["w"].alive.all(1).tolist() == [True, False, True]
    assert ledger.open() == set()
    ledger.reopen()
    assert ledger.open() == {"w"}


def test_rows_alone_are_entered_like_a_whole_gradient() -> None:
    rows = torch.tensor([[1, 3]])
    whole = torch.zeros(5, 4, dtype=torch.float64)
    whole[rows[0]] = values = noise(2, 4)
    sparse = torch.sparse_coo_tensor(rows, values, (5, 4), check_invariants=True)
    one, other = entered(whole), entered(sparse)
    assert torch.equal(one.alive, other.alive)
    assert one.prints[0].equals(other.prints[0])


def test_two_tensors_of_the_same_gradient_are_interchangeable_and_stay_open() -> None:
    same, ledger = noise(6), Ledger()
    for key, draw in (("a", same), ("b", same.clone()), ("c", noise(6))):
        ledger.add(key, Gradient.of(draw, (6,)), 1e-6, False)
    assert interchangeable(ledger) == {"a": ("b",), "b": ("a",)}
    assert ledger.open() == {"a", "b"}


def test_a_bias_before_a_norm_can_be_shifted() -> None:
    draws = [noise(5), noise(5)]
    assert entered(*(draw - draw.mean() for draw in draws)).shifts
    assert not entered(*draws).shifts


def test_the_gradient_of_a_tied_table_holds_both_uses() -> None:
    table = nn.Parameter(noise(7, 3), requires_grad=True)
    ids, found = torch.tensor([[1, 4]]), dict[str, Tensor]()

    def output() -> Tensor:
        made: Tensor = nn.functional.linear(nn.functional.embedding(ids, table).tanh(), table)
        return made

    with Differentiable() as mode:
        made = output()
    tables = {"w": next(iter(mode.tables.values()))}

    def enter(key: str, gradient: Tensor | None) -> None:
        assert gradient is not None
        found[key] = gradient

    measure([made], {"w": table}, tables, torch.Generator().manual_seed(1), enter)
    plain = output()
    cotangent = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (wanted,) = torch.autograd.grad((cotangent * plain).sum(), table)
    ratio = found["w"] / wanted
    assert torch.allclose(ratio, ratio[0, 0])
    assert table.grad is None


def test_only_living_elements_are_disturbed_whatever_the_layout() -> None:
    for tensor in (noise(4, 6), noise(6, 4).T):
        before, alive = tensor.clone(), torch.zeros(4, 6, dtype=torch.bool)
        alive[1] = True
        disturb(tensor, 0.1, alive)
        assert torch.equal((tensor != before).all(1), torch.tensor([False, True, False, False]))
        assert torch.equal(tensor[0], before[0])
