"""What is proved, and above all what is not: right conversions, planted faults, and what could fool a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.core.mapping import Shown
from automatch.errors import InputsError, MappingError, ModelError
from automatch.exact.budget import Budget, OutOfBudget
from automatch.prove import Proof, prove_conversion
from tests.prove.nets import HEADS, WIDTH, WORDS, Fused, Split, fuse, tokens

State = Mapping[str, Tensor]
Fault = Callable[[dict[str, Tensor]], object]


def proof(fault: Fault | None = None, tied: bool = False) -> Proof:
    def convert(state: State) -> dict[str, Tensor]:
        made = fuse(state)
        if fault is not None:
            fault(made)
        return made

    return prove_conversion(convert, Split(tied=tied), Fused(tied=tied), tokens(), tokens())


def identical(source: nn.Module, target: nn.Module, ours: object, theirs: object = None) -> Proof:
    return prove_conversion(dict, source, target, ours, ours if theirs is None else theirs)


def whole(found: Proof) -> set[str]:
    return {key for key, shown in found.shown.items() if shown.whole}


def test_a_right_conversion_is_proved_but_for_what_no_output_can_tell() -> None:
    found = proof()
    assert found.record.outcome == "agree"
    assert found.record.draws >= 3
    assert found.record.outputs[0].gap < 1e-12
    assert (found.record.outputs[0].disturbed or 0) > 1e-4
    assert set(found.shown) - whole(found) == {"h.0.qkv.bias", "h.1.qkv.bias"}


class Reached(nn.Module):
    """A table of which the last three rows are never read."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.out(self.table(ids.clamp(max=WORDS - 4)).tanh())
        return found


def test_rows_that_no_input_uses_are_not_shown() -> None:
    shown = identical(Reached(), Reached(), tokens()).shown["table.weight"]
    assert (shown.elements, shown.of) == ((WORDS - 3) * WIDTH, WORDS * WIDTH)
    assert shown.reason.startswith("9 of 12 rows")


def test_rows_that_the_examples_do_not_use_are_shown_by_others() -> None:
    assert int(tokens().max()) < WORDS - 1
    assert proof().shown["wte.weight"].whole


def test_every_row_of_a_large_table_is_named_where_that_costs_little() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Embedding(500, 4), nn.Linear(4, 3)

        def forward(self, ids: Tensor) -> Tensor:
            found: Tensor = self.out(self.table(ids).tanh())
            return found

    assert identical(Words(), Words(), torch.tensor([[3, 5, 7]])).shown["table.weight"].whole


def test_a_longer_input_was_run() -> None:
    assert "size 9 in place of 6 were run as well, and agree" in proof().record.lengths


def test_the_bias_of_a_key_projection_is_dead() -> None:
    shown = proof().shown["h.0.qkv.bias"]
    assert shown.elements == 2 * WIDTH
    assert "no output can tell the rest" in shown.reason


def test_rounding_errors_of_a_softmax_in_float32_are_no_influence() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            scores = self.q(x) @ self.k(x).transpose(-1, -2)
            out: Tensor = scores.softmax(-1, dtype=torch.float32).to(x.dtype) @ self.v(x)
            return out

    found = identical(Attention(), Attention(), torch.randn(2, 40, WIDTH))
    assert found.record.outputs[0].gap == 0
    assert found.shown["k.bias"].elements == 0
    assert {"q.weight", "q.bias", "k.weight", "v.weight", "v.bias"} == whole(found)


def test_a_shift_that_no_output_sees_is_spoken_of() -> None:
    def shifted(state: State) -> dict[str, Tensor]:
        return {**state, "0.bias": state["0.bias"] + 1}

    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(4, WIDTH), nn.LayerNorm(WIDTH))

    x = torch.randn(5, 4)
    found = prove_conversion(shifted, net(), net(), x, x)
    assert found.record.outcome == "agree"
    assert "one number added to all of them would not" in found.shown["0.bias"].reason
    assert "one number" not in found.shown["1.weight"].reason


def test_a_wrong_factor_that_a_norm_all_but_hides_is_a_difference() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(4, WIDTH, bias=False), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3))

    def larger(state: State) -> dict[str, Tensor]:
        return {**state, "0.weight": 1.01 * state["0.weight"]}

    x = torch.randn(5, 4)
    found = prove_conversion(larger, net(), net(), x, x)
    assert found.record.outcome == "differ"
    assert found.record.outputs[0].gap < 1e-4
    assert identical(net(), net(), x).record.outcome == "agree"


def test_a_model_that_cannot_be_copied_proves_nothing_and_says_why() -> None:
    student = nn.ModuleDict({"a": nn.Linear(4, 3)})
    student.forward = lambda x: student["a"](x)
    x = torch.randn(2, 4)
    found = prove_conversion(
        lambda state: {f"a.{key}": value for key, value in state.items()}, nn.Linear(4, 3), student, x, x
    )
    assert found.record.outcome == "nothing"
    assert "the model cannot be copied" in found.record.reason


def test_a_tied_embedding_is_shown_by_its_other_use() -> None:
    found = proof(tied=True)
    assert {"wte.weight", "out.weight"} <= whole(found)


def test_another_length_was_run() -> None:
    assert "size 5 in place of 6 were run as well, and agree" in proof().record.lengths


def _swap(a: str, b: str) -> Fault:
    return lambda made: made.update({a: made[b], b: made[a]})


def _change(key: str, how: Callable[[Tensor], Tensor]) -> Fault:
    return lambda made: made.update({key: how(made[key])})


def _parts(order: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    return lambda fused: torch.cat([fused.chunk(len(order))[i] for i in order])


def _heads(weight: Tensor) -> Tensor:
    return weight.reshape(HEADS, -1, *weight.shape[1:]).flip(0).flatten(0, 1)


FAULTS: dict[str, Fault] = {
    "q and k swapped": _change("h.0.qkv.weight", _parts((1, 0, 2))),
    "k and v swapped": _change("h.1.qkv.weight", _parts((0, 2, 1))),
    "gate and up swapped": _change("h.0.fc.weight", _parts((1, 0))),
    "a square matrix transposed": _change("h.1.proj.weight", lambda w: w.t().contiguous()),
    "the one of a norm missing": _change("h.0.ln1.weight", lambda w: w + 1),
    "another layer": _swap("h.0.fc2.weight", "h.1.fc2.weight"),
    "two norms swapped": _swap("h.0.ln1.weight", "h.0.ln2.weight"),
    "heads in another order": _change("h.0.proj.weight", lambda w: _heads(w.t()).t().contiguous()),
    "a bias dropped": _change("h.1.proj.bias", torch.zeros_like),
    "a bias left out": lambda made: made.pop("h.1.proj.bias"),
    "a weight left out": lambda made: made.pop("h.0.fc.weight"),
    "two elements exchanged": _change("h.0.fc2.weight", lambda w: _exchanged(w, (0, 0), (3, 5))),
    "two biases exchanged": _change("h.0.fc2.bias", lambda b: _exchanged(b, (0,), (1,))),
    "two used rows exchanged": _change("wte.weight", lambda w: _exchanged(w, (0,), (1,))),
    "a thousandth too large": _change("h.0.qkv.weight", lambda w: 1.001 * w),
    "the head and the embedding": _swap("wte.weight", "out.weight"),
}


def _exchanged(weight: Tensor, one: tuple[int, ...], other: tuple[int, ...]) -> Tensor:
    changed = weight.clone()
    changed[one], changed[other] = weight[other], weight[one]
    return changed


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_nothing_is_proved_of_a_wrong_conversion(fault: Fault) -> None:
    found = proof(fault)
    assert found.record.outcome == "differ"
    assert "differ by" in found.record.reason
    assert found.shown == {}


def test_exchanged_rows_that_no_input_uses_are_not_proved() -> None:
    def exchanged(state: State) -> dict[str, Tensor]:
        return {**state, "table.weight": _exchanged(state["table.weight"], (WORDS - 1,), (WORDS - 2,))}

    found = prove_conversion(exchanged, Reached(), Reached(), tokens(), tokens())
    assert found.record.outcome == "agree"
    assert not found.shown["table.weight"].whole


def test_exchanged_rows_that_only_the_examples_leave_out_are_refuted() -> None:
    found = proof(_change("wte.weight", lambda w: _exchanged(w, (WORDS - 1,), (WORDS - 2,))))
    assert found.record.outcome == "differ"


def test_trivial_weights_do_not_hide_a_fault() -> None:
    source, target = Split(), Fused()
    for model in (source, target):
        for parameter in model.parameters():
            nn.init.ones_(parameter)

    def swapped(state: State) -> dict[str, Tensor]:
        made = fuse(state)
        _swap("h.0.fc2.bias", "h.1.fc2.bias")(made)
        return made

    assert prove_conversion(swapped, source, target, tokens(), tokens()).record.outcome == "differ"
    assert prove_conversion(fuse, source, target, tokens(), tokens()).record.outcome == "agree"


def test_constant_inputs_do_not_hide_exchanged_columns() -> None:
    def flipped(state: State) -> dict[str, Tensor]:
        return {**state, "weight": state["weight"].flip(1)}

    ones = torch.ones(3, 4)
    assert prove_conversion(flipped, nn.Linear(4, 2), nn.Linear(4, 2), ones, ones).record.outcome == "differ"


def test_elements_that_constant_inputs_cannot_tell_apart_are_not_proved() -> None:
    class Constant(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(torch.ones_like(input)) + input.sum()

    x = torch.randn(3, 4)
    found = identical(Constant(4, 2), Constant(4, 2), x)
    assert found.record.outcome == "agree"
    assert found.shown["weight"].elements == 0
    assert "exchanged" in found.shown["weight"].reason


def test_inputs_that_are_equal_in_the_example_are_drawn_apart() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            out: Tensor = self.a(x) + self.b(y)
            return out

    def crossed(state: State) -> dict[str, Tensor]:
        return {
            "a.weight": state["b.weight"],
            "b.weight": state["a.weight"],
            "a.bias": state["a.bias"],
            "b.bias": state["b.bias"],
        }

    x = torch.randn(2, 4)
    assert prove_conversion(crossed, Two(), Two(), (x, x), (x, x)).record.outcome == "differ"
    found = identical(Two(), Two(), (x, x))
    assert whole(found) == {"a.weight", "a.bias", "b.weight", "b.bias"}
    assert "its sum with b.bias" in found.shown["a.bias"].reason
    assert "its sum" not in found.shown["a.weight"].reason


def test_an_output_that_no_weight_changes_shows_nothing() -> None:
    class Deaf(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return torch.full((2, 3), 7.0)

    found = identical(Deaf(4, 3), Deaf(4, 3), torch.randn(2, 4))
    assert found.record.outcome == "nothing"
    assert "the same in all draws" in found.record.reason
    assert found.shown == {}


def test_an_output_of_inputs_alone_shows_no_weight() -> None:
    class Echo(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return input * 2

    found = identical(Echo(4, 3), Echo(4, 3), torch.randn(2, 4))
    assert whole(found) == set()


def test_a_target_that_sorts_its_outputs_is_not_taken_for_equal() -> None:
    class Sorted(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).sort(-1).values

    assert identical(nn.Linear(4, 6), Sorted(4, 6), torch.randn(2, 4)).record.outcome == "differ"


def test_a_target_that_ignores_a_weight_does_not_prove_it() -> None:
    class Partly(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return F.linear(input, self.weight, torch.zeros_like(self.bias))

    found = identical(Partly(4, 3), Partly(4, 3), torch.randn(2, 4))
    assert whole(found) == {"weight"}
    assert found.shown["bias"].reason.startswith("no output can tell")


def test_outputs_masked_with_huge_numbers_do_not_hide_a_gap() -> None:
    class Masked(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            out = super().forward(input)
            return out.masked_fill(torch.ones_like(out).tril().bool().logical_not(), -1e9)

    def wrong(state: State) -> dict[str, Tensor]:
        return {**state, "bias": state["bias"] * 1.01}

    x = torch.randn(8, 4)
    assert prove_conversion(wrong, Masked(4, 8), Masked(4, 8), x, x).record.outcome == "differ"


def test_numbers_that_are_not_finite_show_nothing() -> None:
    class Infinite(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) / torch.zeros(())

    found = identical(Infinite(4, 3), Infinite(4, 3), torch.randn(2, 4))
    assert (found.record.outcome, found.record.draws) == ("nothing", 0)
    assert "not finite" in found.record.reason


class Rotary(nn.Module):
    """A product with a table that was made in float32."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        table = torch.arange(4, dtype=torch.float32).div(3).cos()
        self.table = table if noise == 0 else table.double() + noise

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x) * self.table
        return out


def test_a_table_in_float32_raises_the_gap_and_is_borne() -> None:
    x = torch.randn(3, 4)
    found = identical(Rotary(), Rotary(1e-7), x)
    assert found.record.outcome == "agree"
    assert found.record.outputs[0].gap > 1e-9
    assert whole(found) == {"inner.weight", "inner.bias"}


def test_a_table_that_differs_by_more_is_a_difference() -> None:
    assert identical(Rotary(), Rotary(1e-3), torch.randn(3, 4)).record.outcome == "differ"


def test_statistics_of_a_batch_norm_are_weights() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))

    x = torch.randn(5, 4)
    found = identical(net(), net(), x)
    assert {"1.running_mean", "1.running_var"} <= whole(found)
    assert not found.shown["1.num_batches_tracked"].whole

    def forgotten(state: State) -> dict[str, Tensor]:
        return {key: value for key, value in state.items() if "running" not in key}

    assert prove_conversion(forgotten, net(), net(), x, x).record.outcome == "differ"


def test_keys_that_are_tied_but_given_other_values_are_not_proved() -> None:
    def convert(state: State) -> dict[str, Tensor]:
        return {**fuse(state), "wte.weight": state["embed.weight"] + 1}

    found = prove_conversion(convert, Split(tied=True), Fused(tied=True), tokens(), tokens())
    assert found.shown["wte.weight"] == Shown(0, WORDS * WIDTH, "a key tied to it was given other values")
    assert found.shown["out.weight"].whole


def test_outputs_are_paired_by_shape_and_by_what_agrees() -> None:
    class Several(nn.Module):
        def __init__(self, order: tuple[int, ...]) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)
            self.order = order

        def forward(self, x: Tensor) -> list[Tensor]:
            outs = [self.a(x), self.b(x), self.a(x) + self.b(x)]
            return [outs[i] for i in self.order]

    found = identical(Several((0, 1)), Several((2, 1, 0)), torch.randn(2, 4))
    assert [(output.source, output.target) for output in found.record.outputs] == [(0, 2), (1, 1)]
    assert found.record.notes == ("outputs without a partner were not compared: 0 of the target",)
    wrong = prove_conversion(dict, Several((0, 1)), Several((2, 1, 0)), *[torch.ones(2, 4)] * 2, outputs=[(0, 0)])
    assert wrong.record.outcome == "differ"


def test_a_padded_vocabulary_is_compared_as_far_as_it_goes() -> None:
    def padded(state: State) -> dict[str, Tensor]:
        return {"weight": F.pad(state["weight"], (0, 0, 0, 2)), "bias": F.pad(state["bias"], (0, 2))}

    x = torch.randn(3, 4)
    found = prove_conversion(padded, nn.Linear(4, 5), nn.Linear(4, 7), x, x)
    assert found.record.outputs[0].shape == (3, 5)
    assert found.shown["weight"].reason.startswith("5 of 7 rows")


def test_outputs_without_a_partner_show_nothing() -> None:
    class Other(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).sum()

    found = identical(nn.Linear(4, 3), Other(4, 3), torch.randn(2, 4))
    assert (found.record.outcome, found.shown) == ("nothing", {})
    assert "[2, 3] and []" in found.record.reason


def test_a_model_without_gradients_agrees_but_proves_no_weight() -> None:
    class Still(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(input)

    found = identical(nn.Linear(4, 3), Still(4, 3), torch.randn(2, 4))
    assert found.record.outcome == "agree"
    assert whole(found) == set()
    assert any("no weight could be shown" in note for note in found.record.notes)


def test_agreement_on_one_length_alone_is_not_enough() -> None:
    class Summed(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.sum(1))

    class Mean(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.mean(1))

    def times(state: State) -> dict[str, Tensor]:
        return {**state, "weight": state["weight"] * 7}

    found = prove_conversion(times, Summed(4, 3), Mean(4, 3), *[torch.randn(2, 7, 4)] * 2)
    assert found.record.outcome == "differ"
    assert "on no others" in found.record.reason


def test_neither_model_is_changed() -> None:
    source, target = Split().train(), Fused().train()
    before = [{key: value.clone() for key, value in model.state_dict().items()} for model in (source, target)]
    numbers = torch.get_rng_state()
    prove_conversion(fuse, source, target, tokens(), tokens())
    for model, state in zip((source, target), before, strict=True):
        assert model.training
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert all(parameter.grad is None and parameter.dtype == torch.float32 for parameter in model.parameters())
    assert torch.equal(numbers, torch.get_rng_state())


def test_the_same_seed_gives_the_same_proof() -> None:
    source, target = Split(), Fused()
    first, second = (prove_conversion(fuse, source, target, tokens(), tokens(), seed=3) for _ in range(2))
    assert first == second
    assert first != prove_conversion(fuse, source, target, tokens(), tokens(), seed=4)


def test_what_cannot_be_run_is_refused() -> None:
    x = torch.randn(2, 4)
    with pytest.raises(ModelError, match="the target model Linear is on the meta device"):
        identical(nn.Linear(4, 3), nn.Linear(4, 3, device="meta"), x)
    with pytest.raises(InputsError, match="2 draws prove too little"):
        prove_conversion(dict, nn.Linear(4, 3), nn.Linear(4, 3), x, x, draws=2)
    with pytest.raises(MappingError, match=r"weight: \[3, 4\] in the mapping, \[4, 4\] in the model"):
        identical(nn.Linear(4, 3), nn.Linear(4, 4), x)


def test_a_model_that_cannot_be_run_proves_nothing_and_says_why() -> None:
    class Broken(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            raise RuntimeError("out of order")

    found = identical(nn.Linear(4, 3), Broken(4, 3), torch.randn(2, 4))
    assert found.record.outcome == "nothing"
    assert "the target does not run in float64: RuntimeError: out of order" in found.record.reason


class Cast(nn.Module):
    """A model whose code casts its input to float32."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(1, 8), nn.Linear(8, 3)

    def forward(self, steps: Tensor) -> Tensor:
        made: Tensor = self.b(self.a(steps[:, None].float()).tanh())
        return made


def test_casts_of_the_models_own_code_do_not_stop_a_proof() -> None:
    steps = torch.tensor([10, 400, 7, 93])
    found = identical(Cast(), Cast(), steps)
    assert found.record.outcome == "agree"
    assert whole(found) == {"a.weight", "a.bias", "b.weight", "b.bias"}


class Windowed(nn.Module):
    """A causal mean over the last few tokens."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.table, self.out, self.window = nn.Embedding(12, 8), nn.Linear(8, 3), window

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])
        seen = (places[:, None] >= places) & (places[:, None] - places < self.window)
        made: Tensor = self.out((seen / seen.sum(1, keepdim=True)).to(self.out.weight) @ self.table(ids).tanh())
        return made


def test_models_that_part_on_longer_inputs_prove_nothing_and_say_so_first() -> None:
    ids = torch.tensor([[3, 1, 7, 5, 9, 2]])
    found = identical(Windowed(6), Windowed(100), ids)
    assert found.record.outcome == "agree"
    assert "but only on inputs like the examples: with size 9 in place of 6 they differ" in found.record.reason
    assert {shown.elements for shown in found.shown.values()} == {0}
    assert all("only on inputs like the examples" in shown.reason for shown in found.shown.values())
    assert identical(Windowed(6), Windowed(6), ids).shown["table.weight"].whole


def test_models_of_which_one_ignores_its_mask_prove_nothing_and_say_so_first() -> None:
    class Masked(nn.Module):
        def __init__(self, heeds: bool) -> None:
            super().__init__()
            self.a, self.heeds = nn.Linear(4, 3), heeds

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            counts = mask.bool()[..., None] if self.heeds else torch.ones_like(mask)[..., None]
            made: Tensor = self.a((x * counts).sum(1))
            return made

    given = (torch.randn(2, 5, 4), torch.ones(2, 5).long())
    found = identical(Masked(True), Masked(False), given)
    assert "but only on inputs like the examples: with padded masks they differ" in found.record.reason
    assert {shown.elements for shown in found.shown.values()} == {0}
    agreeing = identical(Masked(True), Masked(True), given)
    assert any("masks were drawn anew as well" in note for note in agreeing.record.notes)
    assert whole(agreeing) == {"a.weight", "a.bias"}


def spent() -> Budget:
    return Budget(0.0, 0.0)


def test_a_proof_whose_budget_is_spent_shows_nothing_and_says_how_to_go_on() -> None:
    one, x = nn.Linear(3, 2), torch.randn(4, 3)
    found = prove_conversion(lambda state: state, one, nn.Linear(3, 2), x, x, budget=spent())
    assert found.record.outcome == "nothing"
    assert "the proof gave up after 0 s, before draw 1 of 3; a larger budget_s" in found.record.reason
    assert not found.shown


def ended_after(questions: int, monkeypatch: pytest.MonkeyPatch) -> Budget:
    """A budget that is spent once it was asked so often."""
    left = iter(range(questions))
    monkeypatch.setattr(Budget, "spent", property(lambda _: next(left, None) is None))
    return Budget(1.0, 0.0)


@pytest.mark.parametrize(
    ("questions", "before"),
    [
        (1, "before the target was run"),
        (2, "before it was measured what each weight does"),
        (3, "before draw 2 of 3"),
    ],
)
def test_a_proof_ends_between_two_runs(questions: int, before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, x, budget = nn.Linear(3, 2), torch.randn(4, 3), ended_after(questions, monkeypatch)
    found = prove_conversion(lambda state: state, one, nn.Linear(3, 2), x, x, budget=budget)
    assert found.record.outcome == "nothing"
    assert before in found.record.reason


def test_a_proof_that_differs_says_so_though_no_time_is_left_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    one, x, budget = nn.Linear(3, 2), torch.randn(4, 3), ended_after(2, monkeypatch)
    found = prove_conversion(lambda state: {"weight": -state["weight"]}, one, nn.Linear(3, 2), x, x, budget=budget)
    assert found.record.outcome == "differ"


def test_other_inputs_end_with_the_budget_and_what_was_shown_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: Any, **__: Any) -> Any:
        raise OutOfBudget("late")

    monkeypatch.setattr("automatch.prove.other_inputs.attempts", late)
    one, x = nn.Linear(3, 2), torch.randn(4, 3)
    found = identical(one, nn.Linear(3, 2), x)
    assert found.record.outcome == "agree"
    assert any("not all other inputs were run: the budget is spent" in note for note in found.record.notes)
    assert whole(found) == {"weight", "bias"}


def test_every_draw_and_what_follows_is_told() -> None:
    one, x, said = nn.Linear(3, 2), torch.randn(4, 3), list[str]()
    prove_conversion(lambda state: state, one, nn.Linear(3, 2), x, x, say=said.append)
    assert said[:3] == ["proving: draw 1", "proving: draw 2", "proving: draw 3"]
    assert "proving: other inputs" in said
