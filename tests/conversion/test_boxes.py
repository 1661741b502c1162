from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from automatch.apply.evaluate import evaluate
from automatch.checkpoint.catalog import Stored
from automatch.conversion.boxes import compute_box, result_dtype, result_dtype_name
from automatch.conversion.reads import BoxReader, widened
from automatch.conversion.regions import Box, extents, groups, leaf_boxes, run_length, run_starts
from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Gather,
    Permute,
    Product,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    source_leaves,
)
from automatch.core.expr_json import FUNCTIONS
from automatch.core.graph import Shape
from automatch.core.mapping import Entry, Evidence
from automatch.errors import MappingError
from tests.apply.expressions import expressions

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]
EIGHT_BITS = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "uint8"]


def boxes(shape: Shape) -> st.SearchStrategy[Box]:
    bounds = [st.tuples(st.integers(0, size - 1), st.integers(1, size)).map(_in_order) for size in shape]
    return st.tuples(*bounds)


def _in_order(pair: tuple[int, int]) -> tuple[int, int]:
    return min(pair[0], pair[1] - 1), max(pair[0] + 1, pair[1])


def slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(*bounds) for bounds in box)


def numbers(expr: Expr, dtypes: Callable[[int], torch.dtype]) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(0)
    leaves = {leaf.key: leaf.shape for leaf in source_leaves(expr)}
    return {
        key: (torch.rand(shape, generator=draws, dtype=torch.float64) * 4 - 1).to(dtypes(number))
        for number, (key, shape) in enumerate(leaves.items())
    }


@dataclass
class Memory:
    weights: Mapping[str, Tensor]
    read: list[tuple[str, Box]] = field(default_factory=list)

    def __call__(self, source: Source, box: Box) -> Tensor:
        self.read.append((source.key, box))
        return self.weights[source.key].reshape(source.shape)[slices(box)]

    @property
    def entries(self) -> int:
        return sum(prod(extents(box)) for _, box in self.read)


def bits(x: Tensor) -> list[object]:
    whole = torch.cat([x.reshape(-1)]).view(torch.uint8).tolist()
    return [x.dtype, tuple(x.shape), whole]


def made(expr: Expr, box: Box, read: Memory) -> Tensor:
    dtypes = {key: weight.dtype for key, weight in read.weights.items()}
    result, working = result_dtype(expr, dtypes, torch.float32)
    return compute_box(expr, box, read, working=working).to(result)


@settings(deadline=None, max_examples=150)
@given(st.data(), expressions(), st.lists(st.sampled_from([*FLOATS, torch.int64, torch.int8]), min_size=1))
def test_a_box_has_the_bits_that_it_has_in_the_whole(
    data: st.DataObject, expr: Expr, dtypes: list[torch.dtype]
) -> None:
    read = Memory(numbers(expr, lambda number: dtypes[number % len(dtypes)]))
    box = data.draw(boxes(expr.shape))
    assert bits(made(expr, box, read)) == bits(evaluate(expr, read.weights.__getitem__)[slices(box)])


@settings(deadline=None, max_examples=150)
@given(st.data(), expressions())
def test_a_box_of_moved_floats_reads_what_its_leaf_boxes_say(data: st.DataObject, expr: Expr) -> None:
    read = Memory(numbers(expr, lambda number: torch.float32))
    box = data.draw(boxes(expr.shape))
    made(expr, box, read)
    assert read.read == [(leaf.key, needed) for leaf, needed in leaf_boxes(expr, box)]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_functions_give_the_same_bits_in_every_box(function: str, dtype: torch.dtype) -> None:
    expr = Elementwise(Permute(Source("w", (71, 503)), (1, 0)), function)  # type: ignore[arg-type]
    read = Memory({"w": torch.rand(71, 503, generator=torch.Generator().manual_seed(1)).to(dtype) * 0.9 + 0.05})
    whole = evaluate(expr, read.weights.__getitem__)
    for box in [((0, 1), (0, 71)), ((17, 20), (3, 4)), ((100, 503), (1, 70))]:
        assert bits(made(expr, box, read)) == bits(whole[slices(box)])


@pytest.mark.parametrize("kind", ["sum", "mean", "norm"])
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32])
def test_reduced_axes_give_the_same_bits_in_every_box(kind: str, axes: tuple[int, ...], dtype: torch.dtype) -> None:
    v = Source("v", (9, 130, 67))
    expr = Product((v, Reduce(v, kind, axes, keepdim=True)))  # type: ignore[arg-type]
    read = Memory({"v": (torch.randn(9, 130, 67, generator=torch.Generator().manual_seed(2)) * 50).to(dtype)})
    whole = evaluate(expr, read.weights.__getitem__)
    for box in [((0, 1), (0, 1), (0, 1)), ((3, 9), (5, 130), (1, 66)), ((8, 9), (0, 130), (0, 67))]:
        assert bits(made(expr, box, read)) == bits(whole[slices(box)])


def test_an_axis_that_is_reduced_is_read_whole_and_no_other() -> None:
    v = Source("v", (8, 6, 4))
    read = Memory({"v": torch.ones(8, 6, 4)})
    made(Reduce(v, "norm", (1, 2)), ((2, 4),), read)
    assert read.read == [("v", ((2, 4), (0, 6), (0, 4)))]


@pytest.mark.parametrize(
    ("expr", "box"),
    [
        (Concat((Source("a", (10, 8)), Source("b", (6, 8)))), ((9, 11), (0, 8))),
        (Slice(Source("a", (10, 8)), 1, 2, 7), ((0, 10), (1, 2))),
        (Permute(Source("a", (10, 8)), (1, 0)), ((0, 3), (4, 6))),
        (Reshape(Permute(Reshape(Source("a", (12, 8)), (3, 2, 2, 8)), (0, 2, 1, 3)), (12, 8)), ((4, 8), (0, 8))),
        (Reshape(Permute(Source("a", (2, 50)), (1, 0)), (100,)), ((20, 30),)),
        (Reshape(Permute(Source("a", (50, 2)), (1, 0)), (100,)), ((45, 55),)),
        (Reshape(Slice(Source("a", (40, 5)), 0, 0, 30), (30, 5, 1)), ((7, 9), (0, 5), (0, 1))),
        (Reshape(Slice(Source("a", (90,)), 0, 10, 90), (8, 10)), ((0, 8), (3, 4))),
        (Gather(Source("a", (10000,)), (4,), (5, 3, 9000, 9001)), ((1, 3),)),
        (Resize(Source("a", (6, 9)), (12, 3), ("tile", "middle")), ((7, 9), (0, 3))),
        (Resize(Source("a", (3, 3)), (9, 9), ("pad", "pad")), ((2, 5), (0, 4))),
        (Sum((Source("a", (10, 8)), Affine(Source("b", (8,)), 2.0))), ((3, 4), (2, 5))),
    ],
)
def test_a_box_reads_little_more_than_it_holds(expr: Expr, box: Box) -> None:
    read = Memory(numbers(expr, lambda number: torch.float32))
    assert bits(made(expr, box, read)) == bits(evaluate(expr, read.weights.__getitem__)[slices(box)])
    assert read.entries <= 2 * prod(extents(box))


def test_a_stretch_over_the_border_of_two_halves_is_read_in_two_pieces() -> None:
    halves = Reshape(Permute(Source("a", (10**6, 2)), (1, 0)), (2 * 10**6,))
    needed = [box for _, box in leaf_boxes(halves, ((10**6 - 3, 10**6 + 4),))]
    assert needed == [((10**6 - 3, 10**6), (0, 1)), ((0, 4), (1, 2))]


def test_an_empty_box_reads_nothing_and_has_the_right_shape_and_dtype() -> None:
    expr = Affine(Permute(Source("a", (4, 3)), (1, 0)), 0.5)
    read = Memory({"a": torch.ones(4, 3, dtype=torch.int32)})
    found = made(expr, ((1, 1), (0, 4)), read)
    assert (tuple(found.shape), found.dtype, read.read) == ((0, 4), torch.float32, [])


def test_whole_numbers_beside_fractions_are_promoted_in_every_box() -> None:
    whole = Source("a", (4,))
    expr = Affine(Concat((whole, Reduce(Source("b", (4, 2)), "mean", (1,)))), 2.0)
    read = Memory({"a": torch.arange(4), "b": torch.ones(4, 2, dtype=torch.int64)})
    assert bits(made(expr, ((0, 2),), read)) == bits(evaluate(expr, read.weights.__getitem__)[:2])


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((600, 700), (1, 0)),
        ((3, 3, 40, 300), (3, 2, 0, 1)),
        ((300, 40, 3, 3), (2, 3, 1, 0)),
        ((70, 5, 300), (0, 2, 1)),
        ((70, 300, 5), (0, 2, 1)),
        ((90, 2, 300), (2, 0, 1)),
        ((5, 600, 4), (1, 0, 2)),
        ((1, 600, 1, 300), (3, 2, 1, 0)),
    ],
)
def test_large_permutations_put_every_entry_in_its_place(shape: Shape, axes: tuple[int, ...]) -> None:
    weight = torch.arange(prod(shape), dtype=torch.float32).reshape(shape)
    expr = Permute(Source("a", shape), axes)
    found = compute_box(expr, tuple((0, size) for size in expr.shape), Memory({"a": weight}), working=torch.float32)
    assert found.is_contiguous()
    assert torch.equal(found, weight.permute(axes))


@pytest.mark.parametrize("dtype", EIGHT_BITS)
def test_moved_bytes_keep_every_bit(dtype: str) -> None:
    expr = Gather(Permute(Reshape(Source("a", (256,)), (16, 16)), (1, 0)), (16, 16), tuple(range(255, -1, -1)))
    every = torch.arange(256, dtype=torch.uint8).view(getattr(torch, dtype))
    found = compute_box(expr, ((0, 16), (0, 16)), Memory({"a": every}), working=every.dtype)
    assert found.dtype == every.dtype
    assert found.view(torch.uint8).tolist() == torch.arange(255, -1, -1).reshape(16, 16).T.tolist()


def test_moved_halves_keep_the_payload_of_what_is_no_number() -> None:
    odd = torch.tensor([0x7FA5, 0xFFC1 - 0x10000, 1, 0x7F81], dtype=torch.int16).view(torch.bfloat16)
    expr = Concat((Slice(Source("a", (4,)), 0, 1, 4), Constant(0.0, (1,))))
    found = compute_box(expr, ((0, 4),), Memory({"a": odd}), working=torch.bfloat16)
    assert found.view(torch.int16).tolist() == [*odd.view(torch.int16).tolist()[1:], 0]


@given(st.data(), st.lists(st.integers(1, 4), max_size=4).map(tuple))
def test_the_runs_of_a_box_are_its_entries_in_order(data: st.DataObject, shape: Shape) -> None:
    box = data.draw(boxes(shape))
    length = run_length(shape, box)
    found = [start + step for start in run_starts(shape, box).tolist() for step in range(length)]
    assert found == torch.arange(prod(shape)).reshape(shape)[slices(box)].reshape(-1).tolist()


@given(st.lists(st.sampled_from([1, 2, 3, 4]), max_size=4), st.randoms(use_true_random=False), st.integers(1, 3))
def test_groups_share_out_both_shapes(sizes: list[int], order: object, split: int) -> None:
    inner = (prod(sizes[:split]), *sizes[split:])
    found = groups(tuple(sizes), inner)
    assert [axis for group in found for axis in group.outer] == list(range(len(sizes)))
    assert tuple(size for group in found for size in group.inner) == inner
    assert all(prod(group.sizes) == prod(group.inner) for group in found)


@dataclass
class Bytes:
    content: bytes
    calls: int = 0
    count: int = 0

    def read_into(self, path: Path, offset: int, memory: memoryview) -> None:
        memory[:] = self.content[offset : offset + len(memory)]
        self.calls, self.count = self.calls + 1, self.count + len(memory)


def stored(shape: Shape, dtype: str = "int32", offset: int = 12) -> dict[str, Stored]:
    return {"w": Stored("w", shape, dtype, Path("file"), offset)}


@given(st.data(), st.lists(st.integers(1, 5), max_size=4).map(tuple))
def test_a_reader_reads_the_entries_of_a_box_and_at_most_twice_as_many(data: st.DataObject, shape: Shape) -> None:
    box = data.draw(boxes(shape))
    weight = torch.arange(prod(shape), dtype=torch.int32).reshape(shape)
    files = Bytes(b"x" * 12 + weight.numpy().tobytes())
    found = BoxReader(files, stored(shape)).read(Source("w", shape), box)
    assert torch.equal(found, weight[slices(box)])
    assert files.count <= 2 * found.nbytes


def test_a_reader_takes_a_block_in_any_shape_of_its_entries() -> None:
    files = Bytes(b"x" * 12 + torch.arange(24, dtype=torch.int32).numpy().tobytes())
    found = BoxReader(files, stored((24,))).read(Source("w", (4, 6)), ((1, 3), (4, 5)))
    assert found.tolist() == [[10], [16]]


@pytest.mark.parametrize(("box", "calls"), [(((0, 64), (0, 64)), 1), (((3, 9), (0, 64)), 1), (((0, 64), (0, 40)), 1)])
def test_what_lies_close_together_is_read_at_once(box: Box, calls: int) -> None:
    files = Bytes(bytes(12 + 64 * 64 * 4))
    BoxReader(files, stored((64, 64))).read(Source("w", (64, 64)), box)
    assert files.calls == calls


def test_long_runs_are_read_alone() -> None:
    shape = (4, 10000)
    assert widened(shape, ((0, 4), (0, 8000)), 4) == ((0, 4), (0, 8000))


def test_six_bit_floats_are_read_as_the_bytes_they_are() -> None:
    files = Bytes(bytes(range(12 + 6)))
    found = BoxReader(files, stored((2, 3), "float6_e3m2")).read(Source("w", (2, 3)), ((1, 2), (0, 3)))
    assert (found.dtype, found.tolist()) == (torch.uint8, [[15, 16, 17]])


def test_what_torch_cannot_compute_is_said_by_name() -> None:
    expr = Affine(Source("w", (2, 3)), 2.0)
    entry = Entry("t", (2, 3), "float32", "structural", expr, Evidence("structure"))
    with pytest.raises(MappingError, match="t cannot be computed from float6_e3m2"):
        result_dtype_name(expr, {"w": "float6_e3m2"}, entry)


@pytest.mark.parametrize(
    ("dtypes", "name"),
    [
        (("bfloat16", "bfloat16"), "bfloat16"),
        (("float8_e4m3fn", "float8_e5m2"), "bfloat16"),
        (("int8", "int64"), "int64"),
    ],
)
def test_the_dtype_of_a_target_is_that_of_its_sources_promoted(dtypes: tuple[str, str], name: str) -> None:
    expr = Concat((Source("a", (2,)), Source("b", (2,))))
    entry = Entry("t", (4,), "float32", "structural", expr, Evidence("structure"))
    assert result_dtype_name(expr, dict(zip("ab", dtypes, strict=True)), entry) == name
