"""Content for bare shapes: of the kind that the model's use asks for, the same on both sides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automatch.inputs.content import is_blank, provisional
from automatch.inputs.draws import drawn
from automatch.inputs.prepare import Prepared, prepare
from automatch.trace.inputs import normalise


class Reader(nn.Module):
    """Words with their positions and a mask, means of what counts."""

    def __init__(self, words: int = 40, keep: bool = True) -> None:
        super().__init__()
        self.words, self.places, self.out = nn.Embedding(words, 8), nn.Embedding(16, 8), nn.Linear(8, 3)
        self.keep = keep

    def forward(self, ids: Tensor, mask: Tensor, position_ids: Tensor, scale: Tensor) -> Tensor:
        h = (self.words(ids) + self.places(position_ids)) * scale
        counts = mask.bool() if self.keep else ~mask.bool()
        return self.out((h * counts[..., None]).sum(1) / counts.sum(1, keepdim=True))  # type: ignore[no-any-return]


def blank(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def shapes(batch: int = 3, length: int = 6) -> tuple[Tensor, ...]:
    numbers = [blank(batch, length) for _ in range(3)]
    return (*numbers, blank(batch, length, 8, dtype=torch.float32))


def prepared(source: nn.Module, target: nn.Module, ours: object, theirs: object) -> Prepared:
    return prepare((source, normalise(ours)), (target, normalise(theirs)))


def test_every_shape_gets_content_of_its_kind() -> None:
    made = prepared(Reader(), Reader(), shapes(), shapes())
    ids, mask, positions, scale = made.source.args
    assert ids.unique().numel() == 18
    assert 0 <= int(ids.min()) < int(ids.max()) < 40
    assert mask.unique().tolist() == [0, 1]
    assert bool((mask.sum(1) > 0).all())
    assert torch.equal(positions, torch.arange(6).expand(3, 6))
    assert scale.unique().numel() == scale.numel()
    assert (made.conflict, made.remarks) == ("", ())


def test_both_sides_hold_the_same_content() -> None:
    made = prepared(Reader(40), Reader(30), shapes(), shapes())
    for one, other in zip(made.source.args, made.target.args, strict=True):
        assert torch.equal(one, other)
    assert int(made.source.args[0].max()) < 30
    assert made.plan.loose == ()


def test_a_side_with_content_gives_it_to_the_other() -> None:
    given = tuple(prepared(Reader(), Reader(), shapes(), shapes()).source.args)
    made = prepared(Reader(), Reader(), given, shapes())
    assert torch.equal(made.target.args[0], given[0])


def test_axes_are_moved_to_where_the_sizes_are() -> None:
    image = nn.Conv2d(3, 4, 1)
    ours, theirs = blank(1, 3, 8, 5, dtype=torch.float32), blank(1, 8, 5, 3, dtype=torch.float32)

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.net(x)
            return made

    made = prepared(image, Last(), ours, theirs)
    assert torch.equal(made.source.args[0].permute(0, 2, 3, 1), made.target.args[0])


def test_a_model_that_leaves_out_what_is_marked_still_keeps_something() -> None:
    made = prepared(Reader(keep=False), Reader(keep=False), shapes(), shapes())
    mask = made.source.args[1]
    assert bool((mask.sum(1) < 6).all())
    assert bool(Reader(keep=False)(*made.source.args).isfinite().all())


def test_bare_shapes_are_for_models_that_hold_numbers() -> None:
    given = normalise(shapes())
    assert is_blank(Reader(), given)
    assert not is_blank(Reader().to("meta"), given)
    assert not is_blank(Reader(), provisional(given))


class Two(nn.Module):
    """Two inputs of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        made: Tensor = self.a(x).tanh() + self.b(cond)
        return made


def test_shapes_are_paired_by_name_before_order() -> None:
    one = {"x": blank(2, 6, dtype=torch.float32), "cond": blank(2, 6, dtype=torch.float32)}
    other = {"c": one["cond"], "x": one["x"]}

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two = Two()

        def forward(self, c: Tensor, x: Tensor) -> Tensor:
            made: Tensor = self.two(x, c)
            return made

    made = prepared(Two(), Other(), one, other)
    assert torch.equal(made.source.kwargs["x"], made.target.kwargs["x"])
    assert torch.equal(made.source.kwargs["cond"], made.target.kwargs["c"])


def test_a_mask_that_the_other_side_lacks_leaves_nothing_out() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(40, 8)

        def forward(self, ids: Tensor) -> Tensor:
            made: Tensor = self.words(ids)
            return made

    class Masked(Bare):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(ids) * mask.bool()[..., None]

    made = prepared(Masked(), Bare(), (blank(2, 6), blank(2, 6)), blank(2, 6))
    assert bool((made.source.args[1] == 1).all())
    assert made.remarks == ()


def test_classes_that_a_loss_reads_are_classes() -> None:
    class Graded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 3)

        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            return nn.functional.cross_entropy(self.a(x), labels)

    made = prepared(Graded(), Graded(), *[(blank(9, 6, dtype=torch.float32), blank(9))] * 2)
    assert made.source.args[1].unique().tolist() == [0, 1, 2]


def test_a_mask_of_floats_is_a_mask() -> None:
    class Penalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 3)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            made: Tensor = (self.a(x) + (1.0 - mask)[..., None] * -1e4).softmax(1)
            return made

    shapes = (blank(2, 5, 6, dtype=torch.float32), blank(2, 5, dtype=torch.float32))
    made = prepared(Penalised(), Penalised(), shapes, shapes)
    assert made.source.args[1].unique().tolist() == [0.0, 1.0]


class Boxes(nn.Module):
    """Corners of boxes, and how wide they are: the second corner is not before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.corner, self.width = nn.Embedding(20, 8), nn.Embedding(20, 8)

    def forward(self, x: Tensor, boxes: Tensor) -> Tensor:
        made: Tensor = x + self.corner(boxes[..., 0]) + self.width(boxes[..., 1] - boxes[..., 0])
        return made


def test_inputs_on_whose_like_a_model_does_not_run_are_kept() -> None:
    given = (torch.randn(2, 3, 8), torch.tensor([[[1, 5], [2, 3], [7, 19]], [[4, 4], [0, 9], [3, 8]]]))
    made = prepared(Boxes(), Boxes(), given, given)
    assert [made.plan.names[place] for place in made.plan.kept] == ["boxes"]
    first, second = drawn(made.plan, torch.Generator().manual_seed(0))
    assert torch.equal(first[0][1], given[1])
    assert torch.equal(first[0][0], second[0][0])
    assert not torch.equal(first[0][0], given[0])


def test_inputs_out_of_whose_domain_a_model_breaks_are_kept() -> None:
    class Logs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.a(x.log())
            return made

    x = torch.linspace(0.01, 5, 18).reshape(3, 6)  # as spread out as it is large
    assert prepared(Logs(), Logs(), x, x).plan.kept == {0}
