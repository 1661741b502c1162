from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from automatch.align.chains import with_chains
from automatch.align.use_graph import Chain, UseGraph
from tests.support import Block, EncoderDecoder, Net, Stack, Stages, TwoStreams, attention, lowered, use_graph, weight

X = weight(2, 3, 6)


def blocks(graph: UseGraph, chain: Chain) -> list[set[str]]:
    """The weights at work in every block."""
    return [
        {use.weight for index in chain.block(number) for use in graph.landmarks[index].uses}
        for number in range(chain.depth)
    ]


def weights_under(graph: UseGraph, *modules: str) -> list[set[str]]:
    """Parameters and statistics below modules; counters are at work nowhere."""
    keys = [key for key in graph.shapes if not key.endswith("num_batches_tracked")]
    return [{key for key in keys if key.startswith(f"{module}.")} for module in modules]


def cut(kind: type[nn.Module], *args: Any) -> UseGraph:
    """One of the tiny models, cut into chains."""
    return with_chains(UseGraph(lowered(kind, *args)))


@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("depth", range(2, 7))
def test_a_stack_is_cut_into_its_blocks(depth: int, post: bool) -> None:
    graph = cut(Stack, depth, post)
    (chain,) = graph.chains
    assert blocks(graph, chain) == weights_under(graph, *(f"blocks.{number}" for number in range(depth)))
    assert chain.irregular == frozenset()
    # one value crosses each cut: the residual stream
    assert [graph.live[cut] for cut in chain.cuts[:-1]] == [1] * depth


@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
def test_a_stack_without_stem_and_head_is_cut_into_its_blocks(post: bool) -> None:
    model = nn.Sequential(*(Block(post) for _ in range(3)))
    graph = use_graph(model, weight(2, 3, 8))
    (chain,) = graph.chains
    assert blocks(graph, chain) == weights_under(graph, "0", "1", "2")


class Wide(Block):
    """A block whose feed-forward part is wider."""

    def __init__(self) -> None:
        super().__init__(hidden=24)


class Extra(Block):
    """A block with one more norm, before its projection of queries."""

    def __init__(self) -> None:
        super().__init__()
        self.att.q = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))


@pytest.mark.parametrize("first", [Wide, Extra])
@pytest.mark.parametrize("depth", [3, 5])
def test_a_first_block_that_differs_a_little_counts_as_irregular(first: type[Block], depth: int) -> None:
    graph = cut(Stack, depth, False, first)
    (chain,) = graph.chains
    assert blocks(graph, chain) == weights_under(graph, *(f"blocks.{number}" for number in range(depth)))
    assert chain.irregular == {0}
    assert chain.sample not in chain.irregular


def test_a_last_block_that_differs_a_little_counts_as_irregular() -> None:
    graph = use_graph(nn.Sequential(Block(), Block(), Block(), Wide()), weight(2, 3, 8))
    (chain,) = graph.chains
    assert blocks(graph, chain) == weights_under(graph, "0", "1", "2", "3")
    assert chain.irregular == {3}


def test_a_first_block_that_differs_much_stays_outside() -> None:
    graph = cut(Stack, 4, False, lambda: nn.Linear(8, 8))
    (chain,) = graph.chains
    assert blocks(graph, chain) == weights_under(graph, "blocks.1", "blocks.2", "blocks.3")


@pytest.mark.parametrize("depths", [(3, 4, 3), (2, 3, 4), (3, 4, 6, 3)])
def test_stages_of_a_residual_network_are_chains_whose_first_block_has_a_projection(depths: tuple[int, ...]) -> None:
    graph = cut(Stages, *depths)
    assert [chain.depth for chain in graph.chains] == list(depths)
    for stage, chain in enumerate(graph.chains):
        expected = weights_under(graph, *(f"stages.{stage}.{number}" for number in range(depths[stage])))
        assert blocks(graph, chain) == expected
        assert chain.irregular == (frozenset({0}) if stage else frozenset())


def test_a_stage_of_one_block_is_no_chain_by_itself() -> None:
    graph = cut(Stages, 3, 1, 3)
    in_chains = set[str]().union(*(block for chain in graph.chains for block in blocks(graph, chain)))
    assert in_chains.isdisjoint(*weights_under(graph, "stages.1.0"))
    assert weights_under(graph, "stages.0.0", "stages.0.1", "stages.0.2") == blocks(graph, graph.chains[0])


@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize(("encoder", "decoder"), [(2, 2), (3, 3), (2, 4)])
def test_encoder_and_decoder_are_two_chains_though_they_see_equally_many_tokens(
    encoder: int, decoder: int, post: bool
) -> None:
    graph = cut(EncoderDecoder, encoder, decoder, post)
    first, second = graph.chains
    assert blocks(graph, first) == weights_under(graph, *(f"enc.{number}" for number in range(encoder)))
    assert blocks(graph, second) == weights_under(graph, *(f"dec.{number}" for number in range(decoder)))


def test_torchs_own_transformer_is_two_chains() -> None:
    model = nn.Transformer(8, 2, 2, 3, 16, batch_first=True)
    graph = use_graph(model, weight(2, 3, 8), weight(2, 3, 8))
    first, second = graph.chains
    assert blocks(graph, first) == weights_under(graph, "encoder.layers.0", "encoder.layers.1")
    assert blocks(graph, second) == weights_under(graph, *(f"decoder.layers.{number}" for number in range(3)))


def test_two_streams_are_one_chain() -> None:
    graph = cut(TwoStreams, 3)
    (chain,) = graph.chains
    assert blocks(graph, chain) == weights_under(graph, "blocks.0", "blocks.1", "blocks.2")


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)),
        nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 6)),
        nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)),
        Stack(1),
        Stack(1, post=True),
        nn.Linear(6, 6),
        nn.Identity(),
    ],
    ids=["two layers", "two widths", "with a norm", "one block", "one post-norm block", "one layer", "nothing"],
)
def test_nothing_that_does_not_repeat_is_a_chain(model: nn.Module) -> None:
    assert use_graph(model, X).chains == ()


def test_branches_side_by_side_are_no_chain() -> None:
    """Every block reads the same input, none what another made."""
    model = Net(
        lambda m, x: sum(getattr(m, name)(x) for name in "abc"),
        **{name: nn.Sequential(nn.LayerNorm(8), attention(), nn.ReLU(), nn.Linear(8, 8)) for name in "abc"},
    )
    assert use_graph(model, weight(2, 3, 8)).chains == ()


def test_a_chain_knows_its_blocks() -> None:
    chain = Chain((3, 7, 12, 15), frozenset({0}))
    assert (chain.depth, chain.block(1), chain.sample) == (3, range(7, 12), 2)
    assert Chain((0, 2, 4), frozenset({0, 1})).sample == 1


def test_landmarks_lie_in_one_block_or_outside() -> None:
    graph = cut(Stack, 2, False)
    outside = [mark.index for mark in graph.outside()]
    assert sorted([*outside, *graph.places]) == list(range(len(graph.landmarks)))
    assert {place for place in graph.places.values()} == {(0, 0), (0, 1)}
    assert {use.weight for index in outside for use in graph.landmarks[index].uses} == {
        "stem.weight",
        "stem.bias",
        "norm.weight",
        "norm.bias",
        "head.weight",
        "head.bias",
    }


def test_the_number_of_live_values_counts_what_is_still_read() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        a = m.a(x)
        b = m.b(a)
        out: Tensor = m.c(b) + a
        return out

    graph = use_graph(Net(compute, **{name: nn.Linear(6, 6) for name in "abc"}), X)
    # before: input, a, b, c, sum, output
    assert graph.live[:6] == (0, 0, 1, 2, 2, 0)
