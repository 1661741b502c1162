"""Which axes are indexed, told from dataflow alone: names here say nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import automatch
from automatch.align.indexed import indexed
from automatch.align.use_graph import UseGraph
from automatch.canonicalize import to_landmarks
from automatch.core.alignment import Entries
from automatch.core.graph import Shape
from automatch.trace import trace


class Vision(nn.Module):
    """Patches, a class token, places, a block, a head."""

    def __init__(self, side: int = 32, channels: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, 16, 8, 8)
        self.b = nn.Parameter(torch.randn(1, 1, 16))
        self.c = nn.Parameter(torch.randn(1, 1 + (side // 8) ** 2, 16))
        self.d = nn.LayerNorm(16)
        self.e, self.f = nn.Linear(16, 32), nn.Linear(32, 16)
        self.g = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.b.expand(len(x), -1, -1), x], 1) + self.c
        x = x + self.f(torch.relu(self.e(self.d(x))))
        out: Tensor = self.g(x[:, 0])
        return out


class Text(nn.Module):
    """Words and places in a sequence, and a head over words."""

    def __init__(self, words: int = 11, places: int = 12) -> None:
        super().__init__()
        self.a, self.b = nn.Embedding(words, 16), nn.Embedding(places, 16)
        self.c, self.d = nn.Linear(16, 16), nn.Linear(16, words)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.a(ids) + self.b(torch.arange(ids.shape[1], device=ids.device))
        out: Tensor = self.d(torch.relu(self.c(x)))
        return out


class Folded(nn.Module):
    """Patches folded by hand, as many linear stems do."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(channels * 16, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, -1, c * 16)
        out: Tensor = self.b(torch.relu(self.a(x))).mean(1)
        return out


class Plane(nn.Module):
    """Places of a plane as a table of three axes."""

    def __init__(self, side: int = 32) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 8, 8)
        self.b = nn.Parameter(torch.randn(1, side // 8, side // 8, 16))
        self.c = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.relu(self.c(self.a(x).permute(0, 2, 3, 1) + self.b)).mean((1, 2))
        return out


def picture(side: int = 32, channels: int = 3) -> Tensor:
    return torch.randn(1, channels, side, side)


IDS = torch.arange(7)[None]


def told(model: nn.Module, inputs: Tensor) -> dict[str, dict[int, tuple[Entries, Shape]]]:
    return indexed(UseGraph(to_landmarks(trace(model, inputs, label="model"))))


def test_pictures_have_channels_places_and_classes() -> None:
    assert told(Vision().eval(), picture()) == {
        "a.weight": {1: ("inputs", ())},
        "b": {0: ("rows", ())},
        "c": {0: ("grid", (4, 4))},
        "g.weight": {0: ("rows", ())},
        "g.bias": {0: ("rows", ())},
    }


def test_texts_have_words_and_places() -> None:
    assert told(Text(), IDS) == {
        "a.weight": {0: ("rows", ())},
        "b.weight": {0: ("positions", ())},
        "d.weight": {0: ("rows", ())},
        "d.bias": {0: ("rows", ())},
    }


def test_folded_patches_and_planes_are_told_from_channels() -> None:
    assert told(Folded(), picture())["a.weight"] == {1: ("patches", ())}
    assert told(Plane(), picture())["b"] == {0: ("grid", (4,)), 1: ("grid", (4,))}


class Block(nn.Module):
    """Two blocks of a stream that the caller feeds."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.d, self.e = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.c(torch.relu(self.b(self.a(x))))
        out: Tensor = x + self.e(torch.relu(self.d(x)))
        return out


class Residual(nn.Module):
    """A denoiser: what it takes off is as wide as what it is given, and its channels are told apart to the end."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.b, self.c = nn.Conv2d(channels, 16, 3, padding=1), nn.Conv2d(16, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x - self.c(torch.relu(self.b(self.a(x))))
        return out


def test_kernels_over_each_channel_alone_pass_channels_on_and_residuals_end_in_outputs() -> None:
    assert told(Residual().eval(), picture(8, 4)) == {
        "a.weight": {0: ("inputs", ())},
        "a.bias": {0: ("inputs", ())},
        "b.weight": {1: ("inputs", ())},
        "c.weight": {0: ("rows", ())},
        "c.bias": {0: ("rows", ())},
    }
    mapping = matched(Residual, (picture(8, 4), picture(8, 6)), channels=(4, 6))
    assert {entry.losses for entry in mapping.entries if entry.target != "b.bias"} == {("filled",)}


def test_a_stream_that_is_fed_is_a_stream() -> None:
    """Every matrix of a narrower block is scaled alike, the first one too."""
    assert told(Block(), torch.randn(1, 3, 16)) == {}


def matched(
    make: Callable[..., nn.Module], inputs: tuple[Tensor, Tensor], **sizes: tuple[int, int]
) -> automatch.Mapping:
    old, new = ({name: size[side] for name, size in sizes.items()} for side in (0, 1))
    torch.manual_seed(0)
    return automatch.match(
        make(**old).eval(), make(**new).eval(), source_inputs=inputs[0], target_inputs=inputs[1], run=False
    )


@pytest.mark.parametrize("channels", [(4, 9), (9, 4)])
def test_a_first_convolution_keeps_its_channels_and_their_scale(channels: tuple[int, int]) -> None:
    mapping = matched(Vision, (picture(32, channels[0]), picture(32, channels[1])), channels=channels)
    state = Vision(channels=channels[0]).state_dict()
    made = mapping.apply(state)["a.weight"]
    assert torch.equal(made[:, :4], state["a.weight"][:, :4])
    assert not made[:, 4:].any()
    assert mapping["a.weight"].standing == ("structural, filled" if channels[1] == 9 else "structural, cut")


@pytest.mark.parametrize("sides", [(32, 64), (64, 32)])
def test_places_of_another_picture_are_resampled(sides: tuple[int, int]) -> None:
    mapping = matched(Vision, (picture(sides[0]), picture(sides[1])), side=sides)
    state = Vision(side=sides[0]).state_dict()
    made = mapping.apply(state)["c"]
    assert torch.equal(made[:, 0], state["c"][:, 0])
    grid = state["c"][0, 1:].reshape(sides[0] // 8, sides[0] // 8, 16).permute(2, 0, 1)[None]
    small = nn.functional.interpolate(grid, (sides[1] // 8,) * 2, mode="bicubic", antialias=True)
    torch.testing.assert_close(made[0, 1:], small[0].permute(1, 2, 0).flatten(0, 1), rtol=1e-5, atol=1e-5)
    assert mapping["c"].standing == "structural, interpolated"


@pytest.mark.parametrize("choice", ["mean", "zeros"])
def test_new_words_and_classes_begin_as_was_chosen(choice: str) -> None:
    torch.manual_seed(0)
    old, new = Text(11), Text(13)
    mapping = automatch.match(
        old,
        new,
        source_inputs=IDS,
        target_inputs=IDS,
        run=False,
        new_rows=choice,  # type: ignore[arg-type]
    )
    made, state = mapping.apply(old.state_dict()), old.state_dict()
    for key in ("a.weight", "d.weight", "d.bias"):
        assert torch.equal(made[key][:11], state[key])
        wanted = state[key].mean(0, keepdim=True) if choice == "mean" else torch.zeros(())
        torch.testing.assert_close(made[key][11:], wanted.expand(made[key][11:].shape))
        assert mapping[key].losses == ("filled",)


def test_places_of_a_longer_sequence_are_undetermined_and_of_a_shorter_one_cut() -> None:
    longer = matched(Text, (IDS, IDS), places=(12, 20))["b.weight"]
    assert longer.status == "unmapped"
    assert "20 places in a sequence, of which the source knows 12" in longer.evidence.reasons[0]
    assert matched(Text, (IDS, IDS), places=(12, 8))["b.weight"].losses == ("cut",)


def test_folded_patches_of_other_channels_are_undetermined() -> None:
    mapping = matched(Folded, (picture(8, 3), picture(8, 4)), channels=(3, 4))
    assert mapping["a.weight"].status == "unmapped"
    assert mapping["b.weight"].status == "structural"
