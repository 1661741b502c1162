"""Faults planted into right mappings are found again by trying; what no weight can mend is left alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.core.expr import Affine, Concat, Constant, Expr, Permute, Slice, Source, text
from automatch.core.mapping import MappingRecord
from automatch.repair import repaired, search
from automatch.repair.edits import grouped, rotary, shifted, ungrouped
from automatch.synthesize.build import join
from tests.prove.nets import record
from tests.prove.planted import HEADS, LAYERS, WIDTH, inputs, new, old

Exprs = dict[str, Expr]


def right() -> Exprs:
    """The right conversion of the planted decoder, as expressions."""
    have = {key: tuple(value.shape) for key, value in old().state_dict().items()}
    whole = {key: Source(key, shape) for key, shape in have.items()}
    made: Exprs = {key: whole[key] for key in ("embed.weight", "head.weight")}
    made["norm.weight"] = Affine(whole["norm.weight"], 1.0, -1.0)
    for i in range(LAYERS):
        at = f"layers.{i}."
        for name, source in (("n1", "first"), ("n2", "second")):
            made[f"{at}{name}.weight"] = Affine(whole[f"{at}{source}.weight"], 1.0, -1.0)
        for kind in ("weight", "bias"):
            q, k, v = (Slice(whole[f"{at}qkv.{kind}"], 0, n * WIDTH, (n + 1) * WIDTH) for n in range(3))
            made |= {f"{at}q.{kind}": paired(q), f"{at}k.{kind}": paired(k), f"{at}v.{kind}": v}
            gate_up = whole[f"{at}gate_up.{kind}"]
            gate, up = (Slice(gate_up, 0, n * 2 * WIDTH, (n + 1) * 2 * WIDTH) for n in range(2))
            made |= {f"{at}w1.{kind}": gate, f"{at}w3.{kind}": up}
            made |= {f"{at}o.{kind}": whole[f"{at}out.{kind}"], f"{at}w2.{kind}": whole[f"{at}down.{kind}"]}
            made[f"{at}mod.{kind}"] = Concat((whole[f"{at}scale.{kind}"], whole[f"{at}shift.{kind}"]), 0)
    return made


def paired(expr: Expr) -> Expr:
    found = rotary(expr, HEADS, "pairs")
    assert found is not None
    return found


def plain(made: Exprs, layers: range, *names: str) -> None:
    """Rotary layouts forgotten."""
    for i in layers:
        for n, name in enumerate("qk"):
            for kind in ("weight", "bias"):
                if name in names:
                    source = f"layers.{i}.qkv.{kind}"
                    shape = (3 * WIDTH, WIDTH) if kind == "weight" else (3 * WIDTH,)
                    made[f"layers.{i}.{name}.{kind}"] = Slice(Source(source, shape), 0, n * WIDTH, (n + 1) * WIDTH)


def exchanged(made: Exprs, layers: range, one: str, other: str) -> None:
    for i in layers:
        for kind in ("weight", "bias"):
            a, b = f"layers.{i}.{one}.{kind}", f"layers.{i}.{other}.{kind}"
            made[a], made[b] = made[b], made[a]


def swapped(made: Exprs, layers: range) -> None:
    for i in layers:
        for kind in ("weight", "bias"):
            expr = made[f"layers.{i}.mod.{kind}"]
            assert isinstance(expr, Concat)
            made[f"layers.{i}.mod.{kind}"] = Concat(expr.parts[::-1], 0)


def turned(made: Exprs, *keys: str) -> None:
    for key in keys:
        made[key] = Permute(made[key], (1, 0))


def as_it_is(made: Exprs, *keys: str) -> None:
    for key in keys:
        expr = made[key]
        assert isinstance(expr, Affine)
        made[key] = expr.of


def elsewhere(made: Exprs, key: str, other: str) -> None:
    made[key] = made[other]


EVERY = range(LAYERS)
ONE = range(1, 2)

FAULTS: list[tuple[str, list[Callable[[Exprs], None]]]] = [
    ("rotary layouts of q and k", [lambda made: plain(made, EVERY, "q", "k")]),
    ("rotary layout of q", [lambda made: plain(made, EVERY, "q")]),
    ("rotary layout in one layer", [lambda made: plain(made, ONE, "k")]),
    ("gate and up", [lambda made: exchanged(made, EVERY, "w1", "w3")]),
    ("gate and up in one layer", [lambda made: exchanged(made, ONE, "w1", "w3")]),
    ("gate and up in the first layer", [lambda made: exchanged(made, range(1), "w1", "w3")]),
    ("q and k", [lambda made: exchanged(made, EVERY, "q", "k")]),
    ("order of parts", [lambda made: swapped(made, EVERY)]),
    ("order of parts in one layer", [lambda made: swapped(made, ONE)]),
    ("a square matrix", [lambda made: turned(made, "layers.2.o.weight")]),
    ("square matrices", [lambda made: turned(made, *(f"layers.{i}.o.weight" for i in EVERY))]),
    (
        "one more",
        [lambda made: as_it_is(made, "norm.weight", *(f"layers.{i}.n{n}.weight" for i in EVERY for n in (1, 2)))],
    ),
    ("one more in one layer", [lambda made: as_it_is(made, "layers.1.n2.weight")]),
    ("down of another layer", [lambda made: elsewhere(made, "layers.1.w2.weight", "layers.2.w2.weight")]),
    ("norm of the same layer", [lambda made: elsewhere(made, "layers.1.n1.weight", "layers.1.n2.weight")]),
    (
        "two faults",
        [lambda made: plain(made, EVERY, "q", "k"), lambda made: exchanged(made, EVERY, "w1", "w3")],
    ),
    (
        "a fault everywhere and one in a layer",
        [lambda made: swapped(made, EVERY), lambda made: turned(made, "layers.0.o.weight")],
    ),
]


def mended(source: nn.Module, target: nn.Module, exprs: Mapping[str, Expr], *given: object) -> MappingRecord | None:
    made = record(source, target, dict(exprs), "structural")
    found = repaired(made, source, target, *given)
    if found is not None:
        changed = [entry for entry, was in zip(found.entries, made.entries, strict=True) if entry != was]
        assert changed
        for entry in changed:
            assert entry.evidence.reasons[0].startswith("repaired: ")
            assert entry.status == "structural"
    return found


@pytest.mark.parametrize("faults", [row[1] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_planted_fault_is_mended(faults: list[Callable[[Exprs], None]]) -> None:
    exprs = right()
    for fault in faults:
        fault(exprs)
    found = mended(old(), new(), exprs, inputs(), inputs())
    assert found is not None
    # whatever was right stays as it was
    answers = {entry.target: entry.expr for entry in found.entries}
    wrong = [key for key, expr in right().items() if expr != answers[key]]
    assert wrong == []


class Rows(nn.Module):
    """Words and places, whose table may have rows before the first place."""

    def __init__(self, before: int, activation: Callable[[Tensor], Tensor] = F.gelu) -> None:
        super().__init__()
        self.words, self.places, self.head = nn.Embedding(11, 8), nn.Embedding(9 + before, 8), nn.Linear(8, 8)
        self.before, self.activation = before, activation

    def forward(self, ids: Tensor) -> Tensor:
        at = torch.arange(ids.shape[1]) + self.before
        out: Tensor = self.head(self.activation(self.words(ids) + self.places(at)))
        return out


@pytest.mark.parametrize("before", [1, 2])
def test_rows_of_a_table_are_found_at_another_offset(before: int) -> None:
    exprs: Exprs = {key: Source(key, tuple(value.shape)) for key, value in Rows(0).state_dict().items()}
    exprs["places.weight"] = Slice(Source("places.weight", (9 + before, 8)), 0, 0, 9)
    ids = torch.randint(0, 11, (2, 6))
    found = mended(Rows(before), Rows(0), exprs, ids, ids)
    assert found is not None
    at = next(entry for entry in found.entries if entry.target == "places.weight")
    assert at.expr is not None
    assert text(at.expr) == f"places.weight[{before}:{9 + before}]"


def test_what_no_weight_can_mend_is_left_alone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    monkeypatch.setattr(search._Search, "look", lambda self, candidate: tried.append(candidate))
    exprs: Exprs = {key: Source(key, tuple(value.shape)) for key, value in Rows(0).state_dict().items()}
    ids = torch.randint(0, 11, (2, 6))
    assert mended(Rows(0), Rows(0, F.silu), exprs, ids, ids) is None
    assert tried == []


class Fused(nn.Module):
    """Attention with q, k and v in one product, one after another or head by head, that may scale its scores or not."""

    def __init__(self, by_head: bool = False, scale: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.ModuleDict(self._block(bias)) for _ in range(2))
        self.by_head, self.scale = by_head, scale

    def _block(self, bias: bool) -> dict[str, nn.Module]:
        return {"qkv": nn.Linear(12, 36, bias=bias), "o": nn.Linear(12, 12)}

    def forward(self, x: Tensor) -> Tensor:
        for block in self.inner:
            assert isinstance(block, nn.ModuleDict)
            y = block["qkv"](x)
            if self.by_head:
                q, k, v = y.unflatten(-1, (3, 12)).transpose(1, 2).chunk(3, -1)
            else:
                q, k, v = (part.unflatten(-1, (3, 4)).transpose(1, 2) for part in y.chunk(3, -1))
            scale = None if self.scale else 1.0
            x = x + block["o"](F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).flatten(2))
        return x


def same(model: nn.Module) -> Exprs:
    return {key: Source(key, tuple(value.shape)) for key, value in model.state_dict().items()}


def test_a_missing_scale_of_scores_goes_into_the_queries_and_their_bias() -> None:
    x = torch.randn(2, 5, 12)
    for bias in (True, False):
        one, other = Fused(scale=False, bias=bias), Fused(bias=bias)
        exprs = {
            key: Concat(tuple(Slice(expr, 0, 12 * n, 12 * n + 12) for n in range(3)), 0) if "qkv" in key else expr
            for key, expr in same(other).items()
        }
        found = mended(one, other, exprs, x, x)
        assert found is not None
        changed = [entry.target for entry in found.entries if entry.evidence.reasons]
        assert changed == [key for key in exprs if "qkv" in key]
        at = found.entries[0].expr
        assert at is not None
        assert text(at).startswith("cat(2 * inner.0.qkv.weight[0:12], ")


def test_a_part_of_a_weight_that_is_taken_whole_is_scaled_along_its_columns() -> None:
    class Turned(nn.Module):
        """A product whose matrix lies the other way round."""

        def __init__(self, scale: bool) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(12, 36)), nn.Parameter(torch.randn(36))
            self.scale = None if scale else 1.0

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x @ self.weight + self.bias
            q, k, v = (part.reshape(*part.shape[:-1], 3, 4).transpose(1, 2) for part in y.chunk(3, -1))
            return F.scaled_dot_product_attention(q, k, v, scale=self.scale)

    x = torch.randn(2, 5, 12)
    found = mended(Turned(False), Turned(True), same(Turned(True)), x, x)
    assert found is not None
    assert all(entry.evidence.reasons[0].startswith("repaired: part 1 of 3 times 2 ") for entry in found.entries)


def test_parts_that_take_turns_head_by_head_are_found() -> None:
    x = torch.randn(2, 5, 12)
    parts = {
        f"inner.{i}.{name}.{kind}": Source(f"inner.{i}.{name}.{kind}", (12, 12) if kind == "weight" else (12,))
        for i in range(2)
        for name in "qkv"
        for kind in ("weight", "bias")
    }

    class Split(Fused):
        def _block(self, bias: bool) -> dict[str, nn.Module]:
            return {**{name: nn.Linear(12, 12) for name in "qkv"}, "o": nn.Linear(12, 12)}

        def forward(self, x: Tensor) -> Tensor:
            for block in self.inner:
                assert isinstance(block, nn.ModuleDict)
                q, k, v = (block[name](x).unflatten(-1, (3, 4)).transpose(1, 2) for name in "qkv")
                x = x + block["o"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
            return x

    for by_head in (True, False):
        exprs = same(Fused())
        for key in [key for key in exprs if "qkv" in key]:
            three = [parts[key.replace("qkv", name)] for name in "qkv"]
            exprs[key] = join(list(three), 0, 1 if by_head else 3)
        assert mended(Split(), Fused(by_head), exprs, x, x) is not None
        apart = same(Split())
        for key in [key for key in apart if ".o." not in key]:
            n, whole = "qkv".index(key.split(".")[2]), key.replace(f".{key.split('.')[2]}.", ".qkv.")
            cut = Slice(Source(whole, (36, 12) if key.endswith("weight") else (36,)), 0, 12 * n, 12 * n + 12)
            moved = cut if by_head else grouped(cut, 3)
            assert moved is not None
            apart[key] = moved
        assert mended(Fused(by_head), Split(), apart, x, x) is not None


def test_edits_undo_each_other() -> None:
    whole = Source("w", (24, 5))
    turned = rotary(whole, 3, "pairs")
    assert turned is not None
    assert text(turned) == "rotary_pairs(w, heads=3)"
    assert rotary(turned, 3, "halves") == whole
    parts = Concat((Slice(whole, 0, 0, 12), Slice(whole, 0, 12, 24)), 0)
    taken = grouped(parts.parts[0], 3)
    assert taken is not None
    assert ungrouped(taken, 3) == parts.parts[0]
    turns = grouped(Concat((Source("a", (6, 5)), Source("b", (6, 5))), 0), 3)
    assert turns is not None
    assert text(turns) == "interleave(a, b, groups=3)"
    assert ungrouped(turns, 3) == Concat((Source("a", (6, 5)), Source("b", (6, 5))), 0)
    assert shifted(whole, 1) == Concat((Slice(whole, 0, 1, 24), Constant(0.0, (1, 5))), 0)
